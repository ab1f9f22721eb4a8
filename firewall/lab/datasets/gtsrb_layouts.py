"""Where the images of GTSRB lie as the benchmark, Kaggle and torchvision give them out: files, labels and tracks.

* the benchmark: `Final_Training/Images/00014/00000_00029.ppm` (track, frame) with `GT-00014.csv` beside them;
  `Final_Test/Images/00000.ppm` and `GT-final_test.csv`
* torchvision: the same under `GTSRB/Training/00014`; `GTSRB/Final_Test/Images` and `GT-final_test.csv`
* Kaggle: `Train/14/00014_00000_00029.png` (class, track, frame) and `Train.csv`; `Test/00000.png` and `Test.csv`

An image is named alike in all of them, so that it falls into the same split.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from firewall.errors import DataError
from firewall.sources.folder import folders, image_files
from firewall.sources.uri import printable

__all__ = ["TRACK", "WHERE", "Listed", "test_files", "train_files"]

WHERE = (
    "get GTSRB_Final_Training_Images, GTSRB_Final_Test_Images and GTSRB_Final_Test_GT from the benchmark's page, or "
    "Kaggle's or torchvision's copy of them, unpack them into one folder and name it with --data"
)
#: File names without their suffix: perhaps a class, then the track, then the frame.
TRACK = re.compile(r"(?:[0-9]{5}_)?([0-9]{5})_([0-9]{5})")
_CLASS_FOLDER = re.compile(r"[0-9]{5}")


@dataclass(frozen=True)
class Listed:
    """One image.

    Args:
        file: It may be missing.
        label: 0..42.
        track: label * 1000 + its number, -1 where it isn't published.
        source: A name that is the same on every machine.
        table: Where it is named.
    """

    file: Path
    label: int
    track: int
    source: str
    table: Path


def train_files(root: Path) -> list[Listed]:
    """All training images, in one layout.

    Args:
        root: Folder of the data sets.

    Returns:
        The images.

    Raises:
        DataError: There is none, one is there twice, or a table can't be read.
    """
    for tail in (("Final_Training", "Images"), ("Training",)):
        found = [folder for folder in _ending(root, tail) if _class_folders(folder)]
        if found:
            return [image for folder in _class_folders(_one(found, root)) for image in _class(folder)]
    tables = _kaggle(root, "train.csv")
    if not tables:
        raise DataError(f"no GTSRB training images under {root}; {WHERE}")
    table = _one(tables, root)
    listed = []
    for path, label in _rows(table, "Path"):
        found_track = TRACK.fullmatch(Path(path).stem)
        if found_track is None:
            raise DataError(f"{table} names {path!r}, which isn't CLASS_TRACK_FRAME; {WHERE}")
        track, frame = found_track.groups()
        source = f"gtsrb_train/{label:05d}/{track}_{frame}"
        listed.append(Listed(_beside(table, path), label, label * 1000 + int(track), source, table))
    return listed


def test_files(root: Path) -> list[Listed]:
    """All test images, whose tracks aren't published; otherwise as `train_files`."""
    images = _ending(root, ("Final_Test", "Images"))
    tables = [place / name for place, names in folders(root) for name in names if name == "GT-final_test.csv"]
    if images and tables:
        folder, table = _one(images, root), tables[0]
        return [
            Listed(folder / name, label, -1, f"gtsrb_test/{Path(name).stem}", table)
            for name, label in _rows(table, "Filename")
        ]
    kaggle = _kaggle(root, "test.csv")
    if not kaggle:
        missing = "Final_Test/Images, or Test.csv beside Test, is" if not images else "GT-final_test.csv is"
        raise DataError(f"no GTSRB test images under {root} ({missing} missing); {WHERE}")
    table = _one(kaggle, root)
    return [
        Listed(_beside(table, path), label, -1, f"gtsrb_test/{Path(path).stem}", table)
        for path, label in _rows(table, "Path")
    ]


def _class(folder: Path) -> Iterator[Listed]:
    """The images of a class folder: those that its table names, or, without one, those that are named as frames."""
    table = folder / f"GT-{folder.name}.csv"
    if table.is_file():
        rows = _rows(table, "Filename")
    else:
        rows = [(file.relative_to(folder).as_posix(), int(folder.name)) for file in image_files(folder)]
    for name, label in rows:
        found = TRACK.fullmatch(Path(name).stem)
        if found is None:
            raise DataError(f"{table} names {name!r}, which isn't TRACK_FRAME; {WHERE}")
        source = f"gtsrb_train/{folder.name}/{Path(name).stem}"
        yield Listed(folder / name, label, label * 1000 + int(found[1]), source, table)


def _ending(root: Path, tail: tuple[str, ...]) -> list[Path]:
    return [place for place, _ in folders(root) if place.absolute().parts[-len(tail) :] == tail]


def _class_folders(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if _CLASS_FOLDER.fullmatch(child.name) and child.is_dir())


def _kaggle(root: Path, name: str) -> list[Path]:
    """Tables of that name, in capitals or not, that have Kaggle's columns."""
    found = [place / file for place, names in folders(root) for file in names if file.lower() == name]
    return [table for table in found if {"Path", "ClassId"} <= set(_header(table))]


def _one(found: Sequence[Path], root: Path) -> Path:
    if len(found) > 1:
        both = " and ".join(printable(str(path)) for path in found[:2])
        raise DataError(f"GTSRB is under {root} more than once ({both}); name one of them with --data")
    return found[0]


def _beside(table: Path, path: str) -> Path:
    """Kaggle's archive holds the folders under two spellings, `Train` and `train`; either may be gone."""
    file = table.parent / path
    other = table.parent / (path[:1].swapcase() + path[1:])
    return other if not file.is_file() and other.is_file() else file


def _header(table: Path) -> list[str]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            line = file.readline(4096)
    except (OSError, UnicodeDecodeError):
        return []
    return [name.strip() for name in line.split(_delimiter(line))]


def _delimiter(line: str) -> str:
    return ";" if ";" in line else ","


def _rows(table: Path, column: str) -> list[tuple[str, int]]:
    """What a table has in `column`, and the class."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            lines = csv.DictReader(file, delimiter=_delimiter(first), skipinitialspace=True)
            rows = [(row[column].replace("\\", "/"), int(row["ClassId"])) for row in lines]
    except (OSError, KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        raise DataError(f"{table} is not a table with {column} and ClassId ({error}); {WHERE}") from error
    if not rows:
        raise DataError(f"{table} names no images; {WHERE}")
    return rows
