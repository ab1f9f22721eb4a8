from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall.bundle import FusionSpec, FusionTerm, load_bundle, write_bundle
from firewall.decision.fusion import Fusion, excess_of, limits_of, shares_of
from firewall.decision.policy import Policy
from firewall.errors import BundleError
from firewall.screening import Firewall
from firewall.verdict import Reason
from tests.fused_bundle import fused_bundle

SPEC = FusionSpec(
    terms=(
        FusionTerm(detector="residual", centre=-2.0, unit=1.0, weight=1.0, release_below=0.5),
        FusionTerm(detector="confidence", centre=0.0, unit=2.0, weight=0.5),
        FusionTerm(detector="agreement", centre=0.1, unit=0.1, weight=2.0),
    ),
    cap=5.0,
    power=2.0,
    threshold=3.0,
)
NAMES = [term.detector for term in SPEC.terms]
#: The default bundle's one detector that asks for copies, and for how many.
SWEEPING, COPIES = next(
    (spec.name, len(spec.parameters["operations"]))
    for spec in load_bundle(fused_bundle()).manifest.detectors
    if "operations" in spec.parameters
)
finite = st.floats(-50, 50)


def test_the_suspicion_is_the_weighted_sum_of_what_lies_beyond_normal() -> None:
    """weight * clip((score - centre) / unit, 0, cap) ** power, worked out by hand: 1 * 1 + .5 * 4 + 2 * 25 - 3."""
    excess = Fusion(SPEC).excess({"residual": -1.0, "confidence": 4.0, "agreement": 9.0})

    assert excess == pytest.approx(1 + 0.5 * 4 + 2 * 25 - 3)


@given(st.fixed_dictionaries(dict.fromkeys(NAMES, finite)), st.sampled_from(NAMES), st.floats(0, 20))
def test_a_higher_score_never_turns_withhold_into_release(scores: dict[str, float], name: str, more: float) -> None:
    """The fused verdict is monotone in each score, with all of them known."""
    policy = Policy(Fusion(SPEC))

    before, after = policy.judge(scores), policy.judge({**scores, name: scores[name] + more})

    assert before.released or not after.released


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, st.floats(allow_nan=True, allow_infinity=True))))
def test_a_release_needs_finite_scores_as_far_as_an_early_exit(scores: dict[str, float]) -> None:
    """No missing, infinite or NaN score releases, but those of detectors after one that was sure enough."""
    judgement = Policy(Fusion(SPEC)).judge(scores)

    if judgement.released:
        assert math.isfinite(scores.get("residual", math.nan))
        sure = scores["residual"] < -2 + math.sqrt(0.5)
        assert sure or all(math.isfinite(scores.get(name, math.nan)) for name in NAMES)


@given(st.fixed_dictionaries(dict.fromkeys(NAMES, finite)))
def test_what_withholds_early_withholds_in_the_end(scores: dict[str, float]) -> None:
    """A sum above the threshold stays above it, whatever the detectors that were not asked would have said."""
    policy, known = Policy(Fusion(SPEC)), {}
    for name in NAMES:
        known[name] = scores[name]
        if policy.excess(known) > 0:
            assert not policy.judge(scores).released
            return


def test_a_score_that_is_no_number_withholds_with_a_reason() -> None:
    """NaN is neither benign nor counted as 0."""
    judgement = Policy(Fusion(SPEC)).judge({"residual": math.nan, "confidence": 0.0, "agreement": 0.0})

    assert (judgement.released, judgement.reason) == (False, Reason.DETECTOR_ERROR)


def _default_with(tmp_path: Any, fusion: FusionSpec, correction: dict[str, Any] | None = None) -> Any:
    bundle = load_bundle(fused_bundle())
    fields = {name: getattr(bundle.manifest, name) for name in type(bundle.manifest).model_fields}
    for name in ("format", "files", "version", "fusion", "correction"):
        fields.pop(name)
    return write_bundle(tmp_path / "bundle", bundle.files, **fields, fusion=fusion, correction=correction)


def _fusion_for_default(threshold: float, release_below: float | None) -> FusionSpec:
    names = sorted(
        (spec.name for spec in load_bundle(fused_bundle()).manifest.detectors), key=lambda name: name == SWEEPING
    )
    terms = [FusionTerm(detector=name, centre=0.0, unit=1.0, weight=1.0) for name in names]
    terms[0] = terms[0].model_copy(update={"release_below": release_below})
    return FusionSpec(terms=tuple(terms), cap=10.0, threshold=threshold)


