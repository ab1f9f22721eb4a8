"""Training of what looks at the classifier's answers to copies: stability, odds, weighted votes; and agreement."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from firewall import Firewall
from firewall.decision.correction import Correction
from firewall.detectors.stability import instability
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import DataError, UsageError
from firewall.export.tabular import to_onnx
from firewall.lab.calibration.bundling import calibrate_folder
from firewall.lab.calibration.settings import BenignSource, CalibrationSettings
from firewall.lab.cli import app
from firewall.lab.database import Database
from firewall.lab.database.swept import Swept, sweep
from firewall.lab.measurement import metrics
from firewall.lab.models import open_classifier
from firewall.lab.training.detectors import agreement, stability, statistics
from firewall.lab.training.detectors.correction import choose, fit_weights, lead, true_ranks
from firewall.transforms import OPERATIONS_38
from tests.lab.swept_images import swept_images


@pytest.fixture(scope="module")
def swept() -> Swept:
    """What is learnt from."""
    return swept_images()


def test_the_scales_of_stability_come_from_normal_images_of_train_alone(swept: Swept) -> None:
    """Whatever happens to attacked images or to other splits, the units stay; only the choice may change."""
    group, scales, tried = stability.choose(swept)
    others = swept.adversarial | (swept.split != "train")
    copies = swept.variants.copies.copy()
    copies[others] += np.random.default_rng(1).normal(0, 0.2, copies[others].shape).astype(np.float32)
    changed = dataclasses.replace(swept, variants=dataclasses.replace(swept.variants, copies=copies))
    again_group, again, _ = stability.choose(changed)

    assert tried and max(tried.values()) <= 1
    known = {scale.temperature: scale for scale in scales}
    same = [scale for scale in again if scale.temperature in known]
    assert again_group != group or not same or all(scale == known[scale.temperature] for scale in same)


def test_stability_sees_what_the_count_of_labels_does_not(swept: Swept) -> None:
    """Examples of high confidence keep their label under JPEG; the distances tell them on images of other groups."""
    group, scales, _ = stability.choose(swept)
    other = swept_images(1)
    chosen = other.variants.select(stability.GROUPS[group])
    scores = instability(chosen.original, chosen.copies, scales)
    jpeg = dataclasses.replace(other, variants=other.variants.select(stability.GROUPS["jpeg"]))
    counts = agreement.agreement_counts(jpeg)
    normal, strong = ~other.adversarial, other.attack == "pgd-high-confidence"

    assert metrics.auroc(scores[normal], scores[strong]) > 0.95
    assert metrics.auroc(16.0 - counts[normal], 16.0 - counts[strong]) < 0.7


def test_odds_are_learnt_and_exported(swept: Swept) -> None:
    """The chosen SVM tells other groups' attacks; its ONNX file says what scikit-learn says."""
    features, other = statistics.Features(swept.variants), swept_images(1)
    fitted = statistics.fit(swept, features, statistics.Settings("svm", "odds", "all"))
    judged = statistics.Features(other.variants)
    scores = fitted.scores(judged)

    assert ((scores > fitted.boundary) == other.adversarial).mean() > 0.9
    network = OnnxRuntimeNetwork(to_onnx(fitted.model), "a network", threads=1)
    assert network(judged.of("odds", OPERATIONS_38))[:, 0] == pytest.approx(scores, abs=1e-3)


def test_an_image_that_may_not_be_used_is_not(swept: Swept) -> None:
    """With an attack left out of training the model is that of a database without the attack."""
    where = swept.attack != "fgsm"
    features = statistics.Features(swept.variants)
    settings = statistics.Settings("lda", "odds", "scaling")
    without = swept.subset(where)

    first = statistics.fit(swept, features, settings, where).scores(features)[where]
    second = statistics.fit(without, statistics.Features(without.variants), settings)
    assert first == pytest.approx(second.scores(statistics.Features(without.variants)))


