"""Which values an image's own pixels can take under a flow, and how fast they get there.

A pixel's new value lies between four pixels in proportion (equation 4 of the thesis), so within a cell of the pixel
grid it is a bilinear function of the flow: over a rectangle its extremes lie at the corners. Across cells it is
continuous and no longer bilinear; every bound here is taken cell by cell. Beyond the edge the image's edge goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError
from firewall.lab.certification.flow_budget import FEW, Floats, reach

__all__ = ["Cell", "Changes", "MovingImage", "Slopes", "checked_image"]

#: Angles of a quadrant at which a slope is evaluated; between them it is bounded by its second derivative.
_ANGLES = 17
#: Parts of a cell, a side, into which what lies beyond the four cells around a pixel is cut.
_PARTS = 4
_SLACK = 1e-12

#: (top, bottom, left, right): the shifts (down, right) of the whole image in a rectangle, in pixels.
Cell = tuple[float, float, float, float]


@dataclass(frozen=True)
class Slopes:
    """How fast a pixel's value can change: it lies between falling_i * |r_i| below and rising_i * |r_i| above what it
    would be without the flow, for |r_i| up to some radius.

    Args:
        falling: (pixels,).
        rising: (pixels,).
    """

    falling: Floats
    rising: Floats


@dataclass(frozen=True)
class Changes:
    """The pixels' values x under a shift of a cell and a flow on top with |r_i| <= radius.

    Args:
        corners: (K, pixels), the image at the corners of the cell; at any of its shifts each linear function of the
            pixels lies between its values there.
        lowest: (pixels,), lower bounds of x.
        highest: (pixels,), upper bounds of x.
        near: Slopes up to the length that all but `FEW` pixels keep to (flow_budget.py).
        far: Slopes up to the radius.
    """

    corners: Floats
    lowest: Floats
    highest: Floats
    near: Slopes
    far: Slopes


def checked_image(image: npt.ArrayLike) -> Floats:
    """A grey image as float64.

    Args:
        image: (H, W) in 0..1, 2x2 or larger.

    Returns:
        Float64 (H, W).

    Raises:
        DataError: Another shape, or values outside 0..1.
    """
    pixels = np.asarray(image, dtype=np.float64)
    if pixels.ndim != 2 or min(pixels.shape) < 2:
        raise DataError(f"a grey image (H, W) of at least 2x2 pixels is certified, got {pixels.shape}")
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise DataError(
            f"the image lies in {pixels.min():.4g}..{pixels.max():.4g}; certificates are for 0..1: divide bytes by 255"
        )
    return pixels


class MovingImage:
    """An image that flows of a budget move, after a shift.

    Args:
        image: (H, W) in 0..1.
        budget: Cap on L_flow, in pixels.
        shift: Largest shift each way, in pixels.
    """

    def __init__(self, image: Floats, budget: float, shift: float = 0.0) -> None:
        self.image, self.radius = image, reach(budget)
        self.nearly = self.radius / (FEW + 1) ** 0.5
        self.margin = int(np.ceil(self.radius + shift)) + 2
        around = np.pad(image, self.margin, mode="edge")
        self.around = around
        # How steep each cell of four pixels is at the most: both differences are largest at its edges.
        down, right = np.abs(np.diff(around, axis=0)), np.abs(np.diff(around, axis=1))
        self.steepness = np.hypot(np.maximum(down[:, 1:], down[:, :-1]), np.maximum(right[1:], right[:-1]))

    def at(self, down: float, right: float) -> Floats:
        """The image (H, W) whose pixels take the value found (down, right) away from them, in pixels."""
        top, left = int(np.floor(down)), int(np.floor(right))
        value = np.zeros_like(self.image)
        for row, column in product((0, 1), (0, 1)):
            weight = abs(1 - row - (down - top)) * abs(1 - column - (right - left))
            if weight > 0:
                value = value + weight * self._whole(self.around, top + row, left + column)
        return value

    def still(self) -> Changes:
        """Without a shift. Rising and falling differ here, since the image has a kink at its own pixels."""
        values = self._grid(_ticks(self.radius, 1))
        near, far = self._kinked(self.nearly), self._kinked(self.radius)
        return _changes(self.image[None], values.min(axis=(0, 1)), values.max(axis=(0, 1)), near, far)

    def shifted(self, cell: Cell) -> Changes:
        """With any shift of a cell, which must lie between two whole numbers each way."""
        top, bottom, left, right = cell
        corners = np.stack([self.at(down, across) for down, across in product((top, bottom), (left, right))])
        lowest, highest = np.full_like(self.image, np.inf), np.full_like(self.image, -np.inf)
        near, far = np.zeros_like(self.image), np.zeros_like(self.image)
        rows = range(int(np.floor(top - self.radius)), int(np.ceil(bottom + self.radius)) + 1)
        columns = range(int(np.floor(left - self.radius)), int(np.ceil(right + self.radius)) + 1)
        for row, column in product(rows, columns):
            value = self._whole(self.around, row, column)
            lowest, highest = np.minimum(lowest, value), np.maximum(highest, value)
            distance = _distance(row, column, cell)
            if distance <= self.radius:
                steep = self._whole(self.steepness, row, column)
                far = np.maximum(far, steep)
                near = np.maximum(near, steep) if distance <= self.nearly else near
        return _changes(corners, lowest, highest, (near, near), (far, far))

    def _kinked(self, radius: float) -> tuple[Floats, Floats]:
        """Largest fall and rise per length of flows of at most this length."""
        image, zero = self.image, np.zeros_like(self.image)
        falling, rising = (zero, zero) if radius <= 1 else self._beyond(radius)
        for down, right in product((-1, 1), (-1, 1)):
            first, second = self.at(down, 0) - image, self.at(0, right) - image
            both = self.at(down, right) - image - first - second
            falling = np.maximum(falling, _slope(-first, -second, -both, radius))
            rising = np.maximum(rising, _slope(first, second, both, radius))
        return falling, rising

    def _whole(self, values: Floats, down: int, right: int) -> Floats:
        height, width = self.image.shape
        top, left = self.margin + down, self.margin + right
        return np.asarray(values[top : top + height, left : left + width])

    def _grid(self, ticks: Floats) -> Floats:
        """The image moved by every pair of displacements: (ticks, ticks, H, W)."""
        return np.stack([np.stack([self.at(down, right) for right in ticks]) for down in ticks])

    def _beyond(self, radius: float) -> tuple[Floats, Floats]:
        """Largest fall and rise per length of a flow that leaves the four cells around a pixel."""
        ticks = _ticks(radius, _PARTS)
        values = self._grid(ticks) - self.image
        blocks = np.stack([values[:-1, :-1], values[1:, :-1], values[:-1, 1:], values[1:, 1:]])
        near = np.minimum(np.abs(ticks[:-1]), np.abs(ticks[1:]))  # 0 is a tick, so no part spans it
        far = np.maximum(np.abs(ticks[:-1]), np.abs(ticks[1:]))
        length = np.hypot(near[:, None], near)
        outside = (np.maximum(far[:, None], far) > 1) & (length <= radius)
        lengths = length[outside][:, None, None]
        rises, falls = blocks.max(axis=0)[outside] / lengths, -blocks.min(axis=0)[outside] / lengths
        return np.maximum(falls.max(axis=0), 0), np.maximum(rises.max(axis=0), 0)


def _ticks(radius: float, parts: int) -> Floats:
    """-radius, ..., 0, ..., radius with every whole number, and `parts` steps to a whole one."""
    steps = np.arange(int(np.ceil(radius)) * parts) / parts
    positive = np.append(steps[steps < radius], radius)
    return np.concatenate([-positive[:0:-1], positive])


def _slope(first: Floats, second: Floats, both: Floats, radius: float) -> Floats:
    """Upper bound of (first u + second v + both u v) / |(u, v)| over 0 < |(u, v)| <= radius, 0 <= u, v <= 1.

    With (u, v) = s (cos t, sin t) it is first cos t + second sin t + both s cos t sin t: largest at an end of s, and in
    t no farther above the straight line between two angles than the second derivative allows.
    """
    angles = np.linspace(0, np.pi / 2, _ANGLES)
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    bent = np.maximum(both, 0) * min(radius, 2**0.5)
    largest = (first * cos + second * sin + bent * cos * sin).max(axis=0)
    curvature = np.hypot(first, second) + 2 * bent
    return np.asarray(np.maximum(largest + curvature * (angles[1] - angles[0]) ** 2 / 8, 0))


def _distance(row: int, column: int, cell: Cell) -> float:
    """How far the cell of the pixel grid at (row, column) lies from a cell of shifts."""
    down = max(cell[0] - (row + 1), row - cell[1], 0.0)
    across = max(cell[2] - (column + 1), column - cell[3], 0.0)
    return float(np.hypot(down, across))


def _changes(
    corners: Floats, lowest: Floats, highest: Floats, near: tuple[Floats, Floats], far: tuple[Floats, Floats]
) -> Changes:
    close, all_ = (Slopes(*(slope.ravel() * (1 + _SLACK) + _SLACK for slope in slopes)) for slopes in (near, far))
    return Changes(corners.reshape(len(corners), -1), lowest.ravel() - _SLACK, highest.ravel() + _SLACK, close, all_)
