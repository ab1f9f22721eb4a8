"""Packs: `.npz` files that hold losslessly encoded images one after another and a column for each fact about them."""

from __future__ import annotations

import io
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, ImageError
from firewall.lab.datasets.notice import say
from firewall.sources.folder import FileImages, LazyImages, image_files, unread_pictures
from firewall.sources.image import decode_image
from firewall.sources.uri import printable

__all__ = ["PackImages", "load_images", "load_pack", "open_pack"]

Pixels = npt.NDArray[np.uint8]
Columns = dict[str, npt.NDArray[np.generic]]


class PackImages(LazyImages):
    """The images of a pack, each uint8 (H, W, 3) RGB. A damaged one raises DataError on access.

    Args:
        name: Of the pack, for errors.
        blob: Uint8 (bytes,), the files one after another.
        offsets: Int64 (N + 1,).
    """

    def __init__(self, name: str, blob: Pixels, offsets: npt.NDArray[np.int64]) -> None:
        self._name, self._blob, self._offsets = name, blob, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def name(self, index: int) -> str:
        """Its place in the pack."""
        return f"image {index} of {self._name}"

    def stored(self, index: int) -> bytes:
        """One image's file as the pack holds it."""
        start, end = self._offsets[index : index + 2]
        return self._blob[start:end].tobytes()

    def _decode(self, index: int) -> Pixels:
        try:
            return decode_image(io.BytesIO(self.stored(index)), self.name(index))
        except ImageError as error:
            raise DataError(f"{error}; copy the pack again") from error


def open_pack(path: Path) -> tuple[PackImages, Columns]:
    """The images of a pack, decoded on access, and its columns.

    Args:
        path: The pack.

    Returns:
        The images, and the columns by name, each of the same length.

    Raises:
        DataError: The file is no pack.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as pack:
            offsets, blob = pack["off"].astype(np.int64), pack["blob"]
            columns = {name: pack[name] for name in pack.files if name not in ("blob", "off")}
        if len(offsets) < 2 or offsets[0] < 0 or (np.diff(offsets) <= 0).any() or offsets[-1] > len(blob):
            raise ValueError("the offsets don't fit the images")
        uneven = [name for name, column in columns.items() if column.shape[:1] != (len(offsets) - 1,)]
        if uneven:
            raise ValueError(f"column {uneven[0]!r} has another length than the images")
    except (OSError, ValueError, KeyError, BadZipFile, EOFError) as error:
        raise DataError(f"{path} is not a readable pack of images ({error}); copy it again") from error
    return PackImages(path.name, blob, offsets), columns


def load_pack(path: Path) -> tuple[list[Pixels], Columns]:
    """All images of a pack, decoded, and its columns.

    Args:
        path: The pack.

    Returns:
        The images, uint8 (H, W, 3) RGB each, and the columns by name.

    Raises:
        DataError: The file is no pack, or an image is damaged.
    """
    images, columns = open_pack(path)
    return list(images), columns


def load_images(path: Path) -> LazyImages:
    """The images of a pack, or of a folder and its sub-folders, decoded on access.

    Pictures there that the edge does not read are named on stderr.

    Args:
        path: A pack or a folder.

    Returns:
        The images.

    Raises:
        DataError: There is none.
    """
    if path.suffix == ".npz":
        return open_pack(path)[0]
    files = image_files(path)
    if others := unread_pictures(path):
        say(f"left out of {printable(str(path))}: {others}, which the edge doesn't read; convert them to PNG or JPEG")
    return FileImages(files)
