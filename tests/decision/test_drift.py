"""The drift monitor: quiet where nothing changes, however long; speaks where something does; small and closed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from firewall.decision.drift import ChannelSpec, Drift, DriftSpec, _Bets, _bets, channel_spec, watched
from firewall.verdict import Reason, Verdict

Random = np.random.Generator
CLASSES = 12


def usual(random: Random) -> tuple[dict[str, float | None], int]:
    """What a sign gives: many suspicions are exactly the lowest there is, as where no detector finds anything."""
    confidence = random.normal()
    suspicion = max(-1.0, 0.6 * confidence - 0.9 + 0.2 * random.normal())
    return {"suspicion": suspicion, "confidence": confidence}, int(random.zipf(1.7)) % CLASSES


def reference(random: Random, tracks: int = 115, run_length: float = 2000.0) -> DriftSpec:
    seen = [usual(random) for _ in range(tracks)]
    return DriftSpec(
        channels=tuple(
            channel_spec(name, [values[name] for values, _ in seen]) for name in ("suspicion", "confidence")
        ),
        labels=tuple(np.bincount([label for _, label in seen], minlength=CLASSES).tolist()),
        run_length=run_length,
        tracks=tracks,
    )


def spoke_at(
    monitor: Drift, draw: Callable[[Random], tuple[dict[str, float | None], int]], random: Random, count: int
) -> int | None:
    for number in range(1, count + 1):
        if monitor.add_values(*draw(random)).spoken:
            return number
    return None


def test_false_alarms_stay_below_the_rate_over_long_streams() -> None:
    """100 streams of 200 signs like the reference, which is small and anew each time. The promise is that at most one
    in five speaks (200 / 1000); 33 or more of 100 would be against it at one in five hundred."""
    alarms = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        monitor = Drift(reference(random, tracks=30, run_length=1000.0), seed=seed)
        alarms += spoke_at(monitor, usual, random, 200) is not None
    assert alarms < 33


def test_ranks_are_uniform_also_with_ties_and_a_small_reference() -> None:
    """The promise rests on this: p-values of an exchangeable stream are uniform and independent, for each property."""
    found: dict[str, list[float]] = {"suspicion": [], "confidence": [], "label": []}
    for seed in range(60):
        random = np.random.default_rng(1000 + seed)
        monitor = Drift(reference(random, tracks=20), seed=seed)
        for _ in range(50):
            values, label = usual(random)
            for name in ("suspicion", "confidence"):
                value = values[name]
                assert value is not None
                found[name].append(monitor._rank(name, value))
            found["label"].append(monitor._rarity(label))
    for name, p_values in found.items():
        ordered = np.sort(p_values)
        distance = np.abs(ordered - (np.arange(len(ordered)) + 0.5) / len(ordered)).max()
        assert distance < 1.95 / math.sqrt(len(ordered)), name  # Kolmogorov-Smirnov at one in a thousand
        assert abs(np.corrcoef(p_values[:-1], p_values[1:])[0, 1]) < 4 / math.sqrt(len(p_values)), name


def shifted_up(random: Random) -> tuple[dict[str, float | None], int]:
    values, label = usual(random)
    return {name: value + 1.0 for name, value in values.items() if value is not None}, label


def wider(random: Random) -> tuple[dict[str, float | None], int]:
    values, label = usual(random)
    return {**values, "confidence": 3 * random.normal()}, label


def other_labels(random: Random) -> tuple[dict[str, float | None], int]:
    return usual(random)[0], CLASSES - 1 - int(random.zipf(1.7)) % 4


def failing(random: Random) -> tuple[dict[str, float | None], int]:
    values, label = usual(random)
    return ({**values, "suspicion": math.nan} if random.random() < 0.5 else values), label


@pytest.mark.parametrize(
    ("draw", "properties"),
    [
        (shifted_up, {"suspicion", "confidence"}),
        (wider, {"confidence"}),
        (other_labels, {"label"}),
        (failing, {"suspicion"}),
    ],
)
@pytest.mark.parametrize("before", [0, 300])
def test_shifts_are_found_and_named(
    draw: Callable[[Random], tuple[dict[str, float | None], int]], properties: set[str], before: int
) -> None:
    """A move, a wider spread, other labels and failures are found within 150 signs, at once or after a quiet time, in
    each of five streams, and the property is named."""
    for seed in range(5):
        random = np.random.default_rng(seed)
        monitor = Drift(reference(random, run_length=20_000.0), seed=seed)
        assert spoke_at(monitor, usual, random, before) is None
        assert spoke_at(monitor, draw, random, 150) is not None, seed
        assert monitor.state.property in properties
        assert monitor.state.since == monitor.state.values > before


def test_once_spoken_it_stays_spoken() -> None:
    """The state remembers when it spoke first, though traffic becomes usual again; its line tells no score."""
    random = np.random.default_rng(3)
    monitor = Drift(reference(random), seed=3)
    assert monitor.state.line() == "0 signs seen, no drift found"
    spoke_at(monitor, shifted_up, random, 200)
    since, named = monitor.state.since, monitor.state.property
    spoke_at(monitor, usual, random, 1)
    for _ in range(50):
        monitor.add_values(*usual(random))
    assert monitor.state.spoken and monitor.state.since == since and monitor.state.property == named != ""
    assert f"since sign {since} the {named} differs" in monitor.state.line()


@pytest.mark.parametrize(
    ("values", "label"),
    [
        ({"suspicion": math.nan, "confidence": 0.0}, 1),
        ({"suspicion": None, "confidence": 0.0}, 1),
        ({"suspicion": -0.5, "confidence": math.inf}, 1),
        ({"suspicion": -0.5, "confidence": 0.0}, None),
        ({"suspicion": -0.5, "confidence": 0.0}, CLASSES),
        ({}, 1),
    ],
)
def test_failures_are_counted_and_rank_above_everything(values: dict[str, float | None], label: int | None) -> None:
    """NaN, None, infinity and an unknown class are no values to leave out: they are counted and count as extreme."""
    random = np.random.default_rng(0)
    monitor = Drift(reference(random))
    for _ in range(100):
        state = monitor.add_values(values, label)
    assert state.failures == state.values == 100
    assert state.spoken


def test_a_detector_that_was_not_asked_is_no_failure() -> None:
    """The suspicion settles a verdict before every detector is asked; its score is then unknown, not broken."""
    random = np.random.default_rng(0)
    monitor = Drift(reference(random))
    assert monitor.add_values({"suspicion": 0.4, "confidence": None}, 1).failures == 0


def test_verdicts_are_taken_as_they_are() -> None:
    """From a verdict: suspicion, the score by the detector's name, the label that the classifier gave."""
    random = np.random.default_rng(0)
    one, other = Drift(reference(random), seed=5), Drift(reference(np.random.default_rng(0)), seed=5)
    verdict = Verdict(
        "test", 0, (0, 0, 9, 9), reason=Reason.SUSPICIOUS, suspicion=0.4, scores={"confidence": 1.5}, suspected_label=2
    )
    assert one.add(verdict) == other.add_values({"suspicion": 0.4, "confidence": 1.5}, 2)
    for name in ("suspicion", "confidence", "label"):
        assert np.array_equal(one._bets[name].sums, other._bets[name].sums)


