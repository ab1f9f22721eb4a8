"""Packs: `.npz` files that hold losslessly encoded images one after another and a column for each fact about them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.errors import DataError
from firewall.sources.image import read_image

__all__ = ["FileImages", "PackImages", "load_images", "load_pack", "open_pack"]

Pixels = npt.NDArray[np.uint8]
Columns = dict[str, npt.NDArray[np.generic]]


class _Lazy(Sequence[Pixels]):
    """Images that are decoded when they are asked for."""

    def _decode(self, index: int) -> Pixels:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | list[Pixels]:
        if isinstance(index, slice):
            return [self._decode(number) for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._decode(int(index) % len(self))

    def __iter__(self) -> Iterator[Pixels]:
        return (self._decode(index) for index in range(len(self)))


class PackImages(_Lazy):
    """The images of a pack, each (H, W, 3) uint8 RGB. A damaged one raises DataError when it is asked for."""

    def __init__(self, name: str, blob: Pixels, offsets: npt.NDArray[np.int64]) -> None:
        self._name, self._blob, self._offsets = name, blob, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def _decode(self, index: int) -> Pixels:
        start, end = self._offsets[index : index + 2]
        try:
            return np.array(Image.open(io.BytesIO(self._blob[start:end].tobytes())).convert("RGB"))
        except (OSError, ValueError) as error:
            raise DataError(f"image {index} of {self._name} can't be read ({error}); copy the pack anew") from error


class FileImages(_Lazy):
    """Image files, each (H, W, 3) uint8 RGB. A damaged one raises ImageError when it is asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def _decode(self, index: int) -> Pixels:
        return read_image(self.files[index])


def open_pack(path: Path) -> tuple[PackImages, Columns]:
    """The images of a pack, decoded when they are asked for, and its columns, each of the same length."""
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
        raise DataError(f"{path} is not a readable pack of images ({error}); copy it anew") from error
    return PackImages(path.name, blob, offsets), columns


def load_pack(path: Path) -> tuple[list[Pixels], Columns]:
    """All images of a pack, each (H, W, 3) uint8 RGB, and its columns, each of the same length."""
    images, columns = open_pack(path)
    return list(images), columns


def load_images(path: Path) -> list[Pixels]:
    """All images of a pack, or of a folder and its sub-folders."""
    if path.suffix == ".npz":
        return load_pack(path)[0]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in (".png", ".jpg", ".jpeg", ".ppm", ".bmp"))
    if not files:
        raise DataError(f"no images (.png, .jpg, .ppm, .bmp) under {path}")
    try:
        return [np.array(Image.open(file).convert("RGB")) for file in files]
    except OSError as error:
        raise DataError(f"an image under {path} can't be read ({error})") from error
