from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall import Firewall
from firewall.errors import DataError, UsageError
from firewall.frame import Pixels
from firewall.lab.calibration.settings import BenignImages, CalibrationSettings
from firewall.lab.calibration.thresholds import calibrate, detector_specs
from firewall.lab.measurement.conformal import conformal_threshold
from firewall.lab.measurement.edge import Measured, measure
from firewall.transforms import SWEEP_16

OPERATIONS = [f"jpeg:{quality}" for quality in SWEEP_16]


@given(st.lists(st.integers(0, 16), min_size=99, max_size=400), st.sampled_from([0.01, 0.02, 0.05, 0.2]))
def test_no_more_than_the_rate_lies_above_the_threshold(scores: list[int], rate: float) -> None:
    """Also with many ties: the share of calibration scores above the threshold is at most the rate, and the next lower
    score would not do for the conformal rank."""
    values = np.array(scores, np.float64) / 16
    threshold = conformal_threshold(values, rate)

    assert (values > threshold).mean() <= rate
    assert (values >= threshold).sum() >= len(values) - math.ceil((len(values) + 1) * (1 - rate)) + 1


def test_the_rate_holds_on_further_exchangeable_scores() -> None:
    """Over many draws the mean rate above the threshold stays within the asked one (the conformal guarantee)."""
    generator = np.random.default_rng(0)
    rates = []
    for _ in range(400):
        scores = generator.exponential(size=600)
        threshold = conformal_threshold(scores[:200], 0.05)
        rates.append((scores[200:] > threshold).mean())

    assert np.mean(rates) <= 0.05 + 3 * np.std(rates) / math.sqrt(len(rates))


def test_too_few_images_for_the_rate_says_how_many() -> None:
    """One per cent needs 99 normal images; the error names both numbers."""
    conformal_threshold(np.arange(99.0), 0.01)
    with pytest.raises(DataError, match="at least 99 benign images, got 98"):
        conformal_threshold(np.arange(98.0), 0.01)


@pytest.mark.parametrize("inverse", [2, 3, 7, 10, 30, 49, 99, 100, 300, 1000])
def test_the_images_that_are_needed_are_enough_and_one_less_is_not(inverse: int) -> None:
    """Whatever 1 / rate comes to in binary: as many as the error names do, the threshold is their largest score, and
    what equals it is not above it."""
    need = inverse - 1
    scores = np.arange(float(need))

    assert conformal_threshold(scores, 1 / inverse) == need - 1
    assert conformal_threshold(np.zeros(need), 1 / inverse) == 0.0
    with pytest.raises(DataError, match=f"at least {need} "):
        conformal_threshold(scores[:-1], 1 / inverse)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_rates_outside_0_to_1_are_refused(rate: float) -> None:
    """A rate is a share."""
    with pytest.raises(UsageError, match="between 0 and 1"):
        conformal_threshold(np.arange(1000.0), rate)


@pytest.fixture(scope="module")
def normal(guard: Firewall, benign_sign: Pixels) -> Measured:
    generator = np.random.default_rng(3)
    images = [
        np.clip(benign_sign + generator.normal(0, 6, benign_sign.shape), 0, 255).astype(np.uint8) for _ in range(250)
    ]
    return measure(guard.engine, images, OPERATIONS, width=48, height=48, progress=False)


def test_measuring_is_the_edges_own_path(guard: Firewall, normal: Measured) -> None:
    """Scores of the lab equal the scores the firewall computes for the same image, bit for bit."""
    full = Firewall(guard.bundle, guard.engine, exhaustive=True)
    operations = dict.fromkeys(name for detector in full.detectors for name in detector.operations)
    few = measure(guard.engine, list(normal.images[::60]), tuple(operations), width=48, height=48, progress=False)
    verdicts = [full.screen(image) for image in few.images]
    for detector in full.detectors:
        for verdict, score in zip(verdicts, few.scores(detector), strict=True):
            assert verdict.scores[detector.name] == score


def test_the_asked_rate_is_shared_out(normal: Measured) -> None:
    """Two detectors at 5 % withhold at most 5 % of the calibration images between them."""
    from firewall.detectors import build

    specs = detector_specs(["agreement", "confidence"], normal, 0.05)
    above = np.any([normal.scores(build(spec)) > spec.threshold for spec in specs], axis=0)

    assert above.mean() <= 0.05


@pytest.mark.parametrize("names", [[], ["crystal-ball"]])
def test_unknown_detectors_are_refused(normal: Measured, names: list[str]) -> None:
    """The error lists what there is."""
    with pytest.raises(UsageError, match="known: agreement"):
        detector_specs(names, normal, 0.05)


def test_a_calibrated_bundle_loads_and_says_what_it_was_made_of(
    guard: Firewall, normal: Measured, tmp_path: Path
) -> None:
    """From classifier and normal images to a bundle that judges; data, count, rate and measured rates are in it."""
    manifest = guard.bundle.manifest
    bundle = calibrate(
        manifest.classifier,
        guard.bundle.files[manifest.classifier.file],
        BenignImages(list(normal.images), "noisy copies of one sign"),
        tmp_path / "bundle",
        CalibrationSettings(["agreement-two-sided", "confidence"], rate=0.05),
    )

    card = bundle.manifest.calibration
    assert (card.data, card.images, card.false_positive_rate) == ("noisy copies of one sign", 250, 0.05)
    assert card.rates["withheld on calibration images"] <= 0.05
    judged = [Firewall.load(tmp_path / "bundle").screen(pixels).released for pixels in normal.images[:40]]
    assert np.mean(judged) > 0.7
