"""The residual image of Sun et al.: what an image loses when it is made smaller and enlarged again."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.errors import UsageError
from firewall.transforms.arrays import batch, destination
from firewall.transforms.runtime import rows, runtime
from firewall.transforms.scale import filter_number, resample

__all__ = ["READINGS", "residual"]

#: What a compression rate says: the share of the pixels that is given up, or that is kept.
READINGS = ("removed", "kept")


def residual(
    pixels: npt.NDArray[np.uint8],
    rate: float,
    *,
    reading: str = "removed",
    down: str = "box",
    up: str = "bilinear",
    coded: bool = False,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """The residual I - up(down(I)) at a compression rate, in integers and exact (Pillow's `Image.resize` both ways).

    The paper defines its compression rate as the size of the small image compared to the original, yet finds 5 % good
    and more worse because pixels are lost. So `rate` can be read as the share of pixels "removed" (default: at 0.05 the
    small image has 95 % of the pixels) or "kept" (at 0.05 it has 5 %). Both sides become max(1, int(side * sqrt(share
    kept))). The paper takes means when it shrinks and smooths when it enlarges: "box" and "bilinear" here.

    Args:
        pixels: (H, W, 3) or (N, H, W, 3) uint8 RGB.
        rate: More than 0, less than 1.
        reading: How `rate` is read: "removed" or "kept".
        down: Filters as in `scale`.
        up: The filter that enlarges.
        coded: Give 128 + residual in a byte instead, cut to 0..255, which loses what is beyond -128..127.
        out: Optional C-contiguous buffer for the result; it must not share memory with `pixels`.

    Returns:
        int16 -255..255, or uint8 if coded, of the shape of `pixels`.

    Raises:
        ImageError: If pixels or buffer have another shape or type.
        UsageError: For a rate, reading or filter that is not allowed.
    """
    images = batch(pixels)
    share = _kept_share(rate, reading)
    down_number, up_number = filter_number(down), filter_number(up)
    result = destination(out, pixels.shape, np.uint8 if coded else np.int16, pixels)
    copies = result.reshape(images.shape)
    module = runtime(images)
    if module is not None:
        run = module.residual_coded if coded else module.residual
        run(rows(images), np.array([share]), down_number, up_number, copies[:, None])
        return result
    height, width = images.shape[1:3]
    small_width, small_height = max(1, int(width * share)), max(1, int(height * share))
    for image, slot in zip(images, copies, strict=True):
        small = resample(Image.fromarray(np.ascontiguousarray(image)), small_width, small_height, down_number)
        difference = image - np.asarray(resample(small, width, height, up_number)).astype(np.int16)
        slot[...] = np.clip(128 + difference, 0, 255) if coded else difference
    return result


def _kept_share(rate: float, reading: str) -> float:
    """Share of each side that the small image has."""
    if reading not in READINGS:
        raise UsageError(f"a compression rate is read as one of {', '.join(READINGS)}, got {reading!r}")
    number = isinstance(rate, (int, float, np.floating)) and not isinstance(rate, bool)
    share = math.sqrt(1.0 - rate if reading == "removed" else rate) if number and 0.0 < rate < 1.0 else math.nan
    if not 0.0 < share < 1.0:  # a rate so near to 0 or 1 that no pixel would go or stay
        raise UsageError(f"a compression rate must be more than 0 and less than 1, got {rate!r}")
    return share
