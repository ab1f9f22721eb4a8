from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from firewall.config import RegionDetectorSettings
from firewall.engines.sessions import PROVIDERS
from firewall.errors import EngineError
from firewall.host.onnxruntime import ort
from firewall.regions import build
from firewall.regions.graph import Graph
from firewall.regions.onnx_boxes import OnnxBoxes
from tests.regions.detector_graphs import dense, save, scene, ultralytics
from tests.regions.test_layouts import near


def detector(folder: Path, **metadata: str) -> Path:
    return save(
        folder / "net.onnx", dense(rows=2100, classes=3, transposed=True), metadata=ultralytics(3, 320, **metadata)
    )


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_is_kept_to(tmp_path: Path, device: str) -> None:
    """What the classifier runs on the detector runs on, by the same door: where the device can't be used it is refused,
    never run elsewhere without a word. `device: cpu` in its settings lets it stay behind."""
    file = detector(tmp_path)
    settings = RegionDetectorSettings(file=file)
    if set(PROVIDERS[device]) <= set(ort.get_available_providers()):
        assert near(build("detector", settings, device=device, threads=1).find(scene()))
    else:
        with pytest.raises(EngineError, match=device) as caught:
            build("detector", settings, device=device, threads=1)
        assert "\n" not in str(caught.value)
    stays = RegionDetectorSettings(file=file, device="cpu")
    assert near(build("detector", stays, device=device, threads=1).find(scene()))


def test_weights_beside_the_file_are_found(tmp_path: Path) -> None:
    """Exporters put large weights into a second file; it is looked for beside the first, wherever we were started."""
    file = detector(tmp_path)
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, location="net.onnx.data", size_threshold=100)
    assert (tmp_path / "net.onnx.data").stat().st_size > 1000
    finder = OnnxBoxes(RegionDetectorSettings(file=file), threads=1, tell=lambda line: None)
    assert near(finder.find(scene()))
    (tmp_path / "net.onnx.data").unlink()
    with pytest.raises(EngineError, match=r"net\.onnx") as caught:
        OnnxBoxes(RegionDetectorSettings(file=file), threads=1, tell=lambda line: None)
    assert "\n" not in str(caught.value)


def test_threads_are_bounded(tmp_path: Path) -> None:
    """With one thread asked for, opening and running a detector adds none to the process."""
    code = f"""
import os, cv2, numpy as np
from firewall.config import RegionDetectorSettings
from firewall.regions import build
cv2.setNumThreads(1)
import firewall.regions.onnx_boxes
before = len(os.listdir("/proc/self/task"))
finder = build("detector", RegionDetectorSettings(file={str(detector(tmp_path))!r}), threads=1)
finder.find(np.zeros((300, 500, 3), np.uint8))
print(len(os.listdir("/proc/self/task")) - before)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 0


@pytest.mark.parametrize(
    ("names", "read"),
    [
        ("{0: 'stop sign', 3: 'give way'}", {0: "stop sign", 3: "give way"}),
        ("['a', 'b']", {0: "a", 1: "b"}),
        ('{"0": "a"}', {}),
        ("__import__('os').system('false')", {}),
        ("{0: 'a'", {}),
        ("[" * 5000, {}),
        ("", {}),
    ],
)
def test_names_are_read_as_data_alone(tmp_path: Path, names: str, read: dict[int, str]) -> None:
    """Class names as Ultralytics writes them; anything else is as good as none, and nothing of it is run."""
    graph = Graph(detector(tmp_path, names=names), threads=1)
    assert graph.names == read
    assert graph.image_size == (320, 320)


@pytest.mark.parametrize("size", ["", "[]", "[0, 0]", "[640]", "[384, 640]", "[1, 2, 3]", "many"])
def test_a_size_in_the_metadata_is_taken_if_it_is_one(tmp_path: Path, size: str) -> None:
    """One or two sides; otherwise 640 x 640 is used where the network takes any."""
    graph = Graph(detector(tmp_path, imgsz=size), threads=1)
    assert graph.image_size == {"[640]": (640, 640), "[384, 640]": (384, 640)}.get(size)


def test_noise_never_breaks_it(tmp_path: Path) -> None:
    """Random frames of random sizes: regions inside the frame and nothing raised."""
    finder = OnnxBoxes(RegionDetectorSettings(file=detector(tmp_path)), threads=1, tell=lambda line: None)
    random = np.random.default_rng(4)
    for _ in range(30):
        height, width = random.integers(1, 700, 2)
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for x, y, wide, high in finder.find(pixels):
            assert 0 <= x < x + wide <= width and 0 <= y < y + high <= height
