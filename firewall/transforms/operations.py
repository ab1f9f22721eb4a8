"""Operations by name, so that detectors and bundles can say what they need: `jpeg:75` is JPEG at quality 75."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np
import numpy.typing as npt

from firewall.errors import UsageError
from firewall.transforms.arrays import destination, image, normalisation
from firewall.transforms.gaussian_blur import gaussian_blur
from firewall.transforms.jpeg import SWEEP_16, jpeg_sweep, jpeg_sweep_normalised
from firewall.transforms.rotate import rotate
from firewall.transforms.scale import scale
from firewall.transforms.tensor import tensor

__all__ = ["FAMILIES", "OPERATIONS_38", "apply_operations", "apply_operations_normalised", "parse_operation"]

#: The 38 operations of Nguyen, Kuribayashi et al., section 3.1, in its order: what the statistics detector asks for.
OPERATIONS_38: tuple[str, ...] = (
    *(f"jpeg:{quality}" for quality in SWEEP_16),
    *(f"blur:{radius}" for radius in (2, 3, 4, 5)),
    *(f"rotate:{degrees}" for degrees in (1, 2, 3, 4, 5, 6, 7, 8)),
    *(f"scale:{factor}" for factor in (0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2, 1.25)),
)

_Pixels = npt.NDArray[np.uint8]


def _jpeg(pixels: _Pixels, parameters: Sequence[float], *, out: _Pixels | None = None) -> _Pixels:
    return jpeg_sweep(pixels, [int(quality) for quality in parameters], out=out)


#: Families of operations, each with the function that does all its parameters in one call.
FAMILIES: dict[str, Callable[..., _Pixels]] = {"jpeg": _jpeg, "blur": gaussian_blur, "rotate": rotate, "scale": scale}

_NAME = re.compile(r"(?P<family>[a-z]+):(?P<number>-?[0-9]{1,9}(?:\.[0-9]{1,9})?)", re.ASCII)


def parse_operation(operation: str) -> tuple[str, float]:
    """Family and parameter of an operation's name.

    Raises:
        UsageError: If there is no such operation.
    """
    if not isinstance(operation, str):
        raise UsageError(f"an operation is a name such as jpeg:75, got {operation!r}")
    return _parse(operation)


@lru_cache(maxsize=512)  # a frame loop asks for the same few dozen again and again
def _parse(operation: str) -> tuple[str, float]:
    match = _NAME.fullmatch(operation)
    family = match["family"] if match else ""
    if match is None or family not in FAMILIES or (family == "jpeg" and not match["number"].isdecimal()):
        raise UsageError(
            f"unknown operation {operation!r}; known: jpeg:QUALITY, blur:RADIUS, rotate:DEGREES and scale:FACTOR, "
            "such as jpeg:75, blur:2, rotate:8 and scale:0.75"
        )
    return family, float(match["number"])


def apply_operations(
    pixels: npt.NDArray[np.uint8], operations: Sequence[str], *, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """The transformed copies of one image, in the order asked; one call of the runtime for each family.

    Args:
        pixels: (H, W, 3) uint8.
        operations: Names such as `jpeg:75` (4:2:0), `blur:2`, `rotate:8` or `scale:0.75`, repeats allowed.
        out: Optional C-contiguous (len(operations), H, W, 3) uint8 buffer that receives the result and is returned; it
            must not share memory with `pixels`.

    Returns:
        uint8 (len(operations), H, W, 3).

    Raises:
        UsageError: If an operation is unknown or its parameter is out of range.
        ImageError: If pixels or buffer have another shape or type.
    """
    parsed = [parse_operation(operation) for operation in operations]
    copies = destination(out, (len(parsed), *image(pixels).shape), np.uint8, pixels)
    for family in dict.fromkeys(family for family, _ in parsed):
        places = [place for place, (name, _) in enumerate(parsed) if name == family]
        parameters = [parsed[place][1] for place in places]
        if places[-1] - places[0] + 1 == len(places):
            FAMILIES[family](pixels, parameters, out=copies[places[0] : places[-1] + 1])
        else:
            copies[places] = FAMILIES[family](pixels, parameters)
    return copies


def apply_operations_normalised(
    pixels: npt.NDArray[np.uint8],
    operations: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """The copies of `apply_operations` as a network reads them: channels first, (value / 255 - mean) / std.

    The same numbers, bit for bit, as `jpeg_sweep_normalised` gives for JPEG, which writes them straight to `out`; the
    pixels of another family are turned into numbers in one pass, which writes to `out` too.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        operations: Names as in `apply_operations`.
        mean: Subtracted from each channel, in units of 0..1. Like `std` three finite numbers, those of `std` above 0.
        std: Divides each channel after that.
        out: Optional C-contiguous float32 (len(operations), 3, H, W) buffer that receives the result and is returned,
            such as the tensor that a network reads.

    Returns:
        float32 (len(operations), 3, H, W).

    Raises:
        UsageError: See `apply_operations`.
        ImageError: See `apply_operations`.
    """
    parsed = [parse_operation(operation) for operation in operations]
    height, width, _ = image(pixels).shape
    means, stds = normalisation(mean, std)
    result = destination(out, (len(parsed), 3, height, width), np.float32, pixels)
    for family, run in groupby(enumerate(parsed), key=lambda place: place[1][0]):
        numbered = list(run)
        first, last = numbered[0][0], numbered[-1][0] + 1
        parameters = [parameter for _, (_, parameter) in numbered]
        if family == "jpeg":
            qualities = [int(quality) for quality in parameters]
            jpeg_sweep_normalised(pixels, qualities, mean, std, out=result[first:last])
        else:
            tensor(FAMILIES[family](pixels, parameters), means, stds, result[first:last])
    return result
