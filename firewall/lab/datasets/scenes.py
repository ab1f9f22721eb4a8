"""Annotated road scenes, whoever annotated them: the pack, GTSDB's own layout, YOLO's text files, COCO's JSON.

All give the same: frames, and the signs in each with the label that a bundle has for them. A sign of a class that the
bundle doesn't know is kept as another sign: it can't be released right, but it isn't nothing either.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from firewall.errors import DataError, UsageError
from firewall.frame import Pixels, Region
from firewall.lab.datasets.classes import annotated_classes
from firewall.lab.datasets.gtsdb import Box, Scenes, load_scenes, scenes_of_pack
from firewall.lab.datasets.gtsrb import CLASS_NAMES
from firewall.lab.datasets.packs import PackImages
from firewall.lab.datasets.scene_layouts import (
    Annotated,
    coco_file,
    coco_scenes,
    picture_size,
    yolo_folder,
    yolo_scenes,
)
from firewall.sources.folder import FileImages, LazyImages, folders
from firewall.sources.uri import printable

__all__ = ["RoadScenes", "Sign", "open_scenes"]

_KNOWN = (
    "known are a pack with the columns frame and boxes (.npz), GTSDB's gt.txt beside its frames, YOLO's folders images "
    "and labels, and COCO's .json"
)


@dataclass(frozen=True, slots=True)
class Sign:
    """An annotated sign.

    Attributes:
        region: (x, y, width, height) in pixels of the frame.
        label: The bundle's class, 0-based; None for another sign.
        name: The class's name in the annotation.
    """

    region: Region
    label: int | None
    name: str

    @property
    def side(self) -> int:
        """The shorter side, in pixels."""
        return min(self.region[2:])


@dataclass(frozen=True, eq=False)
class RoadScenes:
    """N frames and the signs in them.

    Attributes:
        layout: pack, gtsdb, yolo or coco.
        frames: Uint8 (H, W, 3) RGB each, decoded on access.
        names: Of each frame, the same on every machine.
        signs: Of each frame.
        classes: How classes became labels: "names" or "numbers".
    """

    layout: str
    frames: LazyImages
    names: tuple[str, ...]
    signs: tuple[tuple[Sign, ...], ...]
    classes: str

    def __len__(self) -> int:
        return len(self.names)

    def digest(self, index: int) -> str:
        """SHA-256 of a frame as it is stored, without decoding it."""
        return hashlib.sha256(_stored(self.frames, index)).hexdigest()

    def others(self) -> dict[str, int]:
        """Class -> how many signs of it there are, for the classes that the bundle doesn't know."""
        names = Counter(sign.name for signs in self.signs for sign in signs if sign.label is None)
        return dict(sorted(names.items()))

    def check(self) -> None:
        """Look at the headers of all frames with signs.

        Raises:
            DataError: A header can't be read, or a box doesn't lie within its frame.
        """
        for index, (name, signs) in enumerate(zip(self.names, self.signs, strict=True)):
            if not signs:
                continue
            width, height = self.size(index)
            for sign in signs:
                x, y, wide, high = sign.region
                if not (x >= 0 and y >= 0 and wide >= 1 and high >= 1 and x + wide <= width and y + high <= height):
                    raise DataError(
                        f"frame {name} has a sign at x {x}, y {y}, {wide}x{high} pixels, which doesn't lie within its "
                        f"{width}x{height}; mend the annotation"
                    )

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of a frame in pixels, without decoding it.

        Raises:
            DataError: The header can't be read.
        """
        return picture_size(_header(self.frames, index), self.frames.name(index))

    def chosen(self, frames: str = "1:0", limit: int | None = None) -> RoadScenes:
        """Some of the frames.

        Args:
            frames: EVERY:OFFSET, the frames whose place divided by EVERY leaves OFFSET.
            limit: The first so many of them; None: all.

        Raises:
            UsageError: `frames` has another form, or leaves no frame.
        """
        return self._at(self._places(frames, "--frames")[:limit], f"--frames {frames}")

    def without(self, frames: str) -> RoadScenes:
        """All frames but those that are left for judging.

        Args:
            frames: As `chosen` takes them.

        Raises:
            UsageError: As of `chosen`.
        """
        left = set(self._places(frames, "--frames-without"))
        return self._at([each for each in range(len(self)) if each not in left], f"--frames-without {frames}")

    def _places(self, frames: str, option: str) -> list[int]:
        every, _, offset = frames.partition(":")
        if not (every.isdecimal() and offset.isdecimal() and int(offset) < int(every)):
            raise UsageError(
                f"{option} is EVERY:OFFSET, whole numbers with OFFSET below EVERY, such as 5:0 for every fifth frame; "
                f"got {frames!r}"
            )
        return list(range(int(offset), len(self), int(every)))

    def _at(self, places: Sequence[int], asked: str) -> RoadScenes:
        if not places:
            raise UsageError(f"{asked} leaves none of the {len(self)} frames")
        return RoadScenes(
            self.layout,
            _Some(self.frames, places),
            tuple(self.names[place] for place in places),
            tuple(self.signs[place] for place in places),
            self.classes,
        )


def open_scenes(path: Path, labels: Sequence[str]) -> RoadScenes:
    """Annotated frames, for a bundle's labels. How classes become labels: see `annotated_classes`.

    Args:
        path: A pack, a COCO file, or a folder in one of the known layouts.
        labels: The bundle's.

    Raises:
        DataError: There are no annotated frames, or they are damaged: a missing image, a box that can't be, a class
            that the annotation doesn't know.
    """
    name = printable(str(path))
    if not path.exists():
        raise DataError(f"the scenes {name} are not there; {_KNOWN}")
    if path.is_file():
        if path.suffix == ".npz":
            return _of_gtsdb(scenes_of_pack(path), "pack", labels)
        if path.suffix == ".json":
            return _of_annotated(coco_scenes(path), labels)
        raise DataError(f"the scenes {name} are a file of no known layout; {_KNOWN}")
    tables = [table / "gt.txt" for table, names in folders(path) if "gt.txt" in names]
    found = {
        "a pack": (path / "gtsdb_train.npz").is_file(),
        "GTSDB's gt.txt": bool(tables),
        "a COCO file": (coco := coco_file(path)) is not None,
        "YOLO's labels": yolo_folder(path),
    }
    kinds = [kind for kind, there in found.items() if there]
    if not kinds:
        raise DataError(f"no annotated frames in {name}; {_KNOWN}")
    if len(kinds) > 1 and not found["a pack"]:
        raise DataError(f"{name} holds {' and '.join(kinds)}; name the file or the folder of one of them")
    if found["a pack"] or tables:
        scenes = load_scenes(path, whole=True)
        return _of_gtsdb(scenes, "pack" if isinstance(scenes.frames, PackImages) else "gtsdb", labels)
    return _of_annotated(coco_scenes(coco) if coco is not None else yolo_scenes(path, len(labels)), labels)


def _of_gtsdb(scenes: Scenes, layout: str, labels: Sequence[str]) -> RoadScenes:
    names = dict(enumerate(CLASS_NAMES))
    numbers, boxes = scenes.numbers.tolist(), scenes.boxes
    return _made(layout, scenes.frames, [f"{number:05d}" for number in numbers], boxes, names, labels)


def _of_annotated(found: Annotated, labels: Sequence[str]) -> RoadScenes:
    if found.names is None:  # a class is its number; the reader has seen that there are labels for all
        names = dict(enumerate(labels))
        return _made(found.layout, FileImages(found.files), found.called, found.boxes, names, labels)
    return _made(found.layout, FileImages(found.files), found.called, found.boxes, found.names, labels)


def _made(
    layout: str,
    frames: LazyImages,
    called: Iterable[str],
    boxes: Sequence[Sequence[Box]],
    names: Mapping[int, str],
    labels: Sequence[str],
) -> RoadScenes:
    classes, how = annotated_classes(names, labels)
    signs = tuple(
        tuple(
            Sign((box.left, box.top, box.right - box.left, box.bottom - box.top), classes[box.label], names[box.label])
            for box in some
        )
        for some in boxes
    )
    return RoadScenes(layout, frames, tuple(called), signs, how)


class _Some(LazyImages):
    """Some of the images of another sequence."""

    def __init__(self, images: LazyImages, places: Sequence[int]) -> None:
        self.images, self.places = images, places

    def __len__(self) -> int:
        return len(self.places)

    def name(self, index: int) -> str:
        """As in the other sequence."""
        return self.images.name(self.places[index])

    def _decode(self, index: int) -> Pixels:
        return np.asarray(self.images[self.places[index]])


def _header(images: LazyImages, index: int) -> Path | BinaryIO:
    if isinstance(images, _Some):
        return _header(images.images, images.places[index])
    return images.files[index] if isinstance(images, FileImages) else io.BytesIO(_stored(images, index))


def _stored(images: LazyImages, index: int) -> bytes:
    if isinstance(images, _Some):
        return _stored(images.images, images.places[index])
    if isinstance(images, FileImages):
        try:
            return images.files[index].read_bytes()
        except OSError as error:
            raise DataError(f"{images.name(index)} can't be read ({error.strerror})") from error
    if isinstance(images, PackImages):
        return images.stored(index)
    return np.ascontiguousarray(images[index]).tobytes()
