"""The certificate of one image: no flow of the budget, after any shift, changes its class.

Without a shift the lower bound is the best of two sound ones, linear (linear.py) and semidefinite (dual.py). With
shifts of up to T pixels each way the square of shifts is cut into cells, each certified by the linear bound with that
cell's own pixels; the cell with the lowest bound is cut further until all are positive or one can't be helped.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count, product

import numpy as np

from firewall.errors import DataError, UsageError
from firewall.lab.certification.dual import certify_pair, slopes
from firewall.lab.certification.flow_bounds import Cell, MovingImage, checked_image
from firewall.lab.certification.flow_budget import Floats, checked_budget, grid_of
from firewall.lab.certification.linear import Hidden, Region, hidden_bounds, margin_bounds
from firewall.lab.certification.two_layer import TwoLayer

__all__ = ["LARGEST", "Certificate", "Threat", "certify"]


#: The largest budget that bounds are computed for.
LARGEST = 64.0
#: Steps of the search for better lines, and the lowest bound that is worth it.
_STEPS, _NEAR = 8, 3.0


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
    network: TwoLayer, image: Floats, label: int, threat: Threat, *, finest: float = 1 / 16, most: int = 3000
) -> Certificate:
    """Bound the margin of a label.

    Args:
        network: The network.
        image: (H, W) in 0..1.
        label: The class whose margin is bounded.
        threat: What an attack may do.
        finest: Side of the smallest cells of shifts, in pixels.
        most: How many cells are bounded at most, before the lowest bound so far is the result.

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
    if threat.shift == 0:
        return _still(network, image, label, threat, moving)
    return _shifted(network, label, threat, moving, finest, most)


def _still(network: TwoLayer, image: Floats, label: int, threat: Threat, moving: MovingImage) -> Certificate:
    grid = grid_of(*image.shape)
    region = Region(moving.still(), threat.budget, threat.noise)
    hidden = hidden_bounds(network, region)
    linear = margin_bounds(network, label, region, hidden, grid.capacity, steps=_STEPS)
    if linear.min() > 0:
        return Certificate(float(linear.min()), "linear", 1)
    value = network.first @ image.ravel() + network.first_bias
    logits = network.second @ np.maximum(value, 0) + network.second_bias
    slope = np.maximum(region.changes.far.falling, region.changes.far.rising)
    spans = slopes(value, hidden.lowest, hidden.highest)
    best = linear.copy()
    for other in np.flatnonzero(linear <= 0):
        margin = logits[label] - logits[other]
        if margin <= 0:
            continue
        drop, _ = certify_pair(
            network, network.second[label] - network.second[other], slope, threat.budget, spans, noise=threat.noise
        )
        best[other] = max(linear[other], margin - drop - 1e-9 * (1 + np.abs(logits).max()))
        if best[other] <= 0:
            break  # the least margin decides, and this one is lost
    method = "linear" if best.min() == linear.min() else "semidefinite"
    return Certificate(float(best.min()), method, 1)


def _shifted(
    network: TwoLayer, label: int, threat: Threat, moving: MovingImage, finest: float, most: int
) -> Certificate:
    grid = grid_of(network.height, network.width)
    ticket = count()  # ties go to the older cell

    def bounded(cell: Cell, parent: Hidden | None) -> tuple[float, int, Cell, Hidden]:
        region = Region(moving.shifted(cell), threat.budget, threat.noise)
        hidden = hidden_bounds(network, region)
        hidden = hidden if parent is None else hidden.tightened(parent)
        lowest = margin_bounds(network, label, region, hidden, grid.spread).min()
        if -_NEAR < lowest <= 0:
            lowest = max(lowest, margin_bounds(network, label, region, hidden, grid.capacity, steps=_STEPS).min())
        return float(lowest), next(ticket), cell, hidden

    ends = np.unique(
        np.concatenate([np.arange(-int(threat.shift), int(threat.shift) + 1), [-threat.shift, threat.shift]])
    )
    sides = list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
    cells = [bounded((*rows, *columns), None) for rows, columns in product(sides, sides)]
    done = len(cells)
    hopeless = _lost(network, label, threat, moving)
    heapq.heapify(cells)
    while cells[0][0] <= 0 and not hopeless and done < most:
        _, _, cell, hidden = cells[0]
        if max(cell[1] - cell[0], cell[3] - cell[2]) <= finest:
            break
        heapq.heappop(cells)
        for part in _quarters(cell):
            heapq.heappush(cells, bounded(part, hidden))
        done += 4
    return Certificate(cells[0][0], "linear", done)


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
