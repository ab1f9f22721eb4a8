"""Any folder of images with a sub-folder a class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError
from firewall.lab.datasets.dataset import Dataset
from firewall.sources.folder import FileImages

__all__ = ["IMAGE_SUFFIXES", "open_folder"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".ppm", ".pgm", ".bmp", ".webp", ".tif", ".tiff", ".gif")


def open_folder(path: Path) -> Dataset:
    """The images of `path`/CLASS/..., classes in the order of their names; copies of one file are one group.

    Raises DataError for a folder without classes or a class without images; ImageError, when it is asked for, for an
    image that can't be read.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; name one with a sub-folder of images for each class, folder:PATH")
    classes = sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith("."))
    if not classes:
        raise DataError(f"{path} has no sub-folders; the images of each class belong into a sub-folder of its name")
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(classes):
        images = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
        if not images:
            raise DataError(f"the class folder {folder} has no images ({', '.join(IMAGE_SUFFIXES)}); fill or remove it")
        files += images
        labels += [label] * len(images)
    return Dataset(
        name="folder",
        images=FileImages(files),
        labels=np.array(labels, np.int64),
        groups=_copies(files),
        sources=tuple(file.relative_to(path).as_posix() for file in files),
        class_names=tuple(folder.name for folder in classes),
        licence="not known; it is the folder owner's to say",
        citation=f"images of the folder {path.resolve().name}",
        notes="images of one scene are not known to belong together, only copies of one file are",
    )


def _copies(files: Sequence[Path]) -> npt.NDArray[np.int64]:
    """A number for each file that files of the same content share. Only files of the same length are read."""
    sizes: dict[int, list[int]] = {}
    for index, file in enumerate(files):
        sizes.setdefault(file.stat().st_size, []).append(index)
    groups = np.arange(len(files), dtype=np.int64)
    for indices in sizes.values():
        if len(indices) == 1:
            continue
        first: dict[bytes, int] = {}
        for index in indices:
            try:
                digest = hashlib.sha256(files[index].read_bytes()).digest()
            except OSError as error:
                raise DataError(f"{files[index]} can't be read ({error.strerror})") from error
            groups[index] = first.setdefault(digest, index)
    return groups
