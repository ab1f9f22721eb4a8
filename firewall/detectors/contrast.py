"""Contrast: is there enough to see? In a crop that is nearly of one grey, a small change is a large one.

Attacks win most often on signs of little contrast, and most crops with hardly any are no readable signs. The detector
looks at the region's own pixels. A verdict that it withholds has a reason of its own, `too little contrast`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.evidence import Evidence

__all__ = ["Contrast", "ContrastParameters", "contrast"]

#: ITU-R BT.601.
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
#: At most so many rows and columns are looked at, evenly spaced.
_SAMPLES = 256
#: The least that is told apart: the score stays finite where all pixels are the same.
_LEAST = 1e-4


def contrast(pixels: npt.NDArray[np.uint8]) -> float:
    """Standard deviation of luminance.

    Args:
        pixels: (H, W, 3) RGB; of more than 511 rows or columns every second, third ... counts.

    Returns:
        0..0.5, in units of full luminance.
    """
    rows, columns = (max(1, side // _SAMPLES) for side in pixels.shape[:2])
    luminance = pixels[::rows, ::columns].astype(np.float32) @ _LUMINANCE
    return float(luminance.std(dtype=np.float64)) / 255


class ContrastParameters(Strict):
    """There are none."""


class Contrast:
    """The detector; `parameters` as in ContrastParameters. Raises BundleError if there are any."""

    name = "contrast"
    operations: Sequence[str] = ()

    def __init__(self, parameters: dict[str, object]) -> None:
        self.parameters = parameters_of(ContrastParameters, parameters, "detector 'contrast'")

    def score(self, evidence: Evidence) -> float:
        """-log of the crop's contrast, about 0.7 (black and white) to 9.2 (one grey)."""
        pixels = evidence.image if evidence.crop is None else evidence.crop
        return -math.log(max(contrast(pixels), _LEAST))
