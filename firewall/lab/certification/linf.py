"""Lower bounds on margins where every value of an image may change by eps, by intervals and by lines.

Two bounds of one network, the larger counts. *Intervals* (intervals.py): the last layer is taken together with the
difference of two logits. *Lines* (CROWN: Zhang et al. 2018): each rectified unit lies between two lines over the
interval of its input, so that a margin is at least a linear function of the values, whose least over a box is known.
The intervals that the lines are drawn over are those of interval arithmetic, or, where asked for, tightened by lines
themselves for all units whose sign the intervals leave open.

`float32` adds what an engine loses that computes in float32: its output of a layer is the exact one of its own input
and an error of at most so much (intervals.py); on the way back a linear function of that output loses the sum of its
coefficients' magnitudes times these errors. Coefficients themselves are float64; 1e-9 of all that is added up is
subtracted, which is more than float64 loses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from firewall.decision.lines import SLACK
from firewall.errors import DataError
from firewall.lab.certification.deep import through_pool, through_rectified
from firewall.lab.certification.intervals import Box, Intervals, box_of, intervals, margins_of
from firewall.lab.certification.layers import Affine, Layers, MaxPool, Rectified

__all__ = ["interval_margins", "line_margins", "margins", "tightened"]

#: Linear functions that are taken back at a time.
_ROWS = 256


def margins(
    network: Layers, image: Tensor, label: int, eps: float, *, tighten: bool = True, float32: bool = True
) -> Tensor:
    """Lower bounds on logit(label) - logit(class) for all images within eps, in 0..1.

    Args:
        network: The network.
        image: Float64 (C, H, W) in 0..1, of the network's size.
        label: The class.
        eps: Largest change of a value, 0..1.
        tighten: Whether bounds of inner units are tightened by lines if the margins don't hold without.
        float32: Whether they hold for an engine that computes in float32, too.

    Returns:
        (classes,); infinite for the label itself.

    Raises:
        DataError: The image or the label doesn't fit.
    """
    if tuple(image.shape) != network.input:
        raise DataError(f"{network.name} takes images of {network.input}, got {tuple(image.shape)}")
    if not 0 <= label < network.classes:
        raise DataError(f"label {label} is not among the {network.classes} classes of {network.name}")
    found = intervals(network, box_of(image, eps, float32=float32), float32=float32)
    best = interval_margins(network, found, label)
    if float(best.min()) <= 0:
        best = torch.maximum(best, line_margins(network, found, label))
    if tighten and float(best.min()) <= 0:
        best = torch.maximum(best, line_margins(network, tightened(network, found), label))
    return best


def interval_margins(network: Layers, found: Intervals, label: int) -> Tensor:
    """Margins by intervals alone.

    Args:
        network: The network.
        found: Its intervals.
        label: The class.

    Returns:
        As of `margins`.
    """
    last = network.layers[-1]
    if not isinstance(last, Affine):
        return (found.boxes[-1].low[label] - found.boxes[-1].high).index_fill(0, torch.tensor([label]), torch.inf)
    box = found.boxes[-2]
    columns = Box(box.low.reshape(-1, 1), box.high.reshape(-1, 1))
    return margins_of(last, label, columns, found.errors[-1])


def line_margins(network: Layers, found: Intervals, label: int) -> Tensor:
    """Margins by lines: the best of three choices of the lines below, of which each is valid.

    Args:
        network: The network.
        found: Bounds of its values.
        label: The class.

    Returns:
        As of `margins`.
    """
    rows = -torch.eye(network.classes, dtype=torch.float64)
    rows[:, label] += 1.0
    rows = rows[torch.arange(network.classes) != label]
    best = torch.stack([_least(network, found, rows, len(network.layers), below) for below in (None, 0.0, 1.0)])
    result = torch.full((network.classes,), torch.inf, dtype=torch.float64)
    result[torch.arange(network.classes) != label] = best.max(dim=0).values
    return result


def tightened(network: Layers, found: Intervals) -> Intervals:
    """Bounds with those of the inputs of rectified units whose sign was open taken by lines, layer by layer.

    Args:
        network: The network.
        found: Its intervals.

    Returns:
        Bounds that are nowhere wider.
    """
    for place, layer in enumerate(network.layers):
        if not isinstance(layer, Rectified) or place < 2:
            continue
        box = found.boxes[place]
        units = torch.nonzero(((box.low < 0) & (box.high > 0)).flatten())[:, 0]
        low, high = box.low.flatten().clone(), box.high.flatten().clone()
        for part in units.split(_ROWS):
            rows = torch.zeros((len(part), low.numel()), dtype=torch.float64)
            rows[torch.arange(len(part)), part] = 1.0
            rows = rows.reshape(len(part), *box.low.shape)
            low[part] = torch.maximum(low[part], _least(network, found, rows, place))
            high[part] = torch.minimum(high[part], -_least(network, found, -rows, place))
        boxes = list(found.boxes)
        boxes[place] = Box(low.reshape(box.low.shape), high.reshape(box.high.shape))
        boxes[place + 1] = Box(boxes[place].low.clamp_min(0), boxes[place].high.clamp_min(0))
        found = replace(found, boxes=tuple(boxes))
    return found


def _least(network: Layers, found: Intervals, rows: Tensor, place: int, below: float | None = None) -> Tensor:
    """Lower bounds of linear functions of the input of layer `place` over all images of the box.

    Args:
        network: The network.
        found: Bounds of its values.
        rows: (R, *shape).
        place: A layer, or how many there are: the logits.
        below: Slope of all lines below open units; None: of each as it suits.

    Returns:
        (R,).
    """
    constant = torch.zeros(len(rows), dtype=torch.float64)
    size = torch.zeros(len(rows), dtype=torch.float64)
    while place > 0:
        place -= 1
        layer, box = network.layers[place], found.boxes[place]
        bounds = (box.low, box.high)
        if isinstance(layer, Rectified):
            rows, added, more = through_rectified(rows, bounds, below)
        elif isinstance(layer, MaxPool):
            rows, added, more = through_pool(layer, rows, bounds)
        else:
            sums, error = found.sizes[place], found.errors[place]
            more = (rows.abs() * cast(Tensor, sums)).flatten(1).sum(dim=1)
            if error is not None:
                constant = constant - (rows.abs() * error).flatten(1).sum(dim=1)
            rows, added = layer.back(rows, network.shapes[place])
        constant = constant + added
        size = size + more + (rows.abs() * box.magnitude).flatten(1).sum(dim=1)
    box = found.boxes[0]
    least = (rows.clamp_min(0) * box.low + rows.clamp_max(0) * box.high).flatten(1).sum(dim=1)
    return least + constant - SLACK * (1 + size)
