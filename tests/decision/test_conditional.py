"""Limits by the size of a region: what they are, what is asked, and what goes out."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall import Firewall, Frame
from firewall.bundle import DetectorSpec, FusionSpec, FusionTerm, PatchSpec, load_bundle
from firewall.bundle.certificate import judges
from firewall.bundle.conditional import CONDITIONAL_FILE, ConditionalSpec, GroupSpec, LimitSpec
from firewall.decision.conditional import Conditional, groups_of, suspicions_of
from firewall.decision.fusion import Fusion
from firewall.decision.policy import Policy
from firewall.decision.rules import Rules
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import BundleError
from firewall.frame import Pixels
from firewall.verdict import Reason, Verdict
from tests.clock import Clock
from tests.fused_bundle import fused_bundle
from tests.jurors import bundle_with, constant_network, juror

NAMES = ("confidence", "juror-a", "contrast")
finite = st.floats(-50, 50)
anything = st.floats(allow_nan=True, allow_infinity=True)
sides = st.integers(1, 300)


def group(threshold: float, *limits: tuple[float, float, float]) -> GroupSpec:
    return GroupSpec(threshold=threshold, limits=tuple(LimitSpec(median=m, unit=u, limit=x) for m, u, x in limits))


def made(**changes: Any) -> ConditionalSpec:
    fields: dict[str, Any] = {
        "detectors": NAMES,
        "edges": (24, 40),
        "power": 2.0,
        "groups": (
            group(6.0, (0.0, 2.0, 20.0), (-3.0, 1.0, 9.0), (2.0, 0.5, 5.0)),
            group(3.0, (0.0, 1.0, 4.0), (-6.0, 2.0, 1.0), (1.5, 0.5, 4.0)),
            group(2.0, (-1.0, 1.0, 2.0), (-8.0, 2.0, -1.0), (1.0, 0.25, 3.0)),
        ),
        "rate": 0.01,
        "level": 0.002,
        **changes,
    }
    return ConditionalSpec(**fields)


SPEC = made()
RULES = Conditional(SPEC)


@pytest.mark.parametrize(("side", "number"), [(1, 0), (23, 0), (24, 1), (39, 1), (40, 2), (41, 2), (100_000, 2)])
def test_each_size_has_its_group(side: int, number: int) -> None:
    """A group begins at its edge; below the first edge it is the first group, from the last on the last."""
    assert SPEC.group(side) == number == int(groups_of(SPEC, np.array([side]))[0])
    assert RULES.rule(side).threshold == SPEC.groups[number].threshold


def test_the_suspicion_by_hand() -> None:
    """(1 ** 2 + 2 ** 2) ** .5 - 3 in the middle group; what lies below its median counts nothing."""
    rule = RULES.rule(30)
    scores = {"confidence": 1.0, "juror-a": -2.0, "contrast": -9.0}

    assert rule.excess(scores) == pytest.approx(math.sqrt(5) - 3)
    assert rule.shares(scores) == {"confidence": 1.0, "juror-a": 2.0, "contrast": 0.0}
    assert rule.excess({"juror-a": 2.0, "confidence": -9.0}) == pytest.approx(max(4 - 3, (2 - 1) / 2))
    assert rule.excess({"contrast": 4.1}) == pytest.approx(5.2 - 3)
    assert rule.excess({"contrast": 1.0}) == -3.0, "without suspicion it is as far below as it can be"
    assert rule.excess({}) == -math.inf


def test_a_limit_of_its_own_withholds_whatever_the_sum() -> None:
    """In units of the group above the limit; on the limit it still passes."""
    spec = made(groups=(group(100.0, (0.0, 2.0, 5.0), (0.0, 1.0, 9.0), (0.0, 1.0, 9.0)),), edges=())
    rule = Conditional(spec).rule(50)

    assert rule.excess({"confidence": 7.0}) == pytest.approx(1.0) and rule.exceeded({"confidence": 7.0}) == NAMES[:1]
    assert rule.excess({"confidence": 5.0}) == 0.0 and rule.exceeded({"confidence": 5.0}) == ()
    assert not Policy(rule).judge({"confidence": math.nextafter(5.0, 9), "juror-a": 0.0, "contrast": 0.0}).released
    assert Policy(rule).judge({"confidence": 5.0, "juror-a": 0.0, "contrast": 0.0}).released


@given(st.fixed_dictionaries(dict.fromkeys(NAMES, finite)), st.sampled_from(NAMES), st.floats(0, 20), sides)
def test_a_higher_score_never_turns_withhold_into_release(
    scores: dict[str, float], name: str, more: float, side: int
) -> None:
    """Monotone in each score, in every group."""
    policy = Policy(RULES.rule(side))

    before, after = policy.judge(scores), policy.judge({**scores, name: scores[name] + more})

    assert before.released or not after.released


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, anything)), sides)
def test_nothing_is_released_before_all_were_asked(scores: dict[str, float], side: int) -> None:
    """A release means a finite score of every detector; there is no early exit for quiet ones."""
    judgement = Policy(RULES.rule(side)).judge(scores)

    if judgement.released:
        assert all(math.isfinite(scores.get(name, math.nan)) for name in NAMES)
    if len(scores) < len(NAMES) and not judgement.suspicion:
        assert not Policy(RULES.rule(side)).rule.complete(scores)


@given(st.fixed_dictionaries(dict.fromkeys(NAMES, finite)), sides)
def test_what_withholds_early_withholds_in_the_end(scores: dict[str, float], side: int) -> None:
    """The suspicion so far never falls when another detector is asked."""
    policy, known, before = Policy(RULES.rule(side)), {}, -math.inf
    for name in NAMES:
        known[name] = scores[name]
        excess = policy.excess(known)
        assert excess >= before - 1e-9
        before = excess
        if excess > 0:
            assert policy.settled(known) and not policy.judge(scores).released


@given(st.lists(st.tuples(st.tuples(*[anything] * 3), sides), min_size=1, max_size=8), st.sampled_from([1.0, 2.0, 9.0]))
def test_many_at_once_are_as_one_by_one(rows: list[tuple[tuple[float, ...], int]], power: float) -> None:
    """The lab's arithmetic is the edge's: the same suspicion, and the same decision wherever a score isn't finite."""
    spec = made(power=power)
    scores = np.array([values for values, _ in rows])
    found = suspicions_of(spec, scores, np.array([side for _, side in rows]))

    for (values, side), suspicion in zip(rows, found, strict=True):
        policy = Policy(Conditional(spec).rule(side))
        known = dict(zip(NAMES, values, strict=True))
        assert policy.judge(known).released == (suspicion <= 0) or abs(suspicion) < 1e-9
        if all(map(math.isfinite, values)):
            assert suspicion == pytest.approx(policy.excess(known), rel=1e-9, abs=1e-9)
        else:
            assert suspicion == math.inf


