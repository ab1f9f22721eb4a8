"""A bundle gets its fusion by the command that a user runs, from two small databases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firewall import Firewall
from firewall.bundle import PatchSpec, Seen, load_bundle
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import UsageError
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.calibration.fusion_bundle import FusionSettings
from firewall.lab.calibration.fusion_fit import RULES
from firewall.lab.database import Database
from firewall.lab.datasets.shifts import SHIFTS
from firewall.lab.measurement.numerics import VARIED, Batched
from tests.fused_bundle import fused_bundle
from tests.lab.conftest import DATABASE_ATTACKS
from tests.lab.in_process import lab


@pytest.fixture(scope="module")
def others(signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of other pictures than `made`'s: the same signs a little larger, of which nothing is attacked much."""
    folder = tmp_path_factory.mktemp("others")
    shutil.copytree(signs, folder / "larger")
    for path in (folder / "larger").rglob("*.png"):
        with Image.open(path) as image:
            image.resize((image.width + 5, image.height + 5)).save(path)
    spec = f"folder:{folder / 'larger'}"
    result = lab("attack", "--dataset", spec, "--out", str(folder / "db"), "--attacks", "fgsm", "--limit", "40")
    assert result.returncode == 0, result.stderr
    return folder / "db"


def _arguments(made: Path, others: Path, out: Path, rate: str = "0.1") -> list[str]:
    named = ["--bundle", str(fused_bundle()), "--database", str(made), "--calibration", str(others), "--out", str(out)]
    return ["fuse", *named, "--false-positive-rate", rate, "--shift", "3"]


