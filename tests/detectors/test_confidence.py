from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall.detectors import Evidence
from firewall.detectors.confidence import Confidence, log_odds
from firewall.errors import BundleError


@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=6))
def test_log_odds_are_those_of_softmax(logits: list[float]) -> None:
    """log(p / (1 - p)) of the softmax's largest probability, checked against the definition."""
    values = np.array(logits, np.float64)
    weights = np.sort(np.exp(values - values.max()))
    expected = np.log(weights[-1]) - np.log(weights[:-1].sum())

    assert log_odds(np.array(logits, np.float32)) == pytest.approx(expected, abs=1e-5)


def test_log_odds_of_enormous_logits_are_finite() -> None:
    """Attacks drive logits far: nothing may overflow."""
    assert np.isfinite(log_odds(np.array([3e4, -3e4, 0], np.float32)))


@pytest.mark.parametrize(("logit", "expected"), [(4.0, 0.0), (2.0, 1.0), (5.0, 2.0)])
def test_distance_is_measured_in_the_usual_range_of_its_side(logit: float, expected: float) -> None:
    """Median 4, usual down to 2 and up to 4.5: both too little and too much confidence are suspicious."""
    detector = Confidence({"median": 4.0, "below": 2.0, "above": 0.5})
    evidence = Evidence(np.zeros((1, 1, 3), np.uint8), np.array([logit, 0.0], np.float32), {})

    assert detector.score(evidence) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "parameters", [{}, {"median": 1, "below": 0, "above": 1}, {"median": float("nan"), "below": 1, "above": 1}]
)
def test_parameters_that_do_not_fit_are_refused(parameters: dict[str, object]) -> None:
    """A scale of zero or a median that is not a number would give scores that mean nothing."""
    with pytest.raises(BundleError, match="confidence"):
        Confidence(parameters)
