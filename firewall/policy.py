"""Scores and calibrated thresholds -> release or withhold. One exit, closed by default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from firewall.verdict import Reason

__all__ = ["Judgement", "Policy"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """released: the label may go out. reason: why or why not. suspicion: the largest score - threshold, or None where a
    score is missing or not a number."""

    released: bool = False
    reason: Reason = Reason.UNKNOWN
    suspicion: float | None = None


class Policy:
    """Any score above its threshold withholds; so does a score that is missing or not finite."""

    def __init__(self, thresholds: Mapping[str, float]) -> None:
        self.thresholds = dict(thresholds)

    def judge(self, scores: Mapping[str, float], *, late: bool = False) -> Judgement:
        """The judgement on one image whose detectors gave `scores`; `late` says that its deadline has passed."""
        complete = bool(self.thresholds) and all(math.isfinite(scores.get(name, math.nan)) for name in self.thresholds)
        excess = self.excess(scores)
        benign = complete and all(scores[name] <= self.thresholds[name] for name in self.thresholds)
        released = benign and not late
        if released:
            reason = Reason.BENIGN
        elif excess > 0:
            reason = Reason.SUSPICIOUS
        elif late:
            reason = Reason.LATE
        else:
            reason = Reason.DETECTOR_ERROR
        return Judgement(released, reason, excess if complete or excess > 0 else None)

    def excess(self, scores: Mapping[str, float]) -> float:
        """The largest score - threshold over the scores there are; above 0 the verdict is settled: withhold."""
        known = [scores[name] - limit for name, limit in self.thresholds.items() if name in scores]
        return max((value for value in known if not math.isnan(value)), default=-math.inf)
