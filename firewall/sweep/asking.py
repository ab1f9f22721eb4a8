"""What a network is asked about several regions of a frame is one batch: its weights are read once.

Only detectors that look at the region's own pixels are asked here, in the firewall's order, up to the first that needs
copies. A region drops out as soon as its verdict is settled, so each network sees as many images as if each region were
asked about by itself, and says the same of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from firewall.decision.case import Case
from firewall.decision.look import Look, passed
from firewall.decision.rules import Rules
from firewall.detectors import Detector, Evidence
from firewall.detectors.juror import asked_together

__all__ = ["ask_together"]


def ask_together(
    detectors: Sequence[Detector],
    drawing: Collection[str],
    rules: Rules,
    regions: Sequence[tuple[Case, Evidence]],
    look: Look,
    *,
    exhaustive: bool,
) -> None:
    """Ask about all regions of a frame at once; their scores are laid down in the cases.

    Nothing is raised: a region that something went wrong with here is asked about again by itself, and fails there.

    Args:
        detectors: In the order in which they are asked.
        drawing: Names of those that need copies drawn by a key.
        rules: What settles a verdict.
        regions: Those of the frame that are classified, and what is known of them.
        look: The frame, its deadline and its stages.
        exhaustive: Go on where the verdict is settled.
    """
    waiting = list(regions)
    for detector in detectors:
        if len(waiting) < 2 or detector.operations or detector.name in drawing or passed(look.deadline):
            return
        try:
            with look.stages.timed("policy"):
                waiting = [pair for pair in waiting if _open(rules, pair[0]) or exhaustive]
            with look.stages.timed("detect"):
                asked_together(detector, [evidence for _, evidence in waiting])
                for case, evidence in waiting:
                    case.scores[detector.name] = float(detector.score(evidence))
        except Exception:  # each region meets it by itself
            return


def _open(rules: Rules, case: Case) -> bool:
    settled = case.contradicted or rules.policy(case.side).settled(case.scores)
    if settled and case.settled is None:
        case.settled = dict(case.scores)
    return not settled
