"""Which class a folder of images is: by its name, its number, its place; and a word where it is mostly another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall import cli
from firewall.errors import DataError
from firewall.lab.datasets import Dataset, open_dataset, split
from firewall.lab.datasets.classes import doubt, matched
from firewall.lab.datasets.gtsrb import CLASS_NAMES

NUMBERS = [str(number) for number in range(43)]
TENS = [f"class {number}" for number in range(10)]


def folder_of(root: Path, names: Sequence[str], files: Sequence[str] = ("a.png",)) -> Dataset:
    """A data set of folders of these names."""
    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for place, file in enumerate(files):
            Image.new("RGB", (3, 3), (number, place, 0)).save(root / name / file)
    return open_dataset(f"folder:{root}")


def classes(data: Dataset) -> dict[str, int]:
    """By the name of the folder."""
    return {source.split("/")[0]: int(label) for source, label in zip(data.sources, data.labels, strict=True)}


def test_folders_0_to_42_are_the_classes_of_their_numbers(tmp_path: Path) -> None:
    """Kaggle's class folders: '10' is class 10 and not class 2, with and without a classifier."""
    data = folder_of(tmp_path, NUMBERS)
    assert data.class_names == tuple(NUMBERS)
    assert classes(data) == {name: int(name) for name in NUMBERS}
    found = matched(data, CLASS_NAMES)
    assert classes(found) == {name: int(name) for name in NUMBERS} and found.class_names == CLASS_NAMES


@pytest.mark.parametrize(
    ("names", "labels", "expected"),
    [
        (["14", "17"], CLASS_NAMES, [14, 17]),
        (["00014", "00002"], CLASS_NAMES, [14, 2]),
        (["14_stop", "2-speed limit 50"], CLASS_NAMES, [14, 2]),
        (["Stop", "no_entry", "give-way"], CLASS_NAMES, [14, 17, 13]),
        (["class 7", "class_9"], TENS, [7, 9]),
        ([str(number) for number in range(1, 11)], TENS, list(range(10))),
        (["0", "1", "10", "2"], ["0", "1", "10", "2"], [0, 1, 2, 3]),  # a classifier whose folders were sorted as text
        (["9", "10", "11"], ["10", "9", "11"], [1, 0, 2]),
        (["b", "c", "a"], ["x", "y", "z"], [1, 2, 0]),
        (["s10", "s9", "s1"], ["x", "y", "z"], [2, 1, 0]),
        (["n02", "n01"], ["tench", "shark"], [1, 0]),
    ],
    ids=str,
)
def test_names_come_first_then_numbers_then_places(
    tmp_path: Path, names: list[str], labels: Sequence[str], expected: list[int]
) -> None:
    """Of each kind of naming, what class each folder is."""
    assert classes(matched(folder_of(tmp_path, names), labels)) == dict(zip(names, expected, strict=True))


@pytest.mark.parametrize(
    ("names", "labels", "words"),
    [
        (["stop", "speed limt 50"], CLASS_NAMES, "'speed limt 50' are none of the classifier's 43 classes"),
        (["cat", "dog"], CLASS_NAMES, "'cat', 'dog' are none of the classifier's 43 classes .speed limit 20, "),
        (["stop", "give way", "dog"], ["stop", "give way", "cat"], "'dog' are none"),
        (["stop", "Stop"], CLASS_NAMES, "'Stop' and 'stop'"),
        (["0", "43"], CLASS_NAMES, "by its number, from 0 on"),
    ],
    ids=str,
)
def test_folders_that_are_no_classes_are_refused(
    tmp_path: Path, names: list[str], labels: Sequence[str], words: str
) -> None:
    """A guess would be a database of chance hits: one line that names the folders and how to name them."""
    with pytest.raises(DataError, match=words):
        matched(folder_of(tmp_path, names), labels)


def test_what_is_no_class(tmp_path: Path) -> None:
    """`__MACOSX` and hidden folders are none; train and test are parts, and one of them has to be named."""
    for name in ("__MACOSX/._stop", ".cache"):
        (tmp_path / "set" / name).mkdir(parents=True)
    assert folder_of(tmp_path / "set", ["stop"]).class_names == ("stop",)
    with pytest.raises(DataError, match=r"holds parts \(test, train\), not classes.*folder:.*/test"):
        folder_of(tmp_path / "parts", ["train/0", "test/0"])


