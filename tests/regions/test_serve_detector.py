"""`--regions detector` from the command line: a settings file or an ONNX file, frames from a picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx")

from firewall.cli import app, run
from firewall.config import RegionDetectorSettings, load_region_detector, load_settings
from firewall.errors import ConfigError
from tests.regions.detector_graphs import dense, save, scene, split, ultralytics
from tests.regions.test_layouts import AS_EXPORTED, near

MAIN = (
    "yolov5 7.0",
    "yolov8",
    "yolov8, half",
    "yolov10",
    "rtdetr 8.4",
    "mobilenet ssd of TensorFlow",
    "torchvision faster r-cnn",
    "detr",
)


def firewall(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "firewall", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def settings_file(folder: Path, **detector: Any) -> Path:
    """A settings file for `serve` with one picture of the scene."""
    Image.fromarray(scene()).save(folder / "scene.png")
    lines = [f"  {key}: {value}" for key, value in detector.items()]
    text = ["source: " + str(folder / "scene.png"), "regions: detector", "region_detector:", *lines]
    text += ["http: 'off'", "threads: 1", "allow_unsigned: true"]
    (folder / "settings.yaml").write_text("\n".join(text) + "\n")
    return folder / "settings.yaml"


@pytest.mark.parametrize("name", MAIN)
def test_serve_looks_where_the_detector_says(tmp_path: Path, name: str) -> None:
    """From a settings file to verdict lines: the one region of the frame is the sign, within two pixels."""
    config = settings_file(tmp_path, file=AS_EXPORTED[name](tmp_path))
    done = firewall("serve", "--config", config)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 1 and near([tuple(lines[0]["region"])]), lines
    assert lines[0]["reason"] != "nothing found"


def test_serve_withholds_with_a_reason_and_says_why_once(tmp_path: Path) -> None:
    """A process that meets scores of NaN: each verdict says engine error, stderr has one line, exit 0."""
    head = dense(rows=2100, classes=3, transposed=True)

    def poisoned(d: Any, red: Any) -> Any:
        score = red.score
        red.score = lambda value: d.op("Div", score(0.0), d.op("Sub", d.const(1.0), red.any))  # 0 / 0 on the sign
        return head(d, red)

    config = settings_file(tmp_path, file=save(tmp_path / "net.onnx", poisoned, metadata=ultralytics()))
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(2):
        Image.fromarray(scene()).save(folder / f"{number}.png")
    done = firewall("serve", "--config", config, "--source", folder)
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    assert [verdict["decision"] for verdict in verdicts] == ["withhold"] * 2
    assert all(verdict["reason"].startswith("engine error: region detector") for verdict in verdicts)
    assert done.stderr.count("not finite") == 1 and "Traceback" not in done.stderr


def test_screen_takes_a_detector_as_a_file_or_from_settings(tmp_path: Path) -> None:
    """`--region-detector` alone is enough; with the settings file of `serve` its settings count."""
    file = save(tmp_path / "net.onnx", split({"boxes": "b", "scores": "s"}, form="top-left"))
    config = settings_file(tmp_path, file=file, format="top-left")
    picture = tmp_path / "scene.png"
    done = firewall("screen", picture, "--region-detector", config, "--threads", 1)
    assert done.returncode == 0 and near([tuple(json.loads(done.stdout)["region"])]), done.stderr
    plain = save(tmp_path / "plain.onnx", dense(rows=2100, classes=3, transposed=True))
    done = firewall("screen", picture, "--regions", "detector", "--region-detector", plain)
    assert done.returncode == 0 and near([tuple(json.loads(done.stdout)["region"])]), done.stderr


def test_serve_takes_a_detector_by_option(tmp_path: Path) -> None:
    """`--region-detector FILE` looks with it; what else the settings file says of it still counts."""
    file = save(tmp_path / "net.onnx", split({"boxes": "b", "scores": "s"}, form="top-left"))
    config = settings_file(tmp_path, file=tmp_path / "none.onnx", format="top-left")
    done = firewall("serve", "--config", config, "--region-detector", file)
    assert done.returncode == 0 and near([tuple(json.loads(done.stdout)["region"])]), done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["screen", "x.png", "--regions", "detector"], 2, "--region-detector"),
        (["screen", "x.png", "--region-detector", "none.onnx"], 1, "none.onnx is not there"),
        (["screen", "x.png", "--region-detector", "none.yaml"], 2, "none.yaml"),
        (["serve", "--regions", "detector", "--http", "off"], 2, "--region-detector"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A detector that isn't named or isn't there."""
    assert run(app, arguments, "firewall") == code
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_a_detector_that_is_not_recognised_ends_serve_with_one_line(tmp_path: Path) -> None:
    """Before anything is served: what was seen and what to set, exit code 1."""
    file = save(
        tmp_path / "net.onnx",
        lambda d, red: [(d.op("Mul", red.any, d.const(np.zeros((1, 1000))), out="p"), 1, [1, 1000])],
    )
    done = firewall("serve", "--config", settings_file(tmp_path, file=file))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "p float32 (1, 1000)" in line and "region_detector.layout" in line


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("format", "middle", "corners"),
        ("coordinates", "percent", "pixels"),
        ("classes", "[]", "classes"),
        ("size", "[0, 640]", "size"),
        ("size", "[640, 640, 3]", "size"),
        ("std", "[0, 1, 1]", "positive"),
        ("threshold", "1.5", "threshold"),
        ("device", "tpu", "cuda"),
        ("treshold", "0.5", "known settings: file, layout"),
    ],
)
def test_settings_are_checked(tmp_path: Path, key: str, value: str, says: str) -> None:
    """A wrong value or key is a ConfigError of one line that names the key, for `serve` and `screen`."""
    config = settings_file(tmp_path, file="net.onnx", **{key: value})
    for load in (load_settings, load_region_detector):
        with pytest.raises(ConfigError, match=rf"region_detector\.{key}") as caught:
            load(config)
        assert says in str(caught.value) and "\n" not in str(caught.value)


def test_settings_take_what_people_write(tmp_path: Path) -> None:
    """One class without brackets, one side for a square, the other spelling, no for false."""
    config = settings_file(
        tmp_path, file="net.onnx", classes="stop sign", size=640, format="center", letterbox="no", range=255
    )
    read = load_region_detector(config)
    assert read == load_settings(config).region_detector
    assert (read.classes, read.size, read.format, read.letterbox) == (["stop sign"], (640, 640), "centre", False)
    assert RegionDetectorSettings(file=Path("n"), classes=3).classes == [3]
    assert all(field.description for field in RegionDetectorSettings.model_fields.values())