def test_no_images_and_groups_without_any() -> None:
    """Nothing in, nothing out."""
    assert suspicions_of(SPEC, np.zeros((0, 3)), np.zeros(0, np.int64)).shape == (0,)


def test_detectors_outside_the_sum_have_only_their_limits() -> None:
    """What doesn't add up adds nothing, however high, until its own limit; one by one and many at once."""
    spec = made(summed=("juror-a",), power=1.0)
    rule = Conditional(spec).rule(50)
    quiet = {"confidence": 1.9, "juror-a": -8.0, "contrast": 2.9}
    loud = {**quiet, "confidence": 2.1}

    assert rule.excess(quiet) < 0 < rule.excess(loud)
    assert rule.shares(loud) == {"juror-a": 0.0}
    assert rule.excess({"confidence": 1.0}) < 0 and not rule.complete({"juror-a": -8.0})
    many = suspicions_of(spec, np.array([list(quiet.values()), list(loud.values())]), np.array([50, 50]))
    assert many.tolist() == pytest.approx([rule.excess(quiet), rule.excess(loud)])


def test_what_is_summed_has_to_be_there() -> None:
    """A misspelt name would leave a detector out of the sum without a word."""
    with pytest.raises(ValueError, match="juror-b can't be summed"):
        made(summed=("juror-b",))


