"""Does an ONNX file keep weights in other files? Answered from its bytes, without the `onnx` package.

A runtime that is handed such a file opens the paths that it names, and nothing has hashed those. ONNX is protobuf, and
only the few fields that can lead to a tensor are followed; field numbers are those of onnx.proto (IR version 3 to 13).
"""

from __future__ import annotations

from collections.abc import Iterator

from firewall.errors import BundleError

__all__ = ["has_external_data", "message_fields"]

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


def has_external_data(content: bytes, what: str) -> bool:
    """True if any tensor of the ONNX file `content` lies elsewhere. what: names it in errors.

    Raises BundleError if the bytes are not protobuf that can be read to the end: what can't be read isn't run.
    """
    waiting = [("model", memoryview(content), 0)]
    try:
        while waiting:
            message, part, depth = waiting.pop()
            if depth > _DEEPEST:
                raise ValueError("it nests too deep")
            for field, kind, value in message_fields(part):
                if message == "tensor":
                    if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0):
                        return True
                elif field in _PATHS[message]:
                    if kind != _BYTES or isinstance(value, int):
                        raise ValueError(f"field {field} of a {message} is no message")
                    waiting.append((_PATHS[message][field], value, depth + 1))
    except (ValueError, IndexError) as error:
        raise BundleError(f"{what} is not a readable ONNX file ({error}); it is not used: export it anew") from error
    return False


def message_fields(part: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
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
