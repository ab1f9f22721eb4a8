from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto

from firewall.config import RegionDetectorSettings
from firewall.errors import EngineError, UsageError
from firewall.regions.onnx_boxes import OnnxBoxes
from tests.regions.detector_graphs import SIGN, dense, listed, save, scene, split, ultralytics

#: Anchors of a picture of 320 x 320: one a cell at strides 8, 16 and 32, and YOLOv5's three.
GRID, THREE = 2100, 6300
FREE = ("batch", 3, "height", "width")
TF = {
    "boxes": "detection_boxes",
    "scores": "detection_scores",
    "labels": "detection_classes",
    "count": "num_detections",
}
ZOO = {role: f"{name}:0" for role, name in TF.items()}
TORCHVISION = {"boxes": "boxes", "scores": "scores", "labels": "labels"}
DETR = {"boxes": "pred_boxes", "scores": "pred_logits"}
NAS = {"boxes": "pred_boxes", "scores": "pred_scores", "labels": "pred_classes", "count": "num_predictions"}


def among(head: Any, others: dict[str, tuple[int, ...]]) -> Any:
    """The outputs of `head` after others, of zeros, as graphs have them that show more than is needed."""

    def more(d: Any, red: Any) -> Any:
        rest = []
        for name, shape in others.items():
            d.op("Mul", red.any, d.const(np.zeros(shape)), out=name)
            rest.append((name, TensorProto.FLOAT, list(shape)))
        return [*rest, *head(d, red)]

    return more


Make = Callable[[Path], Path]


def graph(head: Any, **options: Any) -> Make:
    return lambda folder: save(folder / "net.onnx", head, **options)


def found(file: Path, pixels: np.ndarray | None = None, **settings: Any) -> list[tuple[int, int, int, int]]:
    """What a detector finds in the scene, nobody being told anything."""
    finder = OnnxBoxes(RegionDetectorSettings(file=file, **settings), threads=1, tell=lambda line: None)
    return finder.find(scene() if pixels is None else pixels)


def near(regions: list[tuple[int, int, int, int]], sign: tuple[int, int, int, int] = SIGN) -> bool:
    """One region, within two pixels of the sign on each side."""
    ends = [(x, y, x + w, y + h) for x, y, w, h in (*regions, sign)]
    return len(regions) == 1 and max(abs(a - b) for a, b in zip(ends[0], ends[1], strict=True)) <= 2


