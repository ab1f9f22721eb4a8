"""What is missing in the first seconds of a video, which FFmpeg looks through when it opens it; and cut files of the
containers that state no length, or that FFmpeg doesn't believe."""

from __future__ import annotations

from pathlib import Path

import pytest

from firewall.errors import SourceError
from firewall.sources.video import VideoReader
from tests.sources.test_damaged_video import PICTURE, SOUND, X264, are_whole, make, places, pytestmark, read

__all__ = ["pytestmark"]

LACKING = {
    "theora.ogv": [*SOUND, "-c:v", "libtheora", "-c:a", "libvorbis", "-g", "10"],
    "wmv1.wmv": [*PICTURE, "-c:v", "wmv1", "-g", "10"],
    "wmv2.wmv": [*SOUND, "-c:v", "wmv2", "-c:a", "wmav2", "-g", "10"],
}


@pytest.mark.parametrize("name", LACKING)
def test_what_the_first_seconds_lack_is_an_error(name: str, tmp_path: Path) -> None:
    """The container said so while the file was opened: frames that lack it are errors, and so is the end. What is
    handed out is as it was. Before, pictures of WMV without their past were handed out, or frames left out silently."""
    path = make(tmp_path / name, *LACKING[name])
    whole, errors = read(path)
    assert errors == []
    data = path.read_bytes()
    for place in (0.4, 0.6):
        start = int(len(data) * place)
        for bad in (data[:start] + data[start + 512 :], data[:start] + bytes(512) + data[start + 512 :]):
            (tmp_path / f"bad-{name}").write_bytes(bad)
            frames, errors = read(tmp_path / f"bad-{name}")
            assert are_whole(frames, whole), places(frames, whole)
            assert errors or len(frames) == len(whole), "it hit the sound"


CUT = {
    "each-frame.mp4": [*PICTURE, *X264, "-movflags", "frag_every_frame+empty_moov"],
    "fragments.mp4": [*SOUND, *X264, "-movflags", "frag_keyframe+empty_moov"],
    "picture.mxf": [*PICTURE, *X264],
    "sound.wmv": LACKING["wmv2.wmv"],
    "picture.asf": [*PICTURE, *X264, "-bf", "0"],
}


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("kept", [0.35, 0.8])
def test_a_cut_file_ends_with_an_error(name: str, kept: float, tmp_path: Path) -> None:
    """Also where no length is stated: the boxes of fragments go on to the end of the file, and WMV states its size."""
    path = make(tmp_path / name, *CUT[name])
    whole, errors = read(path)
    assert errors == []
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])

    try:
        frames, errors = read(path)
    except SourceError:  # not even its head is there
        return

    assert errors and "truncated or damaged" in errors[-1]
    assert are_whole(frames, whole) and (len(frames) < len(whole) or name == "sound.wmv")  # or its sound alone


def test_padding_behind_fragments_is_no_damage(tmp_path: Path) -> None:
    """Recorders that reserve their file leave zeros at its end; other bytes there are what is left of a fragment."""
    path = make(tmp_path / "drive.mp4", *CUT["fragments.mp4"])
    data = path.read_bytes()
    for behind, healthy in ((bytes(5), True), (bytes(70000), True), (bytes(70000) + b"x", False), (b"\xffrest", False)):
        path.write_bytes(data + behind)
        _, errors = read(path)
        assert (errors == []) is healthy, behind[-8:]


def test_jpeg_2000_is_refused(tmp_path: Path) -> None:
    """Bytes overwritten in it were never noticed, and were plain to see."""
    path = make(tmp_path / "drive.mov", *PICTURE, "-c:v", "libopenjpeg", "-frames:v", "3")
    with pytest.raises(SourceError, match=r"is coded as .*, which can't tell damaged pictures from whole ones"):
        VideoReader(str(path), path.name, timeout=20)