def test_weighted_votes_repair_more_than_equal_ones(swept: Swept) -> None:
    """On other groups; hardly a normal image is harmed, and the edge comes to the labels that the lab does."""
    weights, facts = choose(swept)
    other = swept_images(1)
    votes = weights.votes(other.variants)
    right, bad = true_ranks(votes, other.labels) == 0, other.adversarial
    equal = fit_weights(swept, swept.split == "train", 0.5, 1e9)
    plain = other.variants.copies.mean(axis=1).argmax(axis=1) == other.labels

    assert np.abs(equal.operations).max() < 1e-3, "a heavy penalty holds all weights at nothing"
    assert right[bad].mean() > plain[bad].mean() + 0.1
    assert right[~bad].mean() > 0.98
    assert facts["dev_harmed"] <= 0.015
    correction = Correction(
        {
            "operations": OPERATIONS_38,
            "weights": weights.operations.tolist(),
            "original_weight": weights.original,
            "margin": 0.5,
        }
    )
    given = lead(votes) >= 0.5
    for index in range(0, len(other), 40):
        named = dict(zip(OPERATIONS_38, other.variants.copies[index], strict=True))
        label = correction.label(other.variants.original[index], named)
        assert label == (int(votes[index].argmax()) if given[index] else None)


def test_agreement_is_trained_calibrated_and_used(made: Path, tmp_path: Path, benign_sign: np.ndarray) -> None:
    """A folder without a network: T from the train split's normal images, and a bundle that holds the detector."""
    database = Database(made)
    command = ["train", "agreement", "--database", str(made), "--out", str(tmp_path / "agreement"), "--sides", "two"]
    result = CliRunner().invoke(app, [*command, "--sweep", "16", "--attacks", "deepfool", "--limit", "10"])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "agreement" / "detector.json").read_text())
    bundle = calibrate_folder(
        Path("default"),
        tmp_path / "bundle",
        BenignSource(database=made),
        CalibrationSettings([str(tmp_path / "agreement")], 0.4, name="x"),
    )

    normals = int(database.where("train").sum())
    assert report["train_normals"] == normals == sum(report["parameters"]["normal_counts"])
    assert set(report["paper_thresholds"]) == {"10", "15", "20"}
    assert report["fitted"]["splits"] == ["train"]
    assert list(bundle.files) == [bundle.manifest.classifier.file]
    verdict = Firewall.load(tmp_path / "bundle", threads=1, exhaustive=True).screen(benign_sign)
    assert set(verdict.scores) == {"agreement"} and verdict.classified == 17


def test_a_sweep_of_the_first_images_is_the_beginning_of_the_whole(made: Path) -> None:
    """Limits cut every attack and the normal images; labels, splits and groups go with them."""
    database, classifier = Database(made), open_classifier("default")
    whole = sweep(database, classifier, ["jpeg:50"], ["fgsm", "deepfool"])
    part = sweep(database, classifier, ["jpeg:50"], ["fgsm", "deepfool"], 5, 7)

    assert [int((part.attack == name).sum()) for name in ("", "deepfool")] == [7, 5]
    for name in ("", "fgsm", "deepfool"):
        first, rest = part.subset(part.attack == name), whole.subset(whole.attack == name)
        assert np.array_equal(first.variants.copies, rest.variants.copies[: len(first)])
        assert first.group.tolist() == rest.group[: len(first)].tolist()
        assert first.split.tolist() == rest.split[: len(first)].tolist()
    with pytest.raises(UsageError, match="no attack"):
        sweep(database, classifier, ["jpeg:50"], ["cw"])


def test_wrong_use(made: Path, tmp_path: Path) -> None:
    """Unknown sides or sweeps are named; a database without an attack can't choose between sides."""
    with pytest.raises(UsageError, match="--sides"):
        agreement.Settings(sides="three")
    with pytest.raises(UsageError, match="--sweep"):
        agreement.Settings(sweep=20)
    database = Database(made)
    database.card = database.card.model_copy(update={"attacks": {}})
    with pytest.raises(DataError, match="--sides auto"):
        agreement.train(database, open_classifier("default"), tmp_path, agreement.Settings(sweep=16, sides="auto"))
