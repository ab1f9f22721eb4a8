from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from firewall.errors import DataError
from firewall.lab.datasets import gtsrb
from firewall.lab.training.classifiers.augmentation import MIRROR, augment
from firewall.lab.training.classifiers.sign_training import Settings, load_checkpoint, train
from tests.lab.in_process import lab


def command(data: Path, out: Path) -> list[str]:
    arguments = ["--data", str(data), "--out", str(out), "--epochs", "4", "--threads", "1", "--workers", "0"]
    return ["train", "classifier", *arguments]


@pytest.mark.timeout(300)
def test_a_killed_run_goes_on_to_the_same_classifier(small_gtsrb: Path, tmp_path: Path) -> None:
    """kill -9 after an epoch, then the same command again: the exported file is that of a run never stopped."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert lab(*command(small_gtsrb, whole)).returncode == 0
    line = [sys.executable, "-m", "firewall", "lab", *command(small_gtsrb, killed)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 120
        while not (killed / "log.jsonl").exists() and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        run.kill()
    reached = len((killed / "log.jsonl").read_text().splitlines())
    result = lab(*command(small_gtsrb, killed))

    assert result.returncode == 0, result.stderr
    assert 1 <= reached < 4, "the run was meant to be killed half way"
    assert (killed / "classifier.onnx").read_bytes() == (whole / "classifier.onnx").read_bytes()
    card = json.loads(result.stdout)
    assert card == json.loads((killed / "card.json").read_text())
    assert card["test"]["images"] == 86 and 0 <= card["test"]["accuracy"] <= 1


def test_a_checkpoint_of_other_settings_is_refused(small_gtsrb: Path, tmp_path: Path) -> None:
    """Going on with another seed would make a run that nobody can repeat."""
    data = gtsrb.load_train(small_gtsrb)
    train(data, tmp_path, Settings(epochs=1), threads=1, workers=0)

    with pytest.raises(DataError, match="other settings"):
        train(data, tmp_path, Settings(epochs=1, seed=1), threads=1, workers=0)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    """Half a checkpoint is an error that names the file; nothing is unpickled."""
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")

    with pytest.raises(DataError, match=r"checkpoint\.pt"):
        load_checkpoint(tmp_path / "checkpoint.pt")


def test_augmentation_depends_on_its_generator_alone() -> None:
    """The same generator state gives the same picture, of the asked size, whatever the size that came in."""
    for shape in ((25, 30, 3), (120, 90, 3)):
        pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        for seed in range(20):
            first, second = (augment(pixels, 48, np.random.default_rng(seed)) for _ in range(2))
            np.testing.assert_array_equal(first, second)
            assert first.shape == (48, 48, 3) and first.dtype == np.uint8


def test_mirroring_twice_is_the_sign_itself() -> None:
    """A mirrored left arrow is a right arrow, and back."""
    assert all(MIRROR[MIRROR[label]] == label for label in MIRROR)
