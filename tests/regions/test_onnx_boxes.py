from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from firewall.config import RegionDetectorSettings  # noqa: E402
from firewall.errors import EngineError  # noqa: E402
from firewall.regions import build  # noqa: E402
from firewall.regions.onnx_boxes import OnnxBoxes  # noqa: E402

FRAME = np.zeros((100, 400, 3), np.uint8)
#: The detectors read 64 x 32: a pixel of theirs is 6.25 frame pixels wide and 3.125 high.
HEIGHT, WIDTH = 32, 64


def save(
    file: Path,
    boxes: Any,
    scores: Any,
    *,
    shape: tuple[Any, ...] = (1, 3, HEIGHT, WIDTH),
    dtype: int = TensorProto.FLOAT,
    names: tuple[str, str] = ("boxes", "scores"),
    second_input: bool = False,
    seeing: bool = False,
) -> RegionDetectorSettings:
    """A detector that always gives these boxes and scores; `seeing`: scores are multiplied by the mean of the red
    channel, so that it depends on the picture."""
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    constants = [numpy_helper.from_array(boxes, "b"), numpy_helper.from_array(scores, "s")]
    inputs = [helper.make_tensor_value_info("image", dtype, shape)]
    if second_input:
        inputs.append(helper.make_tensor_value_info("other", dtype, shape))
    nodes = [helper.make_node("Identity", ["b"], [names[0]])]
    if seeing:
        constants.append(numpy_helper.from_array(np.array([0]), "first"))
        nodes += [
            helper.make_node("Gather", ["image", "first"], ["red"], axis=1),
            helper.make_node("ReduceMean", ["red"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["s", "mean"], [names[1]]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["s"], [names[1]]))
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in zip(names, (boxes, scores), strict=True)
    ]
    graph = helper.make_graph(nodes, "detector", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, file)
    return RegionDetectorSettings(file=file)


def test_boxes_are_scaled_back_best_first(tmp_path: Path) -> None:
    """Boxes of the network's input become regions of the frame, in the order of their scores."""
    boxes = [[8, 8, 16, 16], [32, 16, 48, 32]]
    settings = save(tmp_path / "d.onnx", boxes, [0.6, 0.9])
    assert build("detector", settings).find(FRAME) == [(200, 50, 100, 50), (50, 25, 50, 25)]


def test_a_leading_one_is_allowed(tmp_path: Path) -> None:
    """(1, N, 4) and (1, N) mean the same as (N, 4) and (N,)."""
    settings = save(tmp_path / "d.onnx", [[[8, 8, 16, 16]]], [[0.6]])
    assert OnnxBoxes(settings).find(FRAME) == [(50, 25, 50, 25)]


def test_one_box_with_a_leading_one_is_not_four_boxes(tmp_path: Path) -> None:
    """(1, 4) is one box, not a batch."""
    settings = save(tmp_path / "d.onnx", [[8, 8, 16, 16]], [0.6])
    assert OnnxBoxes(settings).find(FRAME) == [(50, 25, 50, 25)]


def test_threshold_suppression_limit_and_edges(tmp_path: Path) -> None:
    """Below the threshold, nearly the same as a better one, turned inside out, or outside the frame: not looked at.
    What hangs over the edge is cut off. The limit keeps the best."""
    boxes = [
        [8, 8, 16, 16],
        [8, 8, 17, 16],  # nearly the first
        [40, 8, 48, 16],  # below the threshold
        [30, 20, 20, 10],  # inside out
        [100, 100, 120, 120],  # outside
        [56, 24, 80, 40],  # over the edge
    ]
    settings = save(tmp_path / "d.onnx", boxes, [0.9, 0.8, 0.49, 0.95, 0.99, 0.7])
    assert OnnxBoxes(settings).find(FRAME) == [(50, 25, 50, 25), (350, 75, 50, 25)]
    assert OnnxBoxes(settings, limit=1).find(FRAME) == [(50, 25, 50, 25)]
    all_seen = settings.model_copy(update={"threshold": 0.4})
    assert len(OnnxBoxes(all_seen).find(FRAME)) == 3


