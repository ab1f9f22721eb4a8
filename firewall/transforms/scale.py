"""Scaling by one factor or many, the size of the image kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.errors import UsageError
from firewall.transforms.arrays import batch, check_numbers, copies
from firewall.transforms.runtime import by_pillow, rows, runtime

__all__ = ["FILTERS", "MAX_FACTOR", "MIN_FACTOR", "filter_number", "resample", "scale"]

MIN_FACTOR = 0.1
MAX_FACTOR = 10.0

#: Names of resampling filters and Pillow's numbers for them.
FILTERS: dict[str, int] = {
    "nearest": int(Image.Resampling.NEAREST),
    "bilinear": int(Image.Resampling.BILINEAR),
    "bicubic": int(Image.Resampling.BICUBIC),
    "box": int(Image.Resampling.BOX),
}


def scale(
    pixels: npt.NDArray[np.uint8],
    factors: Sequence[float],
    *,
    resampling: str = "bicubic",
    out: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Scale images by each factor: Pillow's `Image.resize` to int(side * factor), then cut or padded to H x W.

    What grows is cut to its centre, what shrinks stands in the centre of a black image; where the two margins can't be
    equal, the left and upper one is the smaller. A network then sees the object larger or smaller, and nothing is
    scaled back. (Nguyen, Kuribayashi et al. give their network an input of another size, which is the same to its
    convolutions but not possible with a network of fixed input.) The default filter is Pillow's own default, which
    their published code relies on; with the Pillow 6.1 of their paper that was "nearest".

    Args:
        pixels: (H, W, 3) or (N, H, W, 3) uint8 RGB.
        factors: 0.1 to 10, any number, any order; 1 gives a copy.
        resampling: "bicubic", "bilinear", "box" or "nearest"; the first three are antialiased when they shrink.
        out: Optional C-contiguous uint8 buffer for the result; it must not share memory with `pixels`.

    Returns:
        uint8 (F, H, W, 3), or (N, F, H, W, 3) for a batch.

    Raises:
        ImageError: If pixels or buffer have another shape or type.
        UsageError: For a factor or filter that is not allowed.
    """
    images = batch(pixels)
    check_numbers(factors, "a factor", MIN_FACTOR, MAX_FACTOR)
    number = filter_number(resampling)
    result, slots = copies(out, pixels, len(factors))
    module = runtime(images)
    if module is not None:
        module.scale(rows(images), np.asarray(factors, np.float64), number, slots)
    else:
        by_pillow(lambda picture, factor: _scaled(picture, factor, number), images, factors, slots)
    return result


def _scaled(picture: Image.Image, factor: float, number: int) -> Image.Image:
    width, height = picture.size
    scaled = resample(picture, max(1, int(width * factor)), max(1, int(height * factor)), number)
    left, top = max(0, (scaled.width - width) // 2), max(0, (scaled.height - height) // 2)
    seen = scaled.crop((left, top, min(left + width, scaled.width), min(top + height, scaled.height)))
    result = Image.new("RGB", picture.size)
    result.paste(seen, ((width - seen.width) // 2, (height - seen.height) // 2))
    return result


def resample(picture: Image.Image, width: int, height: int, number: int) -> Image.Image:
    """Pillow's resize, the rows first and then the columns, each rounded to 8 bits.

    Up to Pillow 12 one call does just that. Pillow 13 does the columns first where that is less work, which changes
    bytes of tall images: two calls give the same bytes with every version.
    """
    return picture.resize((width, picture.height), number).resize((width, height), number)


def filter_number(name: str) -> int:
    """Pillow's number for a filter.

    Raises:
        UsageError: For an unknown name.
    """
    if name not in FILTERS:
        raise UsageError(f"a resampling filter must be one of {', '.join(FILTERS)}, got {name!r}")
    return FILTERS[name]
