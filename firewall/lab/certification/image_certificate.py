"""The certificate of one image: no flow of the budget, after any shift, changes its class.

The lower bound is the best of two sound ones, linear (linear.py) and semidefinite (dual.py), which is tried where the
linear one fails. With shifts of up to T pixels each way the square of shifts is cut into cells, each with its own
pixels; the cell with the lowest bound is cut further until all are positive or one can't be helped.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field, replace
from itertools import count, product
from typing import cast

import numpy as np

from firewall.errors import DataError, UsageError
from firewall.lab.certification.dual import raised_margins
from firewall.lab.certification.flow_bounds import Cell, MovingImage, checked_image
from firewall.lab.certification.flow_budget import Floats, checked_budget, grid_of
from firewall.lab.certification.linear import Hidden, Region, hidden_bounds, margin_bounds
from firewall.lab.certification.two_layer import TwoLayer

__all__ = ["LARGEST", "Certificate", "Threat", "certify"]


#: The largest budget that bounds are computed for.
LARGEST = 64.0
#: Steps of the search for better lines, and the lowest bound that is worth it.
_STEPS, _NEAR = 8, 3.0
#: Of how many other classes the semidefinite bound is tried in a cell: where more are open the cell is cut first, as
#: the linear bound of a smaller one closes most of them, which takes less time.
_RIVALS = 3


@dataclass(frozen=True)
class Threat:
    """What an attack may do.

    Args:
        budget: Cap on the flow's total variation L_flow, in pixels, above 0.
        shift: Largest shift of the whole image, down and right each, 0..10 pixels; the flow comes on top.
        noise: Largest change of each pixel after that, 0..1, below 1.

    Raises:
        UsageError: A value is out of range.
    """

    budget: float
    shift: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        checked_budget(self.budget)
        if not (math.isfinite(self.shift) and 0 <= self.shift <= 10):
            raise UsageError(f"--shift is {self.shift:g}; it must lie in 0..10 pixels")
        if not (math.isfinite(self.noise) and 0 <= self.noise < 1):
            raise UsageError(f"--noise is {self.noise:g}; it must lie in 0..1, 1 excluded: pixels are in 0..1")


@dataclass(frozen=True)
class Certificate:
    """A proved bound for one image.

    Args:
        lower_bound: Lower bound on logit(label) - the largest other logit, over everything that the threat allows.
        method: The bound that it is from: linear or semidefinite.
        cells: How many cells of shifts were bounded.
    """

    lower_bound: float
    method: str
    cells: int

    @property
    def certified(self) -> bool:
        """Whether no attack within the threat changes the label."""
        return self.lower_bound > 0


def certify(
    network: TwoLayer,
    image: Floats,
    label: int,
    threat: Threat,
    *,
    finest: float = 1 / 16,
    most: int = 3000,
    semidefinite: bool = True,
) -> Certificate:
    """Bound the margin of a label.

    Args:
        network: The network.
        image: (H, W) in 0..1.
        label: The class whose margin is bounded.
        threat: What an attack may do.
        finest: Side of the smallest cells of shifts, in pixels.
        most: How many cells are bounded at most, before the lowest bound so far is the result.
        semidefinite: Whether the semidefinite bound is tried where the linear one fails.

    Returns:
        The certificate.

    Raises:
        DataError: The image has another size or range, or the network doesn't have the label.
        UsageError: The budget is above LARGEST.
    """
    image = checked_image(image)
    if image.shape != (network.height, network.width):
        raise DataError(f"{network.name} takes images of {network.height}x{network.width}, got {image.shape}")
    if not 0 <= label < len(network.second):
        raise DataError(f"label {label} is not among the {len(network.second)} classes of {network.name}")
    if threat.budget > LARGEST:
        raise UsageError(
            f"--budget is {threat.budget:g}; certificates are computed up to {LARGEST:g}, where a pixel may move by 8 "
            "and nothing is certified any more"
        )
    moving = MovingImage(image, threat.budget, threat.shift)
    bounds = _Bounds(network, label, threat, moving)
    if threat.shift > 0:
        return _Shifts(bounds, finest, most, semidefinite=semidefinite).certificate()
    found = bounds.linear(None, None)
    if found.lowest <= 0 and semidefinite:
        found = bounds.raised(found)
    return Certificate(found.lowest, "semidefinite" if found.raised else "linear", 1)


@dataclass(frozen=True, order=True)
class _Bounded:
    """What is known of a cell of shifts.

    Args:
        lowest: Of the bounds on its margins.
        ticket: Ties go to the older cell.
        cell: The cell; None: no shift.
        margins: The bounds, (classes,).
        hidden: Bounds on the hidden units.
        tried: Whether the semidefinite bound has been tried.
        raised: Whether it is the better one.
    """

    lowest: float
    ticket: int
    cell: Cell | None = field(compare=False)
    margins: Floats = field(compare=False)
    hidden: Hidden = field(compare=False)
    tried: bool = field(default=False, compare=False)
    raised: bool = field(default=False, compare=False)

    @property
    def side(self) -> float:
        """The longer one, in pixels."""
        top, bottom, left, right = self.cell or (0.0, 0.0, 0.0, 0.0)
        return max(bottom - top, right - left)


class _Bounds:
    """Both bounds of one image's margins.

    Args:
        network: The network.
        label: The class.
        threat: What an attack may do.
        moving: The image.
    """

    def __init__(self, network: TwoLayer, label: int, threat: Threat, moving: MovingImage) -> None:
        self.network, self.label, self.threat, self.moving = network, label, threat, moving
        self._grid, self._ticket = grid_of(network.height, network.width), count()

    def linear(self, cell: Cell | None, parent: Hidden | None) -> _Bounded:
        """The linear bound of a cell, within another cell with these bounds on the hidden units."""
        region = self._region(cell)
        hidden = hidden_bounds(self.network, region)
        hidden = hidden if parent is None else hidden.tightened(parent)
        margins = margin_bounds(self.network, self.label, region, hidden, self._grid.spread)
        if cell is None or -_NEAR < margins.min() <= 0:
            closer = margin_bounds(self.network, self.label, region, hidden, self._grid.capacity, steps=_STEPS)
            margins = np.maximum(margins, closer)
        return _Bounded(float(margins.min()), next(self._ticket), cell, margins, hidden)

    def raised(self, known: _Bounded) -> _Bounded:
        """The better of what is known of a cell and the semidefinite bound."""
        region = self._region(known.cell)
        margins = raised_margins(self.network, self.label, region, known.hidden, known.margins)
        lowest = float(margins.min())
        return replace(known, lowest=lowest, margins=margins, tried=True, raised=lowest > known.lowest)

    def worst_corner(self, cell: Cell, side: float) -> Cell:
        """The part of a cell, of this side, at the corner where the shift alone costs most."""
        top, bottom, left, right = cell
        corners = list(product((top, bottom), (left, right)))
        logits = self.network.logits(np.stack([self.moving.at(*corner) for corner in corners]))
        margins = logits[:, self.label] - np.delete(logits, self.label, axis=1).max(axis=1)
        down, across = corners[int(margins.argmin())]
        high, wide = min(side, bottom - top), min(side, right - left)
        return (
            *((top, top + high) if down == top else (bottom - high, bottom)),
            *((left, left + wide) if across == left else (right - wide, right)),
        )

    def _region(self, cell: Cell | None) -> Region:
        changes = self.moving.still() if cell is None else self.moving.shifted(cell)
        return Region(changes, self.threat.budget, self.threat.noise)


class _Shifts:
    """The search over the cells of all shifts.

    Args:
        bounds: Of a cell.
        finest: As of `certify`.
        most: As of `certify`.
        semidefinite: As of `certify`.
    """

    def __init__(self, bounds: _Bounds, finest: float, most: int, *, semidefinite: bool) -> None:
        self.bounds, self.finest, self.most, self.semidefinite = bounds, finest, most, semidefinite
        self.cells: list[_Bounded] = []
        self.done = 0

    def certificate(self) -> Certificate:
        """Cut the cell with the lowest bound until all are positive, or one can't be helped."""
        shift = self.bounds.threat.shift
        ends = np.unique(np.concatenate([np.arange(-int(shift), int(shift) + 1), [-shift, shift]]))
        sides = list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
        for rows, columns in product(sides, sides):
            self._add(self._linear((*rows, *columns), None))
        hopeless = _lost(self.bounds.network, self.bounds.label, self.bounds.threat, self.bounds.moving)
        while self.cells[0].lowest <= 0 and not hopeless and self.done < self.most:
            hopeless = self._helpless(heapq.heappop(self.cells))
        method = "semidefinite" if any(one.raised and one.lowest > 0 for one in self.cells) else "linear"
        return Certificate(self.cells[0].lowest, method, self.done)

    def _helpless(self, found: _Bounded) -> bool:
        """Raise the bound of a cell, or cut it; whether no more can be done for it."""
        cell = cast(Cell, found.cell)
        if self.semidefinite and not found.tried and np.count_nonzero(found.margins <= 0) <= _RIVALS:
            found = self.bounds.raised(found)
            self._add(found)
            if found.lowest > 0 or found.side <= self.finest:
                return found.lowest <= 0
            # If the smallest cell at its worst corner can't be helped there is no use in all the cells between.
            last = self._linear(self.bounds.worst_corner(cell, self.finest), found.hidden)
            return last.lowest <= 0 and self.bounds.raised(last).lowest <= 0
        if found.side <= self.finest:
            self._add(found)
            return True
        for part in _quarters(cell):
            self._add(self._linear(part, found.hidden))
        return False

    def _add(self, found: _Bounded) -> None:
        heapq.heappush(self.cells, found)

    def _linear(self, cell: Cell, parent: Hidden | None) -> _Bounded:
        self.done += 1
        return self.bounds.linear(cell, parent)


def _quarters(cell: Cell) -> list[Cell]:
    top, bottom, left, right = cell
    middle, centre = (top + bottom) / 2, (left + right) / 2
    return [
        (*rows, *columns) for rows in ((top, middle), (middle, bottom)) for columns in ((left, centre), (centre, right))
    ]


def _lost(network: TwoLayer, label: int, threat: Threat, moving: MovingImage) -> bool:
    """Whether a mere shift, on a grid of half pixels, already costs the label: then there is nothing to prove."""
    steps = np.linspace(-threat.shift, threat.shift, 2 * math.ceil(2 * threat.shift) + 1)
    images = np.stack([moving.at(down, right) for down in steps for right in steps])
    logits = network.logits(images)
    others = np.delete(logits, label, axis=1).max(axis=1)
    return bool((logits[:, label] <= others).any())
