"""A bundle gets its fusion by the command that a user runs, from two small databases."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.lab.database import Database
from firewall.lab.fusing import RULES
from tests.lab.conftest import DATABASE_ATTACKS


def _firewall(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "firewall", "lab", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def others(signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of other pictures than `made`'s: the same signs a little larger, of which nothing is attacked much."""
    folder = tmp_path_factory.mktemp("others")
    shutil.copytree(signs, folder / "larger")
    for path in (folder / "larger").rglob("*.png"):
        with Image.open(path) as image:
            image.resize((image.width + 5, image.height + 5)).save(path)
    spec = f"folder:{folder / 'larger'}"
    result = _firewall("attack", "--dataset", spec, "--out", str(folder / "db"), "--attacks", "fgsm", "--limit", "40")
    assert result.returncode == 0, result.stderr
    return folder / "db"


def _arguments(made: Path, others: Path, out: Path, rate: str = "0.1") -> list[str]:
    named = ["--bundle", "default", "--database", str(made), "--calibration", str(others), "--out", str(out)]
    return ["fuse", *named, "--false-positive-rate", rate]


@pytest.fixture(scope="module")
def fused(made: Path, others: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("fused") / "bundle"
    result = _firewall(*_arguments(made, others, out))
    assert result.returncode == 0, result.stderr
    return out, json.loads(result.stdout)


def test_a_fused_bundle_judges_on_the_edge_and_keeps_its_rate(fused: tuple[Path, dict[str, Any]], others: Path) -> None:
    """At most the asked share of the calibration images is withheld, and what attacks want to be released mostly is."""
    out, report = fused
    guard = Firewall.load(out, threads=1)

    withheld = [not guard.screen(image).released for image in Database(others).normal]

    assert sum(withheld) / len(withheld) <= report["calibration"]["withheld"] <= 0.1
    assert report["calibration"]["normal"] == len(withheld)
    assert guard.fusion is not None and set(report["rules"]) == set(RULES)
    assert report["fitted"]["attacks"].keys() <= set(DATABASE_ATTACKS)


def test_early_verdicts_are_those_of_all_detectors(fused: tuple[Path, dict[str, Any]], made: Path) -> None:
    """On the images it was fitted on the early verdict differs from the full one no more often than was allowed, and
    the report's number of classified images is the edge's."""
    out, report = fused
    early, full = Firewall.load(out, threads=1), Firewall.load(out, threads=1, exhaustive=True)
    images = Database(made).normal

    verdicts = [(early.screen(image), full.screen(image)) for image in images]

    assert sum(a.released != b.released for a, b in verdicts) == round(
        (1 - report["early"]["normal"]["agree"]) * len(images)
    )
    assert sum(a.classified for a, _ in verdicts) / len(images) == pytest.approx(
        report["early"]["normal"]["mean_classified"]
    )
    assert all(entry["agree"] >= 0.99 for entry in report["early"].values())


def test_the_evaluation_knows_the_fused_suspicion(
    fused: tuple[Path, dict[str, Any]], others: Path, tmp_path: Path
) -> None:
    """`lab evaluate` gains "fused" beside the detectors, with the same keys by attack."""
    out, _ = fused
    file = tmp_path / "e.json"

    result = _firewall(
        *("evaluate", "--bundle", str(out), "--database", str(others), "--split", "train", "--json", str(file))
    )

    assert result.returncode == 0, result.stderr
    summary = json.loads(file.read_text())
    assert set(summary["fused"]["fgsm"]) >= {"n", "auroc", "eer", "tpr_at_1fpr", "tpr_at_5fpr", "ci95"}


def test_wrong_use_is_one_line(made: Path, others: Path, tmp_path: Path) -> None:
    """Too few tracks for the rate (with how many are needed), the same images for both, an unknown rule."""
    out = tmp_path / "bundle"
    few = _firewall(*_arguments(made, others, out, "0.01"))
    same = _firewall(*_arguments(made, made, out))
    rule = _firewall(*_arguments(made, others, out), "--rule", "best")

    assert "at least 99 tracks" in few.stderr and "fitted to" in same.stderr and "--rule" in rule.stderr
    for result in (few, same, rule):
        assert result.returncode != 0 and len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_the_fused_bundle_says_what_its_threshold_stands_on(fused: tuple[Path, dict[str, Any]]) -> None:
    """The manifest names the calibration images' tracks, so that nobody judges it by them unknowingly."""
    card = load_bundle(fused[0]).manifest.calibration

    assert card.seen is not None and card.tracks == len(card.seen.groups.split()) and card.false_positive_rate == 0.1
