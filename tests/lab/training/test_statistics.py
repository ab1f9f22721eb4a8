"""The statistics detector, trained on a small database and put into a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from firewall import Firewall
from firewall.bundle import DetectorSpec
from firewall.detectors import Evidence, build
from firewall.errors import DataError, UsageError
from firewall.lab.calibration.bundling import calibrate_folder
from firewall.lab.calibration.settings import BenignSource, CalibrationSettings
from firewall.lab.database import Database
from firewall.lab.database.variants import of_database
from firewall.lab.models import Protected, open_classifier
from firewall.lab.training.detectors import statistics
from firewall.transforms import OPERATIONS_38
from tests.lab.in_process import lab


@pytest.fixture(scope="module")
def classifier() -> Protected:
    """The default sign classifier."""
    return open_classifier("default")


@pytest.fixture(scope="module")
def trained(made: Path, classifier: Protected, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector, with the paper's whole table."""
    out = tmp_path_factory.mktemp("statistics")
    statistics.train(Database(made), classifier, out, statistics.Settings(model="lda", feature="counting", table=True))
    return out


def test_what_is_kept_is_what_is_computed(made: Path, classifier: Protected) -> None:
    """Logits read from the folder are those that were computed; a damaged file is computed anew."""
    database = Database(made)
    first = of_database(database, classifier, ["jpeg:50", "blur:2"])
    for path in (made / "measured").iterdir():
        if path.stat().st_size < 200_000:
            path.write_bytes(path.read_bytes()[:-30])
    again = of_database(database, classifier, ["jpeg:50", "blur:2"])

    assert first.copies.shape == (40, 2, 43)
    assert np.array_equal(first.original, again.original) and np.array_equal(first.copies, again.copies)
    assert first.original == pytest.approx(classifier.logits(database.normal), abs=1e-4)


def test_the_report_is_of_kept_out_images(trained: Path, made: Path) -> None:
    """Accuracy, figures by attack and correction; n is the eval split's, and every cell of the table is there."""
    report = json.loads((trained / "detector.json").read_text())
    database = Database(made)

    kept = {
        name: sum(database.split_of(entry) == "eval" for entry in database.attacked(name).entries)
        for name in database.card.attacks
    }
    assert {name: entry["n"] for name, entry in report["eval"]["attacks"].items()} == {
        n: k for n, k in kept.items() if k
    }
    assert report["eval"]["normal"]["n"] == int(database.where("eval").sum())
    assert 0 <= report["eval"]["accuracy"] <= 1
    assert set(report["table"]) == set(statistics.MODELS)
    assert all(set(row) == set(statistics.GROUPS) for row in report["table"].values())
    assert 0.5 < report["correction"]["jpeg+scaling"]["normal_top5"] <= 1
    assert 0 <= report["correction"]["jpeg+scaling"]["repaired_top1"] <= 1


def test_it_runs_on_the_edge(trained: Path, made: Path, tmp_path: Path, benign_sign: np.ndarray) -> None:
    """Calibrated beside agreement and put into a bundle by the command, it is asked about all 38 copies."""
    named = ("--classifier", "default", "--database", made, "--detectors", f"agreement,{trained}")
    result = lab("calibrate", *named, "--false-positive-rate", 0.3, "--out", tmp_path / "bundle")
    assert result.returncode == 0, result.stderr

    verdict = Firewall.load(tmp_path / "bundle", threads=1, exhaustive=True).screen(benign_sign)

    assert set(verdict.scores) == {"agreement", "statistics"}
    assert verdict.classified == 39
    calibration = json.loads(result.stdout)
    assert calibration["rates"]["withheld by statistics"] <= 0.15
    assert calibration["images"] == int(Database(made).where("dev").sum()), "of train it has seen the normals"
    assert calibration["seen"]["splits"] == ["dev"]


def test_a_detector_of_another_classifier_is_refused(trained: Path, made: Path, tmp_path: Path) -> None:
    """What was trained on attacks on another network is not put into a bundle."""
    for name in ("detector.onnx", "detector.json"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    report = json.loads((tmp_path / "detector.json").read_text())
    (tmp_path / "detector.json").write_text(json.dumps({**report, "classifier_sha256": "0" * 64}))

    with pytest.raises(DataError, match="another classifier"):
        calibrate_folder(
            Path("default"),
            tmp_path / "bundle",
            BenignSource(database=made),
            CalibrationSettings([str(tmp_path)], 0.3, name="x"),
        )


def test_the_lab_and_the_edge_score_alike(trained: Path, made: Path, classifier: Protected) -> None:
    """The edge's detector, image by image, gives the scores that the lab measured all at once."""
    report = json.loads((trained / "detector.json").read_text())
    spec = DetectorSpec(name="statistics", parameters=report["parameters"], threshold=0.0)
    files = {"detector.onnx": (trained / "detector.onnx").read_bytes()}
    from firewall.engines import OnnxRuntimeNetwork

    detector = build(spec, lambda file: OnnxRuntimeNetwork(files[file], file, threads=1))
    variants = of_database(Database(made), classifier, OPERATIONS_38, "deepfool")
    said = []
    for original, copies in zip(variants.original[:8], variants.copies[:8], strict=True):
        named = dict(zip(OPERATIONS_38, copies, strict=True))
        said.append(detector.score(Evidence(np.zeros((48, 48, 3), np.uint8), original, named)))

    assert np.isfinite(said).all() and len(set(said)) > 1


def test_wrong_use(made: Path, classifier: Protected, tmp_path: Path) -> None:
    """Unknown model, feature or operations are named; so is a database of another classifier."""
    for changes in ({"model": "oracle"}, {"feature": "guess"}, {"operations": "magic"}):
        with pytest.raises(UsageError, match="must be one of"):
            statistics.Settings(**changes)
    database = Database(made)
    other = database.card.classifier.model_copy(update={"sha256": "0" * 64})
    database.card = database.card.model_copy(update={"classifier": other})
    with pytest.raises(DataError, match="not on default"):
        statistics.train(database, classifier, tmp_path, statistics.Settings())
