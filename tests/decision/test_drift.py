"""The drift monitor: quiet where nothing changes, however long; speaks where something does; small and closed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from firewall.decision.drift import ChannelSpec, Drift, DriftSpec, channel_spec
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
    since = monitor.state.since
    spoke_at(monitor, usual, random, 1)
    for _ in range(50):
        monitor.add_values(*usual(random))
    assert monitor.state.spoken and monitor.state.since == since
    assert f"since sign {since} the " in monitor.state.line()


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
