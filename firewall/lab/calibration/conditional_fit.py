"""Limits by size from the scores of benign images: the arithmetic of `firewall lab conditional`.

1. In each group of sizes the upper tail of every detector's scores, and of the sum S, is fitted: its 90 % quantile over
   benign images, and the mean excess above it. The *depth* of a score is how many mean excesses it lies above that
   quantile. Of an exponential tail, exp(-depth) lies above it.
2. The depth of an image is the largest depth of its scores and of S. For this a single detector's depth is reduced by a
   constant: its limit lies deeper than that of S, since it guards against rare things and must not use up what may be
   withheld. Less so of `not-a-sign`: what is no sign is common on a road, and S doesn't see it.
3. All limits lie at one common depth. Split-conformal prediction sets it, with the track as its unit, on *cross-fitted*
   depths: those of each track by tails that were fitted to other tracks. So the false-positive rate holds for all
   limits together, not for each of them.
4. A group that withholds more than twice the rate of its own held-out images gets a larger depth.

A track counts once, however many frames it has. Only benign images take part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.bundle.conditional import ConditionalSpec, CoverageSpec, GroupSpec, LimitSpec
from firewall.decision.conditional import groups_of, sums_in
from firewall.detectors.rejection import NOT_A_SIGN
from firewall.errors import DataError
from firewall.lab.calibration.settings import check_rate
from firewall.lab.measurement.conformal import check_count, track_threshold
from firewall.lab.measurement.intervals import rate_of

__all__ = ["CLEAN", "Fitted", "Scored", "fit_conditional", "merged_edges"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: Name of the images that no shift has changed.
CLEAN = "clean"
_FOLDS = 5
_MEDIAN, _UNIT, _TAIL = 0.5, 0.95, 0.9
#: Least mean excess, as a share of the unit: a tail that is shorter is an accident of few images.
_SHORTEST = 0.1
#: No group may withhold more than so many times the rate.
_MOST = 2
#: How much deeper the limit of a single detector lies than that of S: so rare that it costs next to no benign image.
_ALONE = 5.0
#: The same of `not-a-sign`, which S doesn't have: about seven times as rare.
_NOT_A_SIGN = 2.0
#: Least unit: scores that hardly differ differ by rounding.
_SMALLEST = 1e-6


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of N benign images with D detectors.

    Attributes:
        detectors: Names, in the order in which they are asked.
        scores: float64 (N, D).
        sides: Shorter side of each image in its own pixels, int64 (N,).
        tracks: Track of each, int64 (N,).
        parts: CLEAN, or the name of the shift, of each.
    """

    detectors: tuple[str, ...]
    scores: Floats
    sides: Integers
    tracks: Integers
    parts: npt.NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, where: npt.NDArray[np.bool_]) -> Scored:
        """The images at which a mask, bool (N,), is true."""
        return Scored(self.detectors, self.scores[where], self.sides[where], self.tracks[where], self.parts[where])


@dataclass(frozen=True, eq=False)
class Fitted:
    """What `fit_conditional` found.

    Attributes:
        spec: The limits, with their coverage.
        depth: The common depth.
        depths: That of each group, at least the common one.
    """

    spec: ConditionalSpec
    depth: float
    depths: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Lines:
    """One group: median and unit of D detectors; quantile and mean excess of these and, in the last place, of S; and
    how much deeper than the common depth each limit lies."""

    median: Floats
    unit: Floats
    start: Floats
    excess: Floats
    power: float
    counts: tuple[bool, ...]
    alone: Floats

    def group(self, depth: float, margin: Floats) -> GroupSpec:
        limits = self.start + (depth + self.alone) * self.excess
        summed = (margin / self.unit)[np.array(self.counts, bool)]
        rooms = np.append(margin, float((summed**self.power).sum() ** (1 / self.power)))
        limits = np.maximum(limits + rooms, np.append(self.median, 0.0))
        return GroupSpec(
            threshold=float(limits[-1]),
            limits=tuple(
                LimitSpec(median=median, unit=unit, limit=limit)
                for median, unit, limit in zip(
                    self.median.tolist(), self.unit.tolist(), limits[:-1].tolist(), strict=True
                )
            ),
        )

    def depths(self, scores: Floats) -> Floats:
        """The depth of each image, float64 (N,)."""
        found: Floats = ((_with_sum(self, scores) - self.start) / self.excess - self.alone).max(axis=1)
        return found


