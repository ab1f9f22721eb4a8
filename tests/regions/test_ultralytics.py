"""The real exporter, where it is installed (pip install ultralytics, in an environment of its own). No dependency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firewall.config import RegionDetectorSettings
from firewall.regions.onnx_boxes import OnnxBoxes

pytestmark = pytest.mark.slow

EXPORTS: list[tuple[str, dict[str, Any], str, bool]] = [
    ("yolov5n.yaml", {}, "yolov8", True),  # ultralytics gives YOLOv5 the head of YOLOv8
    ("yolov8n.yaml", {}, "yolov8", True),
    ("yolov8n.yaml", {"dynamic": True}, "yolov8", True),
    ("yolo11n.yaml", {"imgsz": (384, 640)}, "yolov8", True),
    ("yolo11n-seg.yaml", {}, "yolov8", True),
    ("yolo11n-pose.yaml", {}, "yolov8", True),
    ("yolov10n.yaml", {"nms": False}, "end2end", True),
    ("rtdetr-resnet50.yaml", {}, "rtdetr", False),
]


@pytest.mark.parametrize(("network", "options", "layout", "letterbox"), EXPORTS)
def test_an_export_by_ultralytics_itself_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, options: dict[str, Any], layout: str, letterbox: bool
) -> None:
    """Untrained weights: the layout and the classes are read, frames are gone through, and one network's letterbox is
    the exporter's own to the pixel."""
    ultralytics = pytest.importorskip("ultralytics", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    model = (ultralytics.RTDETR if "rtdetr" in network else ultralytics.YOLO)(network)
    file = Path(model.export(format="onnx", simplify=False, **{"imgsz": 640, **options}))
    settings = RegionDetectorSettings(file=file, classes=[0, 1])
    finder = OnnxBoxes(settings, threads=1, tell=lambda line: None)
    assert finder._plan.layout.name == layout and finder._letterbox is letterbox
    assert len(finder._graph.names) == 80 or "pose" in network
    noise = np.random.default_rng(1).integers(0, 256, (480, 900, 3), dtype=np.uint8)
    for pixels in (noise, np.zeros((300, 200, 3), np.uint8)):
        finder.find(pixels)
    if letterbox:
        from ultralytics.data.augment import LetterBox

        from firewall.regions.letterbox import place

        high, wide = finder._input.height, finder._input.width
        placed, _ = place(noise, high, wide, letterbox=True)
        assert np.array_equal(placed, LetterBox((high, wide), auto=False)(image=noise))
