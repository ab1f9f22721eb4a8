"""What every data set is once it is open: images, labels, and which images belong together."""

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
    """Labelled images.

    Args:
        name: Of the data set.
        images: Each uint8 (H, W, C) with C 1 (grey) or 3 (RGB); sizes may differ. They may decode on access, so keep an
            image that is needed twice.
        labels: Int64 (N,), classes from 0, indices into `class_names`.
        groups: Int64 (N,); images of one track, or near duplicates, share a group, and no split separates them.
        sources: A name for each image that is the same on every machine, such as "gtsrb_test32/00017".
        class_names: A name for each class.
        licence: Under which the images may be used.
        citation: Whom to cite.
        notes: What a card has to repeat, such as "already JPEG at quality 75".

    Raises:
        DataError: Lengths differ, there is no image, or a label has no class.
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
    """Labels as int64.

    Args:
        labels: (N,).
        classes: How many classes there are.
        path: The file that they come from, for errors.

    Returns:
        Int64 (N,), 0..classes - 1.

    Raises:
        DataError: A label is out of range.
    """
    array = np.asarray(labels).astype(np.int64)
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if array.ndim != 1 or len(wrong):
        which = f"label {array[wrong[0]]} for image {wrong[0]}" if array.ndim == 1 else f"labels of shape {array.shape}"
        raise DataError(f"{path} has {which}; labels from 0 to {classes - 1} are expected: get it again")
    return array
