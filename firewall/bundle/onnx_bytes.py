"""What an ONNX file holds, read from its bytes without the `onnx` package.

Two questions are answered. Does the file keep weights in other files? A runtime that is given such a file opens the
paths that it names, and no hash covers those. And in which precision does it compute? Thresholds hold only for the
precision that they were set with.

ONNX is protobuf. Only the few fields that answer the questions are followed; field numbers are those of onnx.proto
(IR version 3 to 13).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from firewall.errors import BundleError

__all__ = ["PRECISIONS", "Precision", "fields", "has_external_data", "is_classical", "precision_of"]

#: What a network computes in.
Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_DEEPEST = 64  # subgraphs of If and Loop lie in each other; no real network comes near

#: Message -> field -> message that it holds.
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # fields of a tensor

_QUANTISING = (b"QuantizeLinear", b"DequantizeLinear", b"DynamicQuantizeLinear")
_INTEGER = frozenset((*_QUANTISING, b"QLinearConv", b"QLinearMatMul", b"ConvInteger", b"MatMulInteger"))
# ModelProto.graph, GraphProto.node and .initializer, NodeProto.op_type, TensorProto.data_type; the number of FLOAT16.
_GRAPH, _NODE, _INITIALIZER, _OPERATOR, _TYPE, _FLOAT16 = 7, 1, 5, 4, 2, 10
# NodeProto.domain, and the domain of trees, support vectors and the like.
_DOMAIN, _CLASSICAL = 7, b"ai.onnx.ml"


def has_external_data(content: bytes, what: str) -> bool:
    """Whether any tensor of an ONNX file lies in another file.

    Args:
        content: The whole file.
        what: The file's name, for the message.

    Returns:
        True if at least one tensor lies elsewhere.

    Raises:
        BundleError: If the bytes can't be read to the end as protobuf. Such a file is never run.
    """
    waiting = [("model", memoryview(content), 0)]
    try:
        while waiting:
            message, part, depth = waiting.pop()
            if depth > _DEEPEST:
                raise ValueError("it nests too deep")
            for field, kind, value in fields(part):
                if message == "tensor":
                    if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0):
                        return True
                elif field in _PATHS[message]:
                    if kind != _BYTES or isinstance(value, int):
                        raise ValueError(f"field {field} of a {message} is no message")
                    waiting.append((_PATHS[message][field], value, depth + 1))
    except (ValueError, IndexError) as error:
        raise _unreadable(what, error) from error
    return False


def precision_of(content: bytes, what: str) -> Precision:
    """The precision that an ONNX file computes in.

    Args:
        content: The whole file.
        what: The file's name, for the message.

    Returns:
        int8 if any node quantises or computes in integers, fp16 if any weight is stored in float16, else fp32.

    Raises:
        BundleError: If the bytes can't be read as protobuf.
    """
    found: Precision = "fp32"
    try:
        for field, _, graph in fields(memoryview(content)):
            if field != _GRAPH or isinstance(graph, int):
                continue
            for number, _, part in fields(graph):
                if number not in (_NODE, _INITIALIZER) or isinstance(part, int):
                    continue
                for name, _, value in fields(part):
                    if number == _NODE and name == _OPERATOR and not isinstance(value, int):
                        if bytes(value) in _INTEGER:
                            return "int8"
                    elif number == _INITIALIZER and name == _TYPE and value == _FLOAT16:
                        found = "fp16"
    except (ValueError, IndexError) as error:
        raise _unreadable(what, error) from error
    return found


def is_classical(content: bytes, what: str) -> bool:
    """Whether an ONNX file has nodes of classical machine learning (trees, support vectors): neither TensorRT nor ONNX
    Runtime's CUDA provider has code for those.

    Args:
        content: The whole file.
        what: The file's name, for the message.

    Raises:
        BundleError: If the bytes can't be read as protobuf.
    """
    try:
        return any(
            bytes(domain) == _CLASSICAL
            for graph in _parts(memoryview(content), _GRAPH)
            for node in _parts(graph, _NODE)
            for domain in _parts(node, _DOMAIN)
        )
    except (ValueError, IndexError) as error:
        raise _unreadable(what, error) from error


def _parts(message: memoryview, number: int) -> Iterator[memoryview]:
    """The values of a field of bytes."""
    for field, _, value in fields(message):
        if field == number and not isinstance(value, int):
            yield value


def _unreadable(what: str, error: Exception) -> BundleError:
    return BundleError(f"{what} is not a readable ONNX file ({error}); it is not used: export it again")


def fields(part: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(field number, wire type, value) of each field of a protobuf message; ValueError or IndexError if it is none."""
    at = 0
    while at < len(part):
        key, at = _varint(part, at)
        field, kind = key >> 3, key & 7
        if not 0 < key < 1 << 32 or field == 0:  # other readers may cut a longer number down to one that they know
            raise ValueError(f"field {field}")
        value: int | memoryview
        if kind == _VARINT:
            value, at = _varint(part, at)
        else:
            if kind == _BYTES:
                length, at = _varint(part, at)
            elif kind in (_FIXED64, _FIXED32):
                length = 8 if kind == _FIXED64 else 4
            else:
                raise ValueError(f"wire type {kind}")
            if length > len(part) - at:
                raise ValueError("it is cut off")
            value, at = part[at : at + length], at + length
        yield field, kind, value


def _varint(part: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = part[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
