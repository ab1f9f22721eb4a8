"""Tensors of the Open Inference Protocol v2: JSON or binary on one side, numpy arrays on the other.

Binary data is little-endian, row by row; an element of BYTES is its length in 4 bytes and then itself.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DATATYPES", "Tensor", "bytes_elements", "numbers", "packed"]

Numbers = npt.NDArray[Any]

#: Name in the protocol -> numpy type, little-endian. BYTES has none.
DATATYPES: dict[str, str] = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_LONGEST_RANK = 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as it came: not yet looked at.

    Attributes:
        name: Its name.
        datatype: As the protocol writes it.
        shape: Sizes, 0 or more each.
        data: The JSON value, or the bytes of binary data.
        parameters: What was said about it.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any
    parameters: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, given: Any, data: Any) -> Tensor:
        """A tensor of JSON.

        Args:
            given: The JSON object.
            data: Its data.

        Raises:
            ValueError: In one line, if it is none.
        """
        name, datatype, shape = given.get("name"), given.get("datatype"), given.get("shape")
        parameters = given.get("parameters", {})
        if not isinstance(name, str) or not isinstance(datatype, str) or not isinstance(parameters, dict):
            raise ValueError("needs a name, a datatype and a shape; parameters are an object")
        whole = isinstance(shape, list) and all(type(size) is int and 0 <= size < 1 << 31 for size in shape)
        if not whole or not 1 <= len(shape) <= _LONGEST_RANK:
            raise ValueError(f"needs a shape of 1 to {_LONGEST_RANK} whole numbers, 0 or more")
        return cls(name, datatype, tuple(shape), data, parameters)


def numbers(tensor: Tensor) -> Numbers:
    """The array of a tensor of numbers.

    Args:
        tensor: A tensor of any datatype but BYTES.

    Returns:
        An array of its shape and datatype.

    Raises:
        ValueError: In one line: an unknown datatype, data of another length than its shape, values that its datatype
            doesn't have.
    """
    kind = DATATYPES.get(tensor.datatype)
    if kind is None:
        raise ValueError(f"is of datatype {tensor.datatype[:40]!r}; allowed are {', '.join(DATATYPES)} and BYTES")
    count, wanted = math.prod(tensor.shape), np.dtype(kind)
    if isinstance(tensor.data, bytes | memoryview):
        if len(tensor.data) != count * wanted.itemsize:
            raise ValueError(
                f"holds {len(tensor.data)} bytes, but {tensor.datatype} of shape {list(tensor.shape)} has "
                f"{count * wanted.itemsize}"
            )
        if wanted.kind == "b" and any(value > 1 for value in tensor.data):
            raise ValueError("is BOOL and holds other bytes than 0 and 1")
        return np.frombuffer(tensor.data, wanted).reshape(tensor.shape)
    values = _flat(tensor.data, tensor.shape)
    if len(values) != count:
        raise ValueError(f"holds {len(values)} values, but shape {list(tensor.shape)} has {count}")
    return _of_json(values, tensor.datatype, wanted).reshape(tensor.shape)


def _of_json(values: list[Any], name: str, wanted: np.dtype[Any]) -> Numbers:
    allowed = {"b": (bool,), "f": (int, float)}.get(wanted.kind, (int,))
    if not {type(value) for value in values} <= set(allowed):
        raise ValueError(f"holds values that are no {name}")
    try:
        if wanted.kind in "ui":
            limits = np.iinfo(wanted)
            if values and not (limits.min <= min(values) and max(values) <= limits.max):
                raise ValueError(f"holds values out of {name}'s range {limits.min}..{limits.max}")
        array = np.array(values, dtype=np.float64 if wanted.kind == "f" else wanted)
    except OverflowError:
        raise ValueError(f"holds values out of {name}'s range") from None
    if wanted.kind != "f":
        return array
    with np.errstate(over="ignore"):
        array = array.astype(wanted)
    if not np.isfinite(array).all():
        raise ValueError(f"holds values out of {name}'s range")
    return array


def bytes_elements(tensor: Tensor) -> list[bytes]:
    """The elements of a tensor of BYTES. In JSON they must be base64, and say so: its `content_type` is `base64`.

    Args:
        tensor: The tensor.

    Returns:
        Its elements.

    Raises:
        ValueError: In one line.
    """
    count = math.prod(tensor.shape)
    if isinstance(tensor.data, bytes | memoryview):
        elements = _unpacked(bytes(tensor.data))
    else:
        texts = _flat(tensor.data, tensor.shape)
        if not all(isinstance(each, str) for each in texts):
            raise ValueError("is BYTES and holds something else than strings")
        if texts and tensor.parameters.get("content_type") != "base64":
            raise ValueError(
                "is BYTES in JSON, which can hold no picture as it is: send it as binary data, or in base64 with the "
                'parameter "content_type": "base64"'
            )
        try:
            elements = [base64.b64decode(each, validate=True) for each in texts]
        except (binascii.Error, ValueError):
            raise ValueError("holds strings that are no base64") from None
    if len(elements) != count:
        raise ValueError(f"holds {len(elements)} elements, but shape {list(tensor.shape)} has {count}")
    return elements


def packed(values: Numbers | Sequence[bytes]) -> bytes:
    """Binary data of an array of a protocol's type, or of the elements of BYTES."""
    if isinstance(values, np.ndarray):
        return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return b"".join(struct.pack("<I", len(each)) + each for each in values)


def _unpacked(data: bytes) -> list[bytes]:
    elements, position = [], 0
    while position < len(data):
        start = position + 4
        position = start + int.from_bytes(data[position:start], "little")
        if start > len(data) or position > len(data):
            raise ValueError("is BYTES whose lengths don't fit its data")
        elements.append(data[start:position])
    return elements


def _flat(data: Any, shape: tuple[int, ...]) -> list[Any]:
    """The values of JSON data: flat, or nested as its shape is."""
    if not isinstance(data, list):
        raise ValueError("needs data that is an array")
    if not any(isinstance(each, list) for each in data):
        return data
    level: list[Any] = [data]
    for size in shape:
        if not all(isinstance(each, list) and len(each) == size for each in level):
            raise ValueError(f"holds data that is not nested as its shape {list(shape)}")
        level = [value for each in level for value in each]
    return level
