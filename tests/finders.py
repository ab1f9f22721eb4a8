"""A small network that stands for a sign finder: what is pure red is a sign, 24 pixels wide and 40 high."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from firewall.bundle import Bundle, FinderSpec, load_bundle
from firewall.lab.calibration.bundling import rewritten

__all__ = ["HIGH", "SPEC", "WIDE", "bundle_with_finder", "finder_folder", "red_finder", "street"]

#: Sides of every box that it gives, in pixels.
WIDE, HIGH = 24, 40
SPEC = FinderSpec(file="finder.onnx", threshold=0.5)


def red_finder(bias: float = -10.0, weight: float = 20.0, *, channels: int = 5) -> bytes:
    """An ONNX network (N, 3, H, W) -> (N, channels, H / 8, W / 8): score weight * (red - green) / 255 + bias."""
    kernel = np.zeros((channels, 3, 1, 1), np.float32)
    kernel[0, :2, 0, 0] = weight / 255, -weight / 255
    offsets = np.zeros(channels, np.float32)
    offsets[:5] = [bias, *np.log([WIDE / 16, HIGH / 16, WIDE / 16, HIGH / 16])][:channels]
    nodes = [
        helper.make_node("AveragePool", ["image"], ["means"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Conv", ["means", "kernel", "offsets"], ["map"], name="conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "finder",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", channels, "h", "w"])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(offsets, "offsets")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def street(height: int, width: int, places: Sequence[tuple[int, int]] = ()) -> np.ndarray:
    """A grey frame with red squares of 8 x 8 pixels whose corners are `places`, x and y, multiples of 8."""
    frame = np.full((height, width, 3), 90, np.uint8)
    for x, y in places:
        frame[y : y + 8, x : x + 8] = (255, 0, 0)
    return frame


def bundle_with_finder(out: Path, **changes: Any) -> Bundle:
    """The default bundle with this finder."""
    spec = SPEC.model_copy(update=changes)
    return rewritten(load_bundle(), out, {spec.file: red_finder()}, finder=spec)


def finder_folder(path: Path, content: bytes | None = None, **about: Any) -> Path:
    """The folder of such a finder, as `firewall lab train finder` leaves one."""
    content = red_finder() if content is None else content
    path.mkdir(parents=True)
    (path / "finder.onnx").write_bytes(content)
    facts = {"file": "finder.onnx", "stride": 8, "multiple": 32, "threshold": 0.5, **about}
    card = {"finder": facts, "sha256": hashlib.sha256(content).hexdigest()}
    (path / "card.json").write_text(json.dumps(card))
    return path
