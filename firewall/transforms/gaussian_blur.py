"""Gaussian blur, at one radius or many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import ImageFilter

from firewall.transforms.arrays import batch, check_numbers, copies
from firewall.transforms.runtime import by_pillow, rows, runtime

__all__ = ["MAX_RADIUS", "gaussian_blur"]

MAX_RADIUS = 1000.0


def gaussian_blur(
    pixels: npt.NDArray[np.uint8], radii: Sequence[float], *, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Blur images at each radius: Pillow's `ImageFilter.GaussianBlur(radius)`, byte for byte.

    That is three box blurs of fractional radius along the rows and three along the columns, in integers; the border
    pixels repeat. Nguyen, Kuribayashi et al. use the radii 2, 3, 4 and 5 and call them kernel sizes.

    Args:
        pixels: (H, W, 3) or (N, H, W, 3) uint8 RGB.
        radii: Standard deviations in pixels, 0 (a copy) to 1000, any number, any order; they are used in single
            precision.
        out: Optional C-contiguous uint8 buffer for the result; it must not share memory with `pixels`.

    Returns:
        uint8 (R, H, W, 3), or (N, R, H, W, 3) for a batch.

    Raises:
        ImageError: If pixels or buffer have another shape or type.
        UsageError: If radiuss are out of range.
    """
    images = batch(pixels)
    check_numbers(radii, "a radius", 0, MAX_RADIUS)
    result, slots = copies(out, pixels, len(radii))
    module = runtime(images)
    if module is not None:
        module.gaussian_blur(rows(images), np.asarray(radii, np.float32), slots)
    else:
        by_pillow(lambda picture, radius: picture.filter(ImageFilter.GaussianBlur(radius)), images, radii, slots)
    return result
