"""Scores and calibrated thresholds -> release or withhold. One exit, closed by default."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from firewall.frame import Region
from firewall.regions import overlaps
from firewall.verdict import Reason

__all__ = ["SAME_PLACE", "Judgement", "Policy", "Rule", "Thresholds", "contradictions"]

#: Intersection over union from which two regions of a frame are taken to show the same thing.
SAME_PLACE = 0.3


@dataclass(frozen=True, slots=True)
class Judgement:
    """released: the label may go out. reason: why or why not. suspicion: how far the scores lie above what is released,
    or None where a score is missing or not a number."""

    released: bool = False
    reason: Reason = Reason.UNKNOWN
    suspicion: float | None = None


class Rule(Protocol):
    """What scores come to. `excess`: above 0 the verdict is settled, whatever else is asked: withhold. `complete`:
    enough is known to release."""

    def excess(self, scores: Mapping[str, float]) -> float:
        """How far the scores there are lie above what is released; -inf if there are none."""

    def complete(self, scores: Mapping[str, float]) -> bool:
        """Whether enough scores are there, and finite."""


class Thresholds:
    """Any score above its own threshold withholds."""

    def __init__(self, thresholds: Mapping[str, float]) -> None:
        self.thresholds = dict(thresholds)

    def excess(self, scores: Mapping[str, float]) -> float:
        """The largest score - threshold over the scores there are."""
        known = [scores[name] - limit for name, limit in self.thresholds.items() if name in scores]
        return max((value for value in known if not math.isnan(value)), default=-math.inf)

    def complete(self, scores: Mapping[str, float]) -> bool:
        """Whether every detector's score is there, and finite."""
        return bool(self.thresholds) and all(math.isfinite(scores.get(name, math.nan)) for name in self.thresholds)


class Policy:
    """Withholds what its rule finds suspicious, where a score is missing or not finite, a contradiction, the late, and
    what isn't certified where that is asked for.

    rule: detectors' thresholds, or a fusion (see firewall.decision.fusion).
    """

    def __init__(self, rule: Rule | Mapping[str, float]) -> None:
        self.rule: Rule = Thresholds(rule) if isinstance(rule, Mapping) else rule

    def excess(self, scores: Mapping[str, float]) -> float:
        """See Rule."""
        return self.rule.excess(scores)

    def settled(self, scores: Mapping[str, float]) -> bool:
        """Whether the verdict stands already, so that the detectors that are left need not be asked."""
        return self.rule.excess(scores) > 0 or self.rule.complete(scores)

    def judge(
        self,
        scores: Mapping[str, float],
        *,
        contradicted: bool = False,
        late: bool = False,
        certified: bool | None = True,
    ) -> Judgement:
        """The judgement on one image whose detectors gave `scores`.

        contradicted: what else was seen at the same place has another label. late: its deadline has passed. certified:
        whether the label has what it is asked to have besides (see decision.masking); None: there was no time to see.
        """
        complete, excess = self.rule.complete(scores), self.rule.excess(scores)
        released = complete and excess <= 0 and not contradicted and not late and certified is True
        if released:
            reason = Reason.BENIGN
        elif excess > 0:
            reason = Reason.SUSPICIOUS
        elif contradicted:
            reason = Reason.CONTRADICTORY
        elif late:
            reason = Reason.LATE
        elif not complete:
            reason = Reason.DETECTOR_ERROR
        else:
            reason = Reason.LATE if certified is None else Reason.UNCERTIFIED
        return Judgement(released, reason, excess if complete or excess > 0 else None)


def contradictions(regions: Sequence[Region], labels: Sequence[int]) -> list[bool]:
    """Which regions of one frame overlap one that was taken for something else, by at least SAME_PLACE.

    A sign is often found twice. What attacks it in one box loses its effect, or has another, in the other; so where the
    classifier names two things at one place, neither is to be believed.
    """
    boxes = np.array(regions, np.float64).reshape(-1, 4)
    named = np.array(labels)
    clashes = (overlaps(boxes, boxes) >= SAME_PLACE) & (named[:, None] != named[None])
    return [bool(clash) for clash in clashes.any(axis=1)]
