"""Small networks that something can be proved of, and bundles with them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from firewall.bundle import Bundle
from firewall.bundle.manifest import FileSpec
from firewall.bundle.values import VALUES_FILE, VALUES_NETWORK, ValuesSpec

__all__ = ["SIDE", "chain", "file_of", "shallow", "with_network"]

#: Of their input, in pixels.
SIDE = 8


def file_of(nodes: Sequence[Any], constants: Mapping[str, Any], outputs: Mapping[str, int]) -> bytes:
    """An ONNX file of nodes from "image" (N, 3, SIDE, SIDE) to outputs (N, width)."""
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", width]) for name, width in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def chain(classes: int, seed: int = 0, *, label: int | None = None, spread: float = 1.0) -> bytes:
    """Two convolutions (one uneven), two linear layers (one not transposed), weights drawn at random.

    Args:
        classes: How many.
        seed: Of the weights.
        label: The class whose bias is 5; None: none.
        spread: What the weights are multiplied with.
    """
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> Any:
        scale = spread * 2 * float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 else 0.1
        return (random.normal(size=shape) * scale).astype(np.float32)

    bias = drawn(classes)
    if label is not None:
        bias[label] = 5
    constants = {
        "w1": drawn(4, 3, 3, 3),
        "b1": drawn(4),
        "w2": drawn(6, 4, 3, 4),
        "w3": drawn(9, 6 * 4 * 5).T.copy(),
        "b3": drawn(9),
        "w4": drawn(classes, 9),
        "b4": bias,
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["x1"], strides=[1, 1], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["x1"], ["x2"]),
        helper.make_node("Conv", ["x2", "w2"], ["x3"], strides=[2, 1], pads=[1, 0, 1, 0], kernel_shape=[3, 4]),
        helper.make_node("Relu", ["x3"], ["x4"]),
        helper.make_node("Flatten", ["x4"], ["x5"]),
        helper.make_node("Gemm", ["x5", "w3", "b3"], ["x6"]),
        helper.make_node("Relu", ["x6"], ["x7"]),
        helper.make_node("Gemm", ["x7", "w4", "b4"], ["logits"], transB=1),
    ]
    return file_of(nodes, constants, {"logits": classes})


def shallow(classes: int, seed: int = 0) -> bytes:
    """Two linear layers, whose intervals stay narrow."""
    random = np.random.default_rng(seed)
    values = 3 * SIDE * SIDE
    constants = {
        "w1": (random.normal(size=(6, values)) * 2 * values**-0.5).astype(np.float32),
        "w2": random.normal(size=(classes, 6)).astype(np.float32),
        "b1": np.zeros(6, np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["image"], ["x"]),
        helper.make_node("Gemm", ["x", "w1", "b1"], ["y"], transB=1),
        helper.make_node("Relu", ["y"], ["z"]),
        helper.make_node("Gemm", ["z", "w2"], ["logits"], transB=1),
    ]
    return file_of(nodes, constants, {"logits": classes})


def with_network(bundle: Bundle, content: bytes, **changes: Any) -> Bundle:
    """A bundle in memory with this network for `--values`; changes are of values.json."""
    digest = hashlib.sha256(content).hexdigest()
    spec = ValuesSpec(file=VALUES_NETWORK, network=digest, width=SIDE, height=SIDE)
    told = spec.model_copy(update=changes).model_dump_json().encode()
    added = {VALUES_NETWORK: content, VALUES_FILE: told}
    listed = {name: FileSpec(sha256=hashlib.sha256(each).hexdigest(), bytes=len(each)) for name, each in added.items()}
    manifest = bundle.manifest.model_copy(update={"files": {**bundle.manifest.files, **listed}})
    return replace(bundle, manifest=manifest, files={**bundle.files, **added}, path=Path("b"))
