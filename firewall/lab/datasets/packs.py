"""Packs: `.npz` files that hold losslessly encoded images one after another and a column for each fact about them."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.errors import DataError

__all__ = ["load_images", "load_pack"]

Pixels = npt.NDArray[np.uint8]


def load_pack(path: Path) -> tuple[list[Pixels], dict[str, npt.NDArray[np.generic]]]:
    """All images of a pack, each (H, W, 3) uint8 RGB, and its columns, each of the same length."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as pack:
            offsets, blob = pack["off"], pack["blob"]
            columns = {name: pack[name] for name in pack.files if name not in ("blob", "off")}
        return [
            np.array(Image.open(io.BytesIO(blob[start:end].tobytes())).convert("RGB"))
            for start, end in pairwise(offsets)
        ], columns
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{path} is not a readable pack of images ({error}); copy it anew") from error


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