def test_memory_does_not_grow() -> None:
    """Three thousand signs, most of them far off: the same few counts, all finite."""
    random = np.random.default_rng(0)
    monitor = Drift(reference(random))

    def held() -> list[npt.NDArray[np.float64]]:
        return [*monitor._masses.values(), *monitor._edges.values(), monitor._labels] + [
            bets.sums for bets in monitor._bets.values()
        ]

    before = [array.shape for array in held()]
    for _ in range(3000):
        monitor.add_values({"suspicion": 5.0, "confidence": 40.0}, 3)
    assert [array.shape for array in held()] == before
    assert all(np.isfinite(array).all() for array in held())


def test_a_specification_survives_its_file() -> None:
    """What the lab writes is what the edge reads; what can't be is refused."""
    spec = reference(np.random.default_rng(0))
    assert DriftSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValidationError, match="masses"):
        ChannelSpec(name="suspicion", edges=(0.0, 1.0), masses=(1, 1))
    with pytest.raises(ValidationError, match="ascend"):
        ChannelSpec(name="suspicion", edges=(1.0, 0.0), masses=(1, 1, 1))
    with pytest.raises(ValidationError, match="at least one"):
        DriftSpec(channels=(), tracks=5)


def test_the_reference_holds_every_calibration_value() -> None:
    """Masses add up to one gap more than values, in no more bins than asked for."""
    values = np.random.default_rng(0).normal(size=115).tolist()
    for bins in (1, 7, 64, 500):
        spec = channel_spec("confidence", values, bins)
        assert sum(spec.masses) == 116 and len(spec.edges) <= min(bins, 115)


