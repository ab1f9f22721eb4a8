"""Certificates that run as a sweep: patches by double masking, l2 by smoothing; the commands and what they prove."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.stats import norm

from firewall import cli
from firewall.bundle import load_bundle
from firewall.decision.masking import masks_for
from firewall.demo.scene import Encounter, render
from firewall.engines import open_engine
from firewall.errors import UsageError
from firewall.lab.certification.classifier import Subject, open_subject
from firewall.lab.certification.patches import certify_patches
from firewall.lab.certification.smoothing import certified_radius, certify_smoothing, lower_bound
from firewall.lab.cli import app
from firewall.lab.models.sign_classifier import SignClassifier
from firewall.lab.training.classifiers.masked_classifier import MaskedSettings, Masking, train_masked
from firewall.transforms import resize

Pixels = npt.NDArray[np.uint8]


class HalfSpace:
    """Class 1 where a weighted sum of the pixels lies above a limit: smoothing's exact answer is known."""

    provider = "test"

    def __init__(self, weights: npt.NDArray[np.float64], limit: float) -> None:
        self.weights, self.limit = weights, limit

    def classify(self, images: Pixels) -> npt.NDArray[np.float32]:
        score = (images / 255 * self.weights).sum(axis=(1, 2, 3)) - self.limit
        return np.stack([-score, score], axis=1).astype(np.float32)


def _half_space(distance: float) -> tuple[Subject, Pixels]:
    """An image of 12x12 grey pixels that lies `distance` (l2) on the side of class 1."""
    weights = np.random.default_rng(0).normal(size=(12, 12, 3))
    weights /= np.linalg.norm(weights)
    image = np.full((12, 12, 3), 128, np.uint8)
    limit = float((image / 255 * weights).sum()) - distance
    return Subject(HalfSpace(weights, limit), ("no", "yes"), 12, 12, {}), image


def test_smoothing_never_certifies_beyond_the_border() -> None:
    """Of a half space the largest true radius is the distance to it: the certificate stays below, and gets near."""
    subject, image = _half_space(0.08)

    found = certify_smoothing(subject, iter([(0, image, 1)]), 1, sigma=0.05, samples=4000, alpha=0.001)

    (row,) = found["rows"]
    assert row["certified"] and 0.06 < row["radius"] < 0.08
    assert row["probability_at_least"] < norm.cdf(0.08 / 0.05)
    assert found["summary"]["curve"][1] == {"radius": 0.05, "certified_accuracy": 1.0, "ci95": [0.025, 1.0]}


def test_smoothing_abstains_at_the_border_and_is_wrong_about_the_wrong() -> None:
    """Where both classes are as likely nothing is said; a wrong class is not called certified, however sure."""
    subject, image = _half_space(0.0)
    border = certify_smoothing(subject, iter([(0, image, 1)]), 1, sigma=0.05, samples=300, alpha=0.001)
    assert border["rows"][0]["predicted"] is None and not border["rows"][0]["certified"]
    assert border["summary"]["abstained"] == 1.0 and border["rows"][0]["radius"] == 0.0

    subject, image = _half_space(0.5)
    wrong = certify_smoothing(subject, iter([(0, image, 0)]), 1, sigma=0.05, samples=300, alpha=0.001)
    assert wrong["rows"][0]["predicted"] == 1 and not wrong["rows"][0]["certified"]
    assert wrong["summary"]["smoothed_accuracy"] == 0.0


def test_the_radius_is_cohens() -> None:
    """sigma times the quantile of alpha^(1/n) if all n agree; nothing at half of them."""
    assert lower_bound(1000, 1000, 0.001) == pytest.approx(0.001 ** (1 / 1000))
    found = certified_radius(1000, 1000, 0.001, 0.25)
    assert found is not None and found[1] == pytest.approx(0.25 * norm.ppf(0.001**0.001))
    assert certified_radius(500, 1000, 0.001, 0.25) is None and certified_radius(530, 1000, 0.001, 0.25) is None