@pytest.fixture(scope="module")
def fused(made: Path, others: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("fused") / "bundle"
    result = lab(*_arguments(made, others, out))
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


def test_the_fused_rate_holds_where_scores_come_out_otherwise(fused: tuple[Path, dict[str, Any]], others: Path) -> None:
    """Each score of each calibration image up by the margin that the manifest states, or by chance up or down: no more
    are withheld than was measured. The same with another graph, more threads and other batches."""
    out, report = fused
    bundle = load_bundle(out)
    numerics, fusion = bundle.manifest.numerics, bundle.manifest.fusion
    assert numerics is not None and fusion is not None
    images, promised = Database(others).normal, report["calibration"]["withheld"]
    guard = Firewall(bundle, OnnxRuntimeEngine(bundle, threads=1), exhaustive=True, threads=1)
    scores = [guard.screen(image).scores for image in images]
    generator = np.random.default_rng(0)

    assert set(numerics.margin) == {"fused", *scores[0]} and max(numerics.margin.values()) < 1e-3
    for _ in range(6):
        moved = [
            {name: score + numerics.margin[name] * generator.choice([-0.99, 0.5, 0.99]) for name, score in row.items()}
            for row in scores
        ]
        assert np.mean([guard.fusion is None or guard.fusion.excess(row) > 0 for row in moved]) <= promised
    raised = [{name: score + 0.99 * numerics.margin[name] for name, score in row.items()} for row in scores]
    assert np.mean([not guard.policy.judge(row).released for row in raised]) <= promised
    for how in VARIED:
        engine = Batched(OnnxRuntimeEngine(bundle, threads=how.threads, optimisation=how.optimisation), how.batch)
        other = Firewall(bundle, engine, threads=1)
        assert np.mean([not other.screen(image).released for image in images]) <= promised


def test_early_verdicts_are_those_of_all_detectors(fused: tuple[Path, dict[str, Any]], made: Path) -> None:
    """Asking on after an early verdict never changes it; on attacks it was fitted on it is nearly always that of all
    detectors, as was allowed; and the report's number of classified images is the edge's."""
    out, report = fused
    early, full = Firewall.load(out, threads=1), Firewall.load(out, threads=1, exhaustive=True)
    images = Database(made).normal

    verdicts = [(early.screen(image), full.screen(image)) for image in images]

    assert all(a.released == b.released for a, b in verdicts)
    assert sum(a.classified for a, _ in verdicts) / len(images) == pytest.approx(
        report["early"]["normal"]["mean_classified"]
    )
    assert all(entry["agree"] >= 0.99 for name, entry in report["early"].items() if name != "normal")


def test_the_evaluation_knows_the_fused_suspicion(
    fused: tuple[Path, dict[str, Any]], others: Path, tmp_path: Path
) -> None:
    """`lab evaluate` gains "fused" beside the detectors, with the same keys by attack."""
    out, _ = fused
    file = tmp_path / "e.json"

    result = lab(
        *("evaluate", "--bundle", str(out), "--database", str(others), "--split", "train", "--json", str(file))
    )

    assert result.returncode == 0, result.stderr
    summary = json.loads(file.read_text())
    assert set(summary["fused"]["fgsm"]) >= {"n", "auroc", "eer", "tpr_at_1fpr", "tpr_at_5fpr", "ci95"}


def test_wrong_use_is_one_line(made: Path, others: Path, tmp_path: Path) -> None:
    """Too few tracks for the rate (with how many are needed), the same images for both, an unknown rule."""
    out = tmp_path / "bundle"
    few = lab(*_arguments(made, others, out, "0.01"))
    same = lab(*_arguments(made, made, out))
    rule = lab(*_arguments(made, others, out), "--rule", "best")

    assert "at least 99 tracks" in few.stderr and "fitted to" in same.stderr and "--rule" in rule.stderr
    for result in (few, same, rule):
        assert result.returncode != 0 and len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()


def test_the_fused_bundle_says_what_its_threshold_stands_on(fused: tuple[Path, dict[str, Any]]) -> None:
    """The manifest names the calibration images' tracks, so that nobody judges it by them unknowingly."""
    card = load_bundle(fused[0]).manifest.calibration

    assert card.seen is not None and card.tracks == len(card.seen.groups.split()) and card.false_positive_rate == 0.1


def test_what_weather_does_is_told_and_can_be_held_down(
    made: Path, others: Path, fused: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Each shift's rate is reported; with --shift-rate the threshold rises, never falls, and the page says so. What the
    bundle demands of a label besides, that no sticker can have changed it, it still demands."""
    _, free = fused
    assert set(free["calibration"]["shifts"]) == set(SHIFTS) and free["fitted"]["shifted"] == 3 * len(SHIFTS)

    demand, demanding = PatchSpec(area=0.02), tmp_path / "demanding"
    rewritten(load_bundle(fused_bundle()), demanding, {}, patches=demand)
    arguments = _arguments(made, others, tmp_path / "held")
    arguments[arguments.index(str(fused_bundle()))] = str(demanding)

    result = lab(*arguments, "--rule", "sum", "--shift-rate", "0.3")

    assert result.returncode == 0, result.stderr
    held = json.loads(result.stdout)
    assert held["fusion"]["threshold"] >= free["fusion"]["threshold"] or free["rule"] != "sum"
    assert max(held["calibration"]["shifts"].values()) <= 0.5
    manifest = load_bundle(tmp_path / "held").manifest
    assert "under each shift" in manifest.calibration.data and manifest.patches == demand


def _training(folder: Path, bundle: Path, met: dict[str, int]) -> Path:
    """What `lab leave-one-out` leaves of the family "sign step", with the bundle's own network of pixels."""
    loaded = load_bundle(bundle)
    spec = next(spec for spec in loaded.manifest.detectors if spec.name == "image-cnn")
    network = str(spec.parameters["file"])
    here = folder / "sign-step"
    here.mkdir(parents=True)
    (here / network).write_bytes(loaded.files[network])
    fitted = Seen(dataset="gtsrb", part="kept-out", groups="1 2").model_dump(mode="json")
    classifier = loaded.manifest.files[loaded.manifest.classifier.file].sha256
    report = {"name": "image-cnn", "parameters": spec.parameters, "classifier_sha256": classifier, "fitted": fitted}
    (here / "detector.json").write_text(json.dumps({**report, "trained_with": met}))
    return folder


def test_a_family_is_judged_after_everything_was_fitted_without_it(
    made: Path, others: Path, fused: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """A row for each attack with enough images; detectors of pixels that met every family are left out."""
    out, _ = fused
    trainings = _training(tmp_path / "image-cnn", out, {"pgd": 9})
    named = ["--bundle", str(out), "--trainings", str(trainings), "--database", str(made), "--calibration", str(others)]
    rest = ["--judge", str(others), "--calibration-split", "train", "--split", "dev,eval", "--shift", "0"]

    result = lab("unseen", *named, *rest, "--false-positive-rate", "0.2", "--rule", "sum")

    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["bundle_sha256"] == load_bundle(out).sha256 and "residual" not in found["detectors"]
    assert set(found["normal"]) == {"sign step"} and found["normal"]["sign step"]["n"] > 0
    assert all(row["family"] == "sign step" and 0 <= row["withheld"] <= 1 for row in found["rows"])


def test_a_training_that_met_the_family_is_refused(
    made: Path, others: Path, fused: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """It would be no unseen attack; neither is a folder without any training a measurement."""
    out, _ = fused
    rest = ["--database", str(made), "--calibration", str(others), "--judge", str(others), "--bundle", str(out)]
    for folder, told in (
        (_training(tmp_path / "met", out, {"fgsm": 9}), "was trained with fgsm"),
        (tmp_path, "hold no training without a family"),
    ):
        result = lab("unseen", "--trainings", str(folder), *rest)
        assert result.returncode == 1 and told in result.stderr and "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "wrong", [{"rate": 0.0}, {"rate": 1.0}, {"shift_rate": 1.0}, {"shift": -1}, {"loss": 2.0}, {"rule": "majority"}]
)
def test_options_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """Before a database is read."""
    with pytest.raises(UsageError):
        FusionSettings(**wrong)
