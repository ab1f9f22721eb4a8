"""Some of the benign images, and their labels where folder names or a pack tell them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, ImageError
from firewall.frame import Pixels
from firewall.lab.datasets.packs import open_pack
from firewall.sources.folder import image_files
from firewall.sources.image import read_image

__all__ = ["Labelled", "labelled", "some_of"]


@dataclass(frozen=True)
class Labelled:
    """known: the class of each image, -1 where it isn't known. how: what tells it, for messages. sure: whether that is
    certain: folders named as the labels, or as many numbered folders as classes."""

    images: list[Pixels]
    known: npt.NDArray[np.int64]
    how: str = ""
    sure: bool = False


def some_of(
    images: Sequence[Pixels], labels: npt.NDArray[np.int64] | None, most: int, how: str = "their labels"
) -> Labelled:
    """Up to `most` of `images`, from the first to the last at even distances, in a data set's order."""
    places = _spread(len(images), most)
    known = np.full(len(places), -1, np.int64) if labels is None else labels[places]
    return Labelled([images[place] for place in places.tolist()], known, how, sure=labels is not None)


def labelled(path: Path, labels: Sequence[str], most: int) -> Labelled:
    """Up to `most` images of a folder or pack. labels: of the classifier. Files that can't be read are left out: who
    calibrates on them says so."""
    if path.suffix == ".npz":
        pack, columns = open_pack(path)
        column = next((columns[name] for name in ("label", "labels", "y") if name in columns), None)
        fits = column is not None and column.dtype.kind in "iu" and column.ndim == 1 and column.min() >= 0
        values = column.astype(np.int64) if column is not None and fits and column.max() < len(labels) else None
        places = _spread(len(pack), most)
        images, kept = [], []
        for place in places.tolist():
            with suppress(DataError):
                images.append(pack[place])
                kept.append(place)
        known = np.full(len(kept), -1, np.int64) if values is None else values[kept]
        return Labelled(images, known, f"the labels in {path.name}", sure=values is not None)
    files = image_files(path)
    classes, how, sure = _classes({file.parent.name for file in files if file.parent != path}, labels)
    found, numbers = [], []
    for place in _spread(len(files), most).tolist():
        with suppress(ImageError):
            found.append(read_image(files[place]))
            numbers.append(classes.get(files[place].parent.name, -1))
    return Labelled(found, np.array(numbers, np.int64), how, sure)


def _spread(count: int, most: int) -> npt.NDArray[np.int64]:
    return (
        np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
        if count
        else np.zeros(0, np.int64)
    )


def _classes(folders: set[str], labels: Sequence[str]) -> tuple[dict[str, int], str, bool]:
    """Folder -> class, what tells it, and whether that is sure; nothing for folders that are no classes."""
    named = {_plain(label): number for number, label in enumerate(labels)}
    by_name = {folder: named[_plain(folder)] for folder in folders if _plain(folder) in named}
    if len(by_name) >= 2 and 2 * len(by_name) >= len(folders):
        return by_name, "the folders' names", True
    numbers = {folder: int(folder) for folder in folders if re.fullmatch(r"\d{1,6}", folder)}
    if len(numbers) == len(folders) >= 2 and max(numbers.values()) < len(labels):
        return numbers, "the folders' numbers", len(folders) == len(labels)
    return {}, "", False


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.casefold()).strip()