def test_calibration_values_are_kept_as_edges_and_gaps() -> None:
    """By hand, without the jitter: of five values in three bins the 1st, 3rd and 5th are kept, with 1, 2, 2 and 1 gaps
    around them; with as many bins as values every one is; a failure lies above all; suspicions end at the limit."""
    spec = channel_spec("confidence", [3.0, 1.0, 5.0, 2.0, 4.0], 3)
    assert np.allclose(spec.edges, [1.0, 3.0, 5.0], atol=2e-6) and spec.masses == (1, 2, 2, 1)
    assert all(1e-12 < edge - value < 1e-6 for edge, value in zip(spec.edges, (1.0, 3.0, 5.0), strict=True))
    assert channel_spec("confidence", [3.0, 1.0, 2.0]).masses == (1, 1, 1, 1)
    assert len(channel_spec("confidence", list(range(100))).edges) == 64
    assert channel_spec("confidence", [1.0, None, math.nan]).edges[1:] == pytest.approx((1e6, 1e6))
    assert max(channel_spec("suspicion", [0.5, 3.0]).edges) < 0.0011
    assert channel_spec("confidence", [1.0, 2.0]) == channel_spec("confidence", [1.0, 2.0], seed=0)
    assert channel_spec("confidence", [1.0, 2.0]) != channel_spec("confidence", [1.0, 2.0], seed=1)


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("confidence", 0.25, 0.25),
        ("confidence", -2e6, -5e5),
        ("confidence", 2e6, 5e5),
        ("confidence", None, 1e6),
        ("confidence", math.nan, 1e6),
        ("confidence", -math.inf, 1e6),
        ("suspicion", -0.5, -0.5),
        ("suspicion", 0.5, 1e-3),
        ("suspicion", -2e6, -5e5),
        ("suspicion", None, 1e6),
    ],
)
def test_the_number_that_is_ranked(name: str, value: float | None, number: float) -> None:
    """Bounded, a failure above every number, and suspicions that are over the limit all alike."""
    assert watched(name, value) == number


def test_p_values_by_hand() -> None:
    """Values far above, far below and between: the share of gaps above, and of its own gap a random part. Each joins
    the ranks, so that the same value is less and less surprising."""
    spec = DriftSpec(channels=(ChannelSpec(name="c", edges=(0.0, 1.0), masses=(2, 3, 5)),), labels=(4, 1, 0), tracks=9)
    for seed in range(20):
        monitor, random = Drift(spec, seed=seed), np.random.default_rng(seed)
        for value, above, own, total in ((9.0, 0, 5, 10), (-9.0, 9, 2, 11), (0.5, 6, 3, 12), (9.0, 0, 6, 13)):
            random.random()  # the tie-break
            assert monitor._rank("c", value) == pytest.approx((above + random.random() * own) / total)
        # Of 6 signs so far two are of class 2, then three of class 1 ...
        for label, rarer, same, total in ((2, 0, 2, 6), (2, 1, 2, 7), (1, 0, 4, 8), (0, 4, 5, 9)):
            assert monitor._rarity(label) == pytest.approx((rarer + random.random() * same) / total)


def test_bets_are_fair_and_their_sums_those_of_shiryaev_and_roberts() -> None:
    """Each bet's mean over all p-values is 1, and none is negative; S <- (1 + S) * bet, the mean of it handed back."""
    grid = (np.arange(20_000) + 0.5) / 20_000
    bets = np.array([_bets(p) for p in grid])
    assert bets.min() >= 0 and bets.shape[1] == 14
    # The powers have their mass near 0, which a grid reaches slowly.
    assert np.abs(bets.mean(axis=0) - 1)[:12].max() < 1e-6 and np.abs(bets.mean(axis=0) - 1).max() < 0.05
    assert _bets(0.25)[[0, 5]] == pytest.approx(1 + np.array([-0.9, 0.9]) * math.sqrt(0.5))
    assert _bets(0.25)[[6, 11]] == pytest.approx([1.0, 1.0])
    assert _bets(0.5)[[6, 11]] == pytest.approx([1.9, 0.1])
    assert _bets(0.25)[12:] == pytest.approx([0.3 * 0.25**-0.7, 0.6 * 0.25**-0.4])
    one = _Bets()
    assert one.add(0.25) == pytest.approx(_bets(0.25).mean())
    assert one.add(0.5) == pytest.approx(((1 + _bets(0.25)) * _bets(0.5)).mean())
    for _ in range(50):
        last = one.add(1e-9)
    assert last <= 1e12 and one.sums.max() == 1e12


