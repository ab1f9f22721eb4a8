"""Thresholds that keep a false-positive rate on benign images that come in tracks.

Split-conformal prediction promises a false-positive rate for images that are exchangeable with the calibration images.
Frames of one track are not: thirty pictures of one sign say hardly more than one does. So a track is the unit. Each of
the K tracks weighs 1 / (K + 1), divided evenly among its frames, and as much weight lies at infinity, for the next
track. If tracks are exchangeable, and frames within a track are too, then a frame of a new track lies above the
threshold with a probability of at most the rate (Lee, Barber and Willett: Distribution-free inference with hierarchical
data, 2023).

Not covered: signs of another camera, country or season than the tracks that were calibrated on; the rate within one
track, of which all frames may be withheld while other tracks lose none; and attacks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, UsageError

__all__ = ["check_count", "conformal_threshold", "least_rate", "needed_tracks", "track_p_values", "track_threshold"]


def needed_tracks(rate: float) -> int:
    """The smallest number of tracks, or of independent images, with which a false-positive rate can be promised.

    Args:
        rate: Above 0 and at most 1.
    """
    return math.ceil(round(1 / rate, 9)) - 1


def least_rate(count: int, shares: int = 1) -> float | None:
    """The lowest false-positive rate that can be promised, rounded up to three digits so that it can be asked for.

    Args:
        count: Tracks, or independent images.
        shares: Detectors among which the rate is divided evenly.

    Returns:
        The rate; None if none below 1 can be promised.
    """
    exact = shares / (count + 1)
    unit = 10.0 ** (math.floor(math.log10(exact)) - 2)
    rate = float(f"{math.ceil(exact / unit - 1e-6) * unit:.3g}")
    return rate if rate < 1 else None


def check_count(
    count: int, rate: float, unit: str, *, option: str, names: Sequence[str] = (), note: str = "", more: str = ""
) -> None:
    """Check that there are enough tracks or images for a rate.

    Args:
        count: How many there are.
        rate: The false-positive rate that was asked for, between 0 and 1.
        unit: What is counted, such as "benign images".
        option: The option that asked for the rate.
        names: The detectors that share the rate evenly; none if it isn't shared.
        note: Why there may be fewer than the user thinks.
        more: What else the user could do.

    Raises:
        DataError: There are too few. It says how many are needed, and which rate these can promise.
    """
    shares = max(len(names), 1)
    need = needed_tracks(rate / shares)
    if count >= need:
        return
    split = (
        f" is shared out evenly among {shares} detectors ({', '.join(names)}), since each of them can withhold, which "
        f"leaves {rate / shares:.3g} for each and"
        if shares > 1
        else ""
    )
    least = least_rate(count, shares)
    promise = (
        f"{count} can promise no rate"
        if least is None
        else f"{count} can promise {least:g}: ask for {option} {least:g}"
    )
    raise DataError(
        f"{option} {rate:g}{split} needs at least {need} {unit}, got {count}{note}; {promise}, or take "
        f"{need - count} more{more}"
    )


def conformal_threshold(
    scores: npt.NDArray[np.float64],
    rate: float,
    *,
    unit: str = "benign images",
    option: str = "--false-positive-rate",
    note: str = "",
) -> float:
    """The ceil((n + 1)(1 - rate))-th smallest of n scores: at most `rate` of exchangeable scores lie above it.

    Args:
        scores: float64 (n,).
        rate: Between 0 and 1.
        unit: See `check_count`.
        option: See `check_count`.
        note: See `check_count`.

    Raises:
        DataError: There are too few scores for the rate.
        UsageError: The rate is out of range.
    """
    if not 0 < rate < 1:
        raise UsageError(f"a false-positive rate must lie between 0 and 1, got {rate}")
    check_count(len(scores), rate, unit, option=option, note=note)
    # 300 * (1 - 0.01 / 3) is a little more than 299 in floating point, and would ask for one image too many.
    rank = math.ceil(round((len(scores) + 1) * (1 - rate), 9))
    return float(np.sort(scores)[rank - 1])


def track_threshold(
    scores: npt.NDArray[np.float64],
    tracks: npt.NDArray[np.int64],
    rate: float,
    *,
    option: str = "--false-positive-rate",
    note: str = "",
) -> float:
    """The smallest score of the calibration images that keeps `rate` on frames of new tracks; see the module.

    Args:
        scores: Of benign images, float64 (N,).
        tracks: Their tracks, int64 (N,).
        rate: Between 0 and 1.
        option: See `check_count`.
        note: See `check_count`.

    Raises:
        DataError: There are too few tracks for the rate, or a score is not finite.
        UsageError: The rate is out of range.
    """
    if not 0 < rate < 1:
        raise UsageError(f"a false-positive rate must lie between 0 and 1, got {rate}")
    if not np.isfinite(scores).all():
        raise DataError("a detector gave a score that is not finite on a benign image; it can't be calibrated")
    check_count(len(np.unique(tracks)), rate, "tracks of benign images", option=option, note=note)
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(_weights(tracks)[order])
    # The tolerance is for sums of fractions that are 1 - rate on paper.
    place = int(np.searchsorted(below, 1 - rate - 1e-12))
    return float(scores[order[min(place, len(scores) - 1)]])


def track_p_values(
    scores: npt.NDArray[np.float64], calibration: npt.NDArray[np.float64], tracks: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """How unusual scores are among benign images that come in tracks; small is unusual.

    On frames of new tracks a value is at most p with a probability of at most p.

    Args:
        scores: float64 (M,).
        calibration: Scores of benign images, float64 (N,).
        tracks: The K tracks of these, int64 (N,).

    Returns:
        float64 (M,), between 1 / (K + 1) and 1: the calibration weight at or above each score.
    """
    order = np.argsort(calibration, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(_weights(tracks)[order])])
    values: npt.NDArray[np.float64] = 1 - below[np.searchsorted(calibration[order], scores, side="left")]
    return values


def _weights(tracks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The weight of each frame: 1 / (K + 1), divided by the number of frames of its track."""
    _, place, frames = np.unique(tracks, return_inverse=True, return_counts=True)
    weights: npt.NDArray[np.float64] = 1 / ((len(frames) + 1) * frames[place])
    return weights