@pytest.mark.parametrize("power", [1.0, 2.0, 64.0])
def test_huge_scores_do_not_overflow(power: float) -> None:
    """A score of 1e200 is suspicious, not an error, and infinity is withheld too."""
    rule = Conditional(made(power=power)).rule(30)
    scores = {"confidence": 1e200, "juror-a": 1e200, "contrast": 0.0}

    assert math.isfinite(rule.excess(scores)) and rule.excess(scores) > 1e99
    assert suspicions_of(made(power=power), np.array([[1e200, 1e200, 0.0]]), np.array([30]))[0] > 1e99
    assert Policy(rule).judge({**scores, "contrast": math.inf}).reason is Reason.LOW_CONTRAST
    assert Policy(rule).judge({"confidence": math.inf}).suspicion == pytest.approx(1e100)
    assert Policy(rule).judge(dict.fromkeys(NAMES, -math.inf)).reason is Reason.DETECTOR_ERROR


def test_a_score_that_is_no_number_withholds_with_a_reason() -> None:
    """It counts nothing and releases nothing; another detector's alarm stands."""
    rule = RULES.rule(30)
    calm = {"confidence": math.nan, "juror-a": -9.0, "contrast": 0.0}

    assert Policy(rule).judge(calm).reason is Reason.DETECTOR_ERROR and math.isnan(rule.shares(calm)["confidence"])
    assert Policy(rule).judge({**calm, "juror-a": 50.0}).reason is Reason.SUSPICIOUS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": (40, 24)}, "ascend"),
        ({"edges": (24, 24)}, "ascend"),
        ({"edges": (0, 24)}, "ascend"),
        ({"edges": (24,)}, "1 edges make 2 groups, got 3"),
        ({"detectors": ("a", "b", "a")}, "named once"),
        ({"detectors": ("a", "b")}, "group 0 has limits for 3 detectors; 2 are named"),
        ({"detectors": ()}, "at least 1"),
        ({"power": 0.5}, "power"),
        ({"power": math.inf}, "power"),
        ({"rate": 0.0}, "rate"),
        ({"groups": ()}, "groups"),
        ({"smallest": 0}, "smallest"),
        ({"longest": 0.5}, "longest"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_values_that_make_no_sense(changes: dict[str, Any], message: str) -> None:
    """Refused, with what is wrong."""
    with pytest.raises(ValueError, match=message):
        made(**changes)


@pytest.mark.parametrize(
    "limit",
    [(0.0, 0.0, 1.0), (0.0, -1.0, 1.0), (0.0, 1.0, -0.1), (0.0, 1.0, math.inf), (math.nan, 1.0, 1.0)],
)
def test_no_group_has_an_open_limit(limit: tuple[float, float, float]) -> None:
    """Whoever sends the picture chooses its size: no group may be without a finite limit above its median."""
    with pytest.raises(ValueError, match=r"unit|limit|median"):
        group(1.0, limit)
    with pytest.raises(ValueError, match="threshold"):
        group(-1.0, (0.0, 1.0, 1.0))


# ---- in a bundle


DETECTORS = [
    DetectorSpec(name="confidence", parameters={"median": 2.6, "below": 0.8, "above": 2.3}, threshold=-99.0),
    juror("juror-a", threshold=-99.0),
    DetectorSpec(name="contrast", threshold=-99.0),
]
WIDE = group(1e6, (0.0, 1.0, 1e5), (0.0, 1.0, 1e5), (0.0, 1.0, 1e5))


def write(path: Path, spec: object, label: int = 0, **changes: Any) -> Path:
    """A bundle whose own thresholds withhold everything, with this `conditional.json`; its juror sees `label`."""
    text = spec.model_dump_json() if isinstance(spec, ConditionalSpec) else json.dumps(spec)
    logits = [20.0 if index == label else 0.0 for index in range(44)]
    files = {"juror-a.onnx": constant_network(logits), CONDITIONAL_FILE: text.encode()}
    return bundle_with(path, DETECTORS, files, **changes).path


@pytest.fixture(scope="module")
def label(guard: Firewall, benign_sign: Pixels) -> int:
    """The class of `benign_sign`."""
    found = guard.screen(benign_sign).label
    assert found is not None
    return found


def test_where_it_is_there_it_is_the_rule(tmp_path: Path, label: int, benign_sign: Pixels) -> None:
    """Neither the detectors' own thresholds nor the fusion are asked, and its order is the order of asking."""
    terms = tuple(FusionTerm(detector=name, centre=0.0, unit=1.0, weight=1.0) for name in NAMES)
    fusion = FusionSpec(terms=terms, cap=5.0, threshold=-1e9)
    order = ("juror-a", "contrast", "confidence")
    spec = made(detectors=order, groups=(WIDE,), edges=())
    for place, changes in enumerate(({}, {"fusion": fusion})):
        firewall = Firewall.load(write(tmp_path / str(place), spec, label, **changes), threads=1)
        verdict = firewall.screen(benign_sign)

        assert firewall.fusion is None and firewall.rules.fused
        assert verdict.released and verdict.label == label and tuple(verdict.scores) == order
        assert verdict.suspicion == firewall.policy.excess(verdict.scores) < 0
        assert verdict.evidence == firewall.rules.shares(verdict.scores, min(benign_sign.shape[:2]))


def test_the_size_that_counts_is_the_regions_own(tmp_path: Path, label: int, benign_sign: Pixels) -> None:
    """The same pixels are judged by the group of their shorter side, not by the size of the classifier's input."""
    side = 20
    strict = group(0.0, *[(-1e6, 1.0, -1e5)] * 3)
    firewall = Firewall.load(write(tmp_path, made(groups=(WIDE, strict), edges=(side + 1,)), label), threads=1)
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:40, :40] = benign_sign[:40, :40]
    frame = Frame(picture, "test", 0, time.monotonic())

    def reasons(*regions: tuple[int, int, int, int]) -> list[bool]:
        return [firewall.screen_frame(frame, [region])[0].suspicion > 0 for region in regions]  # type: ignore[operator]

    assert reasons((0, 0, side, 64), (0, 0, 64, side), (0, 0, 8, 8)) == [False] * 3
    assert reasons((0, 0, side + 1, 64), (0, 0, 64, side + 1), (0, 0, 64, 64)) == [True] * 3


