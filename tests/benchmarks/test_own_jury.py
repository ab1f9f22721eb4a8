"""The program that measures what a jury for one's own classifier is worth."""

from __future__ import annotations

import copy
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from firewall.export.onnx import export_classifier
from tests.lab.coloured_shapes import CLASSES, SIZE, shapes, trained

ROOT = Path(__file__).parents[2]
LABELS = tuple(f"shape {letter}" for letter in "abcdef")[:CLASSES]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of coloured shapes, images in folders by class, and a jury whose one juror is a second network that
    was trained apart."""
    folder = tmp_path_factory.mktemp("own")
    export_classifier(copy.deepcopy(trained()).eval(), folder / "net.onnx", size=SIZE, labels=LABELS)
    images, labels = shapes(240, seed=21)
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for number, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        (folder / "images" / LABELS[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "images" / LABELS[label] / f"{number:03d}.png")
    juror = folder / "jury" / "robust"
    juror.mkdir(parents=True)
    export_classifier(copy.deepcopy(trained(1)).eval(), juror / "juror.onnx", size=SIZE, labels=LABELS)
    card: dict[str, Any] = {
        "juror": {"kind": "robust", "file": "juror.onnx", "width": SIZE, "height": SIZE},
        "sha256": hashlib.sha256((juror / "juror.onnx").read_bytes()).hexdigest(),
        "classifier": hashlib.sha256((folder / "net.onnx").read_bytes()).hexdigest(),
        "training": {"images": 0},
        "kept-out images": {},
    }
    (juror / "card.json").write_text(json.dumps(card))
    (folder / "jury" / "card.json").write_text(json.dumps({"jurors": {"robust": card}}))
    return folder


def run(place: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = ["benchmarks/own_jury.py", "--jury", place / "jury", "--classifier", place / "net.onnx"]
    command += ["--images", place / "images", "--name", "shapes", *more]
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )


def test_before_and_after_at_the_same_false_alarms(place: Path) -> None:
    """For the shares that so few images can set thresholds for: what is released wrongly with confidence alone and with
    the jury, each of all attacked images; beside it how often the classifier is fooled, and benign images withheld."""
    more = ("--fit", "100", "--judge", "100", "--attacked", "20", "--attacks", "linf-32,linf-32@jpeg-75")
    done = run(place, *more, "--json", str(place / "own.json"))
    assert done.returncode == 0, done.stderr
    found = json.loads((place / "own.json").read_text())["shapes"]
    assert found == json.loads(done.stdout)
    assert found["images"] == {"name": str(place / "images"), "thresholds set on": 100, "judged": 100}
    systems = ("confidence", "confidence and jury", "confidence and juror-robust")
    assert set(found["benign withheld"]) == set(systems)
    assert set(found["benign withheld"]["confidence and jury"]) == {"0.02", "0.05"}  # 1 % would take 199 images
    for system in systems:
        assert found["benign withheld"][system]["0.05"]["n"] == 100
        assert found["benign withheld"][system]["0.05"]["rate"] < 0.2
    for attack in ("linf-32", "linf-32@jpeg-75"):
        entry = found["attacks"][attack]
        fooled, wrong = entry["classifier fooled"], entry["wrong release"]
        assert fooled["n"] == 20 and fooled["rate"] > 0.3
        assert all(wrong[system]["0.05"]["rate"] <= fooled["rate"] for system in systems)
        assert wrong["confidence and jury"] == wrong["confidence and juror-robust"]  # the jury is that juror
        assert wrong["confidence and jury"]["0.05"]["rate"] <= wrong["confidence"]["0.05"]["rate"]


def test_too_few_images_are_named(place: Path) -> None:
    """Before anything is attacked."""
    done = run(place, "--fit", "200", "--judge", "100", "--json", str(place / "no.json"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "own_jury: 240 images are there; --fit and --judge ask for more"
    assert "Traceback" not in done.stderr
    assert not (place / "no.json").exists()