def test_it_reads_rgb_from_0_to_1(tmp_path: Path) -> None:
    """The score follows the mean of the first channel: full red is 1, half red 0.5, blue 0."""
    settings = save(tmp_path / "d.onnx", [[8, 8, 16, 16]], [0.99], seeing=True)
    finder = OnnxBoxes(settings.model_copy(update={"threshold": 0.45}))
    red, dim, blue = FRAME.copy(), FRAME.copy(), FRAME.copy()
    red[..., 0], dim[..., 0], blue[..., 2] = 255, 110, 255
    assert finder.find(red) == [(50, 25, 50, 25)]
    assert finder.find(dim) == [] and finder.find(blue) == []


def test_no_boxes_is_no_region(tmp_path: Path) -> None:
    """A detector that gives nothing is fine, and a 1x1 frame has no region."""
    assert OnnxBoxes(save(tmp_path / "n.onnx", np.zeros((0, 4)), np.zeros(0))).find(FRAME) == []
    full = save(tmp_path / "d.onnx", [[0, 0, 64, 32]], [0.9])
    assert OnnxBoxes(full).find(np.zeros((1, 1, 3), np.uint8)) == []


def test_outputs_go_by_name_or_shape(tmp_path: Path) -> None:
    """Other names are recognised by shape or given in the settings; a name that isn't there is an error that lists
    what is."""
    settings = save(tmp_path / "d.onnx", [[8, 8, 16, 16]], [0.6], names=("dets", "conf"))
    named = settings.model_copy(update={"boxes": "dets", "scores": "conf"})
    assert OnnxBoxes(named).find(FRAME) == OnnxBoxes(settings).find(FRAME) == [(50, 25, 50, 25)]
    with pytest.raises(EngineError, match=r"'boxes'.*dets, conf"):
        OnnxBoxes(settings.model_copy(update={"boxes": "boxes"}))


@pytest.mark.parametrize(
    ("boxes", "scores", "says"),
    [
        ([[1, 2, 3]], [0.5], r"\(1, 3\).*layout"),
        ([[1, 2, 3, 4]], [0.5, 0.6], r"\(2,\).*layout"),
        ([1, 2, 3, 4], [0.5], r"\(4,\).*layout"),
        ([[[1, 2, 3, 4]], [[1, 2, 3, 4]]], [[0.5], [0.5]], r"\(2, 1, 4\).*layout"),
        ([[1, 2, np.nan, 4]], [0.5], "finite"),
        ([[1, 2, 3, 4]], [np.inf], "finite"),
        ([[1, 2, 3, 4]], [7.5], "0 to 1"),
        ([[1, 2, 3, 4]], [-3.0], "0 to 1"),
    ],
)
def test_other_outputs_are_refused_at_the_start(tmp_path: Path, boxes: Any, scores: Any, says: str) -> None:
    """Shapes, numbers that are not finite and scores that are no confidence: an EngineError of one line."""
    settings = save(tmp_path / "d.onnx", boxes, scores)
    with pytest.raises(EngineError, match=says) as caught:
        OnnxBoxes(settings)
    assert "\n" not in str(caught.value) and "d.onnx" in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"shape": (1, 1, 32, 64)},
        {"shape": (65, 3, 32, 64)},
        {"shape": (1, 3, 32, 9000)},
        {"shape": (32, 64)},
        {"shape": (1, 3, 8, 32, 64)},
        {"dtype": TensorProto.STRING},
        {"dtype": TensorProto.BOOL},
        {"second_input": True},
    ],
)
def test_other_inputs_are_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    """Anything but one picture of three channels is an EngineError that shows the inputs."""
    settings = save(tmp_path / "d.onnx", [[8, 8, 16, 16]], [0.6], **changed)
    with pytest.raises(EngineError, match=r"has the inputs image") as caught:
        OnnxBoxes(settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello, this is not a network\n" * 50, b"\x00" * 200])
def test_a_file_that_is_not_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    """An empty file, text and zeros: an EngineError of one line that names the file."""
    file = tmp_path / "d.onnx"
    file.write_bytes(content)
    with pytest.raises(EngineError, match=r"d\.onnx") as caught:
        OnnxBoxes(RegionDetectorSettings(file=file))
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path) -> None:
    """What isn't a file says so."""
    for file in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(EngineError, match="not there"):
            OnnxBoxes(RegionDetectorSettings(file=file))
