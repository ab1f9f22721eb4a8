"""The regions of one frame before the detectors: what each was given so far, in one table, and what it comes to.

After each detector one call of the native runtime says of all regions at once which are settled: suspicious, or known
well enough to release. That is firewall/limits.h, for limits by the size of a region; other rules, and limits where the
runtime is not built, are asked region by region. Detectors are always asked in one order, so what a region was asked is
its row of the table from the left, and what its verdict rests on is that row up to where it was settled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from firewall.decision.case import Case
from firewall.decision.policy import Judgement, Policy, Standing
from firewall.decision.rules import Rules
from firewall.detectors import Evidence

__all__ = ["Panel"]

#: What the bytes of a standing mean: as in firewall/limits.h, and why a region is closed without any score.
_SUSPICIOUS, _COMPLETE, _CLOSED = 1, 2, 4


class Panel:
    """One frame's regions and their scores. A region is named by its place among the cases.

    Args:
        rules: What settles a verdict.
        detectors: Their names, in the order in which they are asked.
        cases: The frame's regions, those included that can't be judged.
    """

    def __init__(self, rules: Rules, detectors: Sequence[str], cases: Sequence[Case]) -> None:
        self.cases = cases
        self._rules, self._names, count = rules, tuple(detectors), len(cases)
        self._limits, self._groups = rules.limits(self._names), rules.groups([case.side for case in cases])
        self._scores = np.full((count, len(self._names)), np.nan)
        self._asked = [0] * count
        #: How many scores the verdict rests on, once that is certain.
        self._rests: list[int | None] = [None] * count
        self._excess = np.full(count, -math.inf)
        self._standing = np.zeros(count, np.uint8)
        #: (place, count) -> the first so many scores of a region by name: asked for up to three times for a verdict.
        self._named: dict[tuple[int, int], dict[str, float]] = {}
        if self._limits is None:  # under limits by size, no score is no suspicion
            self._settle(range(count))
        for place, case in enumerate(cases):
            if case.contradicted or case.evidence is None:
                self._standing[place] |= _CLOSED
                self._rests[place] = 0
        self._flags: list[int] = self._standing.tolist()

    def looked_at(self) -> list[tuple[int, Evidence]]:
        """The regions that detectors can be asked about, and what these look at."""
        return [
            (place, case.evidence)
            for place, case in enumerate(self.cases)
            if case.failure is None and case.evidence is not None
        ]

    def open(self, place: int) -> bool:
        """Whether a region's verdict is not certain yet."""
        return not self._flags[place]

    def asked(self, place: int) -> int:
        """How many detectors were asked about a region."""
        return self._asked[place]

    def late(self, place: int) -> bool:
        """Whether a detector was not asked although the verdict was open: then there was no time for it."""
        return not self._flags[place] & (_SUSPICIOUS | _COMPLETE) and self._count(place) < len(self._names)

    def lay(self, places: Sequence[int], scores: Sequence[float]) -> None:
        """Note what the next detector gives some regions, and what that settles.

        Args:
            places: The regions; the same detector is the next one of all of them.
            scores: Of each.
        """
        for place, score in zip(places, scores, strict=True):
            self._scores[place, self._asked[place]] = score
            self._asked[place] += 1
        self._settle(places)
        self._flags = self._standing.tolist()

    def scores(self, place: int) -> dict[str, float]:
        """Detector -> score, of those that were asked about a region."""
        return self._first(place, self._asked[place])

    def shares(self, place: int) -> dict[str, float]:
        """What each of these scores counts, see `Rules.shares`."""
        return self._rules.shares(self.scores(place), self.cases[place].side)

    def judge(self, place: int, *, late: bool = False, certified: bool | None = True) -> Judgement:
        """What the policy makes of what is known of a region; see `Policy.judge`."""
        case = self.cases[place]
        remarks = () if case.evidence is None else tuple(case.evidence.remarks.values())
        return self._policy(place).judge(
            self._first(place, self._count(place)),
            standing=Standing(float(self._excess[place]), bool(self._flags[place] & _COMPLETE)),
            contradicted=case.contradicted,
            late=late,
            certified=certified,
            remarks=remarks,
        )

    def _policy(self, place: int) -> Policy:
        return self._rules.policy(self.cases[place].side)

    def _count(self, place: int) -> int:
        """How many scores the verdict rests on."""
        rests = self._rests[place]
        return self._asked[place] if rests is None else rests

    def _first(self, place: int, count: int) -> dict[str, float]:
        found = self._named.get((place, count))
        if found is None:
            found = dict(zip(self._names, self._scores[place, :count].tolist(), strict=False))
            self._named[place, count] = found
        return found

    def _settle(self, places: Sequence[int]) -> None:
        """Find out what the scores of these regions come to now. What is settled stays settled."""
        if self._limits is not None:
            self._limits.judge(self._scores, self._groups, self._excess, self._standing)
        else:
            for place in places:
                if not self._standing[place]:
                    found = self._policy(place).standing(self.scores(place))
                    self._excess[place] = found.excess
                    self._standing[place] = _SUSPICIOUS * (found.excess > 0) | _COMPLETE * found.complete
        for place in places:
            if self._rests[place] is None and self._standing[place]:
                self._rests[place] = self._asked[place]
