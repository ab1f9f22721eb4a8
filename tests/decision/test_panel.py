"""A frame's regions decided together: what each would get by itself, to the last bit."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall import native
from firewall.bundle import Bundle, FusionSpec, FusionTerm
from firewall.bundle.conditional import CONDITIONAL_FILE, ConditionalSpec, GroupSpec, LimitSpec
from firewall.decision.case import Case
from firewall.decision.panel import _COMPLETE, _SUSPICIOUS, Panel
from firewall.decision.policy import SAME_PLACE, Judgement, Policy, contradictions
from firewall.decision.rules import Rules
from firewall.detectors import Evidence
from firewall.errors import FirewallError
from firewall.frame import Region
from firewall.regions import overlaps
from firewall.verdict import Reason

NAMES = ("contrast", "juror-a", "not-a-sign", "stability")
REMARKS: Mapping[str, Reason] = {"juror-a": Reason.NOT_A_SIGN}
#: One score in six is one of these.
ODD = (math.nan, math.nan, math.inf, -math.inf, 0.0, 1.0, 1e300, -1e300, 5e-324, 1e100)
seeds = st.integers(0, 2**32 - 1)


def drawn_spec(random: np.random.Generator) -> ConditionalSpec:
    """Limits of one to four groups, of some or all detectors; loose and tight ones."""
    edges = tuple(sorted(set(random.integers(1, 90, random.integers(0, 4)).tolist())))
    groups = []
    for _ in range(len(edges) + 1):
        medians, above = random.uniform(-4, 4, len(NAMES)), random.uniform(0, 12, len(NAMES))
        units = random.uniform(0.01, 5, len(NAMES))
        limits = [
            LimitSpec(median=median, unit=unit, limit=median + more)
            for median, unit, more in zip(medians.tolist(), units.tolist(), above.tolist(), strict=True)
        ]
        groups.append(GroupSpec(threshold=float(random.uniform(0, 12)), limits=tuple(limits)))
    return ConditionalSpec(
        detectors=NAMES,
        edges=edges,
        groups=tuple(groups),
        power=float(random.choice([1.0, 1.0, 2.0, 3.7, 64.0])),
        summed=tuple(name for name in NAMES if random.random() < 0.6),
        rate=0.01,
        level=0.0,
    )


def drawn_fusion(random: np.random.Generator) -> FusionSpec:
    """With and without limits and early ends; a threshold below 0 withholds without a score."""
    terms = [
        FusionTerm(
            detector=name,
            weight=float(random.uniform(0, 3)),
            centre=float(random.uniform(-4, 4)),
            unit=float(random.uniform(0.1, 5)),
            withhold_above=random.choice([None, float(random.uniform(0, 12))]),
            release_below=random.choice([None, float(random.uniform(0.01, 2))]),
        )
        for name in NAMES
    ]
    power, threshold = float(random.choice([1.0, 2.0])), float(random.uniform(-2, 12))
    return FusionSpec(terms=tuple(terms), cap=8.0, power=power, threshold=threshold)


def drawn_scores(random: np.random.Generator) -> list[float]:
    plain = random.uniform(-8, 4, len(NAMES)).tolist()
    return [float(random.choice(ODD)) if random.random() < 1 / 6 else score for score in plain]


def rules(limits: ConditionalSpec | None = None, fusion: FusionSpec | None = None) -> Rules:
    """The rules of a bundle that has these, or thresholds of 1."""
    manifest = SimpleNamespace(
        detectors=[SimpleNamespace(name=name, threshold=1.0) for name in NAMES],
        fusion=fusion,
        classifier=SimpleNamespace(input=SimpleNamespace(width=48, height=48)),
    )

    def part(name: str, *_: object) -> ConditionalSpec | None:
        assert name == CONDITIONAL_FILE
        return limits

    return Rules(cast(Bundle, SimpleNamespace(manifest=manifest, part=part, path="bundle")))


class Looked(SimpleNamespace):
    """A region: its side, whether it is contradicted, its scores, how many detectors there was time for."""


def drawn_regions(random: np.random.Generator) -> list[Looked]:
    """One to eight."""
    return [
        Looked(
            side=int(random.integers(1, 120)),
            contradicted=random.random() < 0.1,
            scores=drawn_scores(random),
            time=int(random.integers(0, len(NAMES))) if random.random() < 0.3 else len(NAMES),
            failed=random.random() < 0.1,
        )
        for _ in range(random.integers(1, 9))
    ]


def by_itself(policy: Policy, each: Looked, *, exhaustive: bool) -> tuple[dict[str, float], Judgement, bool]:
    """The rule as it was before there was a panel: one region, one detector after the other, all scores each time."""
    known: dict[str, float] = {}
    rests: dict[str, float] | None = None
    for name, score in zip(NAMES[: each.time], each.scores, strict=False):
        if each.contradicted or policy.settled(known):
            rests = dict(known) if rests is None else rests
            if not exhaustive:
                break
        known[name] = score
    if rests is None and each.contradicted:
        rests = {}
    rests = known if rests is None else rests
    late = not policy.settled(rests) and len(rests) < len(NAMES)
    remarks = [reason for name, reason in REMARKS.items() if name in known]
    return known, policy.judge(rests, contradicted=each.contradicted, late=late, remarks=remarks), late


def together(rules: Rules, looked: Sequence[Looked], *, exhaustive: bool) -> tuple[Panel, list[int]]:
    """All of them before a panel."""
    cases = [
        Case(
            (0, 0, each.side, each.side + 1),
            contradicted=each.contradicted,
            evidence=None if each.failed else Evidence(np.zeros((1, 1, 3), np.uint8), np.zeros(2, np.float32), {}),
            failure=(Reason.ENGINE_ERROR, "") if each.failed else None,
        )
        for each in looked
    ]
    panel = Panel(rules, NAMES, cases)
    assert [place for place, _ in panel.looked_at()] == [place for place, each in enumerate(looked) if not each.failed]
    for number, name in enumerate(NAMES):
        asked = [
            place
            for place, _ in panel.looked_at()
            if number < looked[place].time and panel.asked(place) == number and (exhaustive or panel.open(place))
        ]
        for place in asked:
            evidence = cases[place].evidence
            if name in REMARKS and evidence is not None:
                evidence.remarks[name] = REMARKS[name]
        panel.lay(asked, [looked[place].scores[number] for place in asked])
    return panel, [place for place, _ in panel.looked_at()]


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit; NaN is NaN."""
    return repr(one) == repr(other)


