"""Scores and calibrated thresholds -> release or withhold. One exit, closed by default."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, Protocol

import numpy as np

from firewall.detectors.contrast import Contrast
from firewall.detectors.rejection import REJECTIONS
from firewall.frame import Region
from firewall.regions import overlaps
from firewall.verdict import Reason

__all__ = ["SAME_PLACE", "Judgement", "Policy", "Rule", "Standing", "Thresholds", "contradictions"]

#: From this intersection over union (IoU) on, two regions of a frame are taken to show the same thing.
SAME_PLACE = 0.3


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was decided about one image.

    Attributes:
        released: Whether the label may be released.
        reason: Why or why not.
        suspicion: How far the scores lie above what is released; above 0 withholds. None if a score is missing or NaN.
    """

    released: bool = False
    reason: Reason = Reason.UNKNOWN
    suspicion: float | None = None


class Standing(NamedTuple):
    """What the scores of a region come to so far.

    Attributes:
        excess: See Rule.excess.
        complete: See Rule.complete.
    """

    excess: float
    complete: bool


class Rule(Protocol):
    """How scores become a decision: detectors' own thresholds, or a fusion."""

    def excess(self, scores: Mapping[str, float]) -> float:
        """How far the scores so far lie above what is released.

        Args:
            scores: Detector -> score, of the detectors that were asked.

        Returns:
            Above 0: withhold, whatever the other detectors would say. -inf if there is no score.
        """

    def complete(self, scores: Mapping[str, float]) -> bool:
        """Whether enough is known to release.

        Args:
            scores: Detector -> score, of the detectors that were asked.

        Returns:
            True if no further score is needed and those that count are finite.
        """

    def exceeded(self, scores: Mapping[str, float]) -> tuple[str, ...]:
        """The detectors whose score withholds by itself.

        Args:
            scores: Detector -> score, of the detectors that were asked.
        """


class Thresholds:
    """Any score above its own threshold withholds."""

    def __init__(self, thresholds: Mapping[str, float]) -> None:
        self.thresholds = dict(thresholds)

    def excess(self, scores: Mapping[str, float]) -> float:
        """The largest score - threshold over the scores so far; -inf if there is none."""
        known = [scores[name] - limit for name, limit in self.thresholds.items() if name in scores]
        return max((value for value in known if not math.isnan(value)), default=-math.inf)

    def complete(self, scores: Mapping[str, float]) -> bool:
        """Whether every detector has given a finite score."""
        return bool(self.thresholds) and all(math.isfinite(scores.get(name, math.nan)) for name in self.thresholds)

    def exceeded(self, scores: Mapping[str, float]) -> tuple[str, ...]:
        """The detectors whose score lies above their threshold."""
        return tuple(name for name, limit in self.thresholds.items() if scores.get(name, math.nan) > limit)


class Policy:
    """Decides about an image.

    It withholds what its rule finds suspicious, images whose scores are missing or not finite, contradictions, late
    verdicts, and labels that are not certified if certification is asked for.
    """

    def __init__(self, rule: Rule | Mapping[str, float]) -> None:
        """Take a rule.

        Args:
            rule: Detector -> threshold, a fusion (firewall.decision.fusion), or the conditional limits for a size
                (firewall.decision.conditional).
        """
        self.rule: Rule = Thresholds(rule) if isinstance(rule, Mapping) else rule

    def excess(self, scores: Mapping[str, float]) -> float:
        """See Rule."""
        return self.rule.excess(scores)

    def settled(self, scores: Mapping[str, float]) -> bool:
        """Whether the verdict is already certain, so that the remaining detectors need not be asked."""
        return self.rule.excess(scores) > 0 or self.rule.complete(scores)

    def standing(self, scores: Mapping[str, float]) -> Standing:
        """What the rule makes of the scores."""
        return Standing(self.rule.excess(scores), self.rule.complete(scores))

    def judge(
        self,
        scores: Mapping[str, float],
        *,
        standing: Standing | None = None,
        contradicted: bool = False,
        late: bool = False,
        certified: bool | None = True,
        remarks: Collection[Reason] = (),
    ) -> Judgement:
        """Decide about one image.

        Args:
            scores: Detector -> score, higher is more suspicious.
            standing: What the rule makes of them, where that was found out already.
            contradicted: Whether another region at the same place has another label.
            late: Whether the deadline has passed.
            certified: Whether the label passes under masks (firewall.decision.masking); True if that isn't asked for,
                None if there was no time to find out.
            remarks: What detectors said beside their scores. It never releases or withholds, and only names the reason
                of what is suspicious.

        Returns:
            The judgement. It releases only if every check has passed.
        """
        excess, complete = self.standing(scores) if standing is None else standing
        released = complete and excess <= 0 and not contradicted and not late and certified is True
        if released:
            reason = Reason.BENIGN
        elif excess > 0:
            reason = self._suspect(scores, remarks)
        elif contradicted:
            reason = Reason.CONTRADICTORY
        elif late:
            reason = Reason.LATE
        elif not complete:
            reason = Reason.DETECTOR_ERROR
        else:
            reason = Reason.LATE if certified is None else Reason.UNCERTIFIED
        return Judgement(released, reason, excess if complete or excess > 0 else None)

    def _suspect(self, scores: Mapping[str, float], remarks: Collection[Reason]) -> Reason:
        """What exactly is suspicious: who sees too little can't say what it is, so contrast comes first."""
        exceeded = self.rule.exceeded(scores)
        if Contrast.name in exceeded:
            return Reason.LOW_CONTRAST
        said = (reason for name, reason in REJECTIONS.items() if name in exceeded or reason in remarks)
        return next(said, Reason.SUSPICIOUS)


def contradictions(regions: Sequence[Region], labels: Sequence[int]) -> list[bool]:
    """Which regions of one frame overlap a region with another label.

    A sign is often found twice. An attack that works in one box often fails, or has another effect, in the other box.
    So if the classifier gives two labels at one place, neither is released.

    Args:
        regions: (x, y, width, height) in pixels.
        labels: The class of each region, 0-based.

    Returns:
        For each region, whether a region with another label overlaps it by an IoU of at least SAME_PLACE.
    """
    if not _touching(regions, labels):
        return [False] * len(regions)
    boxes = np.array(regions, np.float64).reshape(-1, 4)
    named = np.array(labels)
    clashes = (overlaps(boxes, boxes) >= SAME_PLACE) & (named[:, None] != named[None])
    return [bool(clash) for clash in clashes.any(axis=1)]


def _touching(regions: Sequence[Region], labels: Sequence[int]) -> bool:
    """Whether any two regions with different labels share a pixel. Mostly none do, and there is nothing to measure."""
    return any(
        label != other and x < u + w and u < x + width and y < v + h and v < y + height
        for ((x, y, width, height), label), ((u, v, w, h), other) in combinations(zip(regions, labels, strict=True), 2)
    )