@pytest.mark.parametrize(
    "wrong", [{"sigma": 0.0}, {"sigma": math.nan}, {"alpha": 0.0}, {"alpha": 0.5}, {"samples": 5}, {"samples": 0}]
)
def test_smoothing_that_can_say_nothing_is_refused(wrong: dict[str, float]) -> None:
    """Before the first image is classified."""
    subject, image = _half_space(0.1)
    settings = {"sigma": 0.05, "alpha": 0.001, "samples": 100, **wrong}
    with pytest.raises(UsageError, match="--"):
        certify_smoothing(subject, iter([(0, image, 1)]), 1, **settings)  # type: ignore[arg-type]


def _drawn(label: int) -> Pixels:
    encounter = Encounter(label, seed=7000 + 10 * label, side="right", light="day", steps=10)
    pixels, (x, y, width, height) = render(encounter, 7)
    margin = width // 8
    crop = pixels[max(0, y - margin) : y + height + margin, max(0, x - margin) : x + width + margin]
    return resize(np.ascontiguousarray(crop), 48, 48)


def test_no_patch_on_a_sign_changes_what_is_certified() -> None:
    """The default classifier on drawn signs: under loud patches at many places double masking still gives the label of
    every certified image. Small stickers, of which some are certified without training."""
    bundle = load_bundle()
    engine = open_engine(bundle, threads=1)
    subject = Subject(engine, bundle.manifest.classifier.labels, 48, 48, {})
    images = [(label, _drawn(label), label) for label in (12, 13, 17)]

    found = certify_patches(subject, iter(images), len(images), 9 / 48**2, along=4)

    certified = [image for image, row in zip(images, found["rows"], strict=True) if row["certified"]]
    assert certified, "nothing to look at"
    by_class = found["summary"]["by_class"]
    assert sum(one["images"] for one in by_class.values()) == len(images)
    assert sum(one["certified"] for one in by_class.values()) == len(certified)
    masks = masks_for(48, 48, 9 / 48**2, 4)
    generator = np.random.default_rng(0)
    for _, pixels, label in certified:
        for _ in range(8):
            top, left = generator.integers(0, 46, 2)
            patched = pixels.copy()
            patched[top : top + 3, left : left + 3] = generator.choice([0, 255], (3, 3, 3))
            assert masks.recovered(patched, engine.classify) == label
    assert found["cost"]["rounds_1"]["images"] <= 16 and found["summary"]["clean_accuracy"]["value"] == 1.0


