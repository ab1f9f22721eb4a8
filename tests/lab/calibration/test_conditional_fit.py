"""Limits by size: the arithmetic, on scores that are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from firewall.bundle.conditional import ConditionalSpec
from firewall.decision.conditional import groups_of, suspicions_of
from firewall.errors import DataError, UsageError
from firewall.lab.calibration.conditional_fit import CLEAN, Scored, fit_conditional, merged_edges

NAMES = ("a", "b", "c")
EDGES = (24, 40)


def drawn(tracks: int, seed: int, *, frames: int = 4, first: int = 0, shifts: tuple[str, ...] = ()) -> Scored:
    """Benign scores that depend on the track and, wildly, on the size: small crops are loud, with a heavy tail."""
    generator = np.random.default_rng(seed)
    rows, sides, numbers, parts = [], [], [], []
    for number in range(tracks):
        own = generator.normal(0, 0.5, 3)
        for part in [CLEAN] * frames + list(shifts):
            side = int(generator.integers(12, 90))
            scale = 6.0 if side < EDGES[0] else 2.0 if side < EDGES[1] else 0.5
            noise = [*generator.normal(0, 1, 2).tolist(), generator.exponential(1.0)]
            rows.append((own + noise) * scale + (part != CLEAN) * scale)
            sides.append(side)
            numbers.append(first + number)
            parts.append(part)
    return Scored(NAMES, np.array(rows), np.array(sides), np.array(numbers), np.array(parts))


def withheld(spec: ConditionalSpec, data: Scored) -> np.ndarray:
    return suspicions_of(spec, data.scores, data.sides) > 0


def test_fresh_tracks_are_withheld_as_rarely_as_asked_in_every_group() -> None:
    """In the mean over ten calibrations the rate holds on other tracks, all sizes together; no group is far above it,
    though the scores of small crops would all be over the limits of large ones."""
    rate, shares, groups = 0.05, [], []
    for seed in range(10):
        spec = fit_conditional(drawn(200, seed), EDGES, rate).spec
        fresh = drawn(300, 100 + seed, first=1000)
        hits = withheld(spec, fresh)
        shares.append(hits.mean())
        groups.append([hits[groups_of(spec, fresh.sides) == number].mean() for number in range(3)])

    assert 0.3 * rate < np.mean(shares) <= rate
    assert (np.mean(groups, axis=0) <= 1.5 * rate).all()
    one = fit_conditional(drawn(200, 0), (), rate).spec
    large = suspicions_of(spec, np.full((1, 3), 4.0), np.array([80]))
    assert large[0] > 0 >= suspicions_of(one, np.full((1, 3), 4.0), np.array([80]))[0], "what a single limit lets pass"


def test_the_coverage_is_of_tracks_that_took_no_part() -> None:
    """Rows for all sizes, for each group and for each shift; near what fresh tracks show."""
    data = drawn(300, 0, shifts=("fog",))
    spec = fit_conditional(data, EDGES, 0.05, shifted=0.3).spec
    rows = {(row.part, row.group): row for row in spec.coverage}

    assert list(rows) == [(CLEAN, None), (CLEAN, 0), (CLEAN, 1), (CLEAN, 2), ("fog", None)]
    assert rows[CLEAN, None].tracks == 300 and rows[CLEAN, None].images == 1200 and rows["fog", None].images == 300
    assert sum(rows[CLEAN, number].images for number in range(3)) == 1200
    fresh = drawn(2000, 9, first=5000)
    assert rows[CLEAN, None].low <= withheld(spec, fresh).mean() <= rows[CLEAN, None].high
    assert rows["fog", None].withheld > rows[CLEAN, None].withheld


def test_what_shifted_images_weigh() -> None:
    """The more they count, the wider the limits; without any it makes no difference."""
    data, bare = drawn(150, 1, shifts=("fog", "rain")), drawn(150, 1)
    little, much = (fit_conditional(data, (), 0.05, shifted=share).spec.groups[0] for share in (0.05, 0.6))
    assert much.threshold != little.threshold and much.limits[0].limit > little.limits[0].limit
    assert fit_conditional(bare, (), 0.05, shifted=0.0).spec == fit_conditional(bare, (), 0.05, shifted=0.9).spec


def test_a_track_counts_once() -> None:
    """Thirty copies of one track's frames change nothing."""
    data = drawn(80, 2)
    again = np.concatenate([np.arange(len(data)), *[np.flatnonzero(data.tracks == 7)] * 30])
    more = Scored(NAMES, data.scores[again], data.sides[again], data.tracks[again], data.parts[again])
    plain, repeated = (fit_conditional(each, (), 0.05).spec.groups[0] for each in (data, more))

    assert repeated.threshold == pytest.approx(plain.threshold)
    assert [limit.limit for limit in repeated.limits] == pytest.approx([limit.limit for limit in plain.limits])


