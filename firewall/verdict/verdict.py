"""The verdict on one region of one frame. Closed by default: a Verdict without arguments withholds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from firewall.verdict.line import SCHEMA, VerdictLine
from firewall.verdict.reason import Reason
from firewall.verdict.stamp import Stamp

if TYPE_CHECKING:  # a bundle names reasons, and is described without NumPy
    from firewall.frame import Region

__all__ = ["Reason", "Verdict"]

_UNSTAMPED = Stamp()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One verdict. The fields from `suspicion` on are only for the operator: whoever knows a detector's scores can
    attack it (Sun et al.).

    Attributes:
        source: The frame's source.
        sequence: The frame's number.
        region: (x, y, width, height) in pixels of the frame.
        released: Whether the label is released.
        label: The class, 0-based; None unless `released`.
        label_name: Its name; None unless `released`.
        reason: Why it was released or withheld.
        detail: What exactly happened, if there is more to say.
        latency_ms: Milliseconds from capture until the verdict was handed out.
        unsigned: Nobody who is trusted here vouches for the bundle that judged (firewall.bundle.trust). Only then does
            the verdict line have this key.
        track: Number of the track that the sign is followed by; None if it isn't followed.
        frames_seen: Frames of the track in which the sign was judged so far.
        certified: Whether every mask, or every finer one within a mask that is unsure, names the released label surely
            (firewall.decision.masking); False if it was only not objected to. None: it isn't released, or nobody asked.
        proved_within: How far every value of the certified network's input may have been changed without another label
            having been released (firewall.decision.values), a share of 0..1. None: not released, or nobody asked; then
            its line has no such key.
        stamp: When and where the frame was captured, and what judged it; None until the verdict is handed out. Doesn't
            count when verdicts are compared.
        suspicion: How far the scores lie above what is released; above 0 withholds. None if that isn't known.
        scores: Detector -> score, higher is more suspicious.
        evidence: Detector -> what its score counts for the suspicion, if the bundle makes one of all scores.
        suspected_label: The class that the classifier gave, 0-based.
        corrected_label: The class that the image would probably have had without an attack, 0-based.
        classified: How many images the classifier saw for this verdict.
        nonce: What the copies of a keyed sweep were drawn from, beside the device's key, in hexadecimal: with both they
            can be made again (firewall.sweep.keyed). None if there was no such sweep; then its line has no such key.
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
    track: int | None = None
    frames_seen: int | None = None
    certified: bool | None = None
    proved_within: float | None = None
    stamp: Stamp | None = field(default=None, compare=False)
    suspicion: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    evidence: dict[str, float] = field(default_factory=dict)
    suspected_label: int | None = None
    corrected_label: int | None = None
    classified: int = 0
    nonce: str | None = None

    @property
    def decision(self) -> str:
        """`release` or `withhold`."""
        return "release" if self.released else "withhold"

    def line(self, *, operator: bool = False) -> dict[str, object]:
        """The verdict line, ready for JSON.

        Args:
            operator: Add the fields that are only for the operator.

        Returns:
            Key -> value as VerdictLine has them; numbers that are not finite are None.
        """
        stamp = self.stamp or _UNSTAMPED
        bundle = stamp.bundle
        line: VerdictLine = {
            "source": self.source,
            "sequence": self.sequence,
            "region": list(self.region),
            "decision": "release" if self.released else "withhold",
            "label": self.label if self.released else None,
            "label_name": self.label_name if self.released else None,
            "reason": f"{self.reason}: {self.detail}" if self.detail else str(self.reason),
            "latency_ms": _finite(self.latency_ms, 3),
            "schema": SCHEMA,
            "time": stamp.time,
            "monotonic_ns": stamp.monotonic_ns,
            "camera": stamp.camera,
            "frame_id": stamp.frame_id,
            "track": self.track,
            "frames_seen": self.frames_seen,
            "bundle": None if bundle is None else {"name": bundle.name, "version": bundle.version, "hash": bundle.hash},
            "age_ms": _finite(stamp.age_ms, 3),
            "certified": self.certified if self.released else None,
        }
        if self.released and self.proved_within is not None:
            line["proved_within"] = self.proved_within  # not rounded: no more than was proved
        if self.unsigned:
            line["unsigned"] = True
        if operator:
            line["suspicion"] = _finite(self.suspicion)
            line["scores"] = {name: _finite(score) for name, score in self.scores.items()}
            line["evidence"] = {name: _finite(share) for name, share in self.evidence.items()}
            line["suspected_label"] = self.suspected_label
            line["corrected_label"] = self.corrected_label
            line["classified"] = self.classified
            if self.nonce is not None:
                line["nonce"] = self.nonce
            line["stages_ms"] = {stage: round(seconds * 1e3, 3) for stage, seconds in stamp.stages.items()}
        return {**line}


def _finite(value: float | None, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
