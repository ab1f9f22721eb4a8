"""The JPEG quality-factor (QF) sweep: save and reopen an image at many qualities.

`jpeg_sweep_reference` and `jpeg_sweep_normalised_reference`, by Pillow and numpy, *are* the operations. `jpeg_sweep`
and `jpeg_sweep_normalised` give the same bytes by the native runtime, which does the work that is common to all
qualities once and leaves out the entropy coding; without the runtime they are the references.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.errors import UsageError
from firewall.transforms.arrays import destination, image, normalisation, normalise
from firewall.transforms.runtime import MAX_SIDE, runtime
from firewall.transforms.scale import filter_number, resample

__all__ = [
    "SUBSAMPLINGS",
    "SWEEP_16",
    "SWEEP_76",
    "jpeg_sweep",
    "jpeg_sweep_normalised",
    "jpeg_sweep_normalised_reference",
    "jpeg_sweep_reference",
]

#: The 76 quality factors of Higashi, Kuribayashi et al., section 4.1: 25..100.
SWEEP_76: tuple[int, ...] = tuple(range(25, 101))
#: The 16 quality factors of Nguyen, Kuribayashi et al., table 2: 100, 95, ..., 25.
SWEEP_16: tuple[int, ...] = tuple(range(100, 24, -5))

#: Chroma subsampling names and Pillow's numbers for them.
SUBSAMPLINGS: dict[str, int] = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}

_Pixels = npt.NDArray[np.uint8]


def jpeg_sweep(
    pixels: npt.NDArray[np.uint8],
    qualities: Sequence[int],
    *,
    subsampling: str = "4:2:0",
    size: tuple[int, int] | None = None,
    resampling: str = "bilinear",
    out: npt.NDArray[np.uint8] | None = None,
    threads: int = 1,
) -> npt.NDArray[np.uint8]:
    """Compress and decompress one image at each quality, and resize the copies if asked to.

    Byte for byte what Pillow gives for `save(format="JPEG", quality=q, subsampling=s)` and `open`, at any height and
    width of at least 1 pixel, and then for `resize(size, resampling)`, along the rows first.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        qualities: Integers 1..100, any number, any order, repeats allowed.
        subsampling: "4:2:0" (default), "4:2:2" or "4:4:4".
        size: (width, height) of the copies, 1 to 16384 each; None (default) is the size of the image.
        resampling: "bilinear" (default, as `resize`), "bicubic", "box" or "nearest".
        out: Optional C-contiguous (Q, height, width, 3) uint8 buffer that receives the result and is returned; it must
            not share memory with `pixels`.
        threads: 1..64 for the native runtime, which shares the qualities among them; more than one pays from about a
            millisecond of work.

    Returns:
        uint8 (Q, height, width, 3).

    Raises:
        ImageError: If pixels or buffer have another shape or type.
        UsageError: For a quality, subsampling, size, filter or number of threads that is not allowed.
    """
    width, height, number = _checked(pixels, qualities, subsampling, size, resampling, threads)
    out = destination(out, (len(qualities), height, width, 3), np.uint8, pixels)
    module = runtime(pixels[None])
    if module is None:
        return _by_pillow(pixels, qualities, subsampling, number, out)
    numbers = np.array(qualities, np.int32)
    module.jpeg_sweep(np.ascontiguousarray(pixels), numbers, SUBSAMPLINGS[subsampling], out, threads, number)
    return out


def jpeg_sweep_normalised(
    pixels: npt.NDArray[np.uint8],
    qualities: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    dtype: npt.DTypeLike = np.float32,
    size: tuple[int, int] | None = None,
    resampling: str = "bilinear",
    subsampling: str = "4:2:0",
    out: npt.NDArray[Any] | None = None,
    threads: int = 1,
) -> npt.NDArray[Any]:
    """The copies of `jpeg_sweep` as a network reads them: channels first, (value / 255 - mean) / std.

    That is value * scale + shift in float32, where scale is 1 / (255 std) and shift is -mean / std, computed in float64
    and rounded to float32; float16 rounds the float32 number once more. Bit for bit the same without the runtime.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        qualities: As in `jpeg_sweep`.
        mean: Subtracted from each channel, in units of 0..1. Like `std` three finite numbers, those of `std` above 0.
        std: Divides each channel after that.
        dtype: float32 (default) or float16.
        size: As in `jpeg_sweep`.
        resampling: As in `jpeg_sweep`.
        subsampling: As in `jpeg_sweep`.
        out: Optional C-contiguous (Q, 3, height, width) buffer of that type. The rest as in `jpeg_sweep`.
        threads: As in `jpeg_sweep`.

    Returns:
        (Q, 3, height, width).

    Raises:
        ImageError: See `jpeg_sweep`.
        UsageError: See `jpeg_sweep`.
    """
    width, height, number = _checked(pixels, qualities, subsampling, size, resampling, threads)
    means, stds, kind = _normalisation(mean, std, dtype)
    result = destination(out, (len(qualities), 3, height, width), kind, pixels)
    module = runtime(pixels[None])
    if module is None:
        copies = np.empty((len(qualities), height, width, 3), np.uint8)
        return _normalised(_by_pillow(pixels, qualities, subsampling, number, copies), means, stds, result)
    sweep = module.jpeg_sweep_float32 if kind == np.float32 else module.jpeg_sweep_float16
    numbers = np.array(qualities, np.int32)
    sweep(np.ascontiguousarray(pixels), numbers, SUBSAMPLINGS[subsampling], means, stds, result, threads, number)
    return result


def jpeg_sweep_reference(
    pixels: npt.NDArray[np.uint8],
    qualities: Sequence[int],
    *,
    subsampling: str = "4:2:0",
    size: tuple[int, int] | None = None,
    resampling: str = "bilinear",
    out: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """The definition of `jpeg_sweep`: the same arguments, the same result, by Pillow. For tests and measurements."""
    width, height, number = _checked(pixels, qualities, subsampling, size, resampling)
    out = destination(out, (len(qualities), height, width, 3), np.uint8, pixels)
    return _by_pillow(pixels, qualities, subsampling, number, out)


def jpeg_sweep_normalised_reference(
    pixels: npt.NDArray[np.uint8],
    qualities: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    dtype: npt.DTypeLike = np.float32,
    size: tuple[int, int] | None = None,
    resampling: str = "bilinear",
    subsampling: str = "4:2:0",
) -> npt.NDArray[Any]:
    """The definition of `jpeg_sweep_normalised`: the same arguments, the same result, by Pillow and numpy."""
    means, stds, kind = _normalisation(mean, std, dtype)
    copies = jpeg_sweep_reference(pixels, qualities, subsampling=subsampling, size=size, resampling=resampling)
    count, height, width, _ = copies.shape
    return _normalised(copies, means, stds, np.empty((count, 3, height, width), kind))


def _by_pillow(
    pixels: _Pixels, qualities: Sequence[int], subsampling: str, number: int | None, out: _Pixels
) -> _Pixels:
    """number: of the filter, if the copies are to get the size of `out`."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    for slot, quality in zip(out, qualities, strict=True):
        file = io.BytesIO()
        picture.save(file, format="JPEG", quality=int(quality), subsampling=SUBSAMPLINGS[subsampling])
        copy: Image.Image = Image.open(file)
        if number is not None:
            copy = resample(copy, slot.shape[1], slot.shape[0], number)
        slot[...] = np.asarray(copy)
    return out


