"""How well a detector's scores tell adversarial from normal images, with 95 % intervals.

Scores are higher the more suspicious an image is, and an image is withheld if its score is *above* the threshold, as
the firewall's policy has it. Counting detectors give few distinct scores, so ties are the rule: a threshold is always
one of the scores, and the false-positive rate it achieves is at most the one that was asked for.

Frames of one track are nearly the same picture, and so are an image and its adversarial version. Where the tracks are
named the intervals treat a track as one draw; without them they are too narrow for such data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import betaincinv, expit, logit, ndtri, stdtrit

from firewall.errors import DataError, UsageError

__all__ = [
    "FEW",
    "Estimate",
    "OperatingPoint",
    "Rate",
    "Separation",
    "auroc",
    "auroc_interval",
    "operating_point",
    "rate_interval",
    "separate",
    "threshold_at",
    "worst",
]

#: An attack with fewer images is shown, but neither called the worst nor to be relied on.
FEW = 10

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_TAIL = 0.025  # on either side of a 95 % interval


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, all in 0..1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """`hits` of `total` images, with the 95 % interval of Clopper and Pearson (with tracks: Korn and Graubard 1998)."""

    hits: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """hits / total."""
        return self.hits / self.total

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON, with the value."""
        return {"value": self.value, **asdict(self)}


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold does. asked: the false-positive rate it was set for, None if it was given as such."""

    threshold: float
    asked: float | None
    false_positives: Rate
    true_positives: Rate

    @property
    def accuracy(self) -> float:
        """Share of all images, normal and adversarial, that are judged right (the papers take as many of each)."""
        right = self.true_positives.hits + self.false_positives.total - self.false_positives.hits
        return right / (self.true_positives.total + self.false_positives.total)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the share of adversarial images withheld and the share of normal images let through."""
        return (self.true_positives.value + 1 - self.false_positives.value) / 2

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "threshold": self.threshold,
            "asked": self.asked,
            "false_positives": self.false_positives.to_json(),
            "true_positives": self.true_positives.to_json(),
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
        }


@dataclass(frozen=True)
class Separation:
    """One detector on one attack.

    auroc: the chance that an adversarial image scores above a normal one, ties counting half. eer: where the share of
    normal images withheld and of adversarial images released are equal, on straight lines between thresholds.
    calibrated: thresholds set on calibration normals; what they do on other images is what a user will see.
    on_curve: thresholds set on the very normals that are judged, as papers report it.
    """

    normal: int
    adversarial: int
    auroc: Estimate
    eer: Estimate
    calibrated: tuple[OperatingPoint, ...]
    on_curve: tuple[OperatingPoint, ...]

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "normal": self.normal,
            "adversarial": self.adversarial,
            "auroc": asdict(self.auroc),
            "eer": asdict(self.eer),
            "calibrated": [point.to_json() for point in self.calibrated],
            "on_curve": [point.to_json() for point in self.on_curve],
        }


