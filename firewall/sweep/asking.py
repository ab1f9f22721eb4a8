"""What a network is asked about several regions of a frame is one batch: its weights are read once.

Only detectors that look at the region's own pixels are asked here, in the firewall's order, up to the first that needs
copies. A region drops out as soon as its verdict is settled, so each network sees as many images as if each region were
asked about by itself, and says the same of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from firewall.decision.look import Look, passed
from firewall.decision.panel import Panel
from firewall.detectors import Detector, Evidence
from firewall.detectors.juror import asked_together

__all__ = ["ask_together"]


def ask_together(
    detectors: Sequence[Detector], drawing: Collection[str], panel: Panel, look: Look, *, exhaustive: bool
) -> None:
    """Ask about all regions of a frame at once; their scores are laid down in the panel.

    Nothing is raised: a region that something went wrong with here is asked about again by itself, and fails there.

    Args:
        detectors: In the order in which they are asked.
        drawing: Names of those that need copies drawn by a key.
        panel: The frame's regions; none was asked about yet.
        look: The frame, its deadline and its stages.
        exhaustive: Go on where the verdict is settled.
    """
    waiting = panel.looked_at()
    for detector in detectors:
        if len(waiting) < 2 or detector.operations or detector.name in drawing or passed(look.deadline):
            return
        waiting = [pair for pair in waiting if exhaustive or panel.open(pair[0])]
        with look.stages.timed("detect"):
            scores = _scores(detector, [evidence for _, evidence in waiting])
        try:
            with look.stages.timed("policy"):
                panel.lay([place for place, _ in waiting[: len(scores)]], scores)
        except Exception:  # what is not settled is not released
            return
        if len(scores) < len(waiting):  # what failed is met by each region itself
            return


def _scores(detector: Detector, evidences: Sequence[Evidence]) -> list[float]:
    """What a detector gives these regions, in their order, up to the first that it fails at."""
    scores: list[float] = []
    try:
        asked_together(detector, evidences)
        for evidence in evidences:
            scores.append(float(detector.score(evidence)))  # noqa: PERF401 - those before a failure are kept
    except Exception:
        return scores
    return scores