def test_margins_are_added_to_every_limit() -> None:
    """By how much a score may differ elsewhere; the sum's share follows from them. Whoever passed still passes then."""
    data, margins = drawn(100, 3), np.array([0.1, 0.2, 0.0])
    plain, wide = (fit_conditional(data, EDGES, 0.05, margins=each).spec for each in (None, margins))
    for before, after in zip(plain.groups, wide.groups, strict=True):
        rises = [new.limit - old.limit for old, new in zip(before.limits, after.limits, strict=True)]
        assert rises == pytest.approx(margins.tolist())
    passed = ~withheld(plain, data)
    for signs in ((1, 1, 1), (1, -1, 1), (-1, 1, 1)):
        moved = Scored(NAMES, data.scores + margins * signs, data.sides, data.tracks, data.parts)
        assert not withheld(wide, moved)[passed].any()


def test_constant_scores_get_limits_too() -> None:
    """A detector that says the same of all benign images withholds what differs."""
    data = drawn(100, 4)
    data.scores[:, 1] = 3.0
    spec = fit_conditional(data, EDGES, 0.05).spec
    low, high = np.tile(np.median(data.scores, axis=0), (2, 1, 1)).reshape(2, 3)
    high[1] = 3.1
    assert suspicions_of(spec, np.stack([low, high]), np.array([60, 60])).tolist()[1] > 0
    assert withheld(spec, data).mean() < 0.08


def test_thin_groups_join_their_thinner_neighbour() -> None:
    """By tracks and not by images; one group is left in the end."""
    sides = np.array([10] * 50 + [30] * 3 + [50] * 20 + [90] * 60)
    tracks = np.array(list(range(50)) + [0, 1, 2] + list(range(20)) + [5] * 60)
    assert merged_edges(sides, tracks, (20, 40, 80), 3) == [20, 40]
    assert merged_edges(sides, tracks, (20, 40, 80), 5) == [20]
    assert merged_edges(sides, tracks, (20, 40, 80), 1) == [20, 40, 80]
    assert merged_edges(sides, tracks, (20, 40, 80), 1000) == []
    spec = fit_conditional(drawn(60, 5), (12, 13, 24, 40), 0.05, least=15).spec
    assert spec.edges == (24, 40) and len(spec.groups) == 3


def test_the_same_seed_gives_the_same_limits() -> None:
    """And another one other folds."""
    data = drawn(100, 6)
    first, again, other = (fit_conditional(data, EDGES, 0.05, seed=seed).spec for seed in (1, 1, 2))
    assert first == again != other


def test_what_can_not_be_calibrated() -> None:
    """Too few tracks for the rate, a score that is no number, a rate that is none: each says so."""
    with pytest.raises(DataError, match="needs at least 99 tracks of benign images, got 60"):
        fit_conditional(drawn(60, 7), EDGES, 0.01)
    broken = drawn(30, 8)
    broken.scores[5, 1] = np.nan
    with pytest.raises(DataError, match="b gave a score that is not finite"):
        fit_conditional(broken, EDGES, 0.1)
    with pytest.raises(UsageError, match="between 0 and 1"):
        fit_conditional(drawn(30, 8), EDGES, 0.0)


def test_the_limit_for_what_is_no_sign_lies_less_deep_than_others() -> None:
    """On the same scores `not-a-sign` gets a lower limit than another detector: what is no sign is common on a road.
    The rate of all limits together holds all the same."""
    data, fresh = drawn(300, 1), drawn(300, 101, first=1000)
    named = Scored(("a", "b", "not-a-sign"), data.scores, data.sides, data.tracks, data.parts)
    usual, own = (fit_conditional(each, EDGES, 0.05).spec for each in (data, named))

    for before, after in zip(usual.groups, own.groups, strict=True):
        assert after.limits[2].limit < before.limits[2].limit
        assert after.limits[0].limit >= before.limits[0].limit, "what is withheld is shared"
    assert withheld(own, fresh).mean() <= 0.075
