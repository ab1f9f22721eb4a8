"""Lower bounds on the margins of a two-layer network for all flows of a budget, by linear bounds on its units.

Every linear function of the pixels obeys a . x >= (least of its values at the corners of the cell of shifts) -
C * capacity(w), with w_i = a_i^+ falling_i + a_i^- rising_i (see flow_budget.py and flow_bounds.py). That bounds each
hidden unit first and then, with each unit between two lines (CROWN: Zhang, Weng, Chen, Hsieh, Daniel 2018), the margin
over every other class. Noise of at most eps on each pixel, on top of the flow, costs eps * |a|_1 more: the unified
certificate for flows and l-infinity noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from firewall.lab.certification.flow_bounds import Changes
from firewall.lab.certification.flow_budget import FEW, Floats, excess
from firewall.lab.certification.two_layer import TwoLayer

__all__ = ["Hidden", "Region", "hidden_bounds", "margin_bounds"]

#: Upper bounds on the largest sum w_i |r_i| / C for rows of weights: Grid.spread or Grid.capacity of a grid.
Capacity = Callable[[Floats, Floats, int], Floats]


@dataclass(frozen=True)
class Region:
    """Everything that may be done to an image.

    Args:
        changes: Of its pixels, by a flow.
        budget: Cap on L_flow, in pixels.
        noise: Largest change of each pixel on top (L-infinity).
    """

    changes: Changes
    budget: float
    noise: float = 0.0

    def least(self, rows: Floats, capacity: Capacity) -> Floats:
        """Lower bounds of linear functions over all images of the region.

        Args:
            rows: (R, pixels).
            capacity: `Grid.spread` or `Grid.capacity` of the image's grid.

        Returns:
            (R,), bounds of rows @ x.
        """
        changes, positive, negative = self.changes, np.maximum(rows, 0), np.maximum(-rows, 0)
        start = (rows @ changes.corners.T).min(axis=1)
        near, far = (positive * slope.falling + negative * slope.rising for slope in (changes.near, changes.far))
        flowing = start - self.budget / 2 * capacity(near, far, FEW)
        # Nor can each pixel by itself do more than its own values allow.
        apart = positive @ changes.lowest - negative @ changes.highest
        magnitude = np.abs(rows).sum(axis=1)
        # 1e-12: more than float64 loses in such sums of about a thousand terms.
        return np.asarray(np.maximum(flowing, apart) - (self.noise + 1e-12) * magnitude)


@dataclass(frozen=True)
class Hidden:
    """Bounds on the inputs of the hidden units.

    Args:
        lowest: (units,).
        highest: (units,).
    """

    lowest: Floats
    highest: Floats

    def tightened(self, other: Hidden) -> Hidden:
        """Both bounds together."""
        return Hidden(np.maximum(self.lowest, other.lowest), np.minimum(self.highest, other.highest))


def hidden_bounds(network: TwoLayer, region: Region) -> Hidden:
    """Bounds on the hidden units' inputs in a region.

    The same as `region.least` of the first layer's rows with `Grid.spread`, in products with squares that are kept.

    Args:
        network: The network.
        region: What may be done to the image.

    Returns:
        The bounds.
    """
    changes, share = region.changes, region.budget / 8
    rising, falling, magnitude = network.squares
    values = network.first @ changes.corners.T

    def spread(brighter: Floats, darker: Floats, far_brighter: Floats, far_darker: Floats) -> Floats:
        """How far a unit goes up where pixels change by these slopes."""
        near = rising @ brighter**2 + falling @ darker**2
        more_bright, more_dark = far_brighter**2 - brighter**2, far_darker**2 - darker**2
        used = (more_bright > 0) | (more_dark > 0)
        more = rising[:, used] * more_bright[used] + falling[:, used] * more_dark[used]
        return np.asarray(share * np.sqrt(near + excess(more, FEW)) * (1 + 1e-12))

    near, far = changes.near, changes.far
    up = spread(near.rising, near.falling, far.rising, far.falling)
    even = np.array_equal(near.rising, near.falling) and np.array_equal(far.rising, far.falling)
    down = up if even else spread(near.falling, near.rising, far.falling, far.rising)
    highest = np.minimum(values.max(axis=1) + up, network.rising @ changes.highest - network.falling @ changes.lowest)
    lowest = np.maximum(values.min(axis=1) - down, network.rising @ changes.lowest - network.falling @ changes.highest)
    slack = region.noise * magnitude + 1e-12 * (1 + magnitude + np.abs(network.first_bias))
    return Hidden(lowest + network.first_bias - slack, highest + network.first_bias + slack)


def margin_bounds(
    network: TwoLayer, label: int, region: Region, hidden: Hidden, capacity: Capacity, *, steps: int = 0
) -> Floats:
    """Lower bounds on logit(label) - logit(class) in a region.

    Args:
        network: The network.
        label: The class.
        region: What may be done to the image.
        hidden: Bounds on the hidden units in it.
        capacity: `Grid.spread` or `Grid.capacity` of the image's grid.
        steps: Of a search for better lower lines.

    Returns:
        (classes,); infinite for the label itself.
    """
    others = np.delete(np.arange(len(network.second)), label)
    v = network.second[label] - network.second[others]
    constant = network.second_bias[label] - network.second_bias[others]
    low, high = np.minimum(hidden.lowest, 0), np.maximum(hidden.highest, 0)
    # relu(z) <= above (z - low) for low <= z <= high, and relu(z) >= below z for any 0 <= below <= 1.
    above = high / np.maximum(high - low, 1e-300)
    offset = np.where(v < 0, v * -(above * low), 0.0).sum(axis=1) + constant
    magnitude = np.abs(v) @ (np.abs(network.first_bias) + np.abs(low) + 1) + np.abs(constant)

    def bound(below: Floats) -> Floats:
        """The bound with these lower lines, (classes, units) or (units,)."""
        slopes = v * np.where(v >= 0, below, above)
        least = region.least(slopes @ network.first, capacity) + slopes @ network.first_bias + offset
        # The rounding of the coefficients themselves: pixels are at most 1.
        return np.asarray(least - 1e-12 * (magnitude + np.abs(slopes) @ network.squares[2]))

    steep = np.tile((high > -low).astype(float), (len(others), 1))
    best = np.maximum(bound(steep), bound(np.tile(above, (len(others), 1))))
    if steps:
        best = np.maximum(best, bound(_steeper(network, region, v, above, steep, steps)))
    result = np.full(len(network.second), np.inf)
    result[others] = best
    return result


def _steeper(network: TwoLayer, region: Region, v: Floats, above: Floats, below: Floats, steps: int) -> Floats:
    """Lower lines that make the bound larger: Frank and Wolfe's steps, since it is concave in them. Any result between
    0 and 1 is valid, so nothing here needs a proof."""
    changes, share = region.changes, region.budget / 8
    fixed = (above == 0) | (above == 1)
    for step in range(steps):
        a = (v * np.where(v >= 0, below, above)) @ network.first
        slopes = np.where(a > 0, changes.near.falling, changes.near.rising)
        charge = np.sqrt(np.square(a * slopes).sum(axis=1, keepdims=True)) + 1e-12
        worst = changes.corners[(a @ changes.corners.T).argmin(axis=1)]
        gradient = (worst - share * a * slopes**2 / charge) @ network.first.T + network.first_bias
        below = below + 2 / (step + 3) * ((gradient > 0) - below)
    return np.where(fixed, above, np.clip(below, 0, 1))
