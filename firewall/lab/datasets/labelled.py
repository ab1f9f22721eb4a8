"""Some of the benign images, with their labels where folders or a pack have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, ImageError
from firewall.frame import Pixels
from firewall.lab.datasets.classes import folder_classes, named_as_labels
from firewall.lab.datasets.packs import open_pack
from firewall.sources.folder import image_files
from firewall.sources.image import read_image

__all__ = ["Labelled", "labelled", "some_of"]


@dataclass(frozen=True)
class Labelled:
    """N images, some of them with labels.

    Attributes:
        images: uint8 (H, W, 3) each, of any size.
        known: The class of each, int64 (N,); -1 where it isn't known.
        how: Where the classes come from, for messages.
        sure: The classes are certain: folders named as the labels, or as many numbered folders as classes.
    """

    images: list[Pixels]
    known: npt.NDArray[np.int64]
    how: str = ""
    sure: bool = False


def some_of(
    images: Sequence[Pixels], labels: npt.NDArray[np.int64] | None, most: int, how: str = "their labels"
) -> Labelled:
    """Take some images of a data set, evenly from the first to the last.

    Args:
        images: All of its N images.
        labels: Their classes, int64 (N,); None if they aren't known.
        most: Up to how many are taken.
        how: As of `Labelled`.
    """
    places = _spread(len(images), most)
    known = np.full(len(places), -1, np.int64) if labels is None else labels[places]
    return Labelled([images[place] for place in places.tolist()], known, how, sure=labels is not None)


def labelled(
    path: Path, labels: Sequence[str], most: int, keep: Callable[[Pixels], Pixels] = lambda image: image
) -> Labelled:
    """Take some images of a folder or pack, evenly from the first to the last.

    Files that can't be read are left out; the calibration itself reports them.

    Args:
        path: The folder or pack.
        labels: The classifier's.
        most: Up to how many are taken.
        keep: What is kept of each, such as a smaller version.
    """
    if path.suffix == ".npz":
        pack, columns = open_pack(path)
        column = next((columns[name] for name in ("label", "labels", "y") if name in columns), None)
        fits = column is not None and column.dtype.kind in "iu" and column.ndim == 1 and column.min() >= 0
        values = column.astype(np.int64) if column is not None and fits and column.max() < len(labels) else None
        places = _spread(len(pack), most)
        images, kept = [], []
        for place in places.tolist():
            with suppress(DataError):
                images.append(keep(pack[place]))
                kept.append(place)
        known = np.full(len(kept), -1, np.int64) if values is None else values[kept]
        return Labelled(images, known, f"the labels in {path.name}", sure=values is not None)
    files = image_files(path)
    classes, how, sure = _classes({file.parent.name for file in files if file.parent != path}, labels)
    found, numbers = [], []
    for place in _spread(len(files), most).tolist():
        with suppress(ImageError):
            found.append(keep(read_image(files[place])))
            numbers.append(classes.get(files[place].parent.name, -1))
    return Labelled(found, np.array(numbers, np.int64), how, sure)


def _spread(count: int, most: int) -> npt.NDArray[np.int64]:
    return (
        np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
        if count
        else np.zeros(0, np.int64)
    )


def _classes(folders: set[str], labels: Sequence[str]) -> tuple[dict[str, int], str, bool]:
    """Folder -> class, where that comes from, and whether it is sure; nothing for folders that are no classes."""
    names = sorted(folders)
    named = named_as_labels(names, labels)
    if len(named) >= 2 and 2 * len(named) >= len(names):
        names = named  # the others hold images of no class
    with suppress(DataError):
        classes, how = folder_classes(names, labels)
        if len(names) >= 2 and how != "order":  # the order alone says too little
            sure = how == "names" or len(names) == len(labels)
            return dict(zip(names, classes, strict=True)), f"the folders' {how.partition(',')[0]}", sure
    return {}, "", False
