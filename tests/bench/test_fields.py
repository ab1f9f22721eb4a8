"""Figures of latencies, and which of them may be claimed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from firewall.bench.fields import PERCENTILES, least_samples, summary
from firewall.bench.resampling import draw, interval


def test_the_least_samples_are_mlperfs() -> None:
    """The numbers of its early stopping with one latency above: p90 64, p95 130, p99 662, p99.9 6,636."""
    assert [least_samples(percentile) for percentile in PERCENTILES] == [64, 130, 662, 6636]


@pytest.mark.parametrize("percentile", [50, 90, 99])
def test_the_least_samples_by_their_meaning(percentile: float) -> None:
    """With as many, at most one latency above comes by chance in at most 1 % of all runs; with one less it is more."""

    def chance(count: int) -> float:
        share = 1 - percentile / 100
        return sum(math.comb(count, above) * share**above * (1 - share) ** (count - above) for above in (0, 1))

    least = least_samples(percentile)
    assert chance(least) <= 0.01 < chance(least - 1)


def test_a_percentile_outside_its_range() -> None:
    """0 and 100 are no percentiles of a distribution with tails."""
    for percentile in (0, 100, -3, 101):
        with pytest.raises(ValueError, match="percentile"):
            least_samples(percentile)


@pytest.mark.parametrize(("count", "claimed"), [(1, ""), (63, ""), (64, "p90"), (661, "p90 p95"), (662, "p90 p95 p99")])
def test_no_percentile_below_its_samples(count: int, claimed: str) -> None:
    """It is null until there are enough, and `needs` names the number."""
    found = summary([float(value) for value in range(1, count + 1)])

    assert found is not None and found.samples == count
    told = {f"p{percentile:g}": found.percentile(f"p{percentile:g}") for percentile in PERCENTILES}
    assert [name for name, value in told.items() if value is not None] == claimed.split()
    assert found.needs == {name: least_samples(float(name[1:])) for name, value in told.items() if value is None}


def test_figures_of_known_latencies() -> None:
    """1 to 10,000 in any order: every figure by hand."""
    values = np.random.default_rng(0).permutation(np.arange(1, 10_001)).astype(float)

    found = summary(list(values))

    assert found is not None and found.needs == {}
    assert (found.minimum, found.maximum, found.mean, found.median) == (1, 10_000, 5000.5, 5000.5)
    assert found.deviation == pytest.approx(math.sqrt((10_000**2 - 1) / 12), abs=0.001)
    assert found.p90 == pytest.approx(9000.1) and found.p99_9 == pytest.approx(9990.001)
    assert {"min", "max", "p99.9", "standard_deviation"} <= set(found.model_dump(by_alias=True))
    assert summary([]) is None


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 95 % intervals of a median, of independent draws, about 95 % hold it; blocks make them a little too narrow
    rather than wrong."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        values = generator.lognormal(0, 0.5, 120)
        drawn = np.percentile(draw(values, (50,), repeats=120)[:, 0], (2.5, 97.5))
        held += drawn[0] <= 1 <= drawn[1]
    assert held >= 50


def test_neighbours_that_are_alike_widen_the_interval() -> None:
    """Latencies that drift carry less than as many independent ones: blocks see it, single samples would not."""
    generator = np.random.default_rng(2)
    drifting = np.repeat(generator.normal(10, 1, 60), 10) + generator.normal(0, 0.01, 600)
    shuffled = generator.permutation(drifting)

    widths = [high - low for low, high in (interval(drifting, 50), interval(shuffled, 50))]

    assert widths[0] > 1.5 * widths[1]


def test_the_same_seed_gives_the_same_intervals() -> None:
    """A comparison can be repeated."""
    values = np.arange(50.0)
    assert np.array_equal(draw(values, (50, 90), seed=3, repeats=20), draw(values, (50, 90), seed=3, repeats=20))
    assert not np.array_equal(draw(values, (50,), seed=3, repeats=20), draw(values, (50,), seed=4, repeats=20))
