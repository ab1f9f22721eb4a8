"""Frames and signs that a finder is trained on, and which of them are kept for choosing and for judging."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, UsageError
from firewall.frame import Pixels
from firewall.lab.datasets import gtsrb
from firewall.lab.datasets.gtsdb import Box, Scenes, load_scenes, scenes_of_pack
from firewall.lab.datasets.packs import load_pack, open_pack
from firewall.lab.training.finder.cutouts import Cutout, without_margin
from firewall.lab.training.finder.scenes import Ground
from firewall.regions.boxes import Floats

__all__ = ["JUDGED", "Every", "Material", "frames_of", "load_material", "parse_every"]

#: Boxes of this name in packs of other scenes are no signs; those of other names are, but of other classes.
_NO_SIGN = ("trafficlight", "traffic light")
#: Small pictures are enlarged: their signs are as large as in a frame of a camera.
_SMALL, _ENLARGED = 600, 1.5


@dataclass(frozen=True)
class Every:
    """Every `step`-th of a list, from number `first` on."""

    step: int
    first: int

    def __contains__(self, index: int) -> bool:
        return index % self.step == self.first

    def __str__(self) -> str:
        return f"{self.step}:{self.first}"


#: Frames that are for judging only, unless the user says otherwise.
JUDGED = Every(5, 0)


def parse_every(text: str, option: str) -> Every:
    """What "N:R" says: every N-th from number R on.

    Raises:
        UsageError: It says something else.
    """
    step, _, first = text.partition(":")
    if not (step.isdecimal() and first.isdecimal() and 2 <= int(step) <= 10_000 and int(first) < int(step)):
        raise UsageError(f"{option} must be N:R, every N-th frame from number R on, such as 5:0; got {text!r}")
    return Every(int(step), int(first))


@dataclass(frozen=True, eq=False)
class Material:
    """What a finder is trained on.

    Attributes:
        grounds: Frames with boxed signs, to learn from.
        others: Scenes whose signs are not boxed, or of other classes.
        signs: To be pasted.
        held: Frames that are not trained on: the threshold is chosen on them.
        about: What all of it is, for the card.
    """

    grounds: Sequence[Ground]
    others: Sequence[Ground]
    signs: Sequence[Cutout]
    held: Sequence[tuple[Pixels, Floats, npt.NDArray[np.int64]]]
    about: dict[str, Any]


def load_material(
    scenes: Sequence[Path],
    data: Path,
    *,
    without: Sequence[Every],
    held: Every,
    tracks_without: Every,
) -> Material:
    """Read frames and signs.

    Args:
        scenes: Packs with the signs' boxes, or folders of GTSDB. Of a pack whose boxes have names instead of GTSRB's
            class numbers only the surroundings are learned from.
        data: Folder of GTSRB, whose signs are pasted.
        without: Frames of each of `scenes` that are left for judging; the last counts for the rest.
        held: Frames that the threshold is chosen on; those that are left for judging are not among them.
        tracks_without: Tracks of GTSRB that are left out, by their number.

    Raises:
        DataError: Something is missing or damaged, or nothing is left.
    """
    grounds: list[Ground] = []
    others: list[Ground] = []
    kept: list[tuple[Pixels, Floats, npt.NDArray[np.int64]]] = []
    cutouts: list[Cutout] = []
    about: dict[str, Any] = {}
    for number, path in enumerate(scenes):
        left = without[min(number, len(without) - 1)]
        named = None if path.is_dir() else _named(path)
        facts: dict[str, Any] = {"sha256": _digest(path), "left for judging": f"frames {left}"}
        if named is not None:
            used = [index for index in range(len(named)) if index not in left]
            others += [named[index] for index in used]
            about[path.name] = facts | {"frames": len(used), "boxes": "named, of other classes"}
            continue
        found = load_scenes(path) if path.is_dir() else scenes_of_pack(path)
        before = len(kept)
        for index, pixels, boxes in frames_of(found, left):
            corners = _corners(boxes)
            if index in held:
                kept.append((pixels, corners, np.array([box.label for box in boxes], np.int64)))
                continue
            signs = np.concatenate([corners, np.ones((len(boxes), 1))], axis=1)
            grounds.append(Ground(pixels, signs, labels=tuple(box.label for box in boxes)))
            cutouts += _from_frame(pixels, boxes)
        about[path.name] = facts | {
            "frames": len(grounds),
            "signs": sum(len(ground.boxes) for ground in grounds),
            "held for the threshold": f"frames {held}: {len(kept) - before}",
        }
    if not grounds or not kept:
        raise DataError(
            "no frame with boxed signs is left to learn from, or none to choose the threshold on; name GTSDB with "
            "--scenes (gtsdb_train.npz, or a folder with gt.txt)"
        )
    pasted = gtsrb.load_train(data)
    images = [index for index, track in enumerate(pasted.tracks.tolist()) if track not in tracks_without]
    cutouts += [
        Cutout(pasted.images[index], without_margin(pasted.images[index]), int(pasted.labels[index]))
        for index in images
        if min(pasted.images[index].shape[:2]) > 20
    ]
    about["GTSRB"] = {"images": len(images), "left out": f"tracks {tracks_without}"}
    return Material(grounds, others, cutouts, kept, about)


def frames_of(scenes: Scenes, left: Every) -> Iterator[tuple[int, Pixels, tuple[Box, ...]]]:
    """Index, pixels and signs of each frame that is not left for judging."""
    for index in range(len(scenes)):
        if index not in left:
            yield index, scenes.frames[index], scenes.boxes[index]


def _from_frame(pixels: Pixels, boxes: Sequence[Box]) -> Iterator[Cutout]:
    height, width = pixels.shape[:2]
    for box in boxes:
        margin = max(2, round(0.15 * box.side))
        left, top = max(0, box.left - margin), max(0, box.top - margin)
        view = pixels[top : min(height, box.bottom + margin), left : min(width, box.right + margin)].copy()
        yield Cutout(view, (box.left - left, box.top - top, box.right - left, box.bottom - top), box.label)


def _corners(boxes: Sequence[Box]) -> Floats:
    rows = [(box.left, box.top, box.right, box.bottom) for box in boxes]
    return np.array(rows, np.float64).reshape(-1, 4)


def _named(path: Path) -> list[Ground] | None:
    """The scenes of a pack whose boxes have names, or that has none; None for a pack with class numbers."""
    _, columns = open_pack(path)
    texts = columns["boxes"].tolist() if "boxes" in columns else None
    try:
        rows = None if texts is None else [json.loads(str(text)) for text in texts]
        if rows is not None and not any(isinstance(row[0], str) for frame in rows for row in frame):
            return None
        images, _ = load_pack(path)
        boxes = [[]] * len(images) if rows is None else rows
        return [
            Ground(pixels, _ignored(frame), _ENLARGED if min(pixels.shape[:2]) < _SMALL else 0.0)
            for pixels, frame in zip(images, boxes, strict=True)
        ]
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise DataError(f"{path}: boxes that can't be read ({error}); copy the pack again") from error


def _ignored(rows: Sequence[Sequence[Any]]) -> Floats:
    signs = [[*map(float, row[1:5]), 0.0] for row in rows if str(row[0]).lower() not in _NO_SIGN]
    return np.array(signs, np.float64).reshape(-1, 5)


def _digest(path: Path) -> str | None:
    if path.is_dir():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