def test_it_speaks_at_the_run_length_for_each_property() -> None:
    """The mean of a property's bets reaches properties * run_length, and not before; the first value is number 1, and
    the property is the one that is furthest off."""
    channels = tuple(ChannelSpec(name=name, edges=(0.0,), masses=(500, 500)) for name in ("a", "b"))
    spec = DriftSpec(channels=channels, run_length=1000.0, tracks=999)
    monitor, levels = Drift(spec, seed=1), {name: _Bets() for name in ("a", "b")}
    twin = Drift(spec, seed=1)
    for number in range(1, 300):
        reached = {
            name: levels[name].add(twin._rank(name, watched(name, value)))
            for name, value in (("a", -1.0 if number % 2 else 1.0), ("b", 1.0))
        }
        state = monitor.add_values({"a": -1.0 if number % 2 else 1.0, "b": 1.0}, None)
        assert state.spoken == (max(reached.values()) >= 2000.0)
        assert (state.values, state.failures) == (number, 0)
        if state.spoken:
            break
    assert (state.since, state.property) == (number, "b") and number > 5
    assert state.line() == f"since sign {number} the b differs from the calibration set ({number} seen)"


def test_without_labels_a_class_is_no_failure() -> None:
    """Labels are watched where their counts are known; the classes are 0 up to the last, and each bound counts."""
    numbers = DriftSpec(channels=(channel_spec("suspicion", [-0.5, -0.4, -0.3]),), tracks=3)
    assert Drift(numbers).add_values({"suspicion": -0.4}, None).failures == 0
    labels = DriftSpec(channels=(), labels=(3, 2), tracks=5)
    for label, failures in ((0, 0), (1, 0), (2, 1), (-1, 1), (None, 1)):
        assert Drift(labels).add_values({}, label).failures == failures


def test_a_failure_of_a_label_is_as_surprising_as_one_in_a_thousand() -> None:
    """No rank can be taken of it; the sums are those of p = 0.001."""
    monitor, one = Drift(DriftSpec(channels=(), labels=(3, 2), tracks=5)), _Bets()
    monitor.add_values({}, 7)
    one.add(1e-3)
    assert np.array_equal(monitor._bets["label"].sums, one.sums)


def test_the_same_seed_gives_the_same_state() -> None:
    """0 unless another is given."""
    spec = reference(np.random.default_rng(0))
    sums = []
    for monitor in (Drift(spec), Drift(spec, seed=0), Drift(spec, seed=1)):
        monitor.add_values({"suspicion": -0.4, "confidence": 0.1}, 2)
        sums.append(monitor._bets["confidence"].sums.tolist())
    assert sums[0] == sums[1] != sums[2]


@pytest.mark.parametrize(
    ("edges", "masses"), [((0.0,), (1, 1, 1)), ((0.0,), (3, -1)), ((0.0,), (1, 0)), ((0.0, 1.0), (2, 1))]
)
def test_a_channel_whose_gaps_do_not_add_up_is_refused(edges: tuple[float, ...], masses: tuple[int, ...]) -> None:
    """Too many or too few, a negative one, or fewer than two in all; what is just enough is taken."""
    with pytest.raises(ValidationError, match=f"c: {len(edges)} edges need {len(edges) + 1} masses, each 0 or more"):
        ChannelSpec(name="c", edges=edges, masses=masses)
    assert ChannelSpec(name="c", edges=(0.0, 0.0), masses=(1, 0, 1)).masses == (1, 0, 1)


def test_how_far_a_suspicion_is_over_the_limit_does_not_count() -> None:
    """It depends on which detectors were still asked: all that is over the limit counts alike."""
    spec = DriftSpec(channels=(channel_spec("suspicion", [-0.5, 0.5, 2.0] * 33),), run_length=1000.0, tracks=99)
    states = []
    for suspicion in (0.5, 3.0):
        monitor = Drift(spec, seed=2)
        for _ in range(9):
            state = monitor.add_values({"suspicion": suspicion}, None)
        assert (state.spoken, state.since, state.property, state.failures) == (False, None, "", 0)
        states.append(monitor._bets["suspicion"].sums.tolist())
    assert states[0] == states[1]
