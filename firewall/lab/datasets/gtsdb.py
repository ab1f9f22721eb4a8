"""The German Traffic Sign Detection Benchmark (Houben et al. 2013): road scenes with boxed signs, GTSRB's 43 classes.

Read from the pack `gtsdb_train.npz` or from the official layout: `gt.txt` beside frames `00000.ppm`. Signs that are cut
out of frames have their own size, their own surroundings and a whole camera behind them. GTSRB's images do not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, ImageError
from firewall.lab.datasets.dataset import Dataset
from firewall.lab.datasets.gtsrb import CLASS_NAMES
from firewall.lab.datasets.packs import open_pack
from firewall.sources.folder import FileImages, folders

__all__ = ["Box", "Scenes", "cut", "load_scenes", "open_gtsdb", "scenes_of_pack"]

Pixels = npt.NDArray[np.uint8]

_WHERE = (
    "get TrainIJCNN2013 or FullIJCNN2013 from the benchmark's page, unpack it into a folder and name that with --data"
)
#: GTSRB's images have a margin of a tenth of the sign on each side, at least five pixels.
_MARGIN, _LEAST_MARGIN = 0.1, 5


@dataclass(frozen=True, slots=True)
class Box:
    """A sign in a frame, in pixels of the frame: from `left`, `top` up to but without `right`, `bottom`."""

    label: int
    left: int
    top: int
    right: int
    bottom: int

    @property
    def side(self) -> int:
        """The shorter side, in pixels."""
        return min(self.right - self.left, self.bottom - self.top)


@dataclass(frozen=True, eq=False)
class Scenes:
    """N frames and the signs in them.

    Attributes:
        frames: Uint8 (H, W, 3) RGB each, decoded on access.
        numbers: The benchmark's number of each frame, int64 (N,).
        boxes: The signs of each frame, none where a frame has none.
    """

    frames: Sequence[Pixels]
    numbers: npt.NDArray[np.int64]
    boxes: tuple[tuple[Box, ...], ...]

    def __len__(self) -> int:
        return len(self.numbers)

    def signs(self) -> Dataset:
        """Each sign at its own size with a margin as GTSRB's images have it; the group is the frame.

        Raises:
            DataError: A frame is damaged, a box lies outside its frame, or there is no sign.
        """
        images: list[Pixels] = []
        labels, groups, sources = [], [], []
        for place, (number, boxes) in enumerate(zip(self.numbers.tolist(), self.boxes, strict=True)):
            if not boxes:
                continue
            try:
                frame = self.frames[place]
            except ImageError as error:
                raise DataError(f"frame {number} of GTSDB can't be read ({error}); {_WHERE}") from error
            for position, box in enumerate(boxes):
                images.append(cut(frame, box, f"frame {number}"))
                labels.append(box.label)
                groups.append(number)
                sources.append(f"gtsdb/{number:05d}/{position}")
        if not images:
            raise DataError(f"none of the {len(self)} frames of GTSDB has a sign; {_WHERE}")
        return Dataset(
            name="gtsdb",
            images=images,
            labels=np.array(labels, np.int64),
            groups=np.array(groups, np.int64),
            sources=sources,
            class_names=CLASS_NAMES,
            licence="free to use for any purpose, to be cited",
            citation="S. Houben, J. Stallkamp, J. Salmen, M. Schlipsing, C. Igel. Detection of traffic signs in "
            "real-world images: the German Traffic Sign Detection Benchmark. IJCNN 2013.",
            notes="groups are frames; a sign may stand in several frames, and some signs also stand in GTSRB",
        )


def cut(frame: Pixels, box: Box, what: str) -> Pixels:
    """A sign with its margin, less where the frame ends.

    Args:
        frame: Uint8 (H, W, 3).
        box: The sign.
        what: The frame's name, for errors.

    Returns:
        Uint8 (h, w, 3), a copy.

    Raises:
        DataError: The box doesn't lie in the frame.
    """
    height, width = frame.shape[:2]
    if not (0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height):
        raise DataError(f"{what} of GTSDB has a sign at {box}, outside of its {width}x{height} pixels; {_WHERE}")
    x, y = (max(_LEAST_MARGIN, round(_MARGIN * side)) for side in (box.right - box.left, box.bottom - box.top))
    crop: Pixels = frame[max(0, box.top - y) : box.bottom + y, max(0, box.left - x) : box.right + x].copy()
    return crop


def open_gtsdb(root: Path) -> Dataset:
    """The signs of all frames as any data set; see `Scenes.signs`.

    Args:
        root: Folder of the data sets.

    Raises:
        DataError: Files are missing or damaged.
    """
    return load_scenes(root).signs()


def load_scenes(root: Path) -> Scenes:
    """The frames and their boxes: the pack `gtsdb_train.npz`, else frames beside a `gt.txt`.

    Args:
        root: Folder of the data sets.

    Raises:
        DataError: Files are missing or damaged.
    """
    pack = root / "gtsdb_train.npz"
    if pack.is_file():
        return scenes_of_pack(pack)
    tables = [place / "gt.txt" for place, names in folders(root) if "gt.txt" in names]
    # The full archive holds a table of its own in a sub-folder of single signs; frames lie beside the right one.
    tables = [table for table in tables if any(table.parent.glob("[0-9]*.ppm"))]
    if not tables:
        raise DataError(f"no GTSDB frames under {root} (gtsdb_train.npz, or gt.txt beside 00000.ppm); {_WHERE}")
    if len(tables) > 1:
        raise DataError(f"GTSDB is under {root} more than once ({tables[0]} and {tables[1]}); name one with --data")
    return _from_files(tables[0])


def scenes_of_pack(path: Path) -> Scenes:
    """The frames and boxes of a pack with the columns `frame` and `boxes`.

    Args:
        path: The pack.

    Raises:
        DataError: It is no such pack.
    """
    frames, columns = open_pack(path)
    missing = [name for name in ("frame", "boxes") if name not in columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; it is not a pack of GTSDB")
    numbers = columns["frame"].astype(np.int64)
    boxes = [_boxes(text, path, number) for number, text in zip(numbers, columns["boxes"].tolist(), strict=True)]
    return Scenes(frames, numbers, tuple(boxes))


def _boxes(text: str, path: Path, number: int) -> tuple[Box, ...]:
    try:
        return tuple(_box(row, path, number) for row in json.loads(text))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} has boxes for frame {number} that can't be read ({error}); copy it again") from error


def _from_files(table: Path) -> Scenes:
    files = sorted(file for file in table.parent.glob("[0-9]*.ppm") if file.stem.isdigit())
    found: dict[int, list[Box]] = {int(file.stem): [] for file in files}
    try:
        lines = table.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table} can't be read ({error}); {_WHERE}") from error
    for line in lines:
        try:
            name, *numbers = line.split(";")
            number = int(Path(name).stem)
            left, top, right, bottom, label = map(int, numbers)
        except ValueError as error:
            raise DataError(f"{table} has the line {line!r}, not FILE;left;top;right;bottom;class; {_WHERE}") from error
        if number in found:  # the table of the full benchmark also names frames of the other part
            found[number].append(_box((label, left, top, right, bottom), table, number))
    return Scenes(FileImages(files), np.array(list(found), np.int64), tuple(tuple(boxes) for boxes in found.values()))


def _box(row: Sequence[int], path: Path, number: int) -> Box:
    """A box as files have it, whose right and bottom are the last pixels inside."""
    label, left, top, right, bottom = map(int, row)
    if not (0 <= label < len(CLASS_NAMES) and left <= right and top <= bottom):
        raise DataError(
            f"{path} has the sign {list(row)} in frame {number}; a class from 0 to {len(CLASS_NAMES) - 1}, left, top, "
            "right and bottom are expected: get it again"
        )
    return Box(label, left, top, right + 1, bottom + 1)
