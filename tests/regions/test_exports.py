"""What real exporters write, noted in `exports.json`: names, shapes, types, metadata of graphs with untrained weights.

Noted with ultralytics 8.4.190, yolov5 7.0.14 (its network, exported with the arguments and the metadata of its
export.py) and torchvision 0.28.0; `expected` is what was recognised in the real file, which also went through frames.
Here a small graph that boxes what is red stands in the place of each, with the same signature to the letter.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from firewall.config import RegionDetectorSettings  # noqa: E402
from firewall.errors import EngineError  # noqa: E402
from firewall.host.onnxruntime import ort  # noqa: E402
from firewall.regions.onnx_boxes import OnnxBoxes  # noqa: E402
from tests.regions.detector_graphs import SIGN, dense, listed, save, scene, split  # noqa: E402
from tests.regions.test_layouts import TORCHVISION, among, near  # noqa: E402

EXPORTS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "exports.json").read_text(encoding="utf-8"))
_TYPES = {"float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}


def called(export: dict[str, Any]) -> str:
    options = ",".join(f"{key}={value}" for key, value in export["options"].items())
    return f"{export['package']} {export['network']} {options}".strip()


def metadata(export: dict[str, Any]) -> dict[str, str]:
    """As it stands in the file; names of untrained networks are numbers."""
    found: dict[str, str] = dict(export["metadata"])
    if "names" in export:
        kind, count = export["names"]
        names = [str(number) for number in range(count)]
        found["names"] = str(names if kind == "list" else dict(enumerate(names)))
    return found


def head(export: dict[str, Any]) -> Any:
    """Outputs of the shapes that stand in the file, or that the real file gives where they are free."""
    shape = export["outputs"][0][2]
    sides = [side if isinstance(side, int) else 0 for side in shape]
    layout = export["expected"].get("layout", "yolov8")
    if layout == "boxes":
        return split(TORCHVISION, lead=False)
    if layout == "end2end":
        return listed(["box", "score", "label"])
    if layout == "rtdetr" and len(export["outputs"]) == 1 and sides[2] in (0, 6):
        return listed(["box", "score", "label"], form="centre", coordinates="unit", fill=(0.5, 0.9, 0.1, 0.1, 0.01, 2))
    if layout == "yolov5":
        return dense(rows=sides[1] or 25200, classes=80, objectness=True)
    if len(shape) == 2:  # a classifier
        return lambda d, red: [(d.op("Mul", red.any, d.const(np.zeros((1, shape[1]))), out="output0"), 1, shape)]
    extra = max(0, (sides[1] or 84) - 84)
    made = dense(rows=sides[2] or 8400, classes=80, transposed=True, extra=extra, batch=sides[0] or 1)
    return among(made, {name: tuple(other) for name, _, other in export["outputs"][1:]})


def graph(folder: Path, export: dict[str, Any]) -> Path:
    """A small graph with the signature of the export."""
    ((name, kind, shape),) = export["inputs"]
    dtype = {"float": "float32", "float16": "float16"}[kind]
    file = save(folder / "net.onnx", head(export), shape=shape, dtype=dtype, name=name, metadata=metadata(export))
    model = onnx.load(file)
    lengths = {
        entry.name: [side.dim_value for side in entry.type.tensor_type.shape.dim] for entry in model.graph.output
    }
    del model.graph.output[:]
    for entry in export["outputs"]:
        for axis, side in enumerate(entry[2]):
            if isinstance(side, str):
                set_free(model.graph, entry[0], axis, lengths[entry[0]][axis], name)
        model.graph.output.append(helper.make_tensor_value_info(entry[0], _TYPES[entry[1]], entry[2]))
    onnx.save(model, file)
    return file


def set_free(graph: Any, output: str, axis: int, length: int, picture: str) -> None:
    """Keep a runtime from finding out a side's length: all of it is taken, by a choice that only the picture makes."""
    for node in graph.node:
        node.output[:] = [f"{name}_{axis}" if name == output else name for name in node.output]
    ones = f"{output}_ones{axis}"
    graph.initializer.append(numpy_helper.from_array(np.ones(length, np.float32), ones))
    least, none, some, choice = (f"{output}_{part}{axis}" for part in ("least", "none", "some", "choice"))
    graph.node.extend(
        [
            helper.make_node("ReduceMin", [picture], [least], keepdims=0),
            helper.make_node("Sub", [least, least], [none]),
            helper.make_node("Add", [none, ones], [some]),
            helper.make_node("Cast", [some], [choice], to=TensorProto.BOOL),
            helper.make_node("Compress", [f"{output}_{axis}", choice], [output], axis=axis),
        ]
    )


@pytest.mark.parametrize("export", EXPORTS, ids=called)
def test_each_export_is_read_as_it_was_noted(tmp_path: Path, export: dict[str, Any]) -> None:
    """The signature is the noted one; layout, size, classes and letterbox are those of the real file, and the sign is
    boxed within two pixels; or one line says what was seen."""
    file = graph(tmp_path, export)
    session = ort.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    for noted, entries in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        assert sorted([entry.name, entry.type[7:-1], entry.shape] for entry in entries) == sorted(export[noted])
    assert dict(session.get_modelmeta().custom_metadata_map) == metadata(export)
    settings, expected = RegionDetectorSettings(file=file), export["expected"]
    if "refused" in expected:
        with pytest.raises(EngineError) as caught:
            OnnxBoxes(settings, threads=1, tell=lambda line: None)
        assert str(caught.value).endswith(expected["refused"])
        return
    finder = OnnxBoxes(settings, threads=1, tell=lambda line: None)
    assert finder._plan.layout.name == expected["layout"] and finder._letterbox is expected["letterbox"]
    assert [finder._input.height, finder._input.width] == expected["input"]
    assert finder._plan.classes == expected["classes"]
    regions = finder.find(scene())
    assert near(regions, SIGN), regions
    assert finder.find(np.full((300, 500, 3), 90, np.uint8)) == []
