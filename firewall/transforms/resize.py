"""Bring crops to the size a network reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.transforms.runtime import packed, runtime

__all__ = ["crops", "resize"]

_Pixels = npt.NDArray[np.uint8]


def resize(pixels: _Pixels, width: int, height: int) -> _Pixels:
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
    found: _Pixels = crops(pixels, [(0, 0, pixels.shape[1], pixels.shape[0])], width, height)[0]
    return found


def crops(frame: _Pixels, regions: Sequence[tuple[int, int, int, int]], width: int, height: int) -> _Pixels:
    """Regions of a frame, each as `resize` would bring it to width x height, in one call of the native runtime.

    Args:
        frame: (H, W, 3) uint8; it is read where it lies.
        regions: (x, y, width, height) in pixels, within the frame.
        width: Width of the results in pixels.
        height: Height of the results in pixels.

    Returns:
        uint8 (len(regions), height, width, 3).
    """
    found = np.empty((len(regions), height, width, 3), np.uint8)
    images = frame[np.newaxis]
    module = runtime(images)
    if module is not None and packed(images):
        module.crops(images, np.array(regions, np.int32).reshape(-1, 4), found)
        return found
    for slot, (x, y, wide, high) in zip(found, regions, strict=True):
        slot[...] = _by_pillow(frame[y : y + high, x : x + wide], width, height)
    return found


def _by_pillow(pixels: _Pixels, width: int, height: int) -> _Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    # Width first, then height, in two calls: Pillow 13 changed the order it chooses itself, and what was calibrated on
    # one version has to hold on another.
    narrow = image.resize((width, image.height), Image.Resampling.BILINEAR)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR))
