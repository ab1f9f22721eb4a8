"""Small networks that stand for jurors, and bundles with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from firewall.bundle import Bundle, DetectorSpec, load_bundle, write_bundle
from tests.fused_bundle import fused_bundle

__all__ = ["bundle_with", "constant_network", "juror"]


def constant_network(logits: Sequence[float], *, side: int = 16, weights: float = 0.0) -> bytes:
    """An ONNX network (N, 3, side, side) -> (N, len(logits)): these logits, plus weights * each channel's mean."""
    rows = np.full((3, len(logits)), weights, np.float32)
    constants = {"rows": rows, "bias": np.array(logits, np.float32), "shape": np.array([-1, 3], np.int64)}
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Reshape", ["pooled", "shape"], ["means"]),
        helper.make_node("Gemm", ["means", "rows", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "juror",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(logits)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def juror(name: str, *, file: str | None = None, side: int = 16, threshold: float = 0.0) -> DetectorSpec:
    """A juror's entry in a manifest."""
    parameters = {"file": file or f"{name}.onnx", "width": side, "height": side}
    return DetectorSpec(name=name, parameters=parameters, threshold=threshold)


def bundle_with(path: Path, detectors: Sequence[DetectorSpec], files: Mapping[str, bytes], **changes: Any) -> Bundle:
    """A bundle with the default one's classifier and other detectors; no fusion unless `changes` has one."""
    default = load_bundle(fused_bundle())
    manifest = default.manifest
    fields: dict[str, Any] = {
        "name": "test",
        "created": "-",
        "classifier": manifest.classifier,
        "detectors": tuple(detectors),
        "calibration": manifest.calibration,
        **changes,
    }
    own = {manifest.classifier.file: default.files[manifest.classifier.file]}
    return write_bundle(path, {**own, **files}, **fields)
