"""Detectors of pixels judged on what they never saw: images, shifts, families of attacks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firewall.errors import DataError, UsageError
from firewall.lab.database import Database
from firewall.lab.datasets.shifts import SHIFTS
from firewall.lab.measurement import metrics
from firewall.lab.training.detector_folder import Trained, load_trained
from firewall.lab.training.detectors.leave_one_out import leave_one_out
from firewall.lab.training.detectors.pixel_detectors import Settings, train
from firewall.lab.training.detectors.pixel_evaluation import evaluate, scorer

BRIEF = Settings(epochs=1, batch=16, network="noise")


@pytest.fixture(scope="module")
def folder(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A residual detector, trained for a moment."""
    out = tmp_path_factory.mktemp("detector")
    train(Database(made), out, BRIEF, threads=1)
    return out


def test_thresholds_come_from_dev_and_figures_from_eval(folder: Path, made: Path) -> None:
    """Counts, rates and thresholds are those of the splits' own images."""
    trained, database = load_trained(folder), Database(made)
    result = evaluate(trained, database, [], originals=False)
    score = scorer(trained)
    dev = score(database.normal[database.where("dev")])
    assert result["thresholds"] == {"images": len(dev), **{str(r): metrics.threshold_at(dev, r) for r in (0.01, 0.05)}}
    found = result[f"{database.card.dataset.spec} test, {len(database.card.normal)} images"]
    held = score(database.normal[database.where("eval")])
    assert found["normal"]["n"] == len(held)
    assert found["normal"]["fpr"]["0.05"]["value"] == np.mean(held > result["thresholds"]["0.05"])
    for attack, entry in found["attacks"].items():
        assert entry["n"] == sum(database.split_of(e) == "eval" for e in database.attacked(attack).entries)
        assert entry["seen"] is True
    assert set(found["shifts"]) == set(SHIFTS)


def test_what_a_detector_was_fitted_to_is_not_judged(folder: Path, made: Path) -> None:
    """Of a further database, only groups that the training didn't know are."""
    trained, database = load_trained(folder), Database(made)
    result = evaluate(trained, database, [Database(made)], originals=False, only=["fgsm"])
    (found,) = (entry for name, entry in result.items() if name != "thresholds")  # both databases have one name
    assert found["normal"]["n"] == np.count_nonzero(~database.where("train"))
    assert "shifts" not in found


def test_other_detectors_are_refused(folder: Path) -> None:
    """By name."""
    trained = load_trained(folder)
    with pytest.raises(UsageError, match="agreement is no detector of pixels"):
        scorer(Trained("agreement", {}, b"", trained.classifier_sha256, {}))


def test_each_family_is_left_out_once(made: Path, tmp_path: Path) -> None:
    """Its detector never saw it; a second run trains nothing; one family alone can't be left out."""
    families = {"sign step": ("fgsm",), "others": ("pgd-0.01", "deepfool")}
    run = [Database(made), [Database(made)], tmp_path, BRIEF]
    result = leave_one_out(*run, families=families)["residual"]  # type: ignore[arg-type]
    assert result["fgsm"]["family"] == "sign step" and result["fgsm"]["seen"] is False and result["fgsm"]["n"] > 0
    trained_with = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.rglob("detector.json")}
    assert set(trained_with["sign-step"]["trained_with"]) == {"pgd-0.01", "deepfool"}
    assert set(trained_with["others"]["trained_with"]) == {"fgsm"}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.onnx")}
    assert leave_one_out(*run, families=families)["residual"] == result  # type: ignore[arg-type]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.onnx")} == times
    with pytest.raises(DataError, match="holds attacks of 1 families"):
        leave_one_out(Database(made), [], tmp_path, replace(BRIEF), attacks=["fgsm"])
