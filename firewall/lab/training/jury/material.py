"""The benign images that a jury for somebody's own classifier learns from, and those that are kept out for judging."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, UsageError
from firewall.frame import Pixels
from firewall.lab.datasets import open_dataset, split
from firewall.lab.datasets.catalogue import NAMES
from firewall.lab.datasets.classes import matched
from firewall.lab.datasets.labelled import labelled
from firewall.lab.datasets.notice import say
from firewall.lab.datasets.packs import load_images
from firewall.lab.datasets.reading import at_most
from firewall.sources.uri import printable

__all__ = ["Material", "load_material"]

#: Runs of consecutive images of a class, and of all images where no class is known. Every fifth run is kept out:
#: neighbours are often frames of one scene, and a scene that is on both sides makes every figure too good.
_RUNS, _RUNS_UNLABELLED = 10, 100
_EVERY = 5
#: Share that is kept out of a data set with groups of its own; the same as of the runs.
_HELD = 1 / _EVERY


@dataclass(frozen=True, eq=False)
class Material:
    """N benign images.

    Args:
        name: What they are, in words.
        images: Uint8 (H, W, 3) each.
        known: The class of each, int64 (N,), -1 where it isn't known.
        held: Which are kept out of training, bool (N,).
        sha256: Of all pixels, labels and of what is kept out.
    """

    name: str
    images: Sequence[Pixels]
    known: npt.NDArray[np.int64]
    held: npt.NDArray[np.bool_]
    sha256: str

    def part(self, held: bool) -> tuple[list[Pixels], npt.NDArray[np.int64]]:
        """The images that are kept out, or the others, and the class of each."""
        places = np.flatnonzero(self.held == held)
        return [self.images[place] for place in places.tolist()], self.known[places]


def load_material(spec: str, labels: Sequence[str], largest: int, data: Path | None = None) -> Material:
    """Read images and decide which are kept out.

    Args:
        spec: A folder of images, perhaps with sub-folders named as the labels; a pack; or DATASET or DATASET/PART, such
            as cifar10/train.
        labels: The classifier's classes.
        largest: Larger images are made smaller, so that no side is longer than this, in pixels.
        data: Folder of the data sets.

    Returns:
        The images. A fifth of them is kept out; copies of one image, and frames of one track where that is known, are
        on one side.

    Raises:
        UsageError: There is neither such a folder nor such a data set.
        DataError: Images are missing or damaged, or too few.
    """
    name, _, part = spec.partition("/")
    if Path(spec).exists():
        found = _from_path(Path(spec), labels, largest)
    elif name in NAMES or name.startswith("folder:"):
        found = _from_dataset(spec, name, part, labels, largest, data)
    else:
        raise UsageError(
            f"--images {spec!r} is neither a folder of images nor a pack nor a data set ({', '.join(NAMES)}, each "
            "perhaps with /PART)"
        )
    title, images, known, held = found
    digests = [hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest() for image in images]
    learnt = {digest for digest, kept in zip(digests, held.tolist(), strict=True) if not kept}
    held &= np.array([digest not in learnt for digest in digests], bool)
    if held.sum() < 8 or (~held).sum() < 16:
        raise DataError(
            f"{printable(spec)} has {len(set(digests))} different images, of which {int(held.sum())} can be kept out "
            "for judging; a jury needs hundreds at the least, thousands are better"
        )
    total = hashlib.sha256(b"".join(digests) + known.tobytes() + held.tobytes()).hexdigest()
    return Material(title, images, known, held, total)


_Found = tuple[str, list[Pixels], npt.NDArray[np.int64], npt.NDArray[np.bool_]]


def _from_path(path: Path, labels: Sequence[str], largest: int) -> _Found:
    files = load_images(path)  # says as well which pictures the edge doesn't read
    there = len(files)
    found = labelled(path, labels, there, keep=lambda image: at_most(image, largest))
    if len(found.images) < there:
        for _ in files:  # raises an error that names the first bad one
            continue
    known = found.known
    if (known >= 0).any():
        say(f"{int((known >= 0).sum())} of {there} images have a label, by {found.how}; it counts beside the answers")
    return f"{there} images of {printable(path.resolve().name)}", found.images, known, _runs(known)


def _from_dataset(spec: str, name: str, part: str, labels: Sequence[str], largest: int, data: Path | None) -> _Found:
    opened = open_dataset(spec, data) if name.startswith("folder:") else open_dataset(name, data, part=part or "test")
    opened = matched(opened, labels)
    images = [at_most(_colour(image), largest) for image in opened.images]
    surplus = len(labels) - len(opened.class_names)
    if surplus == 0 or (surplus == 1 and len(opened.class_names) == 1000):  # ImageNet's with one for background
        known = opened.labels + surplus
    else:
        say(
            f"{spec} has {len(opened.class_names)} classes and the classifier {len(labels)}: its labels are not used, "
            "the classifier's answers alone are"
        )
        known = np.full(len(images), -1, np.int64)
    held = split(opened, (1 - _HELD, _HELD, 0.0)) == 1
    return f"{len(images)} images of {spec}", images, known, held


def _runs(known: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    held = np.zeros(len(known), bool)
    # A class of fewer images can't give a fifth: those of all such classes are divided together.
    classes, place, counts = np.unique(known, return_inverse=True, return_counts=True)
    known = np.where(counts < _EVERY, -1, classes)[place]
    for label in np.unique(known).tolist():
        places = np.flatnonzero(known == label)
        runs = _RUNS if label >= 0 else _RUNS_UNLABELLED
        run = np.arange(len(places)) * runs // len(places)
        held[places] = run % _EVERY == 2
    return held


def _colour(image: Pixels) -> Pixels:
    return image if image.shape[2] == 3 else np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB))
