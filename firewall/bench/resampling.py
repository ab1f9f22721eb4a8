"""Intervals of percentiles without a formula for the latencies' distribution: the block bootstrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["REPEATS", "draw", "interval"]

#: Resamplings; the ends of a 95 % interval of 1,000 are set by 25 of them each.
REPEATS = 1000
#: Samples that are sorted at once: all of a long run's resamplings would need gigabytes.
_AT_ONCE = 1 << 18


def draw(
    values: npt.NDArray[np.float64], percentiles: Sequence[float], *, seed: int = 0, repeats: int = REPEATS
) -> npt.NDArray[np.float64]:
    """Percentiles of resamplings of a series.

    Neighbouring latencies are alike (clocks, caches, other programs), so blocks of about n^(1/3) samples are drawn with
    replacement, the last joined to the first: the circular block bootstrap (Politis, Romano 1992).

    Args:
        values: (n,) in the order taken, n >= 1.
        percentiles: Which, each 0 to 100.
        seed: The same seed gives the same numbers.
        repeats: How many resamplings.

    Returns:
        Float64 (repeats, len(percentiles)).
    """
    count = len(values)
    length = max(1, round(count ** (1 / 3)))
    blocks = -(-count // length)
    generator = np.random.default_rng(seed)
    offsets = np.arange(length)
    found = []
    for first in range(0, repeats, step := max(1, _AT_ONCE // count)):
        starts = generator.integers(0, count, (min(step, repeats - first), blocks, 1))
        places = (starts + offsets).reshape(len(starts), -1)[:, :count] % count
        found.append(np.percentile(values[places], percentiles, axis=1).T)
    return np.concatenate(found)


def interval(values: npt.NDArray[np.float64], percentile: float) -> tuple[float, float]:
    """The 95 % interval of a percentile, within this run: another run may differ by more.

    Args:
        values: (n,) in the order taken, n >= 1.
        percentile: 0 to 100.

    Returns:
        The lower and the upper end, in the unit of the values.
    """
    low, high = np.percentile(draw(values, (percentile,))[:, 0], (2.5, 97.5))
    return float(low), float(high)