@pytest.mark.parametrize(("release_below", "classified"), [(1e9, 1), (None, COPIES + 1)])
def test_a_fused_bundle_asks_only_while_the_verdict_is_open(
    tmp_path: Any, release_below: float | None, classified: int
) -> None:
    """With an early exit that everything passes the sweep is never begun; without one all copies are classified."""
    bundle = _default_with(tmp_path, _fusion_for_default(1e6, release_below))
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)

    verdict = Firewall.load(bundle.path, threads=1).screen(noise)

    assert verdict.released and verdict.classified == classified and verdict.unsigned
    assert set(verdict.evidence) == set(verdict.scores)


def test_asking_every_detector_changes_no_decision(tmp_path: Any) -> None:
    """What is released early stays released when the operator sees all scores, though their sum is above the limit."""
    correction = {"operations": ["jpeg:41"], "weights": [1.0]}
    bundle = _default_with(tmp_path, _fusion_for_default(8.0, 1e9), correction)
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)

    brief, full = (Firewall.load(bundle.path, threads=1, exhaustive=each).screen(noise) for each in (False, True))

    assert brief.released and full.released and brief.suspicion == full.suspicion <= 0
    assert len(brief.scores) == 1 and sum(full.evidence.values()) > 8.0, "all of them together would have withheld it"
    assert full.corrected_label is None and full.classified == COPIES + 1


def test_the_operator_gets_a_corrected_label_of_what_is_withheld(tmp_path: Any) -> None:
    """Two copies more are classified for it; nobody else pays for that or sees it, and a released image has none."""
    correction = {"operations": ["jpeg:41", "jpeg:43"], "weights": [1.0, 1.0]}
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    withholding = _default_with(tmp_path / "a", _fusion_for_default(-1.0, None), correction)
    releasing = _default_with(tmp_path / "b", _fusion_for_default(1e6, None), correction)

    full = Firewall.load(withholding.path, threads=1, exhaustive=True).screen(noise)
    brief = Firewall.load(withholding.path, threads=1).screen(noise)
    released = Firewall.load(releasing.path, threads=1, exhaustive=True).screen(noise)

    assert isinstance(full.corrected_label, int) and full.classified == COPIES + 3 and not full.released
    assert brief.corrected_label is None and brief.classified <= COPIES + 1
    assert released.released and released.corrected_label is None
    assert "corrected_label" not in full.line() and full.line(operator=True)["corrected_label"] == full.corrected_label


def test_a_correction_that_does_not_fit_is_refused(tmp_path: Any) -> None:
    """One weight for two operations: no bundle to judge by."""
    broken = {"operations": ["jpeg:41", "jpeg:43"], "weights": [1.0]}
    bundle = _default_with(tmp_path, _fusion_for_default(1.0, None), broken)

    with pytest.raises(BundleError, match="every operation needs one weight"):
        Firewall.load(bundle.path)


def test_a_fusion_of_detectors_that_the_bundle_lacks_is_refused(tmp_path: Any) -> None:
    """Not a guess with fewer detectors: an error that names both lists."""
    with pytest.raises(BundleError, match=r"fusion asks residual, confidence, agreement.*detectors are"):
        _default_with(tmp_path, SPEC)


def test_a_score_beyond_its_own_limit_withholds_whatever_the_others_say() -> None:
    """An image of nothing may look harmless to all detectors but one; the limit itself is not yet beyond."""
    terms = (SPEC.terms[0].model_copy(update={"withhold_above": 4.0, "weight": 0.0}), *SPEC.terms[1:])
    fusion = Fusion(SPEC.model_copy(update={"terms": terms}))

    harmless = {"confidence": -9.0, "agreement": 0.0}

    assert fusion.excess({"residual": 4.5, **harmless}) == pytest.approx(0.5)
    assert fusion.excess({"residual": 4.0, **harmless}) <= 0
    assert not Policy(fusion).judge({"residual": 4.5, **harmless}).released
    assert Policy(fusion).judge({"residual": 4.0, **harmless}).released
    assert fusion.exceeded({"residual": 4.5, **harmless}) == ("residual",)
    assert fusion.exceeded({"residual": 4.0, **harmless}) == fusion.exceeded(harmless) == ()


