"""Interval bounds of a network that hold as numbers: float64 with every sum's rounding added, also for float32 engines.

Each value of a layer lies between two numbers (interval bound propagation: Gowal et al. 2018). A sum of n products,
in any order, with or without fused operations, differs from the exact one by at most g_n times the sum of the
products' magnitudes, g_n = n u / (1 - n u) with u = 2^-53 (Higham, "Accuracy and Stability of Numerical Algorithms",
section 3.1). That much is added on each side, twice over for what is lost in computing it. Convolutions are unfolded
into matrix products, so that no fast algorithm is used for which this isn't so.

The engine that runs the network computes in float32, u = 2^-24. Its sums differ from exact ones by the same formula, so
`float32` adds that too, layer by layer, and the bounds hold for the logits that such an engine gives, whatever order it
adds in. Algorithms that are no sums of products (Winograd's convolutions on some GPUs) are not covered.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from firewall.errors import DataError
from firewall.lab.certification.layers import Affine, Convolution, Layer, Layers, MaxPool, Rectified

__all__ = ["Box", "Intervals", "box_of", "intervals", "linear", "lost_in_float32"]

#: Unit roundoffs, doubled for what is lost in computing the error itself.
_DOUBLE, _SINGLE = 2.0**-52, 2.0**-23
#: A product may vanish in float32: less than this is lost of each.
_TINY = 2.0**-120


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
    if not bool(((image >= 0) & (image <= 1)).all()):
        raise DataError("values of an image must lie in 0..1")
    lost = 2.0**-22 if float32 else 2.0**-51
    # Rounded outward after it is cut off at 0 and 1: a value of 1 may become 1 + 2^-23 on its way in.
    return Box((image - eps).clamp_min(0) - lost, (image + eps).clamp_max(1) + lost)


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
    error = lost_in_float32(rows.shape[1], size) if float32 else torch.zeros_like(size)
    wider = Box((found.low - error).reshape(shape), (found.high + error).reshape(shape))
    return wider, size.reshape(shape), error.reshape(shape) if float32 else None


def lost_in_float32(products: int, size: Tensor) -> Tensor:
    """How far a sum in float32 can be from the exact one.

    Args:
        products: How many are added.
        size: The sum of all magnitudes.

    Returns:
        Of size's shape.
    """
    return (products + 2) * (_SINGLE * size + _TINY)


def linear(rows: Tensor, bias: Tensor, columns: Box) -> tuple[Box, Tensor]:
    """Bounds of rows @ x + bias.

    Args:
        rows: Float64 (R, n).
        bias: Float64 (R,).
        columns: Of x, (n, places).

    Returns:
        Bounds (R, places), and the sums of all magnitudes (R, places).
    """
    positive, negative = rows.clamp_min(0), rows.clamp_max(0)
    low = positive @ columns.low + negative @ columns.high + bias[:, None]
    high = positive @ columns.high + negative @ columns.low + bias[:, None]
    size = rows.abs() @ columns.magnitude + bias.abs()[:, None]
    lost = (2 * rows.shape[1] + 2) * _DOUBLE * size
    return Box(low - lost, high + lost), size


def _unfolded(layer: Convolution, values: Tensor) -> Tensor:
    """(in, H, W) -> (in * kh * kw, places), 0 around the edge."""
    kernel = (layer.weight.shape[2], layer.weight.shape[3])
    return functional.unfold(values[None], kernel, padding=layer.padding, stride=layer.stride)[0]


def _shape(layer: Convolution, values: Tensor) -> tuple[int, ...]:
    sizes = (
        (values.shape[1 + axis] + 2 * layer.padding[axis] - layer.weight.shape[2 + axis]) // layer.stride[axis] + 1
        for axis in (0, 1)
    )
    return (len(layer.weight), *sizes)
