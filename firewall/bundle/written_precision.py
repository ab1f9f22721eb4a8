"""In which numbers an ONNX file computes, read from its bytes without the `onnx` package.

A bundle's thresholds hold for the precision that they were set with, so what the manifest says is compared with what
the network's file really holds.
"""

from __future__ import annotations

from typing import Literal

from firewall.bundle.external_data import message_fields
from firewall.errors import BundleError

__all__ = ["Precision", "precision_of"]

Precision = Literal["fp32", "fp16", "int8"]

_QUANTISING = (b"QuantizeLinear", b"DequantizeLinear", b"DynamicQuantizeLinear")
_INTEGER = frozenset((*_QUANTISING, b"QLinearConv", b"QLinearMatMul", b"ConvInteger", b"MatMulInteger"))
# Field numbers of onnx.proto: ModelProto.graph, GraphProto.node and .initializer, NodeProto.op_type,
# TensorProto.data_type; and the number of FLOAT16.
_GRAPH, _NODE, _INITIALIZER, _OPERATOR, _TYPE, _FLOAT16 = 7, 1, 5, 4, 2, 10


def precision_of(content: bytes, what: str) -> Precision:
    """int8 if any node quantises or computes in integers, fp16 if any weight is stored in float16, else fp32.

    what: names the file in errors. Raises BundleError if the bytes are not protobuf that can be read.
    """
    found: Precision = "fp32"
    try:
        for field, _, graph in message_fields(memoryview(content)):
            if field != _GRAPH or isinstance(graph, int):
                continue
            for number, _, part in message_fields(graph):
                if number not in (_NODE, _INITIALIZER) or isinstance(part, int):
                    continue
                for name, _, value in message_fields(part):
                    if number == _NODE and name == _OPERATOR and not isinstance(value, int):
                        if bytes(value) in _INTEGER:
                            return "int8"
                    elif number == _INITIALIZER and name == _TYPE and value == _FLOAT16:
                        found = "fp16"
    except (ValueError, IndexError) as error:
        raise BundleError(f"{what} is not a readable ONNX file ({error}); it is not used: export it anew") from error
    return found