def test_masks_and_corrections_go_by_the_regions_own_size(tmp_path: Path, label: int) -> None:
    """What its own group releases is examined under masks, and what that withholds gets a corrected label, whatever the
    groups of other sizes would say."""

    class Certain:
        provider = "test"

        def classify(self, images: Pixels) -> Any:
            return np.eye(43, dtype=np.float32)[[label] * len(images)] * 20

    strict = group(0.0, *[(-1e6, 1.0, -1e5)] * 3)
    correction = {"operations": ["jpeg:41"], "weights": [1.0]}
    noise = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    found = []
    for place, groups in enumerate(((WIDE, strict), (strict, WIDE))):
        bundle = load_bundle(
            write(tmp_path / str(place), made(groups=groups, edges=(21,)), label, correction=correction)
        )
        firewall = Firewall(bundle, Certain(), exhaustive=True, patches=PatchSpec(area=0.02, rounds=1))
        verdict = firewall.screen(noise)
        found.append((verdict.released, verdict.corrected_label, verdict.classified))

    assert found == [(True, None, 1 + 36), (False, label, 1 + 1)]


def test_all_are_asked_before_a_label_goes_out_and_few_before_it_is_withheld(
    tmp_path: Path, label: int, benign_sign: Pixels
) -> None:
    """However quiet the first ones are, the last is asked; the first alarm ends it."""
    calm = Firewall.load(write(tmp_path / "calm", made(groups=(WIDE,), edges=()), label), threads=1)
    loud = group(1e6, (0.0, 1.0, 1e5), (-50.0, 1.0, -40.0), (0.0, 1.0, 1e5))
    spec = made(detectors=("confidence", "juror-a", "contrast"), groups=(loud,), edges=())
    alarmed = Firewall.load(write(tmp_path / "loud", spec, label), threads=1)

    assert set(calm.screen(benign_sign).scores) == set(NAMES)
    verdict = alarmed.screen(benign_sign)
    assert verdict.reason is Reason.SUSPICIOUS and tuple(verdict.scores) == ("confidence", "juror-a")