def hold(rules: Rules, looked: Sequence[Looked], *, exhaustive: bool) -> None:
    """Each region gets together what it gets by itself."""
    panel, there = together(rules, looked, exhaustive=exhaustive)
    for place in there:
        known, judgement, late = by_itself(rules.policy(looked[place].side), looked[place], exhaustive=exhaustive)
        assert same(panel.scores(place), known) and panel.asked(place) == len(known)
        assert panel.late(place) == late
        assert same(panel.judge(place, late=late), judgement)
        assert same(panel.shares(place), rules.shares(known, looked[place].side))
        assert panel.judge(place, late=late, certified=False).released is False
    for place in set(range(len(looked))) - set(there):
        assert not panel.open(place) and panel.scores(place) == {} and not panel.judge(place).released


@settings(max_examples=80, deadline=None)
@given(seeds, st.booleans())
def test_limits_by_size_are_the_same_together(seed: int, exhaustive: bool) -> None:
    """By the native runtime: scores, suspicion to the last bit, reasons, and who is not asked any more."""
    random = np.random.default_rng(seed)
    found = rules(drawn_spec(random))
    assert found.limits(NAMES) is not None
    hold(found, drawn_regions(random), exhaustive=exhaustive)


@settings(max_examples=100, deadline=None)
@given(seeds, st.booleans())
def test_and_without_the_native_runtime(seed: int, exhaustive: bool) -> None:
    """The rule in Python stands in where the runtime isn't built."""
    random = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "load", unbuilt)
        slow = rules(drawn_spec(random))
    assert slow.limits(NAMES) is None
    hold(slow, drawn_regions(random), exhaustive=exhaustive)


def unbuilt() -> None:
    raise FirewallError("the native runtime can't be loaded")


@settings(max_examples=80, deadline=None)
@given(seeds, st.booleans(), st.booleans())
def test_other_rules_are_the_same_together(seed: int, fused: bool, exhaustive: bool) -> None:
    """A fusion, and a threshold for each detector: region by region, by the rule itself."""
    random = np.random.default_rng(seed)
    plain = rules(fusion=drawn_fusion(random) if fused else None)
    assert plain.limits(NAMES) is None and plain.groups([30, 50]).tolist() == [0, 0]
    hold(plain, drawn_regions(random), exhaustive=exhaustive)


def test_what_is_drawn_comes_to_everything() -> None:
    """Released, withheld for each reason, settled early and late: none of the tests above is empty."""
    reasons: Counter[Reason] = Counter()
    for seed in range(200):
        random = np.random.default_rng(seed)
        found, looked = rules(drawn_spec(random)), drawn_regions(random)
        for each in looked:
            _, judgement, _ = by_itself(found.policy(each.side), each, exhaustive=False)
            reasons[judgement.reason] += 1
    expected = {Reason.BENIGN, Reason.SUSPICIOUS, Reason.LOW_CONTRAST, Reason.NOT_A_SIGN, Reason.CONTRADICTORY}
    assert set(reasons) == expected | {Reason.LATE, Reason.DETECTOR_ERROR} and min(reasons.values()) >= 10


