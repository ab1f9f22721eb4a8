"""Recorded random numbers, so that a random draw can be repeated with small changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

__all__ = ["Tape"]

Floats = npt.NDArray[np.float64]
Size = int | Sequence[int] | None


class Tape:
    """Stands in for `numpy.random.Generator`, as far as random draws ask one.

    Every number is computed from uniform ones, which are kept in the order they were asked for in: Kelemen et al.,
    "A simple and robust mutation strategy for the Metropolis light transport algorithm", 2002. Small moves of these
    give a neighbour of any draw, so a local search needs to know nothing about how a draw is made.

    Args:
        generator: What gives numbers that are not on the tape yet.
        values: The numbers on the tape, uniform in 0..1.
    """

    def __init__(self, generator: np.random.Generator, values: Floats | None = None) -> None:
        self._generator = generator
        self._values = np.empty(0) if values is None else np.asarray(values, np.float64)
        self._used = 0

    @property
    def values(self) -> Floats:
        """The numbers that were asked for, float64 (n,) in 0..1."""
        return self._values[: self._used]

    def moved(self, deviation: float, generator: np.random.Generator) -> Tape:
        """A tape nearby: each number moves by a normal one, and what leaves 0..1 comes in at the other end.

        Args:
            deviation: Of the moves, above 0.
            generator: What the moves are drawn with; the new tape goes on with it where it ends.
        """
        return Tape(generator, (self.values + generator.normal(0, deviation, self._used)) % 1.0)

    def random(self, size: Size = None) -> Any:
        """As of `Generator`, in [0, 1)."""
        count = 1 if size is None else math.prod([size] if isinstance(size, int) else size)
        short = self._used + count - len(self._values)
        if short > 0:
            self._values = np.concatenate([self._values, self._generator.random(short)])
        taken = self._values[self._used : self._used + count]
        self._used += count
        return float(taken[0]) if size is None else taken.reshape(size).copy()

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Size = None) -> Any:
        """As of `Generator`."""
        return low + (high - low) * self.random(size)

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Size = None) -> Any:
        """As of `Generator`."""
        return loc + scale * ndtri(np.clip(self.random(size), 1e-12, 1 - 1e-12))

    def integers(self, low: int, high: int | None = None, size: Size = None) -> Any:
        """As of `Generator`; the upper end is left out."""
        first, end = (0, low) if high is None else (low, high)
        places = np.floor(first + (end - first) * np.asarray(self.random(size))).astype(np.int64)
        return int(places) if size is None else places

    def choice(self, options: Any, size: Size = None) -> Any:
        """As of `Generator`, all alike and with replacement."""
        known = np.arange(options) if isinstance(options, int) else np.asarray(options)
        return known[self.integers(len(known), size=size)]
