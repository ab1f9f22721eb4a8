"""Contrast: how much there is to see in a region's own pixels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from firewall.bundle import DetectorSpec
from firewall.detectors import Evidence, build
from firewall.detectors.contrast import contrast
from firewall.errors import BundleError
from firewall.frame import Pixels

DETECTOR = build(DetectorSpec(name="contrast", threshold=0.0))


def score(crop: Pixels | None, image: Pixels | None = None) -> float:
    blank = np.zeros((8, 8, 3), np.uint8)
    return DETECTOR.score(Evidence(blank if image is None else image, np.zeros(2, np.float32), {}, crop=crop))


def halves(dark: int, light: int) -> Pixels:
    crop = np.full((20, 30, 3), dark, np.uint8)
    crop[:, 15:] = light
    return crop


def test_it_is_the_standard_deviation_of_luminance() -> None:
    """By the formula, of greys and of colours."""
    assert contrast(halves(0, 255)) == pytest.approx(0.5)
    assert contrast(halves(100, 151)) == pytest.approx(0.1)
    red = halves(0, 0)
    red[:, 15:, 0] = 255
    assert contrast(red) == pytest.approx(0.299 / 2)
    noise = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    assert contrast(noise) == pytest.approx((noise @ [0.299, 0.587, 0.114]).std() / 255, rel=1e-5)


def test_less_contrast_is_more_suspicious_and_finite() -> None:
    """Down to one grey, and one pixel."""
    scores = [score(halves(100, 100 + step)) for step in (155, 50, 5, 1, 0)]
    assert scores == sorted(scores) and len(set(scores)) == 5 and math.isfinite(scores[-1])
    assert score(halves(0, 255)) == pytest.approx(math.log(2))
    assert score(np.full((1, 1, 3), 7, np.uint8)) == scores[-1] == pytest.approx(-math.log(1e-4))


def test_the_crop_counts_and_not_what_was_made_of_it() -> None:
    """Where there is no crop, the classifier's image stands in."""
    flat, sharp = halves(90, 90), halves(0, 255)
    assert score(sharp, flat) < 1 < score(flat, sharp)
    assert score(None, sharp) == score(sharp)


def test_a_large_crop_costs_little_and_gives_nearly_the_same() -> None:
    """Of more than 511 rows or columns some are left out."""
    large = np.kron(np.random.default_rng(0).integers(0, 256, (40, 40, 1), np.uint8), np.ones((50, 30, 3), np.uint8))
    assert contrast(large) == pytest.approx((large @ [0.299, 0.587, 0.114]).std() / 255, rel=0.02)


def test_it_has_no_parameters() -> None:
    """A bundle that gives it any is refused."""
    with pytest.raises(BundleError, match="contrast"):
        build(DetectorSpec(name="contrast", parameters={"least": 1}, threshold=0.0))
