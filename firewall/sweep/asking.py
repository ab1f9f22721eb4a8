"""All regions of a frame are asked about together, one detector after the other: what a network is asked about several
regions is one batch, and its weights are read once.

A region drops out as soon as its verdict is settled, so the networks see as many images as if each region were asked
about by itself, and the scores are the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from firewall.decision.case import Case, failure_of
from firewall.decision.look import Look, passed
from firewall.decision.rules import Rules
from firewall.detectors import Detector, Evidence
from firewall.detectors.draws import DrawSpec
from firewall.detectors.juror import asked_together
from firewall.sweep.copies import Copies
from firewall.sweep.device_copies import DeviceCopies
from firewall.sweep.keyed import KeyedSweep

__all__ = ["Asked", "Asking"]


class Asked(Protocol):
    """The firewall, as far as it is read here."""

    #: In the order in which they are asked.
    detectors: list[Detector]
    rules: Rules
    copies: Copies | DeviceCopies
    keyed: KeyedSweep | None
    #: Ask every detector even if the verdict is settled.
    exhaustive: bool

    @property
    def draws(self) -> Mapping[str, DrawSpec]:
        """Detector -> what is drawn for it."""


class Asking:
    """Asks the detectors of a firewall. It remembers how long sweeps take."""

    def __init__(self, firewall: Asked) -> None:
        self._firewall = firewall
        self._cost = 0.0  # of the sweep of one region, in seconds

    def ask(self, cases: Sequence[Case], look: Look) -> None:
        """Ask while verdicts are open and there is time. What fails becomes the failure of its region.

        A sweep is not begun if, going by the last ones, it would end after the deadline: that would make the verdicts
        that are already known late too. The first sweep of a frame is always tried.

        Args:
            cases: Regions of one frame that are classified, the most urgent first.
            look: The frame, its deadline and its stages.
        """
        asked = [(case, case.evidence) for case in cases if case.failure is None and case.evidence is not None]
        begun = False
        for detector in self._firewall.detectors:
            asked = [pair for pair in asked if self._goes_on(pair[0], look)]
            begun |= self._prepare(detector, asked, look, begun)
            asked = [pair for pair in asked if self._ready(detector, *pair)]
            for case, evidence in asked:
                self._score(detector, case, evidence, look)

    def sweep(self, case: Case, evidence: Evidence, operations: Sequence[str], look: Look) -> None:
        """Add the classifier's outputs of more transformed copies of one region."""
        self._sweep([(case, evidence)], operations, look)

    def _goes_on(self, case: Case, look: Look) -> bool:
        """Whether a region's verdict is still open and there is time."""
        if case.failure is not None:
            return False
        try:
            with look.stages.timed("policy"):
                settled = case.contradicted or self._firewall.rules.policy(case.side).settled(case.scores)
        except Exception as error:
            case.failure = failure_of(error)
            return False
        if settled and case.settled is None:
            case.settled = dict(case.scores)
        return (self._firewall.exhaustive or not settled) and not passed(look.deadline)

    def _score(self, detector: Detector, case: Case, evidence: Evidence, look: Look) -> None:
        try:
            with look.stages.timed("detect"):
                case.scores[detector.name] = float(detector.score(evidence))
        except Exception as error:
            case.failure = failure_of(error)

    def _missing(self, detector: Detector, case: Case) -> tuple[str, ...]:
        return tuple(operation for operation in detector.operations if operation not in case.variants)

    def _ready(self, detector: Detector, case: Case, evidence: Evidence) -> bool:
        """Whether the detector has what it asks for: there may have been no time for it, or it failed."""
        drawn = detector.name not in self._firewall.draws or detector.name in evidence.drawn
        return case.failure is None and drawn and not self._missing(detector, case)

    def _prepare(self, detector: Detector, asked: Sequence[tuple[Case, Evidence]], look: Look, begun: bool) -> bool:
        """Make what a detector needs of the regions; True if a sweep was begun."""
        with look.stages.timed("detect"):
            asked_together(detector, [evidence for _, evidence in asked])
        swept = [pair for pair in asked if not self._ready(detector, *pair)]
        swept = swept[: self._in_time(len(swept), look.deadline, begun)]
        if not swept:
            return False
        started, draw = time.monotonic(), self._firewall.draws.get(detector.name)
        for operations in dict.fromkeys(self._missing(detector, case) for case, _ in swept):
            self._sweep_all(
                [pair for pair in swept if self._missing(detector, pair[0]) == operations], operations, look
            )
        for case, evidence in swept:
            if draw is not None and case.failure is None:
                self._draw(detector, draw, case, evidence, look)
        # The slowest recent sweep counts, but one slow sweep must not count for ever.
        self._cost = max((time.monotonic() - started) / len(swept), 0.9 * self._cost)
        return True

    def _draw(self, detector: Detector, draw: DrawSpec, case: Case, evidence: Evidence, look: Look) -> None:
        keyed = self._firewall.keyed
        try:
            if keyed is not None:
                evidence.drawn[detector.name] = keyed.of(evidence.image, draw, look.stages.timed)
        except Exception as error:
            case.failure = failure_of(error)

    def _in_time(self, count: int, deadline: float | None, begun: bool) -> int:
        """How many of so many sweeps would end before the deadline; the first of a frame is always tried."""
        if deadline is None or self._cost <= 0:
            return count
        fitting = int(max(0.0, deadline - time.monotonic()) / self._cost)
        return min(count, max(fitting, 0 if begun else 1))

    def _sweep_all(self, pairs: Sequence[tuple[Case, Evidence]], operations: Sequence[str], look: Look) -> None:
        """All in one batch; if that fails each for itself, since one region may have spoilt it for the others."""
        if not operations:
            return
        try:
            self._sweep(pairs, operations, look)
        except Exception as error:
            for case, evidence in pairs:
                if len(pairs) == 1:
                    case.failure = failure_of(error)
                else:
                    self._sweep_all([(case, evidence)], operations, look)

    def _sweep(self, pairs: Sequence[tuple[Case, Evidence]], operations: Sequence[str], look: Look) -> None:
        if operations:
            images = np.stack([evidence.image for _, evidence in pairs])
            logits = self._firewall.copies.classify_all(images, operations, look.stages.timed)
            for (case, _), rows in zip(pairs, logits, strict=True):
                case.variants.update(zip(operations, rows, strict=True))
