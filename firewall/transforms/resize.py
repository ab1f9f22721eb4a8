"""Bring a crop to the size a network reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["resize"]


def resize(pixels: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Resample to width x height by Pillow's BILINEAR filter (antialiased when it shrinks, integer arithmetic).

    Args:
        pixels: (H, W, 3) uint8.
        width: Width of the result in pixels.
        height: Height of the result in pixels.

    Returns:
        (height, width, 3) uint8; the same size gives the same bytes.
    """
    if pixels.shape[:2] == (height, width):
        return np.ascontiguousarray(pixels)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    # Width first, then height, in two calls: Pillow 13 changed the order it chooses itself, and what was calibrated on
    # one version has to hold on another.
    narrow = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR))
