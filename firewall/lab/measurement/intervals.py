"""Rates and other numbers with 95 % intervals, for independent images or for images that come in tracks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, expit, gammaincinv, logit, ndtri, stdtrit

from firewall.errors import DataError

__all__ = ["Estimate", "Rate", "around", "count_interval", "of_perfect", "rate_interval", "rate_of"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_TAIL = 0.025  # on either side of a 95 % interval


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, all in 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rate:
    """`hits` of `total` images, with the 95 % interval `low` to `high`: that of Clopper and Pearson (1934); with tracks
    as Korn and Graubard (1998) adjust it."""

    hits: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """hits / total."""
        return self.hits / self.total

    def to_json(self) -> dict[str, Any]:
        """All fields and the value, ready for JSON."""
        return {"value": self.value, **asdict(self)}


def rate_of(hits: npt.NDArray[np.bool_], tracks: npt.ArrayLike | None = None) -> Rate:
    """The share of images that are hit.

    Args:
        hits: bool (N,), N >= 1.
        tracks: Track of each image, (N,); None for independent images.

    Raises:
        DataError: There is no image, or the two don't fit.
    """
    count, total = int(hits.sum()), len(hits)
    numbers = None if tracks is None else np.unique(np.asarray(tracks), return_inverse=True)[1].astype(np.int64)
    if total == 0 or (numbers is not None and numbers.shape != hits.shape):
        shape = None if numbers is None else numbers.shape
        raise DataError(
            f"hits {hits.shape} and tracks {shape} were given; a rate needs at least one image, and each one"
        )
    size = float(total) if numbers is None else _effective_size(hits, numbers)
    return Rate(count, total, *_clopper_pearson(size * count / total, size))


def rate_interval(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval (Clopper and Pearson 1934) of a rate.

    Args:
        hits: How many images were hit.
        total: Of how many independent images, 1 or more.

    Returns:
        Its ends, 0 to 1.

    Raises:
        DataError: The numbers are no rate.
    """
    if not 0 <= hits <= total or total < 1:
        raise DataError(f"{hits} of {total} is not a rate; hits must lie in 0..total, and total be at least 1")
    return _clopper_pearson(hits, total)


def count_interval(count: int) -> tuple[float, float]:
    """The 95 % interval of the mean of a count of independent events (Poisson's; Garwood 1936).

    Args:
        count: How many there were, 0 or more.

    Returns:
        Its ends, 0 or more.

    Raises:
        DataError: The count is negative.
    """
    if count < 0:
        raise DataError(f"{count} is no count of events; it must be 0 or more")
    low = 0.0 if count == 0 else float(gammaincinv(count, _TAIL))
    return low, float(gammaincinv(count + 1, 1 - _TAIL))


def around(values: Floats) -> Estimate:
    """A number and the interval that its bootstrap draws give.

    The interval is laid on the logit scale, which covers better than percentiles do where the value is near 0 or 1.

    Args:
        values: The number, 0 to 1, and then its draws, float64 (1 + draws,).
    """
    value, draws = values[0], values[1:]
    spread = value * (1 - value)
    if len(draws) < 2 or spread <= 0:
        return Estimate(float(value), 0.0, 1.0)
    centre, half = logit(value), -ndtri(_TAIL) * draws.std(ddof=1) / spread
    return Estimate(float(value), float(expit(centre - half)), float(expit(centre + half)))


def of_perfect(right: bool, normals: int, adversarials: int) -> tuple[Estimate, Estimate]:
    """AUROC and equal error rate where the scores of the two sets don't overlap, so that all bootstrap draws agree.

    A threshold between the sets makes at most the errors a and b that a sample without error allows. So AUROC >=
    (1 - a)(1 - b) and equal error rate <= max(a, b), together at 95 %.

    Args:
        right: The attacked images are the ones that score higher.
        normals: Independent benign images.
        adversarials: Independent attacked images.
    """
    a, b = (1 - _TAIL ** (1 / count) for count in (normals, adversarials))
    area, error = (1 - a) * (1 - b), max(a, b)
    if right:
        return Estimate(1.0, area, 1.0), Estimate(0.0, 0.0, error)
    return Estimate(0.0, 0.0, 1 - area), Estimate(1.0, 1 - error, 1.0)


def _clopper_pearson(events: float, size: float) -> tuple[float, float]:
    low = 0.0 if events <= 0 else float(betaincinv(events, size - events + 1, _TAIL))
    high = 1.0 if events >= size else float(betaincinv(events + 1, size - events, 1 - _TAIL))
    return low, high


def _effective_size(hits: npt.NDArray[np.bool_], tracks: Integers) -> float:
    """How many independent images the tracks are worth for this rate (Korn and Graubard 1998), at most `len(hits)`.
    tracks: numbered from 0."""
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