def test_what_each_detector_adds() -> None:
    """By hand: nothing below its centre, its share of the cap at most, NaN for what is no finite number, and nothing at
    all where no score is there or the fusion doesn't name the detector."""
    fusion = Fusion(SPEC)
    assert fusion.order == ("residual", "confidence", "agreement")
    assert fusion.shares({"residual": -1.5, "confidence": 1.0}) == {"residual": 0.25, "confidence": 0.125}
    assert fusion.shares({"residual": -3.0, "confidence": 99.0, "other": 9.0}) == {"residual": 0.0, "confidence": 12.5}
    for wrong in (math.nan, math.inf, -math.inf):
        assert math.isnan(fusion.shares({"residual": wrong})["residual"])
    assert fusion.shares({}) == {} and fusion.excess({}) == -3.0
    assert fusion.excess({"residual": math.nan, "confidence": 4.0}) == -1.0


def test_enough_is_known_after_every_score_or_a_sure_one() -> None:
    """An early exit needs less suspicion than its limit, so far, in the order in which detectors are asked."""
    fusion = Fusion(SPEC)
    sure, doubtful = -2 + math.sqrt(0.499), -2 + math.sqrt(0.501)
    assert fusion.complete({"residual": sure}) and not fusion.complete({"residual": doubtful})
    assert not fusion.complete({"residual": doubtful, "confidence": 0.0})
    assert not fusion.complete({"confidence": 0.0, "agreement": 0.0})
    assert fusion.complete({"residual": doubtful, "confidence": 0.0, "agreement": 0.0})
    late = SPEC.terms[1].model_copy(update={"release_below": 1.0})
    second = Fusion(SPEC.model_copy(update={"terms": (SPEC.terms[0], late, SPEC.terms[2])}))
    # .75 ** 2 of the first and .5 * .75 ** 2 of the second: less than 1 together.
    assert second.complete({"residual": -1.25, "confidence": 1.5})
    assert not second.complete({"residual": -1.25, "confidence": 2.0})
    exact = SPEC.terms[0].model_copy(update={"release_below": 0.25})
    assert not Fusion(SPEC.model_copy(update={"terms": (exact, *SPEC.terms[1:])})).complete({"residual": -1.5})


def test_a_score_that_is_no_number_has_no_limit_of_its_own() -> None:
    """Infinity is a failure, which withholds for want of a score, and no excess that could be compared."""
    alone = SPEC.terms[0].model_copy(update={"withhold_above": 4.0})
    fusion = Fusion(SPEC.model_copy(update={"terms": (alone, *SPEC.terms[1:])}))
    assert fusion.excess({"residual": math.inf, "confidence": 0.0}) == -3.0
    assert fusion.excess({"confidence": 0.0}) == -3.0
    assert fusion.excess({"residual": 6.5}) == pytest.approx(25 - 3)
    harmless = fusion.spec.model_copy(update={"threshold": 100.0})
    assert Fusion(harmless).excess({"residual": 6.5}) == 2.5


def test_many_images_at_once_come_to_the_same_as_each_by_itself() -> None:
    """What the lab fits on is what the edge judges by: shares, limits and suspicions, in a table of any shape."""
    limited = SPEC.terms[1].model_copy(update={"withhold_above": 6.0})
    spec = SPEC.model_copy(update={"terms": (SPEC.terms[0], limited, SPEC.terms[2])})
    scores = np.random.default_rng(0).normal((-2.0, 2.0, 0.2), (3.0, 5.0, 0.4), (400, 3))
    each = [dict(zip(NAMES, row, strict=True)) for row in scores.tolist()]
    fusion = Fusion(spec)

    shares, excess = shares_of(spec, scores), excess_of(spec, scores)

    assert limits_of(spec).tolist() == [math.inf, 6.0, math.inf]
    assert shares == pytest.approx(np.array([[fusion.shares(one)[name] for name in NAMES] for one in each]))
    assert excess == pytest.approx(np.array([fusion.excess(one) for one in each]))
    assert shares.shape == (400, 3) and 0 < (excess > 0).sum() < 400
    by_image = scores.reshape(80, 5, 3)
    assert np.array_equal(shares_of(spec, by_image), shares.reshape(80, 5, 3))
    assert np.array_equal(excess_of(spec, by_image), excess.reshape(80, 5))
    by_itself = (scores[:, 1] > 6.0) & (shares.sum(axis=1) <= spec.threshold + scores[:, 1] - 6.0)
    assert by_itself.any() and excess[by_itself] == pytest.approx(scores[by_itself, 1] - 6.0)
