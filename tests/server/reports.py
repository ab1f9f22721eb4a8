"""Hand-made reports, full of evidence that no reader may see."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from firewall.frame import Frame
from firewall.sinks.report import FrameReport
from firewall.verdict import Reason, Verdict

SOURCE = "test://hand-made"


class Reports:
    """Makes reports with rising sequence numbers; every verdict carries operator evidence that nobody may see."""

    def __init__(self) -> None:
        self.sequence = -1

    def verdict(self, **fields: object) -> Verdict:
        """A verdict of the newest sequence."""
        given: dict[str, object] = {
            "source": SOURCE,
            "sequence": self.sequence,
            "region": (20, 30, 40, 24),
            "latency_ms": 8.0,
            "suspicion": 0.7312549,
            "scores": {"agreement": 0.918273, "residual": 0.645546},
            "suspected_label": 770123077,
            "corrected_label": 880234088,
            "classified": 990177099,
        }
        return Verdict(**{**given, **fields})  # type: ignore[arg-type]

    def released(self, label: int = 14, name: str | None = "Stop", **fields: object) -> Verdict:
        """A released label."""
        return self.verdict(released=True, label=label, label_name=name, reason=Reason.BENIGN, **fields)

    def withheld(self, reason: Reason = Reason.SUSPICIOUS, **fields: object) -> Verdict:
        """A withheld one."""
        return self.verdict(reason=reason, **fields)

    def frame(
        self,
        *make: Callable[[], Verdict],
        colour: tuple[int, int, int] = (40, 90, 200),
        size: tuple[int, int] = (160, 120),
        captured_at: float | None = None,
        dropped: int = 0,
        restarts: int = 0,
    ) -> FrameReport:
        """The next frame, of one colour, and what `make` says of it (released if nothing is given)."""
        self.sequence += 1
        pixels = np.full((size[1], size[0], 3), colour, dtype=np.uint8)
        when = time.monotonic() if captured_at is None else captured_at
        verdicts = [one() for one in make or (self.released,)]
        stages = {"regions": 0.0004, "classify": 0.006}
        return FrameReport(Frame(pixels, SOURCE, self.sequence, when), verdicts, stages, dropped, restarts)

    def failure(
        self, detail: str = "the camera is gone", restarts: int = 0, *, reason: Reason = Reason.SOURCE_ERROR
    ) -> FrameReport:
        """A source that gave no frame that may be judged."""
        self.sequence += 1
        verdict = Verdict(SOURCE, self.sequence, (0, 0, 0, 0), reason=reason, detail=detail)
        return FrameReport(None, [verdict], {}, 0, restarts)
