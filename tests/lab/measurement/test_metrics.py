"""Rates, thresholds, curves and their intervals, against brute force, scikit-learn and simulated truth."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score, roc_curve

from firewall.errors import DataError, UsageError
from firewall.lab.measurement.metrics import (
    Separation,
    auroc,
    auroc_interval,
    operating_point,
    rate_interval,
    separate,
    threshold_at,
    worst,
)

#: Few distinct values, as a counting detector gives, or many.
TIED = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=40)
SPREAD = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=40)
SCORES = st.one_of(TIED, SPREAD)
RATES = st.floats(0, 1, exclude_max=True)


def quick(normal: npt.ArrayLike, adversarial: npt.ArrayLike, **options: Any) -> Separation:
    """`separate` with few bootstrap draws, where the intervals don't matter."""
    return separate(normal, adversarial, **{"resamples": 20, **options})


@settings(max_examples=150, deadline=None)
@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs(normal: list[float], adversarial: list[float]) -> None:
    """Every pair counted: 1 where the adversarial image scores higher, half for a tie; and as scikit-learn has it."""
    low, high = np.array(normal)[None], np.array(adversarial)[:, None]
    pairs = (high > low).mean() + 0.5 * (high == low).mean()
    estimate = quick(normal, adversarial).auroc
    assert estimate.value == pytest.approx(pairs, abs=1e-9)
    assert auroc(normal, adversarial) == estimate.value
    codes = np.unique(normal + adversarial, return_inverse=True)[1]
    truth = [0] * len(normal) + [1] * len(adversarial)
    assert estimate.value == pytest.approx(roc_auc_score(truth, codes), abs=1e-9)
    assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


@settings(max_examples=150, deadline=None)
@given(SCORES, SCORES)
def test_eer_lies_where_the_curve_meets_the_diagonal(normal: list[float], adversarial: list[float]) -> None:
    """On straight lines between all thresholds, the point with as many false positives as misses, by bisection."""
    codes = np.unique(normal + adversarial, return_inverse=True)[1]
    truth = [0] * len(normal) + [1] * len(adversarial)
    false_positives, hits, _ = roc_curve(truth, codes, drop_intermediate=False)
    along = np.arange(len(hits))

    def excess(place: float) -> float:
        return float(1 - np.interp(place, along, hits) - np.interp(place, along, false_positives))

    start, end = 0.0, float(along[-1])
    for _ in range(80):
        middle = (start + end) / 2
        start, end = (middle, end) if excess(middle) > 0 else (start, middle)
    eer = quick(normal, adversarial).eer
    assert eer.value == pytest.approx(np.interp(start, along, false_positives), abs=1e-9)
    assert 0 <= eer.low <= eer.value <= eer.high <= 1


@settings(max_examples=200, deadline=None)
@given(SCORES, RATES)
def test_threshold_is_the_smallest_that_holds_the_rate(normal: list[float], rate: float) -> None:
    """Brute force over all scores: the rate is never exceeded, and no lower threshold would hold it."""
    holding = [limit for limit in normal if np.mean(np.array(normal) > limit) <= rate]
    assert threshold_at(normal, rate) == min(holding)


@pytest.mark.parametrize("count", [1, 7, 100, 300, 1000])
def test_rates_that_floats_miss_by_a_hair(count: int) -> None:
    """k of n asked for as the float k / n gives exactly k false positives, 0.29 of 100 too, for every k."""
    normal = np.random.default_rng(0).permutation(count).astype(float)
    for allowed in range(count):
        assert (normal > threshold_at(normal, allowed / count)).sum() == allowed


def test_ties_never_exceed_the_rate() -> None:
    """Half the normal images share the top score: 5 % can't be had, so none of them is withheld."""
    normal = [0.0] * 50 + [1.0] * 50
    adversarial = [1.0] * 90 + [2.0] * 10
    (point,) = quick(normal, adversarial, rates=(0.05,)).on_curve
    assert point.threshold == 1.0
    assert point.false_positives.hits == 0
    assert point.true_positives.hits == 10
    (point,) = quick(normal, adversarial, rates=(0.5,)).on_curve
    assert (point.threshold, point.false_positives.hits, point.true_positives.hits) == (0.0, 50, 100)


@settings(max_examples=100, deadline=None)
@given(SCORES, SCORES, RATES)
def test_on_curve_is_the_best_point_at_the_rate(normal: list[float], adversarial: list[float], rate: float) -> None:
    """No threshold among the scores catches more while it holds the rate, unless only a higher score separates them."""
    (point,) = quick(normal, adversarial, rates=(rate,)).on_curve
    low, high = np.array(normal), np.array(adversarial)
    best = max(int((high > limit).sum()) for limit in normal if (low > limit).mean() <= rate)
    assert point.true_positives.hits == best
    assert point.false_positives.value <= rate
    assert point.asked == rate


