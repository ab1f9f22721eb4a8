"""The numbers of a paper's page: shares with their intervals, and the rows they stand in."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.lab.measurement import metrics
from firewall.lab.measurement.metrics import Rate

__all__ = ["Cell", "area", "balanced", "row", "share"]

Cell = dict[str, Any]
Mask = npt.NDArray[np.bool_]
Groups = npt.NDArray[np.int64]


def _rate(hits: Mask, groups: Groups) -> Rate:
    values = hits.astype(np.float64)
    return metrics.operating_point(values, values, 0.5, normal_tracks=groups, adversarial_tracks=groups).true_positives


def share(hits: Mask, groups: Groups) -> Cell:
    """The share of images that were hit.

    Args:
        hits: Bool (N,).
        groups: (N,); the interval counts a group as one draw.

    Returns:
        A cell of a table: value, 95 % interval, number of images.
    """
    rate = _rate(hits, groups)
    return {"value": rate.value, "low": rate.low, "high": rate.high, "n": rate.total}


def balanced(kept: Mask, kept_groups: Groups, caught: Mask, caught_groups: Groups) -> Cell:
    """Balanced accuracy: the mean of two shares. The interval adds the variances of the two.

    Args:
        kept: Bool, of benign images: not withheld.
        kept_groups: Their groups.
        caught: Bool, of adversarial images: withheld.
        caught_groups: Their groups.

    Returns:
        A cell of a table.
    """
    first, second = _rate(kept, kept_groups), _rate(caught, caught_groups)
    value = (first.value + second.value) / 2
    half = math.hypot(first.high - first.low, second.high - second.low) / 4
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half), "n": len(kept) + len(caught)}


def area(normal: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], tracks: tuple[Groups, Groups]) -> Cell:
    """The area under the ROC curve.

    Args:
        normal: Scores of benign images.
        scores: Scores of adversarial images.
        tracks: The groups of both.

    Returns:
        A cell of a table.
    """
    found = metrics.separate(
        normal, scores, rates=(), normal_tracks=tracks[0], adversarial_tracks=tracks[1], resamples=300
    )
    return {
        "value": found.auroc.value,
        "low": found.auroc.low,
        "high": found.auroc.high,
        "n": len(normal) + len(scores),
    }


def row(key: list[str], theirs: str | None = None, same: Cell | None = None, honest: Cell | None = None) -> Cell:
    """A row of a table, as `python -m benchmarks.papers pages` reads it."""
    return {"key": key, "theirs": theirs, "same": same, "honest": honest}
