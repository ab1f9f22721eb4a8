"""The programs in examples/, run as their own first lines say. The fifth, in C++, is built and run by CTest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from firewall.bundle import DEFAULT
from firewall.demo.scene import Encounter, render
from firewall.demo.signs import DRAWN
from firewall.frame import Pixels
from firewall.verdict import BundleStamp, Reason, Stamps, Verdict
from tests.regions.detector_graphs import scene
from tests.regions.test_layouts import AS_EXPORTED, near

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(*command: str | Path, text: str = "", cwd: Path) -> subprocess.CompletedProcess[str]:
    """One of the examples, with this checkout's firewall."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment,
        timeout=390,
    )


def crop(label: int, number: int) -> Pixels:
    """A drawn sign with a margin."""
    light = ("day", "dusk", "overcast")[number % 3]
    encounter = Encounter(label, seed=500 + number, side="right", light=light, steps=10)
    pixels, (x, y, width, height) = render(encounter, 5 + number % 4)
    return pixels[max(0, y - width // 8) : y + height + width // 8, max(0, x - width // 8) : x + width + width // 8]


def test_a_loop_over_a_video(tmp_path: Path, benign_sign: Pixels) -> None:
    """What is released is printed, frame by frame."""
    sign = cv2.resize(benign_sign, (96, 96))
    writer = cv2.VideoWriter(str(tmp_path / "signs.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 10, (96, 96))
    for _ in range(3):
        writer.write(cv2.cvtColor(sign, cv2.COLOR_RGB2BGR))
    writer.release()

    done = run(EXAMPLES / "video_loop.py", "signs.avi", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and len(set(lines)) == 1 and not lines[0].startswith("withheld")


def test_verdict_lines_are_read(tmp_path: Path) -> None:
    """Released labels are printed, reasons of the rest counted."""
    served = run("-m", "firewall", "serve", "--http", "off", "--max-frames", "12", cwd=tmp_path)
    assert served.returncode == 0, served.stderr
    verdicts = [json.loads(line) for line in served.stdout.splitlines()]

    done = run(EXAMPLES / "read_verdicts.py", text=served.stdout, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    released = sum(verdict["decision"] == "release" for verdict in verdicts)
    told = done.stdout.splitlines()
    assert sum(line.startswith("demo ") for line in told) == released
    counted = sum(int(line.split()[1]) for line in told if line.startswith("withheld"))
    assert counted == len(verdicts) - released > 0 and told[-1] == "0 frames are missing"


def test_a_reader_leaves_out_what_is_old_repeated_or_out_of_order(tmp_path: Path) -> None:
    """Of four released lines of one camera the second is a frame of before, the third comes after a gap, the fourth was
    captured long ago; another camera's frames are counted by themselves. Without a number age doesn't count."""

    def line(camera: str, sequence: int, age: float) -> str:
        stamps = Stamps(BundleStamp("b", 1, "0123456789ab"), camera)
        verdict = Verdict("cam", sequence, (0, 0, 9, 9), True, 14, f"stop {sequence}", Reason.BENIGN)
        return json.dumps(stamps.on([verdict], captured_at=time.monotonic() - age)[0].line())

    lines = [line("a", 5, 30.0), line("a", 3, 31.0), line("a", 9, 29.0), line("b", 1, 500.0), line("b", 2, 499.0)]
    text = "".join(each + "\n" for each in lines)
    for oldest, labels in (([], [5, 9, 1, 2]), (["400000"], [5, 9]), (["1"], [])):
        done = run(EXAMPLES / "read_verdicts.py", *oldest, text=text, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        told = done.stdout.splitlines()
        assert [int(each.split("stop ")[1].split()[0]) for each in told if each.startswith("cam ")] == labels
        assert "withheld 1 times: older than the frame before it" in told and told[-1] == "3 frames are missing"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_classifier_of_ones_own(tmp_path: Path) -> None:
    """An ONNX file and benign images become a bundle that judges."""
    (tmp_path / "benign").mkdir()
    for number in range(30):
        Image.fromarray(np.ascontiguousarray(crop(DRAWN[number % len(DRAWN)], number))).save(
            tmp_path / "benign" / f"{number}.png"
        )
    (tmp_path / "net.onnx").write_bytes((DEFAULT / "classifier.onnx").read_bytes())

    done = run(EXAMPLES / "own_classifier.py", "net.onnx", "benign", "mine", "0.2", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine" / "manifest.json").is_file()
    assert ": release, benign" in done.stdout or ": withhold, " in done.stdout


def test_a_detector_of_ones_own(tmp_path: Path) -> None:
    """The settings file guards a video where a detector of the user's finds boxes."""
    AS_EXPORTED["yolov8"](tmp_path).rename(tmp_path / "detector.onnx")
    frame = scene()
    height, width = frame.shape[:2]
    writer = cv2.VideoWriter(str(tmp_path / "drive.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (width, height))
    for _ in range(3):
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()

    done = run("-m", "firewall", "serve", "--config", EXAMPLES / "own_detector.yaml", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [verdict["sequence"] for verdict in verdicts] == [0, 1, 2]
    assert all(near([tuple(verdict["region"])]) for verdict in verdicts)