AS_EXPORTED: dict[str, Make] = {
    "yolov5 7.0": graph(
        dense(rows=THREE, classes=3, objectness=True),
        metadata={"stride": "32", "names": "['stop sign', 'car', 'give way']"},
    ),
    "yolov5 7.0, no metadata": graph(dense(rows=THREE, classes=3, objectness=True)),
    "yolov5 7.0, free": graph(
        dense(rows=25200, classes=3, objectness=True, known=False), shape=FREE, metadata={"stride": "32"}
    ),
    "yolov5 7.0, one class": graph(dense(rows=THREE, classes=1, objectness=True)),
    "yolov8": graph(dense(rows=GRID, classes=3, transposed=True), metadata=ultralytics()),
    "yolov8, no metadata": graph(dense(rows=GRID, classes=3, transposed=True)),
    "yolov8, one class": graph(dense(rows=GRID, classes=1, transposed=True), metadata=ultralytics(1)),
    "yolov8, free": graph(
        dense(rows=GRID, classes=3, transposed=True, known=False), shape=FREE, metadata=ultralytics()
    ),
    "yolov8, not square": graph(
        dense(rows=1260, classes=3, transposed=True),
        shape=(1, 3, 192, 320),
        metadata=ultralytics(imgsz="[192, 320]"),
    ),
    "yolov8, half": graph(
        dense(rows=GRID, classes=3, transposed=True, half=True), dtype="float16", metadata=ultralytics()
    ),
    "yolov8, batch of four": graph(
        dense(rows=GRID, classes=3, transposed=True, batch=4), shape=(4, 3, 320, 320), metadata=ultralytics()
    ),
    "yolov8, boxes in 0..1": graph(
        dense(rows=GRID, classes=3, transposed=True, coordinates="unit"), metadata=ultralytics()
    ),
    "yolov8, turned round": graph(dense(rows=GRID, classes=3), metadata=ultralytics()),
    "yolov8, more classes than anchors": graph(
        dense(rows=525, classes=600, transposed=True), shape=(1, 3, 160, 160), metadata=ultralytics(600, 160)
    ),
    "yolov8 of COCO, channels last": graph(
        dense(rows=GRID, classes=80, transposed=True), shape=(1, 320, 320, 3), metadata=ultralytics(80)
    ),
    "yolo11 pose": graph(
        dense(rows=GRID, classes=3, transposed=True, extra=51),
        metadata=ultralytics(task="pose", kpt_shape="[17, 3]"),
    ),
    "yolo11 segmentation": graph(
        among(dense(rows=GRID, classes=3, transposed=True, extra=32), {"output1": (1, 32, 80, 80)}),
        metadata=ultralytics(task="segment"),
    ),
    "yolov5 segmentation": graph(
        among(dense(rows=THREE, classes=3, objectness=True, extra=32), {"output1": (1, 32, 80, 80)}),
        metadata={"stride": "32", "names": "['stop sign', 'car', 'give way']"},
    ),
    "yolov5 with its raw maps": graph(
        among(dense(rows=THREE, classes=3, objectness=True), {"a": (1, 3, 40, 40, 8), "b": (1, 3, 20, 20, 8)})
    ),
    "yolov4 of darknet": graph(
        split({"boxes": "boxes", "scores": "confs"}, rows=50, coordinates="unit", classes=80, middle=True)
    ),
    "TensorFlow 2 with raw boxes": graph(
        among(
            split(TF, form="corners-yx", coordinates="unit", label_type=TensorProto.FLOAT),
            {
                "detection_anchor_indices": (1, 20),
                "detection_multiclass_scores": (1, 20, 91),
                "raw_detection_boxes": (1, 500, 4),
                "raw_detection_scores": (1, 500, 91),
            },
        ),
        shape=(1, "height", "width", 3),
        dtype="uint8",
    ),
    "yolov6": graph(dense(rows=GRID, classes=80, objectness=True)),
    "yolov10": graph(listed(["box", "score", "label"]), metadata=ultralytics(end2end="True")),
    "yolov10, no metadata": graph(listed(["box", "score", "label"])),
    "yolov10, classes": graph(listed(["box", "score", "label"], label=2.0), metadata=ultralytics(end2end="True")),
    "yolo26 pose, end to end": graph(
        listed(["box", "score", "label", *["point"] * 51]),
        metadata=ultralytics(task="pose", kpt_shape="[17, 3]", end2end="True"),
    ),
    "yolov8 with nms=True": graph(listed(["box", "score", "label"], free=True), metadata=ultralytics(nms="True")),
    "rtdetr 8.3": graph(dense(rows=300, classes=80, coordinates="unit"), metadata=ultralytics(80, end2end="False")),
    "rtdetr 8.4": graph(
        listed(["box", "score", "label"], form="centre", coordinates="unit", fill=(0.5, 0.9, 0.1, 0.1, 0.01, 2)),
        metadata=ultralytics(80, head="RTDETRDecoder", end2end="False"),
    ),
    "rtdetr 8.4, no metadata": graph(
        listed(["box", "score", "label"], form="centre", coordinates="unit", fill=(0.5, 0.9, 0.1, 0.1, 0.01, 2))
    ),
    "rtdetr 8.3, two classes, no metadata": graph(
        listed(["box", "score", "score"], form="centre", coordinates="unit", fill=(0.5, 0.9, 0.1, 0.1, 0.01, 0.02))
    ),
    "rtdetr, more classes than queries": graph(dense(rows=300, classes=365, coordinates="unit")),
    "yolov7, end to end": graph(listed(["picture", "box", "label", "score"], output="output", free=True, label=1.0)),
    "yolo-nas, flat": graph(listed(["picture", "box", "score", "label"], free=True, label=1.0)),
    "yolo-nas, batched": graph(split(NAS)),
    "yolo-nas, raw": graph(split({"boxes": "913", "scores": "904"}, rows=GRID, classes=4)),
    "ssd of OpenVINO": graph(
        listed(["picture", "label", "score", "box"], rows=200, lead=(1, 1), coordinates="unit", label=1.0)
    ),
    "paddle": graph(
        listed(["label", "score", "box"], rows=100, lead=(), label=1.0, fill=(-1, 0, 0, 0, 0, 0)),
        name="image",
        others=[("im_shape", TensorProto.FLOAT, [1, 2]), ("scale_factor", TensorProto.FLOAT, [1, 2])],
    ),
    "mobilenet ssd of TensorFlow": graph(
        split(ZOO, form="corners-yx", coordinates="unit", label_type=TensorProto.FLOAT),
        shape=("batch", "height", "width", 3),
        dtype="uint8",
        name="image_tensor:0",
    ),
    "TensorFlow, fixed": graph(
        split(TF, form="corners-yx", coordinates="unit", label_type=TensorProto.FLOAT),
        shape=(1, 320, 320, 3),
        dtype="uint8",
    ),
    "torchvision faster r-cnn": graph(
        split(TORCHVISION, lead=False, order=("boxes", "labels", "scores")), shape=(3, 320, 480)
    ),
    "torchvision ssd": graph(split(TORCHVISION, lead=False), shape=(3, 320, 320)),
    "torchvision, free": graph(split(TORCHVISION, lead=False), shape=(3, "height", "width")),
    "ssd of the zoo": graph(
        split({"boxes": "bboxes", "scores": "scores", "labels": "labels"}, coordinates="unit"),
        shape=(1, 3, 300, 300),
    ),
    "pytorch-ssd, class 0 is nothing": graph(
        split({"boxes": "boxes", "scores": "scores"}, rows=300, coordinates="unit", classes=4, background="first"),
        shape=(1, 3, 300, 300),
    ),
    "detr": graph(
        split(DETR, rows=100, form="centre", coordinates="unit", classes=92, logits=5.0), shape=(1, 3, 320, 480)
    ),
    "rtdetr of transformers": graph(
        split(
            {"boxes": "pred_boxes", "scores": "logits"},
            rows=300,
            form="centre",
            coordinates="unit",
            classes=80,
            logits=-5.0,
        ),
        name="pixel_values",
    ),
    "rf-detr": graph(
        split(
            {"boxes": "dets", "scores": "labels"}, rows=300, form="centre", coordinates="unit", classes=91, logits=-5.0
        ),
        name="input",
    ),
    "d-fine": graph(
        split(TORCHVISION, rows=300, order=("labels", "boxes", "scores")),
        others=[("orig_target_sizes", TensorProto.INT64, [1, 2])],
    ),
    "transformers with a mask": graph(
        split(
            {"boxes": "pred_boxes", "scores": "logits"},
            rows=100,
            form="centre",
            coordinates="unit",
            classes=92,
            logits=5.0,
        ),
        name="pixel_values",
        others=[("pixel_mask", TensorProto.INT64, ["batch", "height", "width"])],
    ),
    "nobody's, corners in 0..1": graph(split({"boxes": "b", "scores": "s"}, coordinates="unit")),
    "nobody's, centre in pixels": graph(split({"boxes": "b", "scores": "s"}, form="centre")),
}


