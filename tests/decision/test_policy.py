from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall.decision.policy import Policy, contradictions
from firewall.verdict import Reason

THRESHOLDS = {"agreement": 0.25, "confidence": 1.0}
numbers = st.floats(allow_nan=True, allow_infinity=True)


@given(st.dictionaries(st.sampled_from(["agreement", "confidence", "other"]), numbers), st.booleans(), st.booleans())
def test_only_complete_finite_low_scores_in_time_release(
    scores: dict[str, float], late: bool, contradicted: bool
) -> None:
    """Whatever the scores are, a release means: all there, all finite, none above its threshold, in time, and nothing
    else seen at the same place."""
    judgement = Policy(THRESHOLDS).judge(scores, late=late, contradicted=contradicted)

    should = not (late or contradicted) and all(
        name in scores and math.isfinite(scores[name]) and scores[name] <= limit for name, limit in THRESHOLDS.items()
    )
    assert judgement.released == should
    assert (judgement.reason is Reason.BENIGN) == should


@given(st.floats(0, 1), st.floats(0, 2), st.floats(0, 1))
def test_a_higher_score_never_turns_withhold_into_release(low: float, confidence: float, more: float) -> None:
    """The verdict is monotone in each score."""
    policy = Policy(THRESHOLDS)
    before = policy.judge({"agreement": low, "confidence": confidence})
    after = policy.judge({"agreement": low + more, "confidence": confidence})

    assert before.released or not after.released


@pytest.mark.parametrize(("score", "released"), [(0.25, True), (math.nextafter(0.25, 1), False)])
def test_the_threshold_itself_still_passes(score: float, released: bool) -> None:
    """`score > threshold` withholds, equality does not: the paper's `count < T` rests on it."""
    assert Policy({"agreement": 0.25}).judge({"agreement": score}).released == released


def test_reasons() -> None:
    """Suspicion outranks contradiction, that outranks lateness, and that a missing score."""
    policy = Policy(THRESHOLDS)

    assert policy.judge({"agreement": 0.9}, late=True).reason is Reason.SUSPICIOUS
    assert policy.judge({"agreement": 0.9}, contradicted=True).reason is Reason.SUSPICIOUS
    assert policy.judge({}, contradicted=True, late=True).reason is Reason.CONTRADICTORY
    assert policy.judge({"agreement": 0.1}, late=True).reason is Reason.LATE
    assert policy.judge({"agreement": 0.1}).reason is Reason.DETECTOR_ERROR
    assert policy.judge({"agreement": math.nan, "confidence": 0.0}).reason is Reason.DETECTOR_ERROR


def test_a_policy_without_detectors_releases_nothing() -> None:
    """No evidence is no permission."""
    for scores, late in itertools.product([{}, {"agreement": 0.0}], [False, True]):
        assert not Policy({}).judge(scores, late=late).released


@pytest.mark.parametrize(
    ("regions", "labels", "doubted"),
    [
        ([(0, 0, 10, 10), (0, 0, 10, 10)], [1, 2], [True, True]),
        ([(0, 0, 10, 10), (0, 0, 10, 10)], [1, 1], [False, False]),
        ([(0, 0, 10, 10), (2, 2, 6, 6)], [1, 2], [True, True]),  # IoU .36
        ([(0, 0, 10, 10), (3, 3, 4, 4)], [1, 2], [False, False]),  # IoU .16: a part of a sign is no sign of its own
        ([(0, 0, 10, 10), (50, 0, 10, 10)], [1, 2], [False, False]),
        ([(0, 0, 10, 10), (1, 1, 9, 9), (50, 50, 9, 9)], [1, 2, 3], [True, True, False]),
        ([(4, 5, 1, 1)], [7], [False]),
    ],
)
def test_regions_of_one_place_must_agree(
    regions: list[tuple[int, int, int, int]], labels: list[int], doubted: list[bool]
) -> None:
    """Two labels for one place put both in doubt; the same label, or another place, does not."""
    assert contradictions(regions, labels) == doubted