def fit_conditional(
    data: Scored,
    edges: Sequence[int],
    rate: float,
    *,
    power: float = 1.0,
    summed: Sequence[str] = (),
    shifted: float = 0.2,
    least: int = 20,
    margins: Sequence[float] | None = None,
    aside: Scored | None = None,
    seed: int = 0,
) -> Fitted:
    """Set the limits of each group of sizes.

    Args:
        data: Benign images, all that the classifier gets right.
        edges: Borders between groups, ascending. Those next to a group with too few tracks are left out.
        rate: Share of benign images that may be withheld, between 0 and 1.
        power: Exponent of the sum.
        summed: Detectors that add to it; none: all.
        shifted: Share of a track's weight that its shifted images have together, where it has both kinds.
        least: The fewest tracks of a group.
        margins: By how much each score may differ with other arithmetic, (D,); None: not at all.
        aside: Images under changes that take no part in the limits; what is withheld of them is measured all the same,
            each by lines that its track took no part in. None: there are none.
        seed: Draws the folds.

    Raises:
        DataError: There are too few tracks for the rate, or a score is not finite.
        UsageError: The rate is out of range.
    """
    check_rate(rate)
    for images in (data,) if aside is None else (data, aside):
        if not np.isfinite(images.scores).all():
            name = images.detectors[int(np.argmin(np.isfinite(images.scores).all(axis=0)))]
            raise DataError(f"{name} gave a score that is not finite on a benign image; it can't be calibrated")
    check_count(len(np.unique(data.tracks)), rate, "tracks of benign images", option="--false-positive-rate")
    edges = merged_edges(data.sides, data.tracks, edges, least)
    draft = _draft(data, edges, power, tuple(summed), rate)
    counts = draft.counts()
    groups, fold = groups_of(draft, data.sides), _folds(data.tracks, seed)
    depths = np.empty(len(data))
    beside = data.take(np.zeros(len(data), bool)) if aside is None else aside
    place = dict(zip(data.tracks.tolist(), fold.tolist(), strict=True))
    other_groups = groups_of(draft, beside.sides)
    other_fold = np.array([place.get(track, 0) for track in beside.tracks.tolist()], np.int64)
    other_depths = np.empty(len(beside))
    for held in range(_FOLDS):
        for number in range(len(edges) + 1):
            there, judged = (groups == number) & (fold != held), (groups == number) & (fold == held)
            also = (other_groups == number) & (other_fold == held)
            if judged.any() or also.any():
                # A fold may have all tracks of a small group; then the others of the group draw its lines all the same.
                drawn = there if there.any() else groups == number
                lines = _lines(data.take(drawn), power, counts, shifted)
                depths[judged] = lines.depths(data.scores[judged])
                other_depths[also] = lines.depths(beside.scores[also])
    weights = _weights(data, groups, shifted)
    common = _conformal(depths, data.tracks, weights, rate)
    own = [_quantile(depths[groups == k], weights[groups == k], 1 - _MOST * rate) for k in range(len(edges) + 1)]
    chosen = tuple(max(common, depth) for depth in own)
    margin = np.zeros(len(data.detectors)) if margins is None else np.asarray(margins, np.float64)
    spec = ConditionalSpec(
        detectors=data.detectors,
        edges=tuple(edges),
        power=power,
        summed=tuple(summed),
        groups=tuple(
            _lines(data.take(groups == number), power, counts, shifted).group(depth, margin)
            for number, depth in enumerate(chosen)
        ),
        rate=rate,
        level=float((1 - _TAIL) * np.exp(-max(common, 0.0))),
        coverage=(
            *_coverage(data, groups, depths > np.array(chosen)[groups]),
            *_coverage(beside, other_groups, other_depths > np.array(chosen)[other_groups], fitted=False),
        ),
    )
    return Fitted(spec, common, chosen)


def merged_edges(sides: Integers, tracks: Integers, edges: Sequence[int], least: int) -> list[int]:
    """Leave out borders until every group has enough tracks, or there is one group.

    The thinnest group joins the neighbour that has fewer tracks.

    Args:
        sides: int64 (N,).
        tracks: int64 (N,).
        edges: Ascending.
        least: The fewest tracks of a group.

    Returns:
        The edges that are left.
    """
    left = list(edges)
    while left:
        groups = np.searchsorted(np.array(left), sides, side="right")
        counts = [len(np.unique(tracks[groups == number])) for number in range(len(left) + 1)]
        thinnest = int(np.argmin(counts))
        if counts[thinnest] >= least:
            break
        neighbours = [number for number in (thinnest - 1, thinnest + 1) if 0 <= number < len(counts)]
        other = min(neighbours, key=counts.__getitem__)
        del left[min(thinnest, other)]
    return left


def _draft(data: Scored, edges: Sequence[int], power: float, summed: tuple[str, ...], rate: float) -> ConditionalSpec:
    """A specification with these groups, to sort images into them."""
    open_ = GroupSpec(threshold=0.0, limits=(LimitSpec(median=0.0, unit=1.0, limit=0.0),) * len(data.detectors))
    return ConditionalSpec(
        detectors=data.detectors,
        edges=tuple(edges),
        power=power,
        summed=summed,
        groups=(open_,) * (len(edges) + 1),
        rate=rate,
        level=rate,
    )


