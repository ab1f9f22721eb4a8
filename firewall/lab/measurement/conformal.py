"""Thresholds with a guarantee for images that come in tracks.

Split-conformal prediction promises a false-positive rate for images that are exchangeable with the calibration images.
Frames of one track are not: thirty pictures of one sign say hardly more than one does. So a track is the unit. Each of
the K tracks weighs 1 / (K + 1), spread over its frames, and as much weight lies at infinity, for the track that is to
come. If tracks are exchangeable, and frames within a track are too, a frame of a new track lies above the threshold
with a probability of at most the rate (Lee, Barber and Willett: Distribution-free inference with hierarchical data,
2023).

What that doesn't cover: signs of another camera, country or season than the tracks that were calibrated on; the rate
within one track, of which all frames may be withheld while others lose none; and attacks, about which it says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, UsageError

__all__ = ["check_count", "conformal_threshold", "least_rate", "needed_tracks", "track_p_values", "track_threshold"]


def needed_tracks(rate: float) -> int:
    """The smallest number of tracks, or of images where each stands for itself, with which a false-positive rate can be
    promised at all."""
    return math.ceil(round(1 / rate, 9)) - 1


def least_rate(count: int, shares: int = 1) -> float | None:
    """The lowest rate, shared out among `shares` detectors, that `count` tracks or images can promise, rounded up to
    three digits so that it can be asked for; None if none below 1 can be."""
    exact = shares / (count + 1)
    unit = 10.0 ** (math.floor(math.log10(exact)) - 2)
    rate = float(f"{math.ceil(exact / unit - 1e-6) * unit:.3g}")
    return rate if rate < 1 else None


def check_count(
    count: int, rate: float, unit: str, *, option: str, names: Sequence[str] = (), note: str = "", more: str = ""
) -> None:
    """Raises DataError if `count` of `unit`, say "normal images", are too few for the rate that `option` asked for.

    names: of the detectors that share it evenly, if it is shared. note: why the count may be less than the user thinks.
    more: what else there is to do. The message says what was asked and why it is split, how many are needed, and which
    rate these can promise.
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
    unit: str = "normal images",
    option: str = "--false-positive-rate",
    note: str = "",
) -> float:
    """The ceil((n + 1)(1 - rate))-th smallest score: at most `rate` of exchangeable scores lie above it.

    unit, option, note: for the message of too few, see `check_count`. Raises DataError if there are fewer scores than
    the rate needs, UsageError if the rate is not in (0, 1).
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
    """The smallest score t of the calibration images so that "above t" keeps `rate`.

    scores, tracks: (N,), of normal images. option, note: for the message of too few, see `check_count`. Raises
    UsageError if the rate is not in (0, 1), DataError if there are too few tracks for it or a score is not finite.
    """
    if not 0 < rate < 1:
        raise UsageError(f"a false-positive rate must lie between 0 and 1, got {rate}")
    if not np.isfinite(scores).all():
        raise DataError("a detector gave a score that is not finite on a normal image; it can't be calibrated")
    check_count(len(np.unique(tracks)), rate, "tracks of normal images", option=option, note=note)
    order = np.argsort(scores, kind="stable")
    below = np.cumsum(_weights(tracks)[order])
    # The tolerance is for sums of fractions that are 1 - rate on paper.
    place = int(np.searchsorted(below, 1 - rate - 1e-12))
    return float(scores[order[min(place, len(scores) - 1)]])


def track_p_values(
    scores: npt.NDArray[np.float64], calibration: npt.NDArray[np.float64], tracks: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Of each score (M,) how much calibration weight, (N,) in `tracks` (N,), lies at it or above: small = unusual.

    Between 1 / (K + 1) and 1 for K tracks. On frames of new tracks it is at most p with a probability of at most p.
    """
    order = np.argsort(calibration, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(_weights(tracks)[order])])
    values: npt.NDArray[np.float64] = 1 - below[np.searchsorted(calibration[order], scores, side="left")]
    return values


def _weights(tracks: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Of each frame: 1 / (K + 1), shared by the frames of its track."""
    _, place, frames = np.unique(tracks, return_inverse=True, return_counts=True)
    weights: npt.NDArray[np.float64] = 1 / ((len(frames) + 1) * frames[place])
    return weights