@pytest.mark.parametrize("form", ["{track:05d}_{frame:05d}.png", "00007_{track:05d}_{frame:05d}.png"])
def test_frames_of_a_track_stay_together(tmp_path: Path, form: str) -> None:
    """Named as GTSRB's or Kaggle's: a track is a group, each class has its own, and no split parts one."""
    files = [form.format(track=track, frame=frame) for track in range(4) for frame in range(5)]
    data = folder_of(tmp_path, [str(number) for number in range(6)], files)
    assert len(set(data.groups.tolist())) == 24
    parts = split(data, (0.5, 0.25, 0.25))
    for group in set(data.groups.tolist()):
        assert len(set(parts[data.groups == group].tolist())) == 1
        assert (
            len({source.rsplit("_", 1)[0] for source, g in zip(data.sources, data.groups, strict=True) if g == group})
            == 1
        )


def test_a_copy_joins_two_tracks(tmp_path: Path) -> None:
    """The same file in two tracks: neither may be parted from it."""
    data = folder_of(tmp_path, ["0"], ["00000_00000.png", "00000_00001.png", "00001_00000.png", "00002_00000.png"])
    first = tmp_path / "0" / "00000_00001.png"
    (tmp_path / "0" / "00001_00001.png").write_bytes(first.read_bytes())
    assert len(set(data.groups.tolist())) == 3
    groups = open_dataset(f"folder:{tmp_path}").groups.tolist()
    assert groups == [0, 0, 0, 0, 4]


def test_a_classifier_that_counts_folders_as_text_does_is_recognised(tmp_path: Path) -> None:
    """Trained on folders that Keras or torchvision sorted: '10' is its class 2. Most labels are wrong; the line
    says which order fits. Labels in that order then match by name."""
    data = matched(folder_of(tmp_path, NUMBERS), [f"class {number}" for number in range(43)])
    said = np.array([sorted(NUMBERS).index(source.split("/")[0]) for source in data.sources], np.int64)
    told = doubt(data, data.class_names, np.arange(43), said)
    assert f"right on {np.mean(said == data.labels):.1%} of 43 images of folder" in told
    assert "sorted as text (0, 1, 10, ...), as Keras and torchvision do, it is right on 100.0%" in told
    again = matched(open_dataset(f"folder:{tmp_path}"), sorted(NUMBERS))
    assert (again.labels == said).all() and doubt(again, sorted(NUMBERS), np.arange(43), said) == ""


def test_other_orders_and_none(tmp_path: Path) -> None:
    """Counted from 1; another order altogether, of which examples are shown; and no order at all."""
    data = matched(folder_of(tmp_path, [str(number) for number in range(1, 9)]), TENS)
    every = np.arange(len(data))
    assert "counted from 1 it is right on 100.0%" in doubt(data, TENS, every, data.labels - 1)
    assert "by another name ('1' 'class 8', '2' 'class 7'" in doubt(data, TENS, every, 9 - data.labels)
    assert "prepared as it wants them?" in doubt(data, TENS, every, np.zeros(8, np.int64))
    assert doubt(data, TENS, every, data.labels) == ""


def test_the_command_says_that_the_folders_are_in_another_order(
    signs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signs of classes 0 to 5 in folders 1 to 6: `lab classifiers` measures chance, and says that counted from 1 they
    would be right; in folders 0 to 5 it says nothing."""
    for step, expected in ((1, "counted from 1 it is right on"), (0, "")):
        root = tmp_path / str(step)
        root.mkdir()
        for number in range(6):
            (root / str(number + step)).symlink_to(signs / f"{number:05d}")
        command = ["lab", "classifiers", "default", "--dataset", f"folder:{root}"]
        assert cli.run(cli.app, command, "firewall") == 0
        told = capsys.readouterr().err
        assert expected in told and ("are the folders in" in told) == bool(expected)


def test_resource_forks_among_imagenets_class_folders_are_no_images(tmp_path: Path) -> None:
    """`._x.JPEG` beside the pictures, as a Mac's archive leaves them, is not counted."""
    for name in ("n01440764", "n01443537"):
        folder = tmp_path / "val" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "ILSVRC2012_val_00000001.JPEG")
        (folder / "._ILSVRC2012_val_00000001.JPEG").write_bytes(b"no image")
    ids = [f"n{number:08d}" for number in range(998)]
    (tmp_path / "synsets.txt").write_text("\n".join([*ids, "n01440764", "n01443537"]))
    assert [image.shape for image in open_dataset("imagenet", tmp_path).images] == [(4, 4, 3)] * 2