def separate(
    normal: npt.ArrayLike,
    adversarial: npt.ArrayLike,
    *,
    calibration: npt.ArrayLike | None = None,
    rates: Sequence[float] = (0.01, 0.05),
    normal_tracks: npt.ArrayLike | None = None,
    adversarial_tracks: npt.ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Separation:
    """Judge the scores of normal (N,) and adversarial images (M,), all finite, N and M >= 1.

    calibration: scores of other normal images, on which the thresholds of `calibrated` are set. rates: the
    false-positive rates asked for, each in 0..1, 1 excluded. normal_tracks, adversarial_tracks: the track (or source
    image) of each score; one without the other is an error. Intervals of auroc and eer come from `resamples` bootstrap
    draws (of tracks, where named). Raises DataError for scores or tracks that don't fit, UsageError for rates.
    """
    low, high = _scores(normal, "normal"), _scores(adversarial, "adversarial")
    tracks = _tracks(normal_tracks, adversarial_tracks, len(low), len(high))
    values, codes = np.unique(np.concatenate([low, high]), return_inverse=True)
    draws = _draws(codes[: len(low)], codes[len(low) :], len(values), tracks, resamples, seed)
    curves = [_auroc_and_eer(normals, adversarials) for normals, adversarials in draws]
    areas, errors = (np.concatenate(parts) for parts in zip(*curves, strict=True))  # the sample's own come first
    if low.max() < high.min() or high.max() < low.min():
        auroc_estimate, eer_estimate = _of_perfect(areas[0] > 0.5, *_sizes(len(low), len(high), tracks))
    else:
        auroc_estimate, eer_estimate = _around(areas), _around(errors)
    points = {}
    for name, source in (("calibrated", calibration), ("on_curve", low)):
        limits = [] if source is None else [(threshold_at(source, rate), rate) for rate in rates]
        points[name] = tuple(_point(low, high, limit, rate, tracks) for limit, rate in limits)
    return Separation(len(low), len(high), auroc_estimate, eer_estimate, **points)


def threshold_at(normal: npt.ArrayLike, rate: float) -> float:
    """The smallest of the scores `normal` above which lies at most the share `rate` of them, 0 <= rate < 1."""
    if not 0 <= rate < 1:
        raise UsageError(f"a false-positive rate of {rate} was asked for; it must be at least 0 and below 1")
    scores = np.sort(_scores(normal, "normal"))[::-1]
    allowed = int(rate * len(scores))
    while (allowed + 1) / len(scores) <= rate:  # 0.29 * 100 is 28.999...
        allowed += 1
    return float(scores[allowed])


def auroc(normal: npt.ArrayLike, adversarial: npt.ArrayLike) -> float:
    """The area under the curve alone; arguments and errors as `separate`."""
    return separate(normal, adversarial, rates=(), resamples=0).auroc.value


def auroc_interval(normal: npt.ArrayLike, adversarial: npt.ArrayLike, *, seed: int = 0) -> tuple[float, float]:
    """Its 95 % interval for independent images; arguments and errors as `separate`."""
    estimate = separate(normal, adversarial, rates=(), seed=seed).auroc
    return estimate.low, estimate.high


def rate_interval(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval (Clopper and Pearson) of the rate at which `hits` of `total` independent images were hit."""
    if not 0 <= hits <= total or total < 1:
        raise DataError(f"{hits} of {total} is not a rate; hits must lie in 0..total, and total be at least 1")
    return _clopper_pearson(hits, total)


def operating_point(
    normal: npt.ArrayLike,
    adversarial: npt.ArrayLike,
    threshold: float,
    *,
    normal_tracks: npt.ArrayLike | None = None,
    adversarial_tracks: npt.ArrayLike | None = None,
) -> OperatingPoint:
    """What a given threshold, such as a paper's, does on the scores; arguments and errors as `separate`."""
    low, high = _scores(normal, "normal"), _scores(adversarial, "adversarial")
    tracks = _tracks(normal_tracks, adversarial_tracks, len(low), len(high))
    return _point(low, high, threshold, None, tracks)


def worst(separations: Mapping[str, Separation]) -> str:
    """The name of the attack that is told from normal images worst: the lowest auroc, then the highest eer."""
    if not separations:
        raise DataError("no attack was judged, so none is the worst")
    return min(separations, key=lambda name: (separations[name].auroc.value, -separations[name].eer.value))


def _scores(values: npt.ArrayLike, kind: str) -> Floats:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or len(scores) == 0:
        raise DataError(f"{kind} scores have shape {scores.shape}; a list of at least one number is needed")
    if not np.isfinite(scores).all():
        raise DataError(
            f"{np.count_nonzero(~np.isfinite(scores))} of {len(scores)} {kind} scores are not finite; the firewall "
            "withholds such images, so count them apart"
        )
    return scores


def _tracks(
    normal: npt.ArrayLike | None, adversarial: npt.ArrayLike | None, normals: int, adversarials: int
) -> tuple[Integers, Integers] | None:
    """Tracks numbered 0.. over both sets, so that a track is drawn in both at once."""
    if normal is None and adversarial is None:
        return None
    if normal is None or adversarial is None:
        raise DataError("tracks are named for one of the two sets only; name them for both or for none")
    first, second = np.asarray(normal), np.asarray(adversarial)
    if first.shape != (normals,) or second.shape != (adversarials,):
        raise DataError(
            f"tracks have shapes {first.shape} and {second.shape}; {normals} and {adversarials} scores need one each"
        )
    codes = np.unique(np.concatenate([first, second]), return_inverse=True)[1].astype(np.int64)
    return codes[:normals], codes[normals:]


def _sizes(normals: int, adversarials: int, tracks: tuple[Integers, Integers] | None) -> tuple[int, int]:
    """How many independent draws the two sets hold."""
    return (normals, adversarials) if tracks is None else (len(np.unique(tracks[0])), len(np.unique(tracks[1])))


def _draws(
    normal: Integers,
    adversarial: Integers,
    bins: int,
    tracks: tuple[Integers, Integers] | None,
    resamples: int,
    seed: int,
) -> Iterator[tuple[Floats, Floats]]:
    """Histograms over the distinct scores, (draws, bins) each: first the sample itself, then blocks of draws."""
    own = [np.bincount(codes, minlength=bins) for codes in (normal, adversarial)]
    yield own[0][None].astype(np.float64), own[1][None].astype(np.float64)
    generator = np.random.default_rng(seed)
    block = max(1, 2_000_000 // bins)
    if tracks is None:
        for start in range(0, resamples, block):
            count = min(block, resamples - start)
            yield _redrawn(own[0], count, generator), _redrawn(own[1], count, generator)
        return
    kinds = int(max(tracks[0].max(), tracks[1].max())) + 1
    histograms = [
        sparse.csr_array((np.ones(len(codes)), (codes, track)), shape=(bins, kinds))
        for codes, track in zip((normal, adversarial), tracks, strict=True)
    ]
    for start in range(0, resamples, block):
        drawn = _redrawn(np.ones(kinds, np.int64), min(block, resamples - start), generator)
        normals, adversarials = ((histogram @ drawn.T).T for histogram in histograms)
        whole = (normals.sum(1) > 0) & (adversarials.sum(1) > 0)
        yield normals[whole], adversarials[whole]


def _redrawn(histogram: Integers, count: int, generator: np.random.Generator) -> Floats:
    """`count` draws with replacement, each as many as there are in `histogram`, as histograms (count, bins)."""
    total = histogram.sum()
    return generator.multinomial(total, histogram / total, size=count).astype(np.float64)


def _auroc_and_eer(normal: Floats, adversarial: Floats) -> tuple[Floats, Floats]:
    """(draws,) each, from histograms (draws, bins) over scores in ascending order."""
    released_normal = normal.cumsum(1) / normal.sum(1, keepdims=True)
    released_adversarial = adversarial.cumsum(1) / adversarial.sum(1, keepdims=True)
    below = released_normal - 0.5 * normal / normal.sum(1, keepdims=True)
    auroc = (below * adversarial).sum(1) / adversarial.sum(1)
    # Threshold below every score: all is withheld. Then each score in turn is the threshold.
    missed = np.pad(released_adversarial, ((0, 0), (1, 0)))
    difference = missed - (1 - np.pad(released_normal, ((0, 0), (1, 0))))  # rises from -1 to 1
    after = (difference >= 0).argmax(1)
    rows = np.arange(len(missed))
    share = difference[rows, after - 1] / (difference[rows, after - 1] - difference[rows, after])
    eer = missed[rows, after - 1] + share * (missed[rows, after] - missed[rows, after - 1])
    return auroc, eer


def _around(values: Floats) -> Estimate:
    """The first of `values`, and the interval from the others, its bootstrap draws.

    It is laid on the logit scale, which covers better than percentiles do where the value is near 0 or 1."""
    value, draws = values[0], values[1:]
    spread = value * (1 - value)
    if len(draws) < 2 or spread <= 0:
        return Estimate(float(value), 0.0, 1.0)
    centre, half = logit(value), -ndtri(_TAIL) * draws.std(ddof=1) / spread
    return Estimate(float(value), float(expit(centre - half)), float(expit(centre + half)))


def _of_perfect(right: bool, normals: int, adversarials: int) -> tuple[Estimate, Estimate]:
    """Both where no score of one set reaches into the other, and every bootstrap draw says the same.

    right: whether the adversarial images are the ones that score higher.

    The threshold between the sets makes at most the errors that a sample without error allows, so that auroc >=
    (1 - a)(1 - b) and eer <= max(a, b); together at 95 %.
    """
    a, b = (1 - _TAIL ** (1 / count) for count in (normals, adversarials))
    area, error = (1 - a) * (1 - b), max(a, b)
    if right:
        return Estimate(1.0, area, 1.0), Estimate(0.0, 0.0, error)
    return Estimate(0.0, 0.0, 1 - area), Estimate(1.0, 1 - error, 1.0)


def _point(
    normal: Floats, adversarial: Floats, threshold: float, asked: float | None, tracks: tuple[Integers, Integers] | None
) -> OperatingPoint:
    first, second = tracks if tracks is not None else (None, None)
    return OperatingPoint(threshold, asked, _rate(normal > threshold, first), _rate(adversarial > threshold, second))


def _rate(hits: npt.NDArray[np.bool_], tracks: Integers | None) -> Rate:
    count, total = int(hits.sum()), len(hits)
    size = float(total) if tracks is None else _effective_size(hits, tracks)
    return Rate(count, total, *_clopper_pearson(size * count / total, size))


def _clopper_pearson(events: float, size: float) -> tuple[float, float]:
    low = 0.0 if events <= 0 else float(betaincinv(events, size - events + 1, _TAIL))
    high = 1.0 if events >= size else float(betaincinv(events + 1, size - events, 1 - _TAIL))
    return low, high


def _effective_size(hits: npt.NDArray[np.bool_], tracks: Integers) -> float:
    """How many independent images the tracks are worth for this rate (Korn and Graubard 1998), at most `len(hits)`."""
    sizes = np.bincount(tracks).astype(np.float64)
    present = sizes > 0
    clusters, total, share = int(present.sum()), len(hits), float(hits.mean())
    if clusters == 1 or share in (0.0, 1.0):
        return float(clusters)
    residuals = np.bincount(tracks, weights=hits)[present] - share * sizes[present]
    variance = clusters / (clusters - 1) * float(np.square(residuals).sum()) / total**2
    if variance <= 0:
        return float(total)
    correction = (stdtrit(total - 1, 1 - _TAIL) / stdtrit(clusters - 1, 1 - _TAIL)) ** 2
    return min(float(total), max(1.0, share * (1 - share) / variance * float(correction)))
