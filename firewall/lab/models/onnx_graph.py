"""Small changes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["free_reshapes", "needed_only", "unused"]


def unused(model: onnx.ModelProto, name: str) -> str:
    """A name that the graph does not use.

    Args:
        model: The graph.
        name: The name that is wanted; a number is put behind it if it is taken.

    Returns:
        The free name.
    """
    graph = model.graph
    taken = {entry.name for entry in (*graph.input, *graph.output, *graph.initializer)}
    taken |= {value for node in graph.node for value in (*node.input, *node.output)}
    names = (name if number == 0 else f"{name}_{number}" for number in range(len(taken) + 1))
    return next(each for each in names if each not in taken)


def needed_only(model: onnx.ModelProto) -> None:
    """Leave out nodes and weights that no output depends on.

    Args:
        model: Changed in place.
    """
    graph = model.graph
    wanted, kept = {entry.name for entry in graph.output}, []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted.update(_read(node))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept[::-1]]
    weights = [weight for weight in graph.initializer if weight.name in wanted]
    copies = [onnx.TensorProto.FromString(weight.SerializeToString()) for weight in weights]
    if len(nodes) < len(graph.node):
        del graph.node[:]
        graph.node.extend(nodes)
    if len(copies) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(copies)


def free_reshapes(model: onnx.ModelProto) -> bool:
    """Let reshapes to a shape that begins with 1 keep the batch as it is. Exporters write a batch of one down so.

    Args:
        model: Changed in place.

    Returns:
        Whether there was one, of what depends on the input.
    """
    graph = model.graph
    shapes = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer if weight.data_type == 7}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            shapes[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    depends, found = {entry.name for entry in graph.input}, False
    for node in graph.node:
        if not depends.intersection(_read(node)):
            continue
        depends.update(node.output)
        exact = any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)
        shape = shapes.get(node.input[1]) if node.op_type == "Reshape" and len(node.input) > 1 else None
        if exact or shape is None or shape.ndim != 1 or len(shape) < 2 or shape[0] != 1:
            continue
        new = numpy_helper.from_array(np.array([0, *shape[1:]], np.int64), unused(model, "free_shape"))
        graph.initializer.append(new)
        node.input[1] = new.name
        found = True
    return found


def _read(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the values that a node reads, also those that graphs within it do."""
    yield from node.input
    for attribute in node.attribute:
        for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            for each in inner.node:
                yield from _read(each)
            yield from (entry.name for entry in inner.output)
