"""Interval bounds of every value in a network of layers, which lines are drawn over (linf.py).

What a bound is, and what is added to it for rounding, says `firewall.decision.intervals`: the guard takes its bounds
from there too. Here they are taken through all layers that certificates know, in torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from firewall.decision import intervals as edge
from firewall.errors import DataError
from firewall.lab.certification.layers import Affine, Convolution, Layer, Layers, MaxPool, Rectified

__all__ = ["Box", "Intervals", "box_of", "intervals", "linear", "margins_of"]


@dataclass(frozen=True, eq=False)
class Box:
    """Values between two bounds.

    Args:
        low: Float64, any shape.
        high: Float64, of the same shape.
    """

    low: Tensor
    high: Tensor

    @property
    def magnitude(self) -> Tensor:
        """The largest magnitude of each value."""
        return torch.maximum(self.low.abs(), self.high.abs())


@dataclass(frozen=True, eq=False)
class Intervals:
    """What a network's values lie between.

    Args:
        boxes: Of each layer's input, and at the end of the logits.
        sizes: What each layer's sums are made of: the sum of the magnitudes, of the output's shape; None for layers
            without sums.
        errors: How far an engine's output of each layer may be from the exact one of its own input, of that shape; None
            where nothing is lost.
    """

    boxes: tuple[Box, ...]
    sizes: tuple[Tensor | None, ...]
    errors: tuple[Tensor | None, ...]


def box_of(image: Tensor, eps: float, *, float32: bool = True) -> Box:
    """All images within eps of an image, and within 0..1.

    Args:
        image: Float64 (C, H, W) in 0..1.
        eps: Largest change of a value.
        float32: Whether values are rounded to float32 on their way in, which adds to it.

    Returns:
        The box, (C, H, W).

    Raises:
        DataError: A value is outside 0..1 or no number.
    """
    return _torch(edge.box_of(image.numpy(), eps, float32=float32))


def intervals(network: Layers, box: Box, *, float32: bool = True) -> Intervals:
    """Bounds of every value in a network.

    Args:
        network: The network.
        box: Of its input.
        float32: Whether they hold for an engine that computes in float32, too.

    Returns:
        The bounds.
    """
    boxes: list[Box] = [box]
    sizes: list[Tensor | None] = []
    errors: list[Tensor | None] = []
    for layer in network.layers:
        box, size, error = _through(layer, box, float32=float32)
        boxes.append(box)
        sizes.append(size)
        errors.append(error)
    return Intervals(tuple(boxes), tuple(sizes), tuple(errors))


def _through(layer: Layer, box: Box, *, float32: bool) -> tuple[Box, Tensor | None, Tensor | None]:
    if isinstance(layer, Rectified):
        return Box(box.low.clamp_min(0), box.high.clamp_min(0)), None, None
    if isinstance(layer, MaxPool):
        return Box(layer.forward(box.low[None])[0], layer.forward(box.high[None])[0]), None, None
    if isinstance(layer, Convolution):
        rows, shape = layer.weight.flatten(1), _shape(layer, box.low)
        columns = Box(_unfolded(layer, box.low), _unfolded(layer, box.high))
    elif isinstance(layer, Affine):
        rows, shape = layer.weight, (len(layer.weight),)
        columns = Box(box.low.reshape(-1, 1), box.high.reshape(-1, 1))
    else:
        raise DataError(f"no sound bound is known of a layer {type(layer).__name__}; nothing is certified")
    found, size = linear(rows, layer.bias, columns)
    lost = edge.lost_in_float32(rows.shape[1], size.numpy())
    error = torch.from_numpy(lost) if float32 else torch.zeros_like(size)
    wider = Box((found.low - error).reshape(shape), (found.high + error).reshape(shape))
    return wider, size.reshape(shape), error.reshape(shape) if float32 else None


def linear(rows: Tensor, bias: Tensor, columns: Box) -> tuple[Box, Tensor]:
    """Bounds of rows @ x + bias.

    Args:
        rows: Float64 (R, n).
        bias: Float64 (R,).
        columns: Of x, (n, places).

    Returns:
        Bounds (R, places), and the sums of all magnitudes (R, places).
    """
    found, size = edge.Product(rows.numpy(), bias.numpy()).bounds(_numpy(columns))
    return _torch(found), torch.from_numpy(size)


def margins_of(last: Affine, label: int, columns: Box, error: Tensor | None) -> Tensor:
    """Lower bounds on margins, the last layer taken together with the difference.

    Args:
        last: The last layer.
        label: The class.
        columns: Of its input, (n, 1).
        error: How far an engine's logits may be from the exact ones of its own input, (classes,); None: not at all.

    Returns:
        (classes,); infinite for the label itself.
    """
    lost = None if error is None else error.numpy()
    return torch.from_numpy(edge.margins_of(last.weight.numpy(), last.bias.numpy(), label, _numpy(columns), lost))


def _numpy(box: Box) -> edge.Box:
    return edge.Box(box.low.numpy(), box.high.numpy())


def _torch(box: edge.Box) -> Box:
    return Box(torch.from_numpy(box.low), torch.from_numpy(box.high))


def _unfolded(layer: Convolution, values: Tensor) -> Tensor:
    """(in, H, W) -> (in * kh * kw, places), 0 around the edge."""
    kernel = (layer.weight.shape[2], layer.weight.shape[3])
    return torch.from_numpy(edge.unfolded(values.numpy(), kernel, layer.stride, layer.padding))


def _shape(layer: Convolution, values: Tensor) -> tuple[int, ...]:
    sizes = (
        (values.shape[1 + axis] + 2 * layer.padding[axis] - layer.weight.shape[2 + axis]) // layer.stride[axis] + 1
        for axis in (0, 1)
    )
    return (len(layer.weight), *sizes)
