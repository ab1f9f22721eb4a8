"""Flow certificates of deeper networks, by linear bounds taken back to the pixels.

Between every two layers each unit lies between two lines (CROWN: Zhang, Weng, Chen, Hsieh, Daniel, NeurIPS 2018), so
that a margin is bounded from below by a linear function of the pixels. What is the least that a flow can make of it?
Either of two bounds, whichever is larger:

* every pixel by itself, within the interval of values that the flow can bring to it (Ruoss, Baader, Balunovic, Vechev,
  AAAI 2021, take the convex hull of these intervals too);
* all pixels together, by the budget of the flow's total variation, as for the two-layer network (flow_budget.py).

The threat is that of `firewall lab certify spatial`: flows with L_flow <= B that are 0 outside the image, and noise of
at most eps for each value on top. A flow moves all channels of a pixel together, which the second bound uses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from types import EllipsisType
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from firewall.decision import lines
from firewall.errors import DataError
from firewall.lab.certification.flow_bounds import Changes, MovingImage, checked_image
from firewall.lab.certification.flow_budget import FEW, Floats, checked_budget, grid_of
from firewall.lab.certification.layers import Convolution, Layers, MaxPool, Rectified
from firewall.lab.certification.linear import Capacity

__all__ = ["Moved", "certify_deep", "moved", "through_pool", "through_rectified", "unit_bounds"]

#: Linear functions that are taken back at a time; and those of layers with places, which are taken from neighbouring
#: ones, since these depend on a small part of the image alone.
_ROWS, _ROWS_OF_A_TILE = 512, 256
#: More than float64 loses on the way back, for each unit of size of what is added up.
_SLACK = 1e-9

Bounds = tuple[Tensor, Tensor]
#: From and to, of each of a layer's dimensions but the channels.
Tile = tuple[tuple[int, int], ...]
#: Index of a part of an image: rows and columns, or all of it.
Window = tuple["slice[int, int, None] | EllipsisType", ...]


@dataclass(frozen=True, eq=False)
class Moved:
    """An image and everything that flows of a budget, with noise on top, can make of it.

    Args:
        image: (C, H, W) in 0..1.
        changes: Of each channel by itself.
        budget: Cap on L_flow, in pixels.
        noise: Largest change of each value on top.
    """

    image: Floats
    changes: tuple[Changes, ...]
    budget: float
    noise: float

    def least(self, rows: Floats, capacity: Capacity, window: Window = (...,)) -> Floats:
        """Lower bounds of linear functions over all images that can result.

        Args:
            rows: (R, C * H * W), or of a window alone.
            capacity: `Grid.spread` or `Grid.capacity` of the image's grid; of a window `Grid.spread`.
            window: The pixels that the functions depend on; all unless given.

        Returns:
            (R,), bounds of rows @ x.
        """
        apart = np.zeros(len(rows))
        start = np.zeros(len(rows))
        used = np.arange(self.image[0].size).reshape(self.image.shape[1:])[window].ravel()
        near = np.zeros((len(rows), len(used)))
        far = np.zeros_like(near)
        for row, pixels, change in zip(
            np.split(rows, len(self.changes), axis=1), self.image, self.changes, strict=True
        ):
            positive, negative = np.maximum(row, 0), np.maximum(-row, 0)
            start += row @ pixels.ravel()[used]
            apart += positive @ change.lowest[used] - negative @ change.highest[used]
            near += positive * change.near.falling[used] + negative * change.near.rising[used]
            far += positive * change.far.falling[used] + negative * change.far.rising[used]
        flowing = start - self.budget / 2 * capacity(near, far, FEW)
        return np.asarray(np.maximum(flowing, apart) - (self.noise + 1e-12) * np.abs(rows).sum(axis=1))


def moved(image: Floats, budget: float, noise: float = 0.0) -> Moved:
    """What flows of a budget can make of an image.

    Args:
        image: (C, H, W) in 0..1.
        budget: Cap on L_flow, in pixels, above 0.
        noise: Largest change of each value on top.

    Returns:
        The region.

    Raises:
        UsageError: The budget is out of range.
        DataError: The image has another shape or range.
    """
    budget = checked_budget(budget)
    if image.ndim != 3:
        raise DataError(f"an image must be (channels, height, width), got {image.shape}")
    changes = tuple(MovingImage(checked_image(channel), budget).still() for channel in image)
    return Moved(np.asarray(image, np.float64), changes, budget, noise)


def certify_deep(network: Layers, image: Floats, label: int, budget: float, noise: float = 0.0) -> Floats:
    """Lower bounds on logit(label) - logit(class) under every flow of the budget. The label is certified if all are
    above 0.

    Args:
        network: The network.
        image: (C, H, W) in 0..1, of the network's size.
        label: The class.
        budget: Cap on L_flow, in pixels, above 0.
        noise: Largest change of each value on top.

    Returns:
        (classes,); infinite for the label itself.

    Raises:
        UsageError: The budget is out of range.
        DataError: The image or the label doesn't fit.
    """
    if image.shape != network.input:
        raise DataError(f"{network.name} takes images of {network.input}, got {image.shape}")
    if not 0 <= label < network.classes:
        raise DataError(f"label {label} is not among the {network.classes} classes of {network.name}")
    region = moved(image, budget, noise)
    bounds = unit_bounds(network, region)
    others = [other for other in range(network.classes) if other != label]
    rows = torch.zeros((len(others), network.classes), dtype=torch.float64)
    rows[:, label] = 1.0
    rows[range(len(others)), others] = -1.0
    grid = grid_of(image.shape[1], image.shape[2])
    result = np.full(network.classes, np.inf)
    back = _through_linear(network, _Back(rows, torch.zeros(len(rows), dtype=torch.float64), len(network.layers)))
    result[others] = _least(network, region, bounds, back, grid.capacity)
    return result


def unit_bounds(network: Layers, region: Moved) -> dict[int, Bounds]:
    """Bounds on the input of every layer that is not linear.

    Args:
        network: The network.
        region: What an attack can make of the image.

    Returns:
        By layer: lower and upper bounds, each of the input's shape.
    """
    bounds: dict[int, Bounds] = {}
    grid = grid_of(*region.image.shape[1:])
    for place, layer in enumerate(network.layers):
        if not isinstance(layer, (Rectified, MaxPool)):
            continue
        before = network.layers[place - 1] if place else None
        if place - 1 in bounds and isinstance(before, (Rectified, MaxPool)):
            low, high = bounds[place - 1]  # both keep order, so ends go to ends
            bounds[place] = (before.forward(low[None])[0], before.forward(high[None])[0])
            continue
        shape = network.shapes[place]
        low, high = torch.empty(shape, dtype=torch.float64), torch.empty(shape, dtype=torch.float64)
        for tile in _tiles(shape):
            part = (slice(None),) * (len(shape) - len(tile)) + tuple(slice(*ends) for ends in tile)
            back = _unit_rows(network, place, tile)
            for found, sign, rows in ((low, 1, back), (high, -1, back.negative())):
                least = torch.from_numpy(_least(network, region, bounds, rows, grid.spread))
                found[part] = sign * least.reshape(found[part].shape)
        bounds[place] = (low, high)
    return bounds


def _tiles(shape: tuple[int, ...]) -> list[Tile]:
    """The units of a layer in parts: of neighbouring places, all channels, or of a layer without places."""
    if len(shape) == 1:
        return [((start, min(start + _ROWS, shape[0])),) for start in range(0, shape[0], _ROWS)]
    side = max(1, math.isqrt(_ROWS_OF_A_TILE // shape[0]))
    ends = [[(start, min(start + side, size)) for start in range(0, size, side)] for size in shape[1:]]
    return list(product(*ends))


@dataclass(frozen=True, eq=False)
class _Back:
    """Linear functions of the input of layer `place`, rows (R, *shape), and constants (R,). size: of what was added up
    so far, for the rounding. corner: if the rows are of a window of the input alone, its top and left."""

    rows: Tensor
    constant: Tensor
    place: int
    size: Tensor | float = 0.0
    corner: tuple[int, int] | None = None

    def negative(self) -> _Back:
        """The same functions with the other sign."""
        return _Back(-self.rows, -self.constant, self.place, self.size, self.corner)

    @property
    def window(self) -> Window:
        """What places of the input the rows are of."""
        if self.corner is None:
            return (...,)
        (top, left), (height, width) = self.corner, self.rows.shape[2:]
        return ..., slice(top, top + height), slice(left, left + width)

    def whole(self, shape: tuple[int, ...]) -> _Back:
        """The same functions, of the whole input, which has this shape."""
        if self.corner is None:
            return self
        rows = torch.zeros((len(self.rows), *shape), dtype=torch.float64)
        rows[self.window] = self.rows
        return _Back(rows, self.constant, self.place, self.size)


@lru_cache(maxsize=256)
def _unit_rows(network: Layers, place: int, tile: Tile) -> _Back:
    """Units of the input of layer `place`, taken back through the linear layers before it: the same for all images."""
    shape = network.shapes[place]
    sizes = tuple(end - start for start, end in tile)
    units = shape[0] * sizes[0] * sizes[1] if len(tile) == 2 else sizes[0]
    rows = torch.eye(units, dtype=torch.float64)
    constant = torch.zeros(units, dtype=torch.float64)
    if len(tile) == 2:
        corner = (tile[0][0], tile[1][0])
        return _through_linear(network, _Back(rows.reshape(units, shape[0], *sizes), constant, place, corner=corner))
    whole = torch.zeros((units, shape[0]), dtype=torch.float64)
    whole[:, slice(*tile[0])] = rows
    return _through_linear(network, _Back(whole, constant, place))


def _through_linear(network: Layers, back: _Back) -> _Back:
    """Back through the linear layers, as far as they go."""
    rows, constant, size, place, corner = back.rows, back.constant, back.size, back.place, back.corner
    while place > 0:
        layer = network.layers[place - 1]
        if isinstance(layer, (Rectified, MaxPool)):
            break
        place -= 1
        magnitude = rows.abs().flatten(1).sum(dim=1)
        if corner is not None and isinstance(layer, Convolution):
            rows, added, corner = layer.back_from(rows, network.shapes[place], corner)
        else:
            rows, added = layer.back(rows, network.shapes[place])
        constant = constant + added
        size = size + magnitude * (1 + layer.bias.abs().max()) + rows.abs().flatten(1).sum(dim=1)
    return _Back(rows, constant, place, size, corner)


def _least(network: Layers, region: Moved, bounds: dict[int, Bounds], back: _Back, capacity: Capacity) -> Floats:
    """Lower bounds of linear functions over everything that an attack can make of an image, (R,)."""
    while back.place > 0:
        place = back.place - 1
        layer = network.layers[place]
        if isinstance(layer, Rectified):
            low, high = (bound[back.window] for bound in bounds[place])
            rows, added, magnitude = through_rectified(back.rows, (low, high))
        else:
            back = back.whole(network.shapes[place + 1])
            rows, added, magnitude = through_pool(cast(MaxPool, layer), back.rows, bounds[place])
        passed = _Back(rows, back.constant + added, place, back.size + magnitude, back.corner)
        back = _through_linear(network, passed)
    lost = (back.constant - _SLACK * (1 + back.size)).numpy()
    return np.asarray(region.least(back.rows.flatten(1).numpy(), capacity, back.window) + lost)


def through_rectified(rows: Tensor, bounds: Bounds, below: float | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """See `firewall.decision.lines.through_rectified`, in torch.

    Args:
        rows: Linear functions of what rectified units give, (R, *shape).
        bounds: Of their input, of that shape.
        below: Slope of the lines below units whose sign is open; None: of each as it suits.

    Returns:
        Linear functions of their input, the constants (R,), and the size of what was added up for these.
    """
    taken, added, size = lines.through_rectified(rows.numpy(), bounds[0].numpy(), bounds[1].numpy(), below)
    return torch.from_numpy(taken), torch.from_numpy(added), torch.from_numpy(size)


def through_pool(layer: MaxPool, rows: Tensor, bounds: Bounds) -> tuple[Tensor, Tensor, Tensor]:
    """As of `through_rectified`, of max-pooling.

    Of a window let x_a be the value with the highest lower bound, M what the others can reach. The largest is at least
    x_a; it is at most max(x_a, M), which is convex in x_a, so that it lies below the line between its ends."""
    low, high = bounds
    best, where = functional.max_pool2d(low[None], layer.kernel, layer.stride, return_indices=True)
    if layer.kernel == layer.stride:
        without = high[None].clone().flatten(2)
        without.scatter_(2, where.flatten(2), -torch.inf)
        rivals = functional.max_pool2d(without.reshape(1, *high.shape), layer.kernel, layer.stride)
    else:  # a value may be the chosen one of several windows, and a rival in others
        rivals = functional.max_pool2d(high[None], layer.kernel, layer.stride)
    start = torch.maximum(rivals, best)
    end = torch.maximum(high[None].flatten(2).gather(2, where.flatten(2)).reshape(best.shape), start)
    # Where no rival reaches the lower bound the line is x_a itself.
    slope = torch.where(rivals <= best, torch.ones_like(best), (end - start) / (end - best).clamp(min=1e-300))
    slope = torch.where((end > best) | (rivals <= best), slope, torch.zeros_like(best))
    negative = rows.clamp(max=0)
    linear = rows.clamp(min=0) + negative * slope
    added = negative * (start - slope * best)
    taken = torch.zeros((len(rows), low.shape[0], low[0].numel()), dtype=torch.float64)
    taken.scatter_add_(2, where.flatten(2).expand(len(rows), -1, -1), linear.flatten(2))
    return taken.reshape(len(rows), *low.shape), added.flatten(1).sum(dim=1), added.abs().flatten(1).sum(dim=1)
