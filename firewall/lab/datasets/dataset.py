"""What every data set is once it is open: images, labels, and which images may not be parted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError

__all__ = ["Dataset", "Pixels", "checked_labels"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images, each (H, W, C) uint8 with C 1 (grey) or 3 (RGB), sizes may differ.

    images: may decode on access, so whoever needs an image twice keeps it. labels: int64 (N,), 0-based classes, indices
    into `class_names`. groups: int64 (N,): images of one track, or near duplicates, share a group and are never parted
    by a split. sources: a name for each image that stays the same on every machine, e.g. "gtsrb_test32/00017".
    notes: what a card has to repeat, such as "already JPEG at quality 75".
    """

    name: str
    images: Sequence[Pixels]
    labels: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]
    sources: Sequence[str]
    class_names: tuple[str, ...]
    licence: str
    citation: str
    notes: str = ""

    def __post_init__(self) -> None:
        counts = {len(self.images), len(self.labels), len(self.groups), len(self.sources)}
        if len(counts) != 1 or 0 in counts:
            raise DataError(
                f"{self.name}: {len(self.images)} images, {len(self.labels)} labels, {len(self.groups)} groups and "
                f"{len(self.sources)} sources don't belong together"
            )
        if self.labels.min() < 0 or self.labels.max() >= len(self.class_names):
            raise DataError(
                f"{self.name} has labels from {self.labels.min()} to {self.labels.max()}, but only "
                f"{len(self.class_names)} classes (0..{len(self.class_names) - 1})"
            )

    def __len__(self) -> int:
        return len(self.labels)


def checked_labels(labels: npt.ArrayLike, classes: int, path: Path) -> npt.NDArray[np.int64]:
    """`labels` as int64 (N,). Raises DataError, naming the file `path` that they come from, for one not in
    0..classes - 1."""
    array = np.asarray(labels).astype(np.int64)
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if array.ndim != 1 or len(wrong):
        which = f"label {array[wrong[0]]} for image {wrong[0]}" if array.ndim == 1 else f"labels of shape {array.shape}"
        raise DataError(f"{path} has {which}; labels from 0 to {classes - 1} are expected: get it anew")
    return array
