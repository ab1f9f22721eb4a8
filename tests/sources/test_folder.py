"""Which files of a folder are images: the edge's suffixes, nothing hidden, no folder lost in silence."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from firewall.errors import DataError, ImageError
from firewall.sources.folder import FileImages, image_files, unread_pictures
from firewall.sources.uri import IMAGE_SUFFIXES


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)


def test_hidden_files_and_what_systems_leave_behind_are_no_images(tmp_path: Path) -> None:
    """Resource forks, thumbnails, hidden folders: none of them is read, and the rest comes as people count."""
    for name in ("10.png", "2.png", "deep/er/1.JPG", "Upper.PNG"):
        picture(tmp_path / name)
    for name in ("._2.png", ".DS_Store", "Thumbs.db", "__MACOSX/2.png", "@eaDir/2.png/M.jpg", ".git/x.png", "a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"no image")

    found = [file.relative_to(tmp_path).as_posix() for file in image_files(tmp_path)]

    assert found == ["2.png", "10.png", "Upper.PNG", "deep/er/1.JPG"]
    assert [image.shape for image in FileImages(image_files(tmp_path))] == [(4, 4, 3)] * 4


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_every_suffix_of_the_edge_is_found_in_capitals_too(tmp_path: Path, suffix: str) -> None:
    """WebP, TIFF, GIF and the rest: what a source of images reads."""
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        (tmp_path / name).write_bytes(b"x")
    assert len(image_files(tmp_path)) == 2


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    """A linked folder's images count; one that leads back, or a second way to the same folder, adds none."""
    picture(tmp_path / "set" / "here" / "1.png")
    picture(tmp_path / "elsewhere" / "2.png")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "again").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "self").symlink_to(tmp_path / "set" / "self")

    assert sorted(file.name for file in image_files(tmp_path / "set")) == ["1.png", "2.png"]


def test_a_link_to_nothing_is_told_when_it_is_read(tmp_path: Path) -> None:
    """An image that has gone is not left out in silence."""
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ImageError, match=r"gone\.png"):
        FileImages(image_files(tmp_path))[0]


def test_a_name_that_is_no_utf_8(tmp_path: Path) -> None:
    """It is read, and shown escaped."""
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/s\xfc.png"))
    try:
        picture(path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    images = FileImages(image_files(tmp_path))
    assert images[0].shape == (4, 4, 3) and images.name(0).encode().endswith(rb"s\xfc.png")


def test_what_else_lies_there_is_told(tmp_path: Path) -> None:
    """No image at all: the message says what was looked for, and that there are pictures of another kind."""
    (tmp_path / "a.HEIC").write_bytes(b"x")
    assert unread_pictures(tmp_path) == "1 of .heic"
    with pytest.raises(DataError, match=r"no images under .*, but 1 of \.heic; looked for .*\.webp"):
        image_files(tmp_path)
    for wrong, words in ((tmp_path / "none", "No such file"), (tmp_path / "a.HEIC", "Not a directory")):
        with pytest.raises(DataError, match=words):
            image_files(wrong)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _as_nobody(folder: Path, answers: multiprocessing.Queue[str]) -> None:
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        answers.put(f"found {len(image_files(folder))}")
    except DataError as error:
        answers.put(str(error))


def test_a_folder_without_permission_is_an_error(open_folder: Path) -> None:
    """A user who may not read a folder in it is told which; half of the images would be lost otherwise."""
    picture(open_folder / "open" / "1.png")
    picture(open_folder / "shut" / "2.png")
    (open_folder / "shut").chmod(0)
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.Queue[str] = context.Queue()
    process = context.Process(target=_as_nobody, args=(open_folder, answers))
    process.start()
    told = answers.get(timeout=60)
    process.join(60)
    (open_folder / "shut").chmod(0o755)
    assert "can't read the folder" in told and "shut: Permission denied" in told