@pytest.mark.parametrize("name", AS_EXPORTED)
def test_the_same_sign_is_found_through_every_layout(tmp_path: Path, name: str) -> None:
    """As it comes from its exporter, with no setting but the file, each network boxes the sign within two pixels."""
    regions = found(AS_EXPORTED[name](tmp_path))
    assert near(regions), regions


NAMED: dict[str, tuple[Make, dict[str, Any]]] = {
    "layout": (graph(dense(rows=GRID, classes=5)), {"layout": "yolov8"}),
    "layout with objectness": (graph(dense(rows=GRID, classes=5, objectness=True)), {"layout": "yolov5"}),
    "left, top and size": (graph(split(TORCHVISION, form="top-left")), {"format": "top-left"}),
    "y before x": (graph(split(TORCHVISION, form="corners-yx")), {"format": "corners-yx"}),
    "y before x, 0..1": (
        graph(split(TORCHVISION, form="corners-yx", coordinates="unit"), shape=(1, 3, 320, 640)),
        {"format": "corners-yx", "coordinates": "unit"},
    ),
    "0..255": (graph(split(TORCHVISION), full=255), {"range": 255}),
    "blue first": (graph(split(TORCHVISION), bgr=True), {"channels": "bgr"}),
    "mean and std": (
        graph(split(TORCHVISION), full=0.5),
        {"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]},
    ),
    "letterboxed": (graph(split(TORCHVISION)), {"letterbox": True}),
    "stretched": (graph(dense(rows=GRID, classes=3, transposed=True)), {"letterbox": False}),
    "size": (graph(split(TORCHVISION), shape=FREE), {"size": [256, 448]}),
    "axes": (graph(split(TORCHVISION), shape=(1, "height", "width", 3)), {"axes": "nhwc", "size": 320}),
    "outputs": (
        graph(split({"boxes": "a", "scores": "b", "labels": "c"}, label_type=TensorProto.FLOAT)),
        {"boxes": "a", "scores": "b", "labels": "c"},
    ),
    "outputs of TensorFlow without their names": (
        graph(
            among(
                split(
                    {"boxes": "Call:1", "scores": "Call:4", "labels": "Call:2"},
                    form="corners-yx",
                    coordinates="unit",
                    label_type=TensorProto.FLOAT,
                ),
                {"Call:6": (1, 500, 4), "Call:7": (1, 500, 91), "Call:0": (1, 20)},
            ),
            shape=(1, "height", "width", 3),
            dtype="uint8",
        ),
        {"boxes": "Call:1", "scores": "Call:4", "labels": "Call:2", "layout": "tensorflow"},
    ),
    "softmax": (
        graph(split({"boxes": "boxes", "scores": "scores"}, rows=50, classes=4, logits=5.0)),
        {"activation": "softmax", "background": "last"},
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_can_not_be_recognised_can_be_named(tmp_path: Path, name: str) -> None:
    """With the setting that the case is called after, the sign is found within two pixels."""
    make, settings = NAMED[name]
    regions = found(make(tmp_path), **settings)
    assert near(regions), regions


@pytest.mark.parametrize(("height", "width"), [(300, 500), (1080, 1920), (500, 300), (320, 320), (64, 64)])
def test_letterbox_and_stretch_come_back_for_every_frame(tmp_path: Path, height: int, width: int) -> None:
    """Wide, tall and small frames: what is found lies where the sign is, within the size of a pixel of the input."""
    sign = (width // 3, height // 4, width // 5, height // 6)
    file = save(tmp_path / "net.onnx", dense(rows=GRID, classes=3, transposed=True), metadata=ultralytics())
    for letterbox in (True, False):
        (region,) = found(file, scene(height, width, sign), letterbox=letterbox)
        ends = np.array([region, sign], float)
        ends[:, 2:] += ends[:, :2]
        assert np.abs(ends[0] - ends[1]).max() <= 2 + max(height, width) / 320


@pytest.mark.parametrize(
    ("classes", "seen"),
    [("stop sign", True), (["Stop Sign", 1], True), ([0], True), (0, True), (["give way"], False), ([1, 2], False)],
)
def test_only_classes_that_are_signs_are_looked_at(tmp_path: Path, classes: Any, seen: bool) -> None:
    """By number or name, for layouts with a score a class and with a class number."""
    for head in (
        dense(rows=GRID, classes=3, transposed=True),
        dense(rows=THREE, classes=3, objectness=True),
        listed(["box", "score", "label"]),
    ):
        file = save(tmp_path / "net.onnx", head, metadata=ultralytics())
        assert near(found(file, classes=classes)) is seen
        assert seen or found(file, classes=classes) == []


def test_a_class_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The error lists the classes that the file names; without names it says which numbers there are."""
    file = save(tmp_path / "net.onnx", dense(rows=GRID, classes=3, transposed=True), metadata=ultralytics())
    for wanted in ("stopsign", 3, -1):
        with pytest.raises(UsageError, match=r"no class .*0 stop sign, 1 car, 2 give way"):
            found(file, classes=[wanted])
    bare = save(tmp_path / "bare.onnx", dense(rows=GRID, classes=3, transposed=True))
    with pytest.raises(UsageError, match="0 to 2"):
        found(bare, classes=["stop sign"])


REFUSED: dict[str, tuple[Make, dict[str, Any], str]] = {
    "a classifier": (
        graph(lambda d, red: [(d.op("Mul", red.any, d.const(np.zeros((1, 1000))), out="p"), 1, [1, 1000])]),
        {},
        r"p float32 \(1, 1000\).*region_detector\.layout",
    ),
    "a classifier of Ultralytics": (
        graph(dense(rows=GRID, classes=3, transposed=True), metadata=ultralytics(task="classify")),
        {},
        "task is 'classify'",
    ),
    "rotated boxes": (
        graph(dense(rows=GRID, classes=4, transposed=True), metadata=ultralytics(task="obb")),
        {},
        "task is 'obb'",
    ),
    "two readings": (graph(dense(rows=GRID, classes=5)), {}, r"5 and 4 classes or 4 and 5.*yolov5 or yolov8"),
    "no scores": (graph(split({"boxes": "boxes"})), {}, r"boxes float32 \(1, 20, 4\).*region_detector\.boxes"),
    "an unknown layout": (graph(split(TORCHVISION)), {"layout": "yolov99"}, "yolov99.*allowed: auto, yolov5"),
    "a layout that doesn't fit": (graph(split(TORCHVISION)), {"layout": "yolov8"}, "layout to one of"),
    "a fixed size": (graph(split(TORCHVISION)), {"size": 640}, "size"),
    "a mean for whole numbers": (
        graph(split(TORCHVISION), dtype="uint8"),
        {"mean": [0.5, 0.5, 0.5]},
        "leave out range, mean and std",
    ),
    "channels that may be either": (graph(split(TORCHVISION), shape=(1, "a", "b", "c")), {}, "axes"),
    "logits under another name": (
        graph(split({"boxes": "boxes", "scores": "scores"}, rows=50, classes=4, logits=5.0)),
        {},
        r"scores from .* to .*activation",
    ),
    "another input": (
        graph(split(TORCHVISION), others=[("temperature", TensorProto.FLOAT, [1])]),
        {},
        "what to give as 'temperature'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_recognised_is_one_line_with_what_was_seen(tmp_path: Path, name: str) -> None:
    """When it is opened: what the file gives or wants, and what to set."""
    make, settings, says = REFUSED[name]
    file = make(tmp_path)
    with pytest.raises((EngineError, UsageError), match=says) as caught:
        found(file, **settings)
    assert "\n" not in str(caught.value)
    assert name == "an unknown layout" or "net.onnx" in str(caught.value)
