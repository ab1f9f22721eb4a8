"""The recipe that trains jurors on a GPU, tried on the processor with tiny data; it has never been run on a GPU."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from contextlib import redirect_stderr
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from firewall.bundle import load_bundle
from firewall.lab.calibration.jury_bundle import with_jury
from firewall.lab.datasets.packs import open_pack
from firewall.lab.training.jury.training import load_juror
from recipes import jury_on_gpu
from tests.lab.conftest import small_gtsrb  # noqa: F401

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "recipes" / "jury_on_gpu.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The script as on a machine where the package isn't installed."""
    line = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(
        line, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}
    )


def here(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same without importing torch once more. Processes that it starts are real ones."""
    line = [str(SCRIPT), *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as said:
        patch.setattr(sys, "argv", line)
        patch.setenv("PYTHONPATH", str(CHECKOUT))
        try:
            jury_on_gpu.main()
        except SystemExit as end:
            return subprocess.CompletedProcess(line, int(end.code or 0), "", said.getvalue())
    return subprocess.CompletedProcess(line, 0, "", said.getvalue())


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_from_data_to_jurors_in_one_command_each(small_gtsrb: Path, tmp_path: Path) -> None:  # noqa: F811
    """Pack, train within a time that is up at once (the fewest epochs are trained all the same), gather; run again, it
    is done and changes nothing. What comes back is a juror that add-jury takes and a checkpoint that can be read."""
    scenes = tmp_path / "scenes"
    scenes.mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    cv2.imwrite(str(scenes / "0.png"), cv2.resize(coarse, (320, 200)))
    packed = tmp_path / "signs.npz"
    result = here("pack", "--data", small_gtsrb, "--scenes", scenes, "--out", packed)
    assert result.returncode == 0, result.stderr
    images, columns = open_pack(packed)
    assert len(images) == 258 + int((columns["label"] == 43).sum()) > 258
    assert 0 < columns["held"].sum() < 100 and not columns["held"][columns["label"] == 43].any()
    command = ["train", "--packed", packed, "--out", tmp_path / "jury", "--minutes", "0.01", "--device", "cpu"]
    command += ["--kinds", "coarse", "--batch", "64", "--workers", "1", "--gather", tmp_path / "out"]
    result = run(*command)
    assert result.returncode == 0, result.stderr
    first = (tmp_path / "jury" / "coarse" / "juror.onnx").read_bytes()
    assert json.loads((tmp_path / "jury" / "coarse" / "plan.json").read_text()) == {"epochs": 2, "batch": 64}
    assert here(*command).returncode == 0
    assert (tmp_path / "jury" / "coarse" / "juror.onnx").read_bytes() == first
    with tarfile.open(tmp_path / "out" / "coarse.tar.gz") as archive:
        names = set(archive.getnames())
        archive.extractall(tmp_path / "back", filter="data")
    wanted = ("juror.onnx", "card.json", "log.jsonl", "plan.json", "coarse.txt", "checkpoint.pt")
    assert names == {f"coarse/{name}" for name in wanted}
    network, settings, epochs = load_juror(tmp_path / "back" / "coarse" / "checkpoint.pt")
    assert epochs == settings.epochs == 2 and not network.training
    assert all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
    bundle = with_jury(load_bundle("default"), [tmp_path / "back" / "coarse"], tmp_path / "bundle")
    assert "juror-coarse" in {spec.name for spec in bundle.manifest.detectors}


def test_a_small_file_is_thinned_out_evenly(small_gtsrb: Path, tmp_path: Path) -> None:  # noqa: F811
    """As much as fits, of all classes."""
    packed = tmp_path / "signs.npz"
    assert here("pack", "--data", small_gtsrb, "--out", packed, "--megabytes", "0.1").returncode == 0
    images, columns = open_pack(packed)
    assert 43 <= len(images) < 200 and packed.stat().st_size < 130_000
    assert len(set(columns["label"].tolist())) > 30 and columns["held"].any()


def test_wrong_use_is_one_line(tmp_path: Path) -> None:
    """No GPU, an unknown kind, a file that is no such pack: one line, before anything is trained."""
    np.savez(tmp_path / "no.npz", blob=np.zeros(4, np.uint8), off=np.array([0, 4]))
    command = ("train", "--packed", tmp_path / "no.npz", "--out", tmp_path / "out")
    for more, words in (
        (("--device", "cuda:99"), "torch finds"),
        (("--device", "cpu", "--kinds", "blurry"), "unknown kind"),
    ):
        result = here(*command, *more)
        assert result.returncode == 2 and words in result.stderr and result.stderr.count("\n") == 1
    result = here(*command, "--device", "cpu", "--kinds", "coarse", "--epochs", "1")
    assert result.returncode == 1 and "coarse failed" in result.stderr and "no.npz" in result.stderr
    assert "Traceback" not in result.stderr
