"""What nobody should send, through `screen` and `serve`: odd frames, and detectors that answer nonsense. Each ends in
verdicts that withhold, or in one line; none hangs and none shows a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx")

from firewall.cli import app, run
from tests.regions.detector_graphs import dense, save, scene, split, ultralytics
from tests.regions.test_oddities import MANY, given

COMMANDS = ("screen", "serve")


Told = Callable[..., tuple[int, list[dict[str, Any]], list[str]]]


@pytest.fixture
def told(capfd: pytest.CaptureFixture[str]) -> Told:
    """(exit code, verdict lines, lines on stderr) of a command that looks at pictures of one folder."""

    def ask(command: str, *pictures: Path, **options: object) -> tuple[int, list[dict[str, Any]], list[str]]:
        named = [str(word) for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        source = (
            [*map(str, pictures)] if command == "screen" else ["--source", str(pictures[0].parent), "--http", "off"]
        )
        code = run(app, [command, *source, "--threads", "1", *named], "firewall")
        done = capfd.readouterr()
        assert "Traceback" not in done.err
        return code, [json.loads(line) for line in done.out.splitlines()], done.err.splitlines()

    return ask


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Frames of a pixel, of 48 megapixels, grey, of 16 bits, and a right one, which is red in the middle."""
    folder = tmp_path_factory.mktemp("frames")
    random = np.random.default_rng(0)
    odd = {
        "1x1.png": np.full((1, 1, 3), 200, np.uint8),
        "8000x6000.jpg": cv2.resize(random.integers(0, 256, (60, 80, 3), np.uint8), (8000, 6000)),
        "grey-16.png": random.integers(0, 65536, (100, 160), np.uint16),
        "grey.png": random.integers(0, 256, (100, 160), np.uint8),
        "rgb-16.png": random.integers(0, 65536, (100, 160, 3), np.uint16),
        "right.png": scene()[..., ::-1],
    }
    for name, pixels in odd.items():
        assert cv2.imwrite(str(folder / name), pixels)
    return [folder / name for name in sorted(odd)]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("regions", ["signs", "detector"])
def test_frames_of_any_size_and_depth_get_their_verdicts(
    frames: list[Path], command: str, regions: str, tmp_path: Path, told: Told
) -> None:
    """16 bits are refused by name; a pixel, 48 megapixels and a grey picture are looked at and nothing is
    released from them; the frame after them is judged as ever."""
    options: dict[str, object] = {"regions": regions}
    if regions == "detector":
        head = dense(rows=2100, classes=3, transposed=True)
        options["region_detector"] = save(tmp_path / "net.onnx", head, metadata=ultralytics())
    code, lines, _ = told(command, *frames, **options)
    assert code == (1 if command == "screen" else 0)  # screen says that two couldn't be judged
    by_name: dict[str, list[dict[str, Any]]] = {frame.name: [] for frame in frames}
    for line in lines:
        by_name[Path(line["source"]).name].append(line)
    for name, said in by_name.items():
        assert said, name
        assert all(line["decision"] == "withhold" and line["label"] is None for line in said), name
        assert all("8 bits" in line["reason"] for line in said) == ("-16" in name), said
    if regions == "detector":
        assert by_name["right.png"][0]["region"][2] > 4
    for line in by_name["8000x6000.jpg"]:
        x, y, width, height = line["region"]
        assert 0 <= x < x + width <= 8000 and 0 <= y < y + height <= 6000


#: What a detector says of the scene, and what is said of that.
ANSWERS: dict[str, tuple[Any, Any, str]] = {
    "NaN scores": ([[8, 8, 90, 90]], [np.nan], "not finite"),
    "boxes outside the frame": ([[4000, 4000, 4100, 4100]], [0.9], "outside the frame"),
    "boxes that are no numbers": ([[8, np.nan, 90, 90]], [0.9], "not finite"),
    "thousands of boxes": (MANY, np.linspace(0.6, 0.9, 5000), ""),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ANSWERS)
def test_a_detector_that_answers_nonsense_withholds(tmp_path: Path, command: str, name: str, told: Told) -> None:
    """One verdict that says what was wrong, or no more regions than a frame may have, and the operator reads why."""
    boxes, scores, words = ANSWERS[name]
    (tmp_path / "frames").mkdir()
    picture = tmp_path / "frames" / "scene.png"
    Image.fromarray(scene()).save(picture)
    settings = tmp_path / "settings.yaml"
    file = save(tmp_path / "net.onnx", given(boxes, scores))
    settings.write_text(f"region_detector:\n  file: {file}\n  format: corners\n  coordinates: pixels\n")
    config = {"region_detector": settings} if command == "screen" else {"config": settings, "regions": "detector"}
    code, lines, errors = told(command, picture, **config)
    if words:
        assert code == (1 if command == "screen" else 0)
        (line,) = lines
        assert line["decision"] == "withhold" and line["reason"].startswith("engine error: region detector")
        assert words in line["reason"] and any(words in error for error in errors)
    else:
        assert code == 0 and 1 <= len(lines) <= 8
        assert sum("5000 boxes above the threshold" in error for error in errors) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_detector_of_an_unknown_layout_ends_with_one_line(tmp_path: Path, command: str, told: Told) -> None:
    """What was seen and what to set; nothing is judged."""
    file = save(
        tmp_path / "net.onnx",
        lambda d, red: [(d.op("Mul", red.any, d.const(np.zeros((1, 1000))), out="p"), 1, [1, 1000])],
    )
    (tmp_path / "frames").mkdir()
    picture = tmp_path / "frames" / "scene.png"
    Image.fromarray(scene()).save(picture)
    code, lines, errors = told(command, picture, region_detector=file)
    assert code == 1 and lines == [] and len(errors) == 1
    assert "p float32 (1, 1000)" in errors[0] and "region_detector.layout" in errors[0]


def test_boxes_half_outside_are_cut_off_at_the_frame(tmp_path: Path, told: Told) -> None:
    """Beside nonsense there is the usual: a sign at the edge. Its region ends where the frame does."""
    (tmp_path / "frames").mkdir()
    picture = tmp_path / "frames" / "scene.png"
    Image.fromarray(scene()).save(picture)
    file = save(tmp_path / "net.onnx", split({"boxes": "boxes", "scores": "scores"}))
    code, lines, _ = told("screen", picture, region_detector=file)
    assert code == 0 and len(lines) == 1
    height, width = scene().shape[:2]
    edge = save(tmp_path / "edge.onnx", given([[-40.0, -30, 90, 90]], [0.9]))
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"region_detector:\n  file: {edge}\n  format: corners\n  coordinates: pixels\n")
    code, lines, _ = told("screen", picture, region_detector=settings)
    assert code == 0 and len(lines) == 1
    x, y, wide, high = lines[0]["region"]
    assert (x, y) == (0, 0) and 0 < wide < width and 0 < high < height
