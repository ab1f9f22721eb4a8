"""What the page shows: verdicts without evidence, and equal verdicts in a row as one line."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from firewall.verdict import Reason, Verdict

__all__ = ["Sightings", "public_line"]

#: Verdicts of one kind that are at most this far apart are one sighting, in seconds.
LONGEST_GAP = 2.0

# Details of these come from the camera, the clock or the file. Any other detail could hold a score, so it stays here.
_TOLD_DETAILS = frozenset(
    {Reason.LATE, Reason.BAD_IMAGE, Reason.UNFIT, Reason.SOURCE_ERROR, Reason.STALE, Reason.CAMERA_FAULT}
    | {Reason.SELF_TEST}
)


def public_line(verdict: Verdict) -> dict[str, Any]:
    """The verdict line with `reason` as the bare enum value and `detail` only where it can't tell of a detector."""
    line: dict[str, Any] = verdict.line()
    line["reason"] = verdict.reason.value
    line["detail"] = verdict.detail if verdict.reason in _TOLD_DETAILS else ""
    line["latency_ms"] = round(verdict.latency_ms, 3) if math.isfinite(verdict.latency_ms) else None
    return line


@dataclass(slots=True)
class _Sighting:
    number: int
    changed: int
    count: int
    first_sequence: int
    last_seen: float
    began: float
    line: dict[str, Any]


class Sightings:
    """The newest verdicts of one decision. Verdicts that say the same within LONGEST_GAP count up one sighting: at 30
    frames per second a list of single verdicts can't be read. Not thread-safe; the monitor holds its lock."""

    def __init__(self, limit: int = 50) -> None:
        self._newest: deque[_Sighting] = deque(maxlen=limit)
        self._open: dict[tuple[int | None, str | None, Reason], _Sighting] = {}

    def add(self, verdict: Verdict, change: int, now: float, wall: float) -> None:
        """Count one verdict.

        Args:
            verdict: The verdict.
            change: Number of the report.
            now: `time.monotonic()` in seconds.
            wall: Unix time in seconds.
        """
        line = public_line(verdict)
        key = (line["label"], line["label_name"], verdict.reason)
        sighting = self._open.get(key)
        if sighting is None or now - sighting.last_seen > LONGEST_GAP:
            self._open = {k: s for k, s in self._open.items() if now - s.last_seen <= LONGEST_GAP}
            number = self._newest[-1].number + 1 if self._newest else 1
            sighting = _Sighting(number, change, 0, verdict.sequence, now, wall, line)
            self._open[key] = sighting
            self._newest.append(sighting)
        sighting.count += 1
        sighting.changed, sighting.last_seen, sighting.line = change, now, line

    def since(self, change: int) -> list[dict[str, Any]]:
        """Sightings that changed after `change`, newest first: a verdict line with number, count, first_sequence and
        began (Unix time in seconds)."""
        return [
            {
                **sighting.line,
                "number": sighting.number,
                "count": sighting.count,
                "first_sequence": sighting.first_sequence,
                "began": round(sighting.began, 3),
            }
            for sighting in reversed(self._newest)
            if sighting.changed > change
        ]