def test_calibrated_threshold_comes_from_calibration_alone() -> None:
    """Evaluation normals that drift up break the rate that was asked for, and that is reported, not hidden."""
    calibration = np.arange(100) / 100
    normal = calibration + 0.5
    result = quick(normal, normal + 1, calibration=calibration, rates=(0.01, 0.05))
    assert [point.threshold for point in result.calibrated] == [0.98, 0.94]
    assert [point.false_positives.hits for point in result.calibrated] == [51, 55]
    assert [point.false_positives.hits for point in result.on_curve] == [1, 5]
    assert quick(normal, normal + 1).calibrated == ()


@pytest.mark.parametrize(("hits", "total"), [(0, 1), (1, 1), (0, 40), (3, 40), (20, 40), (39, 40), (40, 40)])
def test_rate_interval_is_clopper_and_pearsons(hits: int, total: int) -> None:
    """The exact interval, as scipy gives it, at the ends too."""
    scores = [1.0] * hits + [0.0] * (total - hits)
    rate = operating_point([0.0], scores, 0.5).true_positives
    expected = binomtest(hits, total).proportion_ci(0.95, method="exact")
    assert (rate.hits, rate.total, rate.value) == (hits, total, hits / total)
    assert (rate.low, rate.high) == pytest.approx((expected.low, expected.high))
    assert rate_interval(hits, total) == (rate.low, rate.high)


def test_a_score_at_the_threshold_is_released() -> None:
    """As the policy: withheld only above the threshold."""
    point = operating_point([0.5, 0.6], [0.5, 0.6], 0.5)
    assert (point.false_positives.hits, point.true_positives.hits, point.asked) == (1, 1, None)


def test_accuracies() -> None:
    """Of all images, and balanced between the two sets."""
    point = operating_point([0, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1, 0], 0.5)
    assert point.accuracy == pytest.approx(10 / 12)
    assert point.balanced_accuracy == pytest.approx((7 / 8 + 3 / 4) / 2)


@pytest.mark.parametrize("sign", [1, -1])
def test_perfect_separation_still_has_an_interval(sign: int) -> None:
    """50 against 20 without a mistake don't prove a perfect detector; more images prove more, few tracks less."""

    def of(normals: int, adversarials: int, **options: Any) -> Separation:
        return quick(sign * np.arange(normals), sign * np.arange(10_000, 10_000 + adversarials), **options)

    few, many = of(50, 20), of(5000, 2000)
    tracks = {"normal_tracks": np.arange(5000) // 1000, "adversarial_tracks": np.arange(2000) // 1000}
    clustered = of(5000, 2000, **tracks)
    assert few.auroc.value == many.auroc.value == (1.0 if sign > 0 else 0.0)
    widths = [x.auroc.high - x.auroc.low for x in (many, few, clustered)]
    assert 0 < widths[0] < 0.01 < widths[1] < widths[2] < 1
    assert 0 < many.eer.high - many.eer.low < few.eer.high - few.eer.low


def coverage(draw: Callable[[np.random.Generator], Separation], area: float, error: float) -> tuple[float, float]:
    """How often the intervals hold the truth in 150 experiments."""
    generator = np.random.default_rng(7)
    results = [draw(generator) for _ in range(150)]
    return (
        float(np.mean([x.auroc.low <= area <= x.auroc.high for x in results])),
        float(np.mean([x.eer.low <= error <= x.eer.high for x in results])),
    )


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.2])
def test_intervals_hold_the_truth(shift: float) -> None:
    """On two normal distributions, whose AUROC and EER are known, about 95 % of the intervals hold them."""

    def draw(generator: np.random.Generator) -> Separation:
        return separate(generator.normal(0, 1, 80), generator.normal(shift, 1, 60), resamples=200)

    for share in coverage(draw, float(norm.cdf(shift / math.sqrt(2))), float(norm.cdf(-shift / 2))):
        assert 0.89 <= share <= 1


def test_tracks_widen_the_intervals_to_the_truth() -> None:
    """Ten near-copies a track: about 95 % of the intervals hold the truth if tracks are named, else far fewer."""

    def draw(generator: np.random.Generator, named: bool) -> Separation:
        track = np.repeat(np.arange(40), 10)
        base = np.repeat(generator.normal(0, 0.9, 40), 10)
        normal = base + generator.normal(0, math.sqrt(0.19), 400)
        adversarial = 1 + np.repeat(generator.normal(0, 0.9, 40), 10) + generator.normal(0, math.sqrt(0.19), 400)
        options: dict[str, Any] = {"normal_tracks": track, "adversarial_tracks": track} if named else {}
        return separate(normal, adversarial, rates=(), resamples=200, **options)

    truth = float(norm.cdf(1 / math.sqrt(2))), float(norm.cdf(-0.5))
    with_tracks, without = (coverage(lambda generator: draw(generator, named), *truth) for named in (True, False))  # noqa: B023
    assert min(with_tracks) >= 0.88
    assert max(without) <= 0.8


