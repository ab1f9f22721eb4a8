"""How well scores separate attacked from benign images, with 95 % intervals.

A higher score is more suspicious, and an image is withheld if its score is *above* the threshold, as the firewall's
policy has it. Detectors that count give few distinct scores, so ties are the rule: a threshold is always one of the
scores, and the false-positive rate that it achieves is at most the one that was asked for.

Frames of one track are nearly the same picture, and so are an image and its attacked version. Where tracks are given,
the intervals treat a track as one draw; without them they are too narrow for such data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from firewall.errors import DataError, UsageError
from firewall.lab.measurement.intervals import Estimate, Rate, around, of_perfect, rate_interval, rate_of

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
    "rate_of",
    "separate",
    "threshold_at",
    "worst",
]

#: An attack with fewer images is shown, but it is never called the worst: its rates say too little.
FEW = 10

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold does.

    Attributes:
        threshold: A score above it withholds.
        asked: The false-positive rate that it was set for; None if the threshold itself was given.
        false_positives: Of the benign images.
        true_positives: Of the attacked images.
    """

    threshold: float
    asked: float | None
    false_positives: Rate
    true_positives: Rate

    @property
    def accuracy(self) -> float:
        """Share of all images, benign and attacked, that are judged right (the papers take as many of each)."""
        right = self.true_positives.hits + self.false_positives.total - self.false_positives.hits
        return right / (self.true_positives.total + self.false_positives.total)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of the true-positive rate and the share of benign images that are released."""
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

    Attributes:
        normal: Number of benign images.
        adversarial: Number of attacked images.
        auroc: The chance that an attacked image scores higher than a benign one; ties count half.
        eer: Equal error rate: the false-positive rate at which it equals the share of attacked images that are
            released, on straight lines between thresholds.
        calibrated: Thresholds set on other benign images. What they do here is what a user will see.
        on_curve: Thresholds set on the very images that are judged, as papers report them.
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
    """How well scores separate attacked from benign images.

    Args:
        normal: Scores of benign images, finite (N,), N >= 1.
        adversarial: Scores of attacked images, finite (M,), M >= 1.
        calibration: Scores of other benign images, on which the thresholds of `calibrated` are set.
        rates: False-positive rates to set thresholds for, each at least 0 and below 1.
        normal_tracks: Track of each benign image, (N,). Given together with `adversarial_tracks`, or neither.
        adversarial_tracks: Track of each attacked image, (M,).
        resamples: Bootstrap draws for the intervals of AUROC and equal error rate; of tracks, where they are given.
        seed: Of the draws.

    Raises:
        DataError: Scores or tracks don't fit.
        UsageError: A rate is out of range.
    """
    low, high = _scores(normal, "normal"), _scores(adversarial, "adversarial")
    tracks = _tracks(normal_tracks, adversarial_tracks, len(low), len(high))
    values, codes = np.unique(np.concatenate([low, high]), return_inverse=True)
    draws = _draws(codes[: len(low)], codes[len(low) :], len(values), tracks, resamples, seed)
    curves = [_auroc_and_eer(normals, adversarials) for normals, adversarials in draws]
    areas, errors = (np.concatenate(parts) for parts in zip(*curves, strict=True))  # the sample's own come first
    if low.max() < high.min() or high.max() < low.min():
        auroc_estimate, eer_estimate = of_perfect(areas[0] > 0.5, *_sizes(len(low), len(high), tracks))
    else:
        auroc_estimate, eer_estimate = around(areas), around(errors)
    points = {}
    for name, source in (("calibrated", calibration), ("on_curve", low)):
        limits = [] if source is None else [(threshold_at(source, rate), rate) for rate in rates]
        points[name] = tuple(_point(low, high, limit, rate, tracks) for limit, rate in limits)
    return Separation(len(low), len(high), auroc_estimate, eer_estimate, **points)


def threshold_at(normal: npt.ArrayLike, rate: float) -> float:
    """The smallest of some benign images' scores that keeps a false-positive rate on them.

    Args:
        normal: Their scores, finite (N,), N >= 1.
        rate: Share that may lie above the threshold, at least 0 and below 1.

    Raises:
        DataError: Scores don't fit.
        UsageError: The rate is out of range.
    """
    if not 0 <= rate < 1:
        raise UsageError(f"a false-positive rate of {rate} was asked for; it must be at least 0 and below 1")
    scores = np.sort(_scores(normal, "normal"))[::-1]
    allowed = int(rate * len(scores))
    while (allowed + 1) / len(scores) <= rate:  # 0.29 * 100 is 28.999...
        allowed += 1
    return float(scores[allowed])


def auroc(normal: npt.ArrayLike, adversarial: npt.ArrayLike) -> float:
    """The AUROC alone; arguments and errors as of `separate`."""
    return separate(normal, adversarial, rates=(), resamples=0).auroc.value


def auroc_interval(normal: npt.ArrayLike, adversarial: npt.ArrayLike, *, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of the AUROC of independent images; arguments and errors as of `separate`."""
    estimate = separate(normal, adversarial, rates=(), seed=seed).auroc
    return estimate.low, estimate.high


def operating_point(
    normal: npt.ArrayLike,
    adversarial: npt.ArrayLike,
    threshold: float,
    *,
    normal_tracks: npt.ArrayLike | None = None,
    adversarial_tracks: npt.ArrayLike | None = None,
) -> OperatingPoint:
    """What a given threshold, such as a paper's, does; other arguments and errors as of `separate`."""
    low, high = _scores(normal, "normal"), _scores(adversarial, "adversarial")
    tracks = _tracks(normal_tracks, adversarial_tracks, len(low), len(high))
    return _point(low, high, threshold, None, tracks)


def worst(separations: Mapping[str, Separation]) -> str:
    """The attack with the lowest AUROC; of several the one with the highest equal error rate.

    Args:
        separations: By attack.

    Raises:
        DataError: There is none.
    """
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


def _point(
    normal: Floats, adversarial: Floats, threshold: float, asked: float | None, tracks: tuple[Integers, Integers] | None
) -> OperatingPoint:
    first, second = tracks if tracks is not None else (None, None)
    return OperatingPoint(
        threshold, asked, rate_of(normal > threshold, first), rate_of(adversarial > threshold, second)
    )
