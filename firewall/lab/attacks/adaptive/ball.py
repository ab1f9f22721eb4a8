"""The set of allowed images: a norm ball around the original, perhaps only its low frequencies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from firewall.errors import UsageError

__all__ = ["NORMS", "Ball", "Norm"]

Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = ("linf", "l2")

Pixels = npt.NDArray[np.uint8]

#: How often values are cut and the change brought back to its subspace, before what is still too long is scaled.
_ROUNDS = 3


@dataclass(frozen=True)
class Ball:
    """All changes of bounded norm.

    Args:
        norm: `linf`, the largest change of a value, or `l2`, the root of the sum of squares.
        eps: Radius, for values in 0..1; above 0.
        frequencies: Rows and columns of the change's discrete cosine transform that may differ from 0, counted from the
            lowest frequency; 0: all.

    Raises:
        UsageError: A parameter is out of its range.
    """

    norm: Norm
    eps: float
    frequencies: int = 0

    def __post_init__(self) -> None:
        if self.norm not in NORMS or not (0 < self.eps < math.inf) or self.frequencies < 0:
            raise UsageError(
                f"norm {self.norm}, eps {self.eps:g}, frequencies {self.frequencies}; allowed are norm linf or l2, "
                "eps above 0 and finite, frequencies 0 (all) or more"
            )

    @property
    def reach(self) -> float:
        """How far a stored image may be changed: for `linf` the radius in whole levels of 255."""
        return math.floor(self.eps * 255 + 1e-6) / 255 if self.norm == "linf" else self.eps

    def project(self, points: Tensor, centre: Tensor) -> Tensor:
        """Allowed images near the given ones: the nearest ones, if only one of norm, frequencies and range binds.

        Args:
            points: Float (N, 3, h, w).
            centre: Float (1, 3, h, w) in 0..1.

        Returns:
            Float (N, 3, h, w) in 0..1, within the ball.
        """
        change, reach = self._low(points - centre), self.reach
        if self.norm == "linf":
            for _ in range(_ROUNDS if self.frequencies else 0):
                change = self._low(change.clamp(-reach, reach))
            if self.frequencies:  # cutting what is left would add high frequencies
                change = change * (reach / change.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)).clamp_max(1)
            change = change.clamp(-reach, reach)
        else:
            change = change * (reach / _length(change).clamp_min(1e-12)).clamp_max(1)
        return (centre + change).clamp(0, 1)

    def direction(self, gradient: Tensor) -> Tensor:
        """The direction of steepest ascent, of length 1 in `norm`, within the subspace."""
        low = self._low(gradient)
        if self.norm == "linf":
            return low.sign()
        return low / _length(low).clamp_min(1e-12)

    def start(self, centre: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Random starting points in the ball.

        Args:
            centre: Float (1, 3, h, w) in 0..1.
            count: How many.
            generator: Draws them.

        Returns:
            Float (count, 3, h, w).
        """
        noise = torch.randn((count, *centre.shape[1:]), generator=generator)
        length = torch.rand((count, 1, 1, 1), generator=generator)
        return self.project(centre + self.eps * length * self.direction(noise), centre)

    def rounded(self, point: Tensor, original: Pixels) -> Pixels:
        """An image as bytes that lies within the ball after rounding too.

        Args:
            point: Float (3, h, w), of the ball.
            original: Uint8 (h, w, 3), its centre.

        Returns:
            Uint8 (h, w, 3).
        """
        change = point.detach().mul(255).permute(1, 2, 0).numpy().astype(np.float64) - original
        if self.norm == "linf":
            whole = round(self.reach * 255)
            levels = original + np.clip(np.rint(change), -whole, whole)
            return _bytes(levels)
        levels = np.rint(change)
        while float(np.linalg.norm(levels)) > self.eps * 255:
            change *= 0.98
            levels = np.rint(change)
        return _bytes(original + levels)

    def _low(self, change: Tensor) -> Tensor:
        if self.frequencies == 0:
            return change
        down, across = (_low_pass(side, self.frequencies) for side in change.shape[2:])
        low: Tensor = down @ change @ across.T
        return low


def _bytes(levels: npt.NDArray[Any]) -> Pixels:
    pixels: Pixels = np.clip(levels, 0, 255).astype(np.uint8)
    return pixels


def _length(change: Tensor) -> Tensor:
    length: Tensor = change.flatten(1).norm(dim=1)
    return length[:, None, None, None]


@lru_cache(maxsize=1024)
def _low_pass(side: int, count: int) -> Tensor:
    """Projection of a side on its lowest cosines, float32 (side, side)."""
    place, wave = np.arange(side) + 0.5, np.arange(min(side, count))
    cosines = np.cos(np.pi / side * np.outer(wave, place))
    cosines /= np.linalg.norm(cosines, axis=1, keepdims=True)
    low: Tensor = torch.from_numpy((cosines.T @ cosines).astype(np.float32))
    return low