def _lines(data: Scored, power: float, counts: tuple[bool, ...], shifted: float) -> _Lines:
    """The lines of one group."""
    weights = _weights(data, np.zeros(len(data), np.int64), shifted)

    def quantile(values: Floats, share: float) -> Floats:
        return np.array([_quantile(column, weights, share) for column in values.T])

    median = quantile(data.scores, _MEDIAN)
    unit = np.maximum(quantile(data.scores, _UNIT) - median, _SMALLEST)
    alone = np.array([_NOT_A_SIGN if name == NOT_A_SIGN else _ALONE for name in data.detectors] + [0.0])
    drawn = _Lines(median, unit, np.zeros(0), np.zeros(0), power, counts, alone)
    values = _with_sum(drawn, data.scores)
    start = quantile(values, _TAIL)
    above = np.maximum(values - start, 0.0)
    beyond = np.maximum((weights[:, np.newaxis] * (above > 0)).sum(axis=0), 1e-12)
    excess = (weights[:, np.newaxis] * above).sum(axis=0) / beyond
    return _Lines(median, unit, start, np.maximum(excess, _SHORTEST * np.append(unit, 1.0)), power, counts, alone)


def _with_sum(lines: _Lines, scores: Floats) -> Floats:
    """Scores, and S in the last column."""
    limits = tuple(
        LimitSpec(median=median, unit=unit, limit=median)
        for median, unit in zip(lines.median.tolist(), lines.unit.tolist(), strict=True)
    )
    total = sums_in(GroupSpec(threshold=0.0, limits=limits), scores, lines.power, lines.counts)
    return np.concatenate([scores, total[:, np.newaxis]], axis=1)


def _weights(data: Scored, groups: Integers, shifted: float) -> Floats:
    """The weight of each image, float64 (N,).

    Each track has 1 in each group; its shifted images have the share `shifted` of that where it has both kinds."""
    clean = data.parts == CLEAN
    weights = np.empty(len(data))
    cells = np.unique(np.stack([data.tracks, groups], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    number = cells.max(initial=-1) + 1
    counts = [np.bincount(cells[kind], minlength=number) for kind in (clean, ~clean)]
    both = (counts[0] > 0) & (counts[1] > 0)
    for kind, count, share in ((clean, counts[0], 1 - shifted), (~clean, counts[1], shifted)):
        weights[kind] = (np.where(both, share, 1.0) / np.maximum(count, 1))[cells[kind]]
    return weights


def _quantile(values: Floats, weights: Floats, share: float) -> float:
    """The smallest value with at least `share` of the weight at or below it."""
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) / weights.sum()
    return float(values[order[min(int(np.searchsorted(below, share - 1e-12)), len(values) - 1)]])


def _conformal(depths: Floats, tracks: Integers, weights: Floats, rate: float) -> float:
    """The depth that frames of new tracks exceed with a probability of at most `rate`: as `track_threshold`, where the
    weight of a track is divided by the images' own weights."""
    _, place = np.unique(tracks, return_inverse=True)
    own = weights / np.bincount(place, weights)[place]
    order = np.argsort(depths, kind="stable")
    below = np.cumsum(own[order]) / (place.max() + 2)
    if below[-1] < 1 - rate - 1e-12:  # check_count has seen to it that there are enough
        return track_threshold(depths, tracks, rate)
    return float(depths[order[int(np.searchsorted(below, 1 - rate - 1e-12))]])


def _folds(tracks: Integers, seed: int) -> Integers:
    """The fold of each image, int64 (N,); a track lies in one."""
    numbers, place = np.unique(tracks, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(numbers)) % _FOLDS
    return np.asarray(order[place], np.int64)


def _coverage(
    data: Scored, groups: Integers, withheld: npt.NDArray[np.bool_], *, fitted: bool = True
) -> tuple[CoverageSpec, ...]:
    """What is withheld, each image by lines that its track took no part in: clean images by group, each shift."""
    rows = []
    for part in sorted(set(data.parts.tolist()), key=lambda name: (name != CLEAN, name)):
        numbers = [None, *range(int(groups.max()) + 1)] if part == CLEAN else [None]
        for number in numbers:
            where = (data.parts == part) & (True if number is None else groups == number)
            if where.any():
                rate = rate_of(withheld[where], data.tracks[where])
                tracks = len(np.unique(data.tracks[where]))
                rows.append(
                    CoverageSpec(
                        part=str(part),
                        group=number,
                        tracks=tracks,
                        images=int(where.sum()),
                        withheld=rate.value,
                        low=min(rate.low, rate.value),
                        high=max(rate.high, rate.value),
                        fitted=fitted,
                    )
                )
    return tuple(rows)