def test_without_time_for_all_it_is_late(tmp_path: Path, label: int, benign_sign: Pixels, clock: Clock) -> None:
    """A deadline that passes between two detectors withholds: what was asked so far is not enough."""
    firewall = Firewall.load(write(tmp_path, made(groups=(WIDE,), edges=()), label), threads=1)
    last = firewall.detectors[1]
    scoring = last.score

    def slow(evidence: Any) -> float:
        clock.sleep(1.5)
        return scoring(evidence)

    last.score = slow  # type: ignore[method-assign]
    (verdict,) = firewall.screen_frame(Frame(benign_sign, "test", 0, clock.now), deadline=clock.now + 1.0)

    assert verdict.reason is Reason.LATE and not verdict.released and len(verdict.scores) == 2


def reason(path: Path, spec: ConditionalSpec, seen: int, pixels: Pixels) -> Verdict:
    bundle = load_bundle(write(path, spec, seen))
    return Firewall(bundle, OnnxRuntimeEngine(bundle, threads=1), exhaustive=True).screen(pixels)


def test_reasons_of_their_own(tmp_path: Path, label: int, benign_sign: Pixels) -> None:
    """Too little contrast if its own limit withholds; not a sign if a juror says so and it is withheld anyway. Neither
    releases or withholds by itself."""
    open_, low = (0.0, 1.0, 1e5), (-9.0, 1.0, -8.0)
    contrast = made(groups=(group(1e6, open_, open_, low),), edges=())
    confidence = made(groups=(group(1e6, low, open_, open_),), edges=())
    both = made(groups=(group(1e6, low, open_, low),), edges=())
    calm = made(groups=(WIDE,), edges=())
    nothing = 43  # the juror's class that the classifier doesn't have

    assert reason(tmp_path / "0", contrast, label, benign_sign).reason is Reason.LOW_CONTRAST
    assert reason(tmp_path / "1", confidence, label, benign_sign).reason is Reason.SUSPICIOUS
    # The juror comes after the confidence, which has settled it: the operator asks all.
    withheld = reason(tmp_path / "2", confidence, nothing, benign_sign)
    assert withheld.reason is Reason.NOT_A_SIGN and withheld.line()["reason"] == "not a sign"
    assert reason(tmp_path / "3", contrast, nothing, benign_sign).reason is Reason.LOW_CONTRAST
    assert reason(tmp_path / "4", both, nothing, benign_sign).reason in (Reason.LOW_CONTRAST, Reason.NOT_A_SIGN)
    assert reason(tmp_path / "5", calm, nothing, benign_sign).released, "a remark alone withholds nothing"


def test_contrast_has_its_reason_under_every_rule() -> None:
    """With thresholds of their own and with a fusion, too."""
    plain = Policy({"contrast": 3.0, "confidence": 1.0})
    terms = tuple(
        FusionTerm(detector=name, centre=0.0, unit=1.0, weight=1.0, withhold_above=above)
        for name, above in (("contrast", 3.0), ("confidence", None))
    )
    fused = Policy(Fusion(FusionSpec(terms=terms, cap=50.0, threshold=6.0)))
    for policy in (plain, fused):
        assert policy.judge({"contrast": 3.5}).reason is Reason.LOW_CONTRAST
        assert policy.judge({"contrast": 1.0, "confidence": 9.0}).reason is Reason.SUSPICIOUS
        said = policy.judge({"contrast": 1.0, "confidence": 9.0}, remarks=[Reason.NOT_A_SIGN])
        assert said.reason is Reason.NOT_A_SIGN
        calm = policy.judge({"contrast": 1.0, "confidence": 0.0}, remarks=[Reason.NOT_A_SIGN])
        assert calm.released and calm.reason is Reason.BENIGN
        assert policy.judge({"contrast": 1.0, "confidence": math.nan}).reason is Reason.DETECTOR_ERROR


