"""Rotation about the centre, by one angle or many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.transforms.arrays import batch, check_numbers, copies
from firewall.transforms.runtime import by_pillow, rows, runtime

__all__ = ["MAX_ANGLE", "rotate"]

MAX_ANGLE = 360.0


def rotate(
    pixels: npt.NDArray[np.uint8], angles: Sequence[float], *, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Rotate images by each angle and keep their size: Pillow's `Image.rotate(angle)`, byte for byte.

    Nearest neighbour, black where the corners have left. A positive angle is counter-clockwise, as in the published
    code of Nguyen, Kuribayashi et al. (their text says clockwise): 1 to 8 degrees there. Nothing is rotated back.

    Args:
        pixels: (H, W, 3) or (N, H, W, 3) uint8 RGB.
        angles: Degrees, -360 to 360, any number, any order.
        out: Optional C-contiguous uint8 buffer for the result; it must not share memory with `pixels`.

    Returns:
        uint8 (A, H, W, 3), or (N, A, H, W, 3) for a batch.

    Raises:
        ImageError: If pixels or buffer have another shape or type.
        UsageError: For an angle out of range.
    """
    images = batch(pixels)
    check_numbers(angles, "an angle", -MAX_ANGLE, MAX_ANGLE)
    result, slots = copies(out, pixels, len(angles))
    module = runtime(images)
    if module is not None:
        module.rotate(rows(images), np.asarray(angles, np.float64), slots)
    else:
        by_pillow(lambda picture, angle: picture.rotate(angle, Image.Resampling.NEAREST), images, angles, slots)
    return result
