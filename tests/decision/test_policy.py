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


def test_a_label_that_is_not_certified_says_why() -> None:
    """There was no time to find out, or a sticker can have changed it."""
    policy, low = Policy(THRESHOLDS), {"agreement": 0.1, "confidence": 0.1}

    assert policy.judge(low, certified=None).reason is Reason.LATE
    assert policy.judge(low, certified=False).reason is Reason.UNCERTIFIED
    assert not policy.judge(low, certified=None).released and not policy.judge(low, certified=False).released


def test_contrast_is_the_reason_only_if_it_withholds() -> None:
    """Above its threshold it is; on its threshold another detector is. What is no sign at all is called that."""
    policy = Policy({"contrast": 0.5, "confidence": 1.0})

    assert policy.judge({"contrast": 0.6, "confidence": 0.0}).reason is Reason.LOW_CONTRAST
    assert policy.judge({"contrast": 0.5, "confidence": 2.0}).reason is Reason.SUSPICIOUS
    said = policy.judge({"contrast": 0.5, "confidence": 2.0}, remarks=[Reason.NOT_A_SIGN])
    assert said.reason is Reason.NOT_A_SIGN and not said.released


def test_not_a_sign_is_the_reason_if_its_own_limit_withholds() -> None:
    """Also without a remark; too little contrast comes first, and on its limit it is no reason."""
    policy = Policy({"contrast": 0.5, "not-a-sign": -1.0, "confidence": 1.0})
    quiet = {"contrast": 0.0, "confidence": 0.0}

    found = policy.judge({**quiet, "not-a-sign": -0.9})
    assert found.reason is Reason.NOT_A_SIGN and not found.released
    assert policy.judge({**quiet, "contrast": 0.6, "not-a-sign": -0.9}).reason is Reason.LOW_CONTRAST
    assert policy.judge({**quiet, "not-a-sign": -1.0, "confidence": 2.0}).reason is Reason.SUSPICIOUS
    assert policy.judge({**quiet, "not-a-sign": -1.0}).released
    both = Policy({"not-a-sign": -1.0, "obstructed": 0.0})
    assert both.judge({"not-a-sign": -2.0, "obstructed": 0.1}).reason is Reason.OBSTRUCTED
    assert both.judge({"not-a-sign": -0.9, "obstructed": 0.1}).reason is Reason.NOT_A_SIGN
    remarked = both.judge({"not-a-sign": -2.0, "obstructed": 0.1}, remarks=[Reason.NOT_A_SIGN])
    assert remarked.reason is Reason.NOT_A_SIGN, "a leaf over nothing is nothing"


def test_a_score_on_its_threshold_settles_nothing() -> None:
    """Above it the verdict stands, by however little; on it the other detectors still have to be asked, and the reason
    why it isn't released is another."""
    policy = Policy(THRESHOLDS)

    assert policy.settled({"agreement": 0.5}) and policy.settled({"agreement": math.nextafter(0.25, 1)})
    assert not policy.settled({"agreement": 0.25}) and not policy.settled({})
    assert policy.settled({"agreement": 0.25, "confidence": 1.0})
    assert policy.judge({"agreement": 0.25}, contradicted=True).reason is Reason.CONTRADICTORY
    assert policy.judge({"agreement": 0.25}).reason is Reason.DETECTOR_ERROR


@pytest.mark.parametrize(
    ("scores", "suspicion"),
    [
        ({"agreement": 0.125, "confidence": 0.5}, -0.125),
        ({"agreement": 0.25, "confidence": 0.5}, 0.0),
        ({"agreement": 0.75, "confidence": 0.5}, 0.5),
        ({"agreement": 0.75}, 0.5),  # enough to withhold, though a score is missing
        ({"agreement": 3.25, "confidence": math.nan}, 3.0),
        ({"agreement": 0.25}, None),
        ({"agreement": 0.125}, None),
        ({}, None),
    ],
)
def test_the_suspicion_is_the_largest_excess(scores: dict[str, float], suspicion: float | None) -> None:
    """How far the highest score lies above its threshold; unknown where a score that is missing could lie higher."""
    assert Policy(THRESHOLDS).judge(scores).suspicion == suspicion


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
        ([(0, 0, 10, 1), (0, 0, 3, 1)], [1, 2], [True, True]),  # IoU .3, which is one place still
        ([], [], []),
    ],
)
def test_regions_of_one_place_must_agree(
    regions: list[tuple[int, int, int, int]], labels: list[int], doubted: list[bool]
) -> None:
    """Two labels for one place put both in doubt; the same label, or another place, does not."""
    assert contradictions(regions, labels) == doubted