def test_the_commands_write_rows_that_others_rely_on(signs: Path, tmp_path: Path) -> None:
    """index, label, predicted and certified for each image, the same images for the same seed."""
    shared = ["--dataset", f"folder:{signs}", "--limit", "2"]
    patch, smoothing = tmp_path / "new" / "p.json", tmp_path / "s.json"
    masks = ["--area", "0.004", "--masks", "2", "--json", str(patch)]
    assert cli.run(app, ["certify", "patch", "--bundle", "default", *shared, *masks], "firewall lab") == 0
    noise = ["--sigma", "0.02", "--samples", "100", "--json", str(smoothing)]
    assert cli.run(app, ["certify", "smoothing", *shared, *noise], "firewall lab") == 0

    found = [json.loads(file.read_text()) for file in (patch, smoothing)]
    for result in found:
        assert len(result["rows"]) == 2 and result["about"]["images"] == 2
        assert all({"index", "label", "predicted", "certified"} <= row.keys() for row in result["rows"])
    assert [row["index"] for row in found[0]["rows"]] == [row["index"] for row in found[1]["rows"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ["patch", "--area", "0"],
        ["patch", "--area", "0.6"],
        ["patch", "--masks", "1"],
        ["patch", "--limit", "0"],
        ["smoothing", "--sigma", "-1"],
        ["smoothing", "--bundle", "nowhere"],
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], signs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A user's mistake ends with exit code 1 or 2 and says what is allowed."""
    command = ["certify", *arguments, "--dataset", f"folder:{signs}"]
    assert cli.run(app, command, "firewall lab") in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("firewall: error: ") and len(error.strip().splitlines()) == 1


def test_refining_on_masks_gives_a_classifier_of_its_own(small_gtsrb: Path, tmp_path: Path) -> None:
    """It can be calibrated and goes on where it was; what it refines is named by its hash, and stays."""
    settings = MaskedSettings(epochs=1, images=64, batch=32)

    card = train_masked(small_gtsrb, tmp_path / "masked", settings, workers=0)

    again = train_masked(small_gtsrb, tmp_path / "masked", settings, workers=0)
    assert card["sha256"] == again["sha256"] != load_bundle().manifest.files["classifier.onnx"].sha256
    assert card["training"]["refines"] == load_bundle().manifest.files["classifier.onnx"].sha256
    with pytest.raises(UsageError, match="less than a batch"):
        train_masked(small_gtsrb, tmp_path / "none", MaskedSettings(images=10), workers=0)

    folder, own = str(tmp_path / "bundle"), load_bundle().manifest
    assert cli.run(app, ["masked", "--classifier", str(tmp_path / "masked"), "--out", folder], "firewall lab") == 0
    bundle = load_bundle(folder)
    assert bundle.manifest.masked_classifier and bundle.manifest.masked_classifier.labels == own.classifier.labels
    assert bundle.manifest.files[bundle.manifest.masked_classifier.file].sha256 == card["sha256"]
    # The juror that asks the bundle's first classifier for masks about the whole image keeps its network.
    assert bundle.manifest.files["masked.onnx"] == own.files["masked.onnx"]
    assert bundle.manifest.files["classifier.onnx"] == own.files["classifier.onnx"]
    subject = open_subject(folder)
    images = np.stack([_drawn(12), _drawn(14)])
    assert subject.about["masked_classifier_sha256"] == card["sha256"]
    assert not np.array_equal(subject.under_masks.classify(images), subject.engine.classify(images))

    further = train_masked(small_gtsrb, tmp_path / "further", settings, start=str(tmp_path / "masked"), workers=0)
    assert further["training"]["refines"] == card["sha256"] != further["sha256"]


def test_masked_training_can_begin_anew_and_show_the_worst_masks(tmp_path: Path, small_gtsrb: Path) -> None:
    """From random weights nothing is refined, the result is the same network after a stop, and another number of pairs
    to choose from gives another one."""
    settings = MaskedSettings(epochs=2, images=64, batch=32, worst=3, easy=0.5)
    with pytest.raises(UsageError, match="at least 1 pair"):
        train_masked(small_gtsrb, tmp_path / "none", MaskedSettings(worst=0), workers=0)

    card = train_masked(small_gtsrb, tmp_path / "anew", settings, start="none", workers=0)
    easier = train_masked(small_gtsrb, tmp_path / "easier", replace(settings, worst=1), start="none", workers=0)

    assert card["training"]["refines"] is None and card["training"]["masks"]["worst_of"] == 3
    assert card["sha256"] != easier["sha256"]


def test_the_worst_of_several_masks_costs_more() -> None:
    """Once the easy part of the training is over the masks shown have a higher loss than random ones, hide as much, and
    some images stay whole."""
    torch.manual_seed(0)
    network, images, labels = SignClassifier(5), torch.rand(64, 3, 48, 48), torch.arange(64) % 5
    masking = Masking(MaskedSettings(worst=8, easy=0.5), 13, 0.5)

    def loss(done: float) -> float:
        shown = masking(network.train(), images, labels, done)
        assert network.training
        whole = (shown == images).flatten(1).all(1)
        assert 0 < whole.sum() < 32
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(network.eval()(shown), labels))

    assert loss(0.9) > loss(0.1)
