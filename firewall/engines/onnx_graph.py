"""The graph of an ONNX file, read from its bytes without the `onnx` package: operators and weights, nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from firewall.bundle.onnx_bytes import fields

__all__ = ["Attribute", "Graph", "Node", "read_graph"]

Array = npt.NDArray[np.float32] | npt.NDArray[np.int64]
Attribute = int | float | bytes | list[int]

# Field numbers of onnx.proto.
_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
#: TensorProto.data_type -> how its raw bytes are read.
_TYPES: dict[int, str] = {1: "<f4", 7: "<i8", 10: "<f2"}


@dataclass(frozen=True, slots=True)
class Node:
    """One operator.

    Attributes:
        operator: Such as `Conv`; of another domain than ONNX's own with that before it.
        inputs: Names of what it reads.
        outputs: Names of what it gives.
        attributes: Name -> value, of the kinds that small networks have.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]


@dataclass(frozen=True, slots=True)
class Graph:
    """The whole of it.

    Attributes:
        nodes: In the order in which they run.
        constants: Name -> weights, in the type of the file.
        inputs: Names.
        outputs: Names.
    """

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def read_graph(content: bytes) -> Graph:
    """Read an ONNX file.

    Args:
        content: The whole file.

    Returns:
        Its graph.

    Raises:
        ValueError: If it is none, or holds a tensor of a kind that is not read here.
        IndexError: If it is cut off.
    """
    graph = Graph()
    for number, _, part in fields(memoryview(content)):
        if number != _GRAPH or isinstance(part, int):
            continue
        for kind, _, value in fields(part):
            if isinstance(value, int):
                continue
            if kind == _NODE:
                graph.nodes.append(_node(value))
            elif kind == _INITIALIZER:
                name, array = _tensor(value)
                graph.constants[name] = array
            elif kind in (_INPUT, _OUTPUT):
                (graph.inputs if kind == _INPUT else graph.outputs).append(_text(value, 1))
    return graph


def _text(part: memoryview, number: int) -> str:
    for field_number, _, value in fields(part):
        if field_number == number and not isinstance(value, int):
            return bytes(value).decode()
    return ""


def _node(part: memoryview) -> Node:
    inputs, outputs, attributes, operator, domain = [], [], {}, "", ""
    for number, _, value in fields(part):
        if isinstance(value, int):
            continue
        if number == 5:
            name, attribute = _attribute(value)
            attributes[name] = attribute
        elif number == 1:
            inputs.append(bytes(value).decode())
        elif number == 2:
            outputs.append(bytes(value).decode())
        elif number == 4:
            operator = bytes(value).decode()
        elif number == 7:
            domain = bytes(value).decode()
    return Node(f"{domain}:{operator}" if domain else operator, tuple(inputs), tuple(outputs), attributes)


def _attribute(part: memoryview) -> tuple[str, Attribute]:
    name, ints = "", []
    found: Attribute | None = None
    for number, _, value in fields(part):
        if number == 1 and not isinstance(value, int):
            name = bytes(value).decode()
        elif number == 2 and not isinstance(value, int):
            found = float(np.frombuffer(value, "<f4")[0])
        elif number == 3 and isinstance(value, int):
            found = _signed(value)
        elif number == 4 and not isinstance(value, int):
            found = bytes(value)
        elif number == 8:
            ints.extend(_numbers(value))
    return name, ints if found is None else found


def _numbers(value: int | memoryview) -> list[int]:
    """A repeated number, packed or one by one."""
    if isinstance(value, int):
        return [_signed(value)]
    # A packed list has no keys: each number gets one, so that it reads like a message.
    found, at = [], 0
    while at < len(value):
        end = at
        while value[end] & 0x80:
            end += 1
        for _, _, number in fields(memoryview(b"\x08" + bytes(value[at : end + 1]))):
            if isinstance(number, int):
                found.append(_signed(number))
        at = end + 1
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _tensor(part: memoryview) -> tuple[str, npt.NDArray[np.generic]]:
    dims: list[int] = []
    name, kind, raw = "", 0, None
    for number, _, value in fields(part):
        if number == 1:
            dims.extend(_numbers(value))
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 8 and not isinstance(value, int):
            name = bytes(value).decode()
        elif number == 9 and not isinstance(value, int):
            raw = value
    if raw is None or kind not in _TYPES:
        raise ValueError(f"tensor {name!r} is not kept as raw float32, float16 or int64")
    return name, np.frombuffer(raw, _TYPES[kind]).reshape(dims)
