"""What the firewall says of one region of one frame. Closed by default: a bare Verdict withholds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from firewall.frame import Region

__all__ = ["Reason", "Verdict"]


class Reason(str, Enum):
    """Why. Few and fixed, so that they can be counted; details go into `Verdict.detail`."""

    BENIGN = "benign"
    SUSPICIOUS = "suspicious"
    CONTRADICTORY = "contradictory"
    UNCERTIFIED = "not certified"
    UNCONFIRMED = "not confirmed yet"
    LATE = "late"
    NOTHING_FOUND = "nothing found"
    BAD_IMAGE = "bad image"
    SOURCE_ERROR = "source error"
    STALE = "stale"
    ENGINE_ERROR = "engine error"
    DETECTOR_ERROR = "detector error"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Verdict:
    """`label` and `label_name` are None unless `released`. The last six fields are for the operator alone: a detector
    that tells its scores is a detector that can be attacked (Sun et al.).

    region: (x, y, width, height) in pixels. latency_ms: from capture until the verdict was handed out. suspicion: how
    far the most suspicious detector's score lies above its threshold; above 0 withholds. scores: detector -> score,
    higher = more suspicious. evidence: what each score adds to the suspicion where the bundle fuses them.
    classified: how many images the classifier saw for this verdict. unsigned: nobody who is trusted here vouches for
    the bundle that judged (firewall.bundle.trust); the line says so then, and has no such key otherwise.
    """

    source: str
    sequence: int
    region: Region
    released: bool = False
    label: int | None = None
    label_name: str | None = None
    reason: Reason = Reason.UNKNOWN
    detail: str = ""
    latency_ms: float = 0.0
    unsigned: bool = False
    suspicion: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    evidence: dict[str, float] = field(default_factory=dict)
    suspected_label: int | None = None
    corrected_label: int | None = None
    classified: int = 0

    @property
    def decision(self) -> str:
        """`release` or `withhold`."""
        return "release" if self.released else "withhold"

    def line(self, *, operator: bool = False) -> dict[str, object]:
        """The verdict line, ready for JSON: finite numbers only."""
        line: dict[str, object] = {
            "source": self.source,
            "sequence": self.sequence,
            "region": list(self.region),
            "decision": self.decision,
            "label": self.label if self.released else None,
            "label_name": self.label_name if self.released else None,
            "reason": f"{self.reason}: {self.detail}" if self.detail else str(self.reason),
            "latency_ms": round(self.latency_ms, 3),
        }
        if self.unsigned:
            line["unsigned"] = True
        if operator:
            line["suspicion"] = _finite(self.suspicion)
            line["scores"] = {name: _finite(score) for name, score in self.scores.items()}
            line["evidence"] = {name: _finite(share) for name, share in self.evidence.items()}
            line["suspected_label"] = self.suspected_label
            line["corrected_label"] = self.corrected_label
            line["classified"] = self.classified
        return line


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)
