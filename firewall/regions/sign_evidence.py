"""How much an outline looks like a traffic sign: 26 measurements and a logistic model for each family of outlines.

The weights are in sign_weights.json. They were fitted to outlines of real signs pasted into road scenes, and
`benchmarks/regions_recall.py --fit` fits them again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import cv2
import numpy as np
import numpy.typing as npt

from firewall.regions.boxes import Floats, overlaps
from firewall.regions.sign_shapes import FAMILIES, Layers, Outlines

__all__ = ["FARTHEST", "MEASUREMENTS", "Evidence", "Weights", "confidence", "default_weights", "measure"]

MEASUREMENTS = 26

# Concentric squares, as parts of the box's side: the middle, the field, the rim, the margin, the surroundings.
_SQUARES = np.array([0.4, 0.65, 0.85, 1.15, 1.5])[:, None]
_RIM = 2
FARTHEST = 3.0  # in standard deviations; an odd outline may not outvote everything else


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured of the outlines of one frame.

    Attributes:
        values: (N, MEASUREMENTS).
        overlap: (N, N) intersection over union of the boxes that the outlines suggest.
    """

    values: Floats
    overlap: Floats


@dataclass(frozen=True, slots=True)
class Weights:
    """What the measurements count, for each family of outlines.

    Attributes:
        mean: (MEASUREMENTS,), what a measurement is normalised by.
        spread: (MEASUREMENTS,), the same.
        linear: (FAMILIES, MEASUREMENTS), weight of each measurement.
        square: (FAMILIES, MEASUREMENTS), weight of its square.
        bias: (FAMILIES,), added for each family.
    """

    mean: Floats
    spread: Floats
    linear: Floats
    square: Floats
    bias: Floats


@cache
def default_weights() -> Weights:
    """The weights that belong to the package."""
    stored = json.loads(resources.files(__package__).joinpath("sign_weights.json").read_text(encoding="utf-8"))
    return Weights(**{name: np.array(stored[name], np.float64) for name in Weights.__slots__})


def confidence(family: npt.NDArray[np.int64], values: Floats, weights: Weights) -> Floats:
    """(N,) in 0..1.

    Args:
        family: (N,), family of each outline.
        values: (N, MEASUREMENTS).
        weights: The weights of each family.
    """
    unit = np.clip((values - weights.mean) / weights.spread, -FARTHEST, FARTHEST)
    linear = (unit * weights.linear[family]).sum(axis=1)
    square = (unit * unit * weights.square[family]).sum(axis=1)
    return np.asarray(1 / (1 + np.exp(-(weights.bias[family] + linear + square))), np.float64)


def measure(layers: Layers, outlines: Outlines) -> Evidence:
    """Shape of each outline (8), light (5), share of red (5) and of blue (5) in concentric squares around it, contrast
    (1), how many outlines say the same (1) and from how many masks (1)."""
    rings, contrast = _rings(layers, outlines.boxes)
    light = np.log(rings[..., 0] + 1)
    columns = [*outlines.shape.T, *np.diff(light, axis=0), light[0]]
    for colour in (1, 2):
        columns += [*np.diff(rings[..., colour], axis=0), rings[0, :, colour]]
    overlap = overlaps(outlines.boxes, outlines.boxes)
    agreeing = overlap > 0.5
    masks = np.zeros((len(outlines.family), FAMILIES // 2))
    masks[np.arange(len(outlines.family)), outlines.family // 2] = 1
    columns += [np.log(contrast + 1e-2), np.log(agreeing.sum(axis=1)), np.log((agreeing @ masks > 0).sum(axis=1))]
    return Evidence(np.stack(columns, axis=1), overlap)


def _rings(layers: Layers, boxes: Floats) -> tuple[Floats, Floats]:
    """Means of light, red and blue in the innermost square and in the rings between one square and the next, (5, N, 3),
    and the standard deviation of light inside the rim as a part of its mean, (N,)."""
    height, width = layers.light.shape
    reach = boxes[:, 2] * _SQUARES / 2
    middle_x, middle_y = boxes[:, 0] + boxes[:, 2] / 2, boxes[:, 1] + boxes[:, 3] / 2
    left = np.clip(np.rint(middle_x - reach), 0, width - 1).astype(np.int64)
    right = np.maximum(np.clip(np.rint(middle_x + reach), 1, width).astype(np.int64), left + 1)
    top = np.clip(np.rint(middle_y - reach), 0, height - 1).astype(np.int64)
    bottom = np.maximum(np.clip(np.rint(middle_y + reach), 1, height).astype(np.int64), top + 1)

    sums = cv2.integral(cv2.merge([layers.light, layers.red, layers.blue]))
    inside = (sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]).astype(np.float64)
    count = ((right - left) * (bottom - top)).astype(np.float64)[..., None]
    ring_sum, ring_count = inside.copy(), count.copy()
    ring_sum[1:] -= inside[:-1]
    ring_count[1:] -= count[:-1]
    rings = ring_sum / np.maximum(ring_count, 1)
    rings = np.where(ring_count > 0, rings, rings[:1])  # a ring that lies wholly outside the frame says nothing

    _, squares = cv2.integral2(layers.light)
    b, t, r, le = bottom[_RIM], top[_RIM], right[_RIM], left[_RIM]
    mean = inside[_RIM, :, 0] / count[_RIM, :, 0]
    power = (squares[b, r] - squares[t, r] - squares[b, le] + squares[t, le]) / count[_RIM, :, 0]
    return rings, np.sqrt(np.maximum(power - mean * mean, 0.0)) / (mean + 1)
