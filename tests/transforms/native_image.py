"""The images of the native tests, made again in Python."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["native_image"]


def native_image(number: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """The image that tests/native/jpeg_cases.hpp makes for a case.

    Args:
        number: Of the case; seeds the noise, and chooses between noise, black and white, a ramp and one grey.
        shape: (H, W) or (H, W, 3).

    Returns:
        Uint8 of that shape.
    """
    values, state = [], number
    for index in range(int(np.prod(shape))):
        state = (state * 1664525 + 1013904223) % 2**32
        random = state >> 24
        values.append((random, 0 if random < 128 else 255, (index + random // 32) % 256, 200)[number % 4])
    return np.array(values, np.uint8).reshape(shape)
