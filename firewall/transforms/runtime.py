"""The native runtime where it is there, and what it can read; where it is missing, Pillow does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall import native
from firewall.errors import FirewallError

__all__ = ["MAX_SIDE", "by_pillow", "packed", "rows", "runtime"]

#: The longest side of an image that the runtime takes, in pixels; Pillow does larger ones.
MAX_SIDE = 16384


@cache
def _loaded() -> ModuleType | None:
    try:
        return native.load()
    except FirewallError:
        return None


def runtime(images: npt.NDArray[np.uint8]) -> ModuleType | None:
    """The native module if it is built and takes images of this size, else None.

    Args:
        images: (N, H, W, 3).
    """
    return _loaded() if max(images.shape[1:3]) <= MAX_SIDE else None


def rows(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The same pixels where the runtime can read them: rows of packed pixels, one behind the other.

    Args:
        images: (N, H, W, 3). A region of a frame is used where it lies; what is mirrored or thinned out is copied.
    """
    return images if packed(images) else np.ascontiguousarray(images)


def packed(images: npt.NDArray[np.uint8]) -> bool:
    """Whether the runtime can read images (N, H, W, 3) where they lie, see `rows`."""
    count, height, width, _ = images.shape
    image, row, pixel, byte = images.strides
    side_by_side = byte == 1 and (pixel == 3 or width == 1)
    apart = (height == 1 or row >= 3 * width) and (count == 1 or image >= height * max(row, 3 * width))
    return side_by_side and apart


def by_pillow(
    operation: Callable[[Image.Image, float], Image.Image],
    images: npt.NDArray[np.uint8],
    parameters: Sequence[float],
    copies: npt.NDArray[np.uint8],
) -> None:
    """Fill the copies, (N, P, H, W, 3), by an operation of Pillow's on each image with each parameter."""
    for image, slots in zip(images, copies, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(image))
        for slot, parameter in zip(slots, parameters, strict=True):
            slot[...] = np.asarray(operation(picture, float(parameter)))
