"""Lower bounds on margins by lines over intervals: what `--values` asks where intervals alone prove nothing.

Each rectified unit lies between two lines over the interval of its input (CROWN: Zhang et al. 2018). So a margin is at
least a linear function of the values of a layer, then of the one before, then of the image, whose least over a box is
known. An engine that computes in float32 gives the exact output of a layer's own input and an error of at most so much
(intervals.py); on the way back a linear function of that output loses the sum of its coefficients' magnitudes times
these errors. Coefficients themselves are float64; `SLACK` of all that is added up is subtracted, which is more than
float64 loses.

The lab's `linf.py` does the same in torch for more kinds of layers, and tightens the intervals by lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from firewall.decision.intervals import Box, Floats

__all__ = ["SLACK", "Passed", "least", "through_rectified"]

#: More than float64 loses on the way back, for each unit of size of what is added up.
SLACK = 1e-9


class _Sums(Protocol):
    """A layer of sums."""

    def back(self, rows: Floats, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
        """Linear functions (R, *output) of the output as ones (R, *shape) of the input, and constants (R,)."""


@dataclass(frozen=True, eq=False, slots=True)
class Passed:
    """A layer on the way there.

    Attributes:
        layer: What it is; None: max(x, 0).
        box: Of its input.
        size: The sums of the magnitudes of what its sums are made of, flat; empty without sums.
        error: How far an engine's output may be from the exact one of its own input, flat; empty without sums.
    """

    layer: _Sums | None
    box: Box
    size: Floats
    error: Floats


def through_rectified(
    rows: Floats, low: Floats, high: Floats, below: float | None = None
) -> tuple[Floats, Floats, Floats]:
    """Where a row is positive the unit is replaced by a line below it, elsewhere by the line above it.

    Args:
        rows: Linear functions of what rectified units give, (R, *shape).
        low: Bounds of their input, of that shape.
        high: See `low`.
        below: Slope of the lines below, 0..1; None: 1 where the unit is more often positive, else 0. Where a unit's
            sign is known the line is the unit itself whatever is given.

    Returns:
        Linear functions of their input, the constants (R,), and the size of what was added up for these.
    """
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    above = high / np.maximum(high - low, 1e-300)
    slope = (high > -low).astype(np.float64) if below is None else np.where((low < 0) & (high > 0), below, above)
    negative = np.minimum(rows, 0)
    taken = np.maximum(rows, 0) * slope + negative * above
    added = (-negative * above * low).reshape(len(rows), low.size)
    return taken, added.sum(axis=1), np.abs(added).sum(axis=1)


def least(way: Sequence[Passed], rows: Floats, below: float | None = None) -> Floats:
    """Lower bounds of linear functions of a network's logits over all images of a box.

    Args:
        way: The layers that were passed, the first one's box being that of the image.
        rows: (R, classes).
        below: Slope of all lines below units whose sign is open; None: of each as it suits.

    Returns:
        (R,).
    """
    constant, size = np.zeros(len(rows)), np.zeros(len(rows))
    for passed in reversed(way):
        box = passed.box
        if passed.layer is None:
            rows, added, more = through_rectified(rows, box.low, box.high, below)
        else:
            magnitude = np.abs(rows).reshape(len(rows), -1)
            more, constant = magnitude @ passed.size, constant - magnitude @ passed.error
            rows, added = passed.layer.back(rows, box.low.shape)
        constant = constant + added
        size = size + more + np.abs(rows).reshape(len(rows), -1) @ box.magnitude.reshape(-1)
    box = way[0].box
    flat = rows.reshape(len(rows), -1)
    found = np.maximum(flat, 0) @ box.low.reshape(-1) + np.minimum(flat, 0) @ box.high.reshape(-1)
    return np.asarray(found + constant - SLACK * (1 + size))
