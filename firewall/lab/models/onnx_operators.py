"""The operators that image classifiers are made of, in torch: ONNX's own semantics, differentiable where torch is.

Each takes the node and its input tensors (None for one that is left out) and returns its outputs. Tensors of integers
are shapes, axes and indices; they stay on the CPU. Where opsets differ both forms are read: as an attribute and as an
input. What is subtler than that is left to the comparison with ONNX Runtime that every network has to pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["OPERATORS", "Node"]

Inputs = Sequence[Tensor]
Function = Callable[["Node", Inputs], "Tensor | tuple[Tensor, ...]"]


@dataclass(frozen=True)
class Node:
    """One step of a graph. attributes: numbers, strings, lists or tensors by name."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute, or `default` where it isn't set."""
        return self.attributes.get(name, default)


def _operand(node: Node, inputs: Inputs, position: int, name: str) -> Any:
    """What newer opsets give as an input and older ones as an attribute, as plain Python; None if it isn't there."""
    if position < len(inputs) and inputs[position] is not None:
        return inputs[position].tolist()
    return node.get(name)


# --- convolution, matrices, normalisation ---------------------------------------------------------------------------


def _pads(node: Node, x: Tensor, kernel: Sequence[int]) -> list[int]:
    """Padding at the begin and the end of each axis, in ONNX's order: all begins, then all ends."""
    mode, axes = node.get("auto_pad", "NOTSET"), len(kernel)
    if mode in ("NOTSET", "VALID"):
        return list(node.get("pads", [0] * (2 * axes))) if mode == "NOTSET" else [0] * (2 * axes)
    strides, dilations = node.get("strides", [1] * axes), node.get("dilations", [1] * axes)
    begins, ends = [], []
    for size, side, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (side - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return begins + ends


def _padded(x: Tensor, pads: Sequence[int], value: float) -> tuple[Tensor, list[int]]:
    """`x` padded by as much as an operator of torch can't pad by itself, and the padding left to the operator."""
    axes = len(pads) // 2
    if list(pads[:axes]) == list(pads[axes:]):
        return x, list(pads[:axes])
    flat = [pads[axis + end] for axis in reversed(range(axes)) for end in (0, axes)]
    return F.pad(x, flat, value=value), [0] * axes


def _conv(node: Node, inputs: Inputs) -> Tensor:
    x, weight, bias = inputs[0], inputs[1], inputs[2] if len(inputs) > 2 else None
    axes = weight.ndim - 2
    x, padding = _padded(x, _pads(node, x, weight.shape[2:]), 0.0)
    function: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    strides, dilations = node.get("strides", [1] * axes), node.get("dilations", [1] * axes)
    return function(x, weight, bias, strides, padding, dilations, node.get("group", 1))


def _gemm(node: Node, inputs: Inputs) -> Tensor:
    a = inputs[0].T if node.get("transA", 0) else inputs[0]
    b = inputs[1].T if node.get("transB", 0) else inputs[1]
    product: Tensor = node.get("alpha", 1.0) * (a @ b)
    if len(inputs) > 2 and inputs[2] is not None:
        product = product + node.get("beta", 1.0) * inputs[2]
    return product


def _batch_norm(node: Node, inputs: Inputs) -> Tensor:
    x, scale, bias, mean, variance = inputs[:5]
    return F.batch_norm(x, mean, variance, scale, bias, eps=node.get("epsilon", 1e-5))


def _layer_norm(node: Node, inputs: Inputs) -> Tensor:
    axis = node.get("axis", -1) % inputs[0].ndim
    bias = inputs[2] if len(inputs) > 2 else None
    return F.layer_norm(inputs[0], inputs[0].shape[axis:], inputs[1], bias, node.get("epsilon", 1e-5))


def _standardised(x: Tensor, dims: Sequence[int], epsilon: float) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) over `dims`. Unlike torch's own layers also where there is one value."""
    variance, mean = torch.var_mean(x, dim=tuple(dims), correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + epsilon)


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    """(C,), shaped to be multiplied with x (N, C, ...)."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


def _instance_norm(node: Node, inputs: Inputs) -> Tensor:
    x, scale, bias = inputs[:3]
    plain = _standardised(x, range(2, x.ndim), node.get("epsilon", 1e-5))
    return plain * _per_channel(scale, x) + _per_channel(bias, x)


def _group_norm(node: Node, inputs: Inputs) -> Tensor:
    x, scale, bias = inputs[:3]
    groups = node.get("num_groups")
    plain = _standardised(x.reshape(len(x), groups, -1), [2], node.get("epsilon", 1e-5)).reshape(x.shape)
    # Opset 18 has a scale and a bias for each group, opset 21 for each channel.
    scale, bias = (each.repeat_interleave(x.shape[1] // len(each)) for each in (scale, bias))
    return plain * _per_channel(scale, x) + _per_channel(bias, x)


def _lrn(node: Node, inputs: Inputs) -> Tensor:
    return F.local_response_norm(
        inputs[0], node.get("size"), node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    )


# --- pooling and reduction ------------------------------------------------------------------------------------------


def _max_pool(node: Node, inputs: Inputs) -> Tensor:
    kernel = node.get("kernel_shape")
    x, padding = _padded(inputs[0], _pads(node, inputs[0], kernel), -torch.inf)
    function: Callable[..., Tensor] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    strides, dilations = node.get("strides", [1] * len(kernel)), node.get("dilations", 1)
    return function(x, kernel, strides, padding, dilations, bool(node.get("ceil_mode", 0)))


def _average_pool(node: Node, inputs: Inputs) -> Tensor:
    kernel, strides = node.get("kernel_shape"), node.get("strides", [1] * len(node.get("kernel_shape")))
    function: Callable[..., Tensor] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    whole, ceil = bool(node.get("count_include_pad", 0)), bool(node.get("ceil_mode", 0))
    pads = _pads(node, inputs[0], kernel)
    x, padding = _padded(inputs[0], pads, 0.0)
    if whole or padding == pads[: len(kernel)]:
        return function(x, kernel, strides, padding, ceil, whole)
    share: Tensor = function(_padded(torch.ones_like(inputs[0]), pads, 0.0)[0], kernel, strides, padding, ceil, whole)
    return function(x, kernel, strides, padding, ceil, whole) / share


def _global(reduce: Callable[..., Tensor]) -> Function:
    return lambda _, inputs: reduce(inputs[0], dim=tuple(range(2, inputs[0].ndim)), keepdim=True)


def _reduce(reduce: Callable[..., Tensor]) -> Function:
    def function(node: Node, inputs: Inputs) -> Tensor:
        axes = _operand(node, inputs, 1, "axes")
        if not axes and node.get("noop_with_empty_axes", 0):
            return inputs[0]
        dims = tuple(axes) if axes else tuple(range(inputs[0].ndim))
        return reduce(inputs[0], dim=dims, keepdim=bool(node.get("keepdims", 1)))

    return function


def _prod(x: Tensor, dim: Sequence[int], keepdim: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in dim), reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


# --- shapes ---------------------------------------------------------------------------------------------------------


def _flatten(node: Node, inputs: Inputs) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + inputs[0].ndim if axis < 0 else axis
    rows = 1
    for size in inputs[0].shape[:axis]:
        rows *= size
    return inputs[0].reshape(rows, -1)


def _reshape(node: Node, inputs: Inputs) -> Tensor:
    shape = _operand(node, inputs, 1, "shape")
    if not node.get("allowzero", 0):
        shape = [inputs[0].shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return inputs[0].reshape(shape)


def _squeeze(node: Node, inputs: Inputs) -> Tensor:
    axes = _operand(node, inputs, 1, "axes")
    return inputs[0].squeeze() if axes is None else inputs[0].squeeze(tuple(axes))


def _unsqueeze(node: Node, inputs: Inputs) -> Tensor:
    axes, x = _operand(node, inputs, 1, "axes"), inputs[0]
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def _slice(node: Node, inputs: Inputs) -> Tensor:
    x = inputs[0]
    starts, ends = _operand(node, inputs, 1, "starts"), _operand(node, inputs, 2, "ends")
    axes = _operand(node, inputs, 3, "axes") or list(range(len(starts)))
    steps = _operand(node, inputs, 4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index = torch.arange(x.shape[axis])[slice(start, end, step)] if step > 0 else None
        if index is None:  # Python's rules for negative steps are ONNX's once the far end is "before the first"
            last = None if end < -x.shape[axis] else end
            index = torch.tensor(range(x.shape[axis])[slice(start, last, step)], dtype=torch.int64)
        x = x.index_select(axis, index.to(x.device))
    return x


def _split(node: Node, inputs: Inputs) -> tuple[Tensor, ...]:
    axis, sizes = node.get("axis", 0), _operand(node, inputs, 1, "split")
    if sizes is None:
        sizes = -(-inputs[0].shape[axis] // len(node.outputs))
    return tuple(inputs[0].split(sizes, axis))


def _gather(node: Node, inputs: Inputs) -> Tensor:
    x, index, axis = inputs[0], inputs[1], node.get("axis", 0) % inputs[0].ndim
    index = torch.where(index < 0, index + x.shape[axis], index)
    picked = x.index_select(axis, index.reshape(-1).to(x.device))
    return picked.reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


def _expand(_node: Node, inputs: Inputs) -> Tensor:
    return inputs[0].expand(torch.broadcast_shapes(inputs[0].shape, inputs[1].tolist()))


def _pad(node: Node, inputs: Inputs) -> Tensor:
    x, pads = inputs[0], _operand(node, inputs, 1, "pads")
    value = _number(node, inputs, 2, "value") or 0.0
    axes = _operand(node, inputs, 3, "axes") or list(range(x.ndim))
    flat = [0] * (2 * x.ndim)
    for position, axis in enumerate(axes):
        place = 2 * (x.ndim - 1 - axis % x.ndim)
        flat[place], flat[place + 1] = pads[position], pads[position + len(axes)]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}[node.get("mode", "constant")]
    if mode == "constant":
        return F.pad(x, flat, value=value)
    while flat and flat[-2:] == [0, 0]:  # torch pads only the last axes in these modes
        flat = flat[:-2]
    return F.pad(x, flat, mode=mode)


def _constant(node: Node, _inputs: Inputs) -> Tensor:
    value = next(iter(node.attributes.values()))
    if isinstance(value, Tensor):
        return value
    kind = (
        torch.float32 if isinstance(value, float) or (isinstance(value, list) and isinstance(value[0], float)) else None
    )
    return torch.tensor(value, dtype=kind)


def _constant_of_shape(node: Node, inputs: Inputs) -> Tensor:
    value = node.get("value", torch.zeros(1))
    return torch.full(inputs[0].tolist(), value.item(), dtype=value.dtype)


# --- point by point -------------------------------------------------------------------------------------------------

#: ONNX's numbers of the types that a classifier converts between.
_TYPES = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 11: torch.float64}


def _number(node: Node, inputs: Inputs, position: int, name: str) -> float | None:
    """An operand that is one number; some writers give it the shape (1,)."""
    value = _operand(node, inputs, position, name)
    number: float | None = value[0] if isinstance(value, list) else value
    return number


def _clip(node: Node, inputs: Inputs) -> Tensor:
    return inputs[0].clamp(_number(node, inputs, 1, "min"), _number(node, inputs, 2, "max"))


def _softmax(function: Callable[..., Tensor]) -> Function:
    return lambda node, inputs: function(inputs[0], dim=node.get("axis", -1))


def _unary(function: Callable[[Tensor], Tensor]) -> Function:
    return lambda _, inputs: function(inputs[0])


def _binary(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    return lambda _, inputs: function(inputs[0], inputs[1])


def _div(a: Tensor, b: Tensor) -> Tensor:
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _many(function: Callable[[Tensor, Tensor], Tensor]) -> Function:
    def fold(_node: Node, inputs: Inputs) -> Tensor:
        result = inputs[0]
        for other in inputs[1:]:
            result = function(result, other)
        return result

    return fold


def _prelu(_node: Node, inputs: Inputs) -> Tensor:
    return torch.where(inputs[0] < 0, inputs[0] * inputs[1], inputs[0])


OPERATORS: dict[str, Function] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _binary(torch.matmul),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "LRN": _lrn,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global(torch.mean),
    "GlobalMaxPool": _global(torch.amax),
    "ReduceMean": _reduce(torch.mean),
    "ReduceSum": _reduce(torch.sum),
    "ReduceMax": _reduce(torch.amax),
    "ReduceMin": _reduce(torch.amin),
    "ReduceProd": _reduce(_prod),
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": lambda node, inputs: inputs[0].permute(node.get("perm", list(reversed(range(inputs[0].ndim))))),
    "Concat": lambda node, inputs: torch.cat(list(inputs), node.get("axis")),
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Expand": _expand,
    "Shape": lambda node, inputs: torch.tensor(inputs[0].shape[node.get("start", 0) : node.get("end")]),
    "Pad": _pad,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": _unary(lambda x: x),
    "Dropout": _unary(lambda x: x),
    "Cast": lambda node, inputs: inputs[0].to(_TYPES[node.get("to")]),
    "Add": _binary(torch.add),
    "Sub": _binary(torch.sub),
    "Mul": _binary(torch.mul),
    "Div": _binary(_div),
    "Pow": _binary(torch.pow),
    "Equal": _binary(torch.eq),
    "Where": lambda _, inputs: torch.where(*inputs),
    "Min": _many(torch.minimum),
    "Max": _many(torch.maximum),
    "Sum": _many(torch.add),
    "Clip": _clip,
    "Relu": _unary(torch.relu),
    "LeakyRelu": lambda node, inputs: F.leaky_relu(inputs[0], node.get("alpha", 0.01)),
    "PRelu": _prelu,
    "Elu": lambda node, inputs: F.elu(inputs[0], node.get("alpha", 1.0)),
    "Selu": _unary(F.selu),
    "Gelu": lambda node, inputs: F.gelu(inputs[0], approximate=node.get("approximate", "none")),
    "Softplus": _unary(F.softplus),
    "Sigmoid": _unary(torch.sigmoid),
    "HardSigmoid": lambda node, inputs: (inputs[0] * node.get("alpha", 0.2) + node.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": _unary(F.hardswish),
    "Tanh": _unary(torch.tanh),
    "Erf": _unary(torch.erf),
    "Exp": _unary(torch.exp),
    "Log": _unary(torch.log),
    "Sqrt": _unary(torch.sqrt),
    "Reciprocal": _unary(torch.reciprocal),
    "Neg": _unary(torch.neg),
    "Abs": _unary(torch.abs),
    "Softmax": _softmax(F.softmax),
    "LogSoftmax": _softmax(F.log_softmax),
}