def judged_natively(spec: ConditionalSpec, sides: Sequence[int], table: Sequence[Sequence[float]]) -> None:
    """One call for all gives what `GroupRule` gives for each, to the last bit."""
    found = rules(spec)
    limits, excess, standing = found.limits(NAMES), np.zeros(len(table)), np.zeros(len(table), np.uint8)
    assert limits is not None
    limits.judge(np.array(table), found.groups(sides), excess, standing)
    for side, row, number, bits in zip(sides, table, excess.tolist(), standing.tolist(), strict=True):
        expected = found.policy(side).standing(dict(zip(NAMES, row, strict=True)))
        assert number.hex() == float(expected.excess).hex()
        assert bits == _SUSPICIOUS * (expected.excess > 0) + _COMPLETE * expected.complete


@settings(max_examples=100, deadline=None)
@given(seeds)
def test_the_native_rule_is_the_rule(seed: int) -> None:
    """Also of NaN, which stands for what is missing, of infinity, and of what is huge or tiny."""
    random = np.random.default_rng(seed)
    sides = random.integers(1, 120, random.integers(1, 9)).tolist()
    judged_natively(drawn_spec(random), sides, [drawn_scores(random) for _ in sides])


def test_the_native_sum_is_rounded_once() -> None:
    """As `math.fsum` rounds it: one after the other, 2 ** -53 would be lost each time. The runtime's bits are those
    that the panel reads."""
    limits = (LimitSpec(median=0.0, unit=1.0, limit=1e9),) * len(NAMES)
    group = GroupSpec(threshold=0.0, limits=limits)
    spec = ConditionalSpec(detectors=NAMES, groups=(group,), power=1.0, rate=0.01, level=0.0)
    tiny, tinier = 2.0**-53, 2.0**-120
    rows = [(1.0, tiny, tiny, 0.0), (1.0, tiny, tinier, 0.0), (1.0, tiny, 0.0, 0.0), (tinier, tiny, tiny, 1.0)]
    judged_natively(spec, [50] * len(rows), rows)
    module = native.load()
    assert (module.SUSPICIOUS, module.COMPLETE) == (_SUSPICIOUS, _COMPLETE)


def test_a_table_of_other_detectors_is_not_the_native_rules() -> None:
    """Then each column would be compared with another detector's limits."""
    limits = LimitSpec(median=0.0, unit=1.0, limit=1.0)
    spec = ConditionalSpec(
        detectors=NAMES, groups=(GroupSpec(threshold=1.0, limits=(limits,) * 4),), power=1.0, rate=0.01, level=0.0
    )
    assert rules(spec).limits(NAMES) is not None
    assert rules(spec).limits(NAMES[::-1]) is None and rules(spec).limits(NAMES[:3]) is None


def test_what_the_binding_refuses() -> None:
    """Another shape or type, or a group that isn't there: an error, and nothing is written."""
    module = native.load()
    table, ones = np.ones((2, 3, 3)), np.ones(3, np.uint8)
    with pytest.raises(ValueError, match="groups, detectors, 3"):
        module.Limits(table, np.ones(3), ones, 1.0)
    with pytest.raises(ValueError, match="groups, detectors, 3"):
        module.Limits(table, np.ones(2), np.ones(4, np.uint8), 1.0)
    with pytest.raises(ValueError, match="parameter"):
        module.Limits(table, np.ones(2), ones, 0.5)
    with pytest.raises(ValueError, match="count is outside"):
        module.Limits(np.ones((1, 65, 3)), np.ones(1), np.ones(65, np.uint8), 1.0)
    limits, excess, standing = module.Limits(table, np.ones(2), ones, 1.0), np.zeros(2), np.zeros(2, np.uint8)
    groups = np.zeros(2, np.int32)
    with pytest.raises(ValueError, match="regions, detectors"):
        limits.judge(np.ones((2, 4)), groups, excess, standing)
    for short in range(3):
        parts = [groups, excess, standing]
        parts[short] = parts[short][:1]
        with pytest.raises(ValueError, match="regions, detectors"):
            limits.judge(np.ones((2, 3)), *parts)
    with pytest.raises(ValueError, match="parameter"):
        limits.judge(np.ones((2, 3)), np.array([0, 2], np.int32), excess, standing)
    with pytest.raises(TypeError):
        limits.judge(np.ones((2, 3), np.float32), groups, excess, standing)
    assert not excess.any() and not standing.any()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 30)] * 2), st.integers(0, 2)),
        min_size=1,
        max_size=8,
    )
)
def test_only_regions_that_touch_are_measured(found: list[tuple[Region, int]]) -> None:
    """And nothing else changes by that: a contradiction is an overlap of SAME_PLACE with another label."""
    boxes, labels = [box for box, _ in found], np.array([label for _, label in found])
    shared = overlaps(np.array(boxes, np.float64), np.array(boxes, np.float64)) >= SAME_PLACE
    expected = (shared & (labels[:, None] != labels[None])).any(axis=1).tolist()

    assert contradictions(boxes, labels.tolist()) == expected
