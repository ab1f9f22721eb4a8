"""Operations by name, so that detectors and bundles can say what they need: `jpeg:75` is JPEG at quality 75."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firewall.errors import UsageError
from firewall.transforms.jpeg import jpeg_sweep

__all__ = ["apply_operations"]


def apply_operations(pixels: npt.NDArray[np.uint8], operations: Sequence[str]) -> npt.NDArray[np.uint8]:
    """The transformed copies of one image, in the order asked.

    pixels: (H, W, 3) uint8. Returns (len(operations), H, W, 3) uint8. Raises UsageError for an unknown operation.
    """
    return jpeg_sweep(pixels, [_quality(operation) for operation in operations])


def _quality(operation: str) -> int:
    family, _, parameter = operation.partition(":")
    if family != "jpeg" or not parameter.isdecimal():
        raise UsageError(f"unknown operation {operation!r}; known: jpeg:1 .. jpeg:100")
    return int(parameter)