def test_a_part_that_does_not_fit_the_bundle_is_refused(tmp_path: Path) -> None:
    """Limits of other detectors, of fewer, or no limits at all: one line that names the command."""
    plain = json.loads(made(groups=(WIDE,), edges=()).model_dump_json())
    for place, (spec, message) in enumerate(
        [
            (
                made(detectors=("confidence", "juror-b", "contrast")),
                r"has limits for .*juror-b.*detectors are .*juror-a",
            ),
            ({**plain, "edges": [5]}, "1 edges make 2 groups"),
            ({**plain, "groups": [{"threshold": None, "limits": []}]}, "groups.0.threshold"),
            ([], "is not valid"),
        ]
    ):
        path = write(tmp_path / str(place), spec)
        with pytest.raises(BundleError, match=message) as caught:
            Firewall.load(path)
        assert "firewall lab conditional" in str(caught.value) and "\n" not in str(caught.value)


def test_a_bundle_without_it_is_judged_as_before() -> None:
    """By its fusion; and its rules are those of every size."""
    bundle = load_bundle(fused_bundle())
    rules = Rules(bundle)

    assert rules.conditional is None and rules.fusion is not None and rules.fused
    assert rules.policy(3) is rules.policy() is rules.policy(300)


def test_images_without_a_size_of_their_own_are_of_the_classifiers(tmp_path: Path) -> None:
    """Databases hold images at the classifier's size: the policy for them is that group's."""
    rules = Rules(load_bundle(write(tmp_path, made())))

    assert rules.usual == 48 and rules.policy().rule is rules.policy(48).rule is not rules.policy(30).rule


def test_a_certificate_is_bound_to_it(tmp_path: Path) -> None:
    """Other limits are another judge."""
    found = [
        judges(load_bundle(write(tmp_path / name, made(rate=rate))).manifest)
        for name, rate in (("a", 0.01), ("b", 0.02))
    ]
    assert found[0] != found[1]


def test_regions_that_no_limit_holds_for_are_not_judged(tmp_path: Path, label: int, benign_sign: Pixels) -> None:
    """Too small, or too long and narrow: the reason says so and nothing is classified. On the border they are judged,
    and so are all shapes where the bundle says nothing."""
    spec = made(detectors=NAMES, groups=(WIDE,), edges=(), smallest=16, longest=2.0)
    firewall = Firewall.load(write(tmp_path / "a", spec, label), threads=1)
    frame = Frame(np.tile(benign_sign, (4, 4, 1))[:64, :64], "test", 0, time.monotonic())

    def judged(guard: Firewall, *region: int) -> Verdict:
        return guard.screen_frame(frame, [region])[0]  # type: ignore[list-item]

    for region in ((0, 0, 16, 16), (0, 0, 16, 32), (3, 3, 32, 16)):
        assert judged(firewall, *region).reason is Reason.BENIGN
    small, long = judged(firewall, 0, 0, 15, 16), judged(firewall, 0, 0, 33, 16)
    assert small.reason is long.reason is Reason.UNFIT and not small.released and small.classified == 0
    assert small.detail == "its shorter side is 15 pixels; 16 or more are judged"
    assert long.detail == "it is 2.1 times as long as wide; up to 2 times is judged"
    beside = firewall.screen_frame(frame, [(0, 0, 15, 16), (0, 0, 32, 32)])
    assert [verdict.reason for verdict in beside] == [Reason.UNFIT, Reason.BENIGN]

    silent = Firewall.load(write(tmp_path / "b", made(groups=(WIDE,), edges=()), label), threads=1)
    assert judged(silent, 0, 0, 3, 60).reason is Reason.BENIGN
    fused = Firewall.load(fused_bundle(), threads=1)
    assert judged(fused, 0, 0, 3, 60).reason is not Reason.UNFIT
