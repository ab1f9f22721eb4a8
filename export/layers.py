"""What a built engine really computes in, as TensorRT's engine inspector tells it.

A builder is asked for a precision; whether it took it only the engine can say. What counts are the layers that multiply
(convolutions, matrix products): each has to multiply in the precision that was written for it. The inspector's words
differ between versions ("Half", "Row major linear FP16 format", ...), and what can't be read counts as not proven.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from firewall.bundle.onnx_bytes import Precision
from firewall.errors import EngineError

__all__ = ["Layer", "check_precision", "count_types", "multiplying"]

_TYPES: dict[Precision, str] = {"fp32": "float32", "fp16": "float16", "int8": "int8"}

#: The first that fits names the type.
_WORDS = (
    ("uint8", r"uint8"),
    ("int8", r"int8"),
    ("bfloat16", r"bfloat16|bf16"),
    ("float16", r"float16|fp16|half"),
    ("float8", r"fp8"),
    ("float32", r"float32|fp32|\bfloat\b"),
)

#: Kinds of layers that multiply, as "CaskConvolution", "CaskGemmMatrixMultiply" and "correlation" are.
_PRODUCT = re.compile(r"conv|correlation|gemm|matmul|matrix_?multiply|fully_?connected|einsum", re.IGNORECASE)

#: Kinds that only move or convert what others multiply, even where they are named after those.
_MOVING = re.compile(r"reformat|no_?op|constant|shape|shuffle|cast|quantize|memcpy|slice|concat", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """A layer that multiplies.

    Attributes:
        name: Its name.
        type: What in ("float16", ...), or "unknown".
    """

    name: str
    type: str


def multiplying(information: str, products: Collection[str]) -> list[Layer]:
    """The layers of an engine that multiply, from the inspector's JSON.

    Args:
        information: The inspector's JSON.
        products: Names of the network's convolutions and matrix products before the build; a layer that was fused from
            one of them counts, whatever its kind is called.

    Raises:
        EngineError: If the JSON doesn't tell types.
    """
    try:
        content = json.loads(information)
        layers = content["Layers"]
        if not isinstance(layers, list) or not layers or not all(isinstance(layer, dict) for layer in layers):
            raise ValueError
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            "the engine inspector tells no types of layers; the precision can't be read back, so the plan isn't kept"
        ) from error
    return [
        Layer(str(layer.get("Name", "without a name")), _type(layer))
        for layer in layers
        if _multiplies(layer, products)
    ]


def count_types(layers: Sequence[Layer]) -> dict[str, int]:
    """Type -> how many layers multiply in it."""
    return dict(sorted(Counter(layer.type for layer in layers).items()))


def check_precision(layers: Sequence[Layer], precision: Precision, *, kept: Collection[str] = ()) -> None:
    """Check what the layers of an engine compute in.

    Args:
        layers: The layers that multiply.
        precision: The precision that was asked for.
        kept: Nodes that were left in float32 on purpose; layers made of them may compute in that.

    Raises:
        EngineError: Unless every layer multiplies in the precision, and there is one.
    """
    wanted = _TYPES[precision]
    if not layers:
        raise EngineError(
            f"no layer of the engine is seen to multiply, so it can't be shown to be {precision}; the plan isn't kept"
        )
    wrong = [layer for layer in layers if layer.type != wanted and not _named(layer.name, kept)]
    if wrong:
        first = ", ".join(f"{layer.name} in {layer.type}" for layer in wrong[:3])
        advice = "try fp16" if precision == "int8" else "report it with the version of TensorRT"
        if precision == "int8":
            advice += ", or leave these nodes out with --keep-float"
        raise EngineError(
            f"TensorRT built {len(wrong)} of {len(layers)} multiplying layers in another type than {wanted} ({first}); "
            f"this is no {precision} engine and isn't kept: {advice}"
        )


def _multiplies(layer: dict[str, Any], products: Collection[str]) -> bool:
    kind = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"
    if _MOVING.search(kind):
        return False
    if _PRODUCT.search(kind):
        return True
    return _named(f"{layer.get('Name', '')} {layer.get('Metadata', '')}", products)


def _named(text: str, names: Collection[str]) -> bool:
    """Whether a name stands in the text, not as a part of a longer one: "conv_1" isn't meant by "conv_12"."""
    return any(name and re.search(rf"(?<![\w./]){re.escape(name)}(?![\w./])", text) for name in names)


def _type(layer: dict[str, Any]) -> str:
    """Of the weights where they are told: they have no type of their own. Else of what is read first."""
    weights = layer.get("Weights")
    if isinstance(weights, dict) and weights.get("Count", 1) and _word(weights.get("Type", "")) != "unknown":
        return _word(weights["Type"])
    reads = layer.get("Inputs")
    if isinstance(reads, list) and reads and isinstance(reads[0], dict):
        return _word(reads[0].get("Format/Datatype", ""))
    return "unknown"


def _word(text: object) -> str:
    return next((name for name, words in _WORDS if re.search(words, str(text), re.IGNORECASE)), "unknown")
