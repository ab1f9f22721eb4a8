"""Scores and calibrated thresholds -> release or withhold. One exit, closed by default."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from firewall.frame import Region
from firewall.regions import overlaps
from firewall.verdict import Reason

__all__ = ["SAME_PLACE", "Judgement", "Policy", "contradictions"]

#: Intersection over union from which two regions of a frame are taken to show the same thing.
SAME_PLACE = 0.3


@dataclass(frozen=True, slots=True)
class Judgement:
    """released: the label may go out. reason: why or why not. suspicion: the largest score - threshold, or None where a
    score is missing or not a number."""

    released: bool = False
    reason: Reason = Reason.UNKNOWN
    suspicion: float | None = None


class Policy:
    """Any score above its threshold withholds; so does a score that is missing or not finite, and a contradiction."""

    def __init__(self, thresholds: Mapping[str, float]) -> None:
        self.thresholds = dict(thresholds)

    def judge(self, scores: Mapping[str, float], *, contradicted: bool = False, late: bool = False) -> Judgement:
        """The judgement on one image whose detectors gave `scores`.

        contradicted: what else was seen at the same place has another label. late: its deadline has passed.
        """
        complete = bool(self.thresholds) and all(math.isfinite(scores.get(name, math.nan)) for name in self.thresholds)
        excess = self.excess(scores)
        benign = complete and all(scores[name] <= self.thresholds[name] for name in self.thresholds)
        released = benign and not contradicted and not late
        if released:
            reason = Reason.BENIGN
        elif excess > 0:
            reason = Reason.SUSPICIOUS
        elif contradicted:
            reason = Reason.CONTRADICTORY
        elif late:
            reason = Reason.LATE
        else:
            reason = Reason.DETECTOR_ERROR
        return Judgement(released, reason, excess if complete or excess > 0 else None)

    def excess(self, scores: Mapping[str, float]) -> float:
        """The largest score - threshold over the scores there are; above 0 the verdict is settled: withhold."""
        known = [scores[name] - limit for name, limit in self.thresholds.items() if name in scores]
        return max((value for value in known if not math.isnan(value)), default=-math.inf)


def contradictions(regions: Sequence[Region], labels: Sequence[int]) -> list[bool]:
    """Which regions of one frame overlap one that was taken for something else, by at least SAME_PLACE.

    A sign is often found twice. What attacks it in one box loses its effect, or has another, in the other; so where the
    classifier names two things at one place, neither is to be believed.
    """
    boxes = np.array(regions, np.float64).reshape(-1, 4)
    named = np.array(labels)
    clashes = (overlaps(boxes, boxes) >= SAME_PLACE) & (named[:, None] != named[None])
    return [bool(clash) for clash in clashes.any(axis=1)]
