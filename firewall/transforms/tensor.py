"""Pixels as a network reads them: colours apart, (value / 255 - mean) / std in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.transforms.arrays import normalise
from firewall.transforms.runtime import rows, runtime

__all__ = ["tensor"]


def tensor(
    pixels: npt.NDArray[np.uint8],
    means: npt.NDArray[np.float64],
    stds: npt.NDArray[np.float64],
    out: npt.NDArray[Any],
) -> None:
    """Fill `out`, C-contiguous float32 (N, 3, H, W), with pixels (N, H, W, 3); see `arrays.normalise`.

    By the native runtime in one pass, by numpy without it; the same numbers, bit for bit.

    Args:
        pixels: (N, H, W, 3) uint8 RGB.
        means: float64 (3,), as `arrays.normalisation` gives them.
        stds: float64 (3,), see `means`.
        out: Receives the numbers.
    """
    module = runtime(pixels)
    if module is None:
        normalise(pixels, means, stds, out)
    else:
        module.tensor(rows(pixels), means, stds, out)
