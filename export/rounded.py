"""A network in int8 as one of float32 operations: for builders that read other int8 than the processor's, or none.

The processor's integer kernels take unsigned bytes with zero points, and biases of 32 bits; TensorRT's parser refuses
both. What such a network says of an image is kept all the same if its numbers are rounded as before, in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from firewall.errors import DataError

__all__ = ["in_float"]


def in_float(content: bytes, *, rounding: bool = True) -> bytes:
    """The network of an ONNX file without QuantizeLinear and DequantizeLinear.

    x -> clip(round(x / scale)) * scale, round to even, is what a pair of them does (ONNX, QuantizeLinear).

    Args:
        content: The ONNX file. One that has none of them is returned as it is.
        rounding: Round as the file says. False: only clip, which is nearly the same and has gradients; where a
            rectifier was merged into the rounding the clipping does what it did.

    Raises:
        DataError: If a pair isn't one: rounded numbers are read by something else, or have a scale for each channel.
    """
    model = onnx.load_model_from_string(content)
    graph = model.graph
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    rounded = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    if not rounded and all(node.op_type != "DequantizeLinear" for node in graph.node):
        return content
    made: dict[str, np.ndarray[Any, Any]] = {}
    nodes = []
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            continue
        if node.op_type != "DequantizeLinear":
            if not rounded.keys().isdisjoint(node.input):
                raise _odd(node)
            nodes.append(node)
            continue
        scale, zero = _scale(node, constants)
        if node.input[0] in constants:
            stored = constants[node.input[0]].astype(np.float64)
            axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
            sides = [-1 if side == axis and scale.size > 1 else 1 for side in range(stored.ndim)]
            shape = sides if stored.ndim else []
            made[node.output[0]] = ((stored - zero.reshape(shape)) * scale.reshape(shape)).astype(np.float32)
        elif node.input[0] in rounded and scale.size == 1:
            kind = constants[node.input[2]].dtype if len(node.input) > 2 else np.dtype(np.uint8)
            source = rounded[node.input[0]]
            nodes.extend(_clipped(node, source, scale.item(), kind, zero.item(), made, rounding=rounding))
        else:
            raise _odd(node)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made.items())
    read = {name for node in nodes for name in node.input} | {entry.name for entry in graph.output}
    kept = [entry for entry in graph.initializer if entry.name in read]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def _scale(node: Any, constants: dict[str, np.ndarray[Any, Any]]) -> tuple[Any, Any]:
    """(scale in float64, zero point) of a DequantizeLinear; raises DataError if they aren't in the file."""
    if any(name not in constants for name in node.input[1:]) or len(node.input) < 2:
        raise _odd(node)
    scale = constants[node.input[1]].astype(np.float64)
    zero = constants[node.input[2]].astype(np.float64) if len(node.input) > 2 else np.zeros_like(scale)
    return scale, zero


def _clipped(
    node: Any,
    source: str,
    scale: float,
    kind: np.dtype[Any],
    zero: float,
    made: dict[str, np.ndarray[Any, Any]],
    *,
    rounding: bool,
) -> list[Any]:
    """Nodes that do to `source` what QuantizeLinear and this DequantizeLinear do; their numbers go into `made`."""
    output, step = node.output[0], 1.0 if rounding else scale
    ends = [(end - zero) * step for end in (np.iinfo(kind).min, np.iinfo(kind).max)]
    names = [f"{output}_{end}" for end in ("least", "most")]
    made.update({name: np.array(end, np.float32) for name, end in zip(names, ends, strict=True)})
    if not rounding:
        return [helper.make_node("Clip", [source, *names], [output], name=f"{output}_clip")]
    made[f"{output}_step"] = np.array(scale, np.float32)
    steps, whole, kept = (f"{output}_{part}" for part in ("steps", "whole", "kept"))
    return [
        helper.make_node("Div", [source, f"{output}_step"], [steps], name=steps),
        helper.make_node("Round", [steps], [whole], name=whole),
        helper.make_node("Clip", [whole, *names], [kept], name=kept),
        helper.make_node("Mul", [kept, f"{output}_step"], [output], name=f"{output}_again"),
    ]


def _odd(node: Any) -> DataError:
    return DataError(
        f"node {node.name or node.output[0]!r} ({node.op_type}) rounds in a way that isn't known here: pairs of "
        "QuantizeLinear and DequantizeLinear with one constant scale, and constant weights, are"
    )