def _normalised(
    copies: _Pixels, means: npt.NDArray[np.float64], stds: npt.NDArray[np.float64], out: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    count, height, width, _ = copies.shape
    batch = np.empty((count, 3, height, width), np.float32)
    normalise(copies, means, stds, batch)
    with np.errstate(over="ignore"):  # what float16 can't hold is infinite
        out[...] = batch
    return out


def _normalisation(
    mean: Sequence[float], std: Sequence[float], dtype: npt.DTypeLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], np.dtype[Any]]:
    """Both as arrays, and the type of the result, once they are known to be allowed."""
    means, stds = normalisation(mean, std)
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float16)):
        raise UsageError(f"dtype must be float32 or float16, got {kind}")
    return means, stds, kind


def _checked(
    pixels: _Pixels,
    qualities: Sequence[int],
    subsampling: str,
    size: tuple[int, int] | None,
    resampling: str,
    threads: int = 1,
) -> tuple[int, int, int | None]:
    """Width and height of the result and the number of the filter (None: not resized), once all is allowed."""
    height, width, _ = image(pixels).shape
    for quality in qualities:
        if isinstance(quality, bool) or not isinstance(quality, (int, np.integer)) or not 1 <= quality <= 100:
            raise UsageError(f"a JPEG quality must be an integer from 1 to 100, got {quality!r}")
    if subsampling not in SUBSAMPLINGS:
        raise UsageError(f"subsampling must be one of {', '.join(SUBSAMPLINGS)}, got {subsampling!r}")
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or not 1 <= threads <= 64:
        raise UsageError(f"threads must be 1 to 64, got {threads!r}")
    number = filter_number(resampling)
    if size is None:
        return width, height, None
    sides = tuple(size) if isinstance(size, (tuple, list)) else ()
    whole = all(isinstance(side, (int, np.integer)) and not isinstance(side, bool) for side in sides)
    if len(sides) != 2 or not whole or min(sides) < 1 or max(sides) > MAX_SIDE:
        raise UsageError(f"size must be (width, height), integers from 1 to {MAX_SIDE}, got {size!r}")
    return int(sides[0]), int(sides[1]), number