def test_rate_interval_widens_with_tracks() -> None:
    """Frames that all agree within a track count once; frames that differ as freely as single images count in full."""
    hits = np.repeat(np.arange(20) < 5, 10).astype(float)
    track = np.repeat(np.arange(20), 10)
    zeros, zero_track = np.zeros(3), np.array([100, 101, 102])

    def width(scores: npt.NDArray[np.float64], **tracks: Any) -> float:
        rate = operating_point(zeros, scores, 0.5, **tracks).true_positives
        assert rate.low <= rate.value <= rate.high
        return rate.high - rate.low

    tracks = {"normal_tracks": zero_track, "adversarial_tracks": track}
    as_tracks = width(hits[::10])
    assert width(hits) < 0.5 * as_tracks
    assert width(hits, **tracks) == pytest.approx(as_tracks, rel=0.1)
    spread = np.tile(np.arange(10) < 3, 20).astype(float)
    assert width(spread, **tracks) == pytest.approx(width(spread))
    assert width(np.ones(200), **tracks) == pytest.approx(width(np.ones(20)))


def test_same_seed_same_result() -> None:
    """Intervals of two runs are equal to the last digit, and depend on the seed."""
    generator = np.random.default_rng(0)
    normal, adversarial = generator.normal(0, 1, 50), generator.normal(1, 1, 50)
    assert separate(normal, adversarial, seed=1) == separate(normal, adversarial, seed=1)
    assert separate(normal, adversarial, seed=1) != separate(normal, adversarial, seed=2)
    estimate = separate(normal, adversarial, seed=1).auroc
    assert auroc_interval(normal, adversarial, seed=1) == (estimate.low, estimate.high)


def test_order_and_scale_do_not_matter() -> None:
    """Only the ranking counts: shuffled and monotonely rescaled scores give the same point values."""
    generator = np.random.default_rng(0)
    normal, adversarial = generator.integers(0, 9, 60), generator.integers(3, 12, 50)
    first = quick(normal, adversarial)
    second = quick(np.exp(generator.permutation(normal)), np.exp(generator.permutation(adversarial)))
    assert first.auroc.value == pytest.approx(second.auroc.value)
    assert first.eer.value == pytest.approx(second.eer.value)
    assert [p.true_positives for p in first.on_curve] == [p.true_positives for p in second.on_curve]


def test_large_sets_are_drawn_in_blocks() -> None:
    """30,000 distinct scores a set don't need a table of all draws at once; the interval is as narrow as it should."""
    generator = np.random.default_rng(0)
    result = separate(generator.normal(0, 1, 30_000), generator.normal(1, 1, 30_000), resamples=100)
    assert 0.003 < result.auroc.high - result.auroc.low < 0.015
    assert result.auroc.low < norm.cdf(1 / math.sqrt(2)) < result.auroc.high


def test_json_round_trip() -> None:
    """Everything in the report is plain JSON, without NaN or Infinity."""
    result = separate([0, 1, 2], [1, 2, 3], calibration=[0, 1], rates=(0.05,))
    line = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert line["normal"] == 3 and line["adversarial"] == 3
    assert set(line["auroc"]) == {"value", "low", "high"}
    assert line["calibrated"][0]["threshold"] == 1.0
    assert line["on_curve"][0]["true_positives"]["value"] == pytest.approx(1 / 3)


def test_worst_is_the_attack_hardest_to_see() -> None:
    """The lowest AUROC; a detector below chance is worse than one that guesses."""
    normal = np.arange(10)
    judged = {
        "seen": quick(normal, normal + 20),
        "guessed": quick(normal, normal),
        "inverted": quick(normal, normal - 5),
    }
    assert worst(judged) == "inverted"
    with pytest.raises(DataError):
        worst({})


@pytest.mark.parametrize(
    ("normal", "adversarial", "options", "named"),
    [
        ([], [1.0], {}, "normal"),
        ([1.0], [], {}, "adversarial"),
        ([[1.0]], [1.0], {}, "(1, 1)"),
        ([1.0, math.nan], [1.0], {}, "1 of 2 normal"),
        ([1.0], [math.inf], {}, "1 of 1 adversarial"),
        ([1.0], [1.0], {"calibration": []}, "at least one"),
        ([1.0], [1.0], {"normal_tracks": [1]}, "one of the two sets"),
        ([1.0], [1.0], {"normal_tracks": [1], "adversarial_tracks": [1, 2]}, "(2,)"),
    ],
)
def test_scores_that_do_not_fit(normal: Any, adversarial: Any, options: dict[str, Any], named: str) -> None:
    """Empty, ragged or broken scores are refused in one line; a NaN is never ranked in silence."""
    with pytest.raises(DataError) as caught:
        quick(normal, adversarial, **options)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("hits", "total"), [(0, 0), (-1, 5), (6, 5)])
def test_counts_that_are_no_rate(hits: int, total: int) -> None:
    """Nothing of nothing has no rate; it is not 0."""
    with pytest.raises(DataError, match=f"{hits} of {total}"):
        rate_interval(hits, total)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 5, math.nan])
def test_rates_out_of_range(rate: float) -> None:
    """A rate of 5 is surely meant as 5 %; it is refused, not taken as everything."""
    with pytest.raises(UsageError, match="below 1"):
        threshold_at([1.0, 2.0], rate)
