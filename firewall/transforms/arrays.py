"""What every operation asks of its arrays and numbers, with one message for each mistake."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.errors import ImageError, UsageError

__all__ = ["batch", "check_numbers", "copies", "destination", "image", "normalisation", "normalise"]


def batch(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The pixels as images: (H, W, 3) becomes (1, H, W, 3), (N, H, W, 3) stays. A view, never a copy.

    Args:
        pixels: (H, W, 3) or (N, H, W, 3) uint8 RGB.

    Raises:
        ImageError: For anything but uint8 RGB of at least 1x1.
    """
    if (
        not isinstance(pixels, np.ndarray)
        or pixels.dtype != np.uint8
        or pixels.ndim not in (3, 4)
        or pixels.shape[-1] != 3
    ):
        got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ImageError(f"pixels must be a uint8 array of shape (H, W, 3) or (N, H, W, 3) in RGB order, got {got}")
    if 0 in pixels.shape[-3:]:
        raise ImageError(f"pixels must be at least 1x1, got {pixels.shape[-2]}x{pixels.shape[-3]}")
    return pixels if pixels.ndim == 4 else pixels[None]


def image(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The pixels of one image, (H, W, 3), as they are.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Raises:
        ImageError: For anything else.
    """
    if batch(pixels) is pixels:
        raise ImageError(f"pixels must be one image of shape (H, W, 3), got a batch {pixels.shape}")
    return pixels


def destination(
    out: npt.NDArray[Any] | None,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    pixels: npt.NDArray[np.uint8],
) -> npt.NDArray[Any]:
    """The caller's buffer once it is known to fit, or a new one.

    Raises:
        ImageError: For a buffer of another shape or type, one that is read-only or has gaps, or one that shares memory
            with the pixels: they would change while they are read.
    """
    if out is None:
        return np.empty(shape, dtype)
    if (
        not isinstance(out, np.ndarray)
        or out.shape != shape
        or out.dtype != dtype
        or not out.flags.c_contiguous
        or not out.flags.writeable
    ):
        got = f"{out.dtype} {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise ImageError(f"out must be a writeable C-contiguous {np.dtype(dtype)} array of shape {shape}, got {got}")
    if np.may_share_memory(out, pixels):
        raise ImageError("out shares memory with pixels; give it a buffer of its own")
    return out


def copies(
    out: npt.NDArray[np.uint8] | None, pixels: npt.NDArray[np.uint8], count: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The buffer for `count` copies of each image: as it is returned, and the same memory as (N, count, H, W, 3).

    Args:
        out: The caller's buffer, None for a new one.
        pixels: One image or a batch that `batch` has let pass.
        count: Copies of each image.

    Raises:
        ImageError: See `destination`.
    """
    images, height, width, _ = batch(pixels).shape
    shape = (images, count, height, width, 3)
    result = destination(out, shape if pixels.ndim == 4 else shape[1:], np.uint8, pixels)
    return result, result.reshape(shape)


def check_numbers(values: Sequence[float], what: str, lowest: float, highest: float) -> None:
    """Raise UsageError for a value that is no number from `lowest` to `highest`; NaN is none."""
    for value in values:
        number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not lowest <= value <= highest:
            raise UsageError(f"{what} must be a number from {lowest:g} to {highest:g}, got {value!r}")


def normalisation(
    mean: Sequence[float], std: Sequence[float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both as arrays of three.

    Raises:
        UsageError: If they are not three finite numbers each, or std is not above 0.
    """
    means, stds = (_three(values, name) for values, name in ((mean, "mean"), (std, "std")))
    if stds.min() <= 0:
        raise UsageError(f"std must be three numbers above 0, got {std!r}")
    return means, stds


def normalise(
    copies: npt.NDArray[np.uint8],
    means: npt.NDArray[np.float64],
    stds: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
) -> None:
    """(value / 255 - mean) / std of pixels (..., H, W, 3), channels first, into `out` (..., 3, H, W).

    That is value * scale + shift in float32, both operations rounded; scale 1 / (255 std) and shift -mean / std are
    computed in float64 and rounded once.
    """
    out[...] = np.moveaxis(copies, -1, -3)
    out *= (1.0 / (255.0 * stds)).astype(np.float32)[:, None, None]
    out += (-means / stds).astype(np.float32)[:, None, None]


def _three(values: Sequence[float], name: str) -> npt.NDArray[np.float64]:
    try:
        array = np.ascontiguousarray(values, np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (3,) or not all(math.isfinite(value) for value in array.tolist()):
        raise UsageError(f"{name} must be three finite numbers, one for each of R, G and B, got {values!r}")
    return array
