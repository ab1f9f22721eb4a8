"""What the page shows of one camera, and whether it is guarded. The monitor keeps one for each, and holds its lock."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from firewall.decision.drift import DriftState
from firewall.frame import Region
from firewall.server.picture import Picture
from firewall.server.sightings import Sightings, public_line
from firewall.server.states import State
from firewall.sinks.report import FrameReport
from firewall.verdict import Reason, Verdict

__all__ = ["WITHOUT_FRAME", "CameraView", "Watched"]

_LATENCIES = 300  # verdicts that the percentiles are taken over
_TRACE = 120  # verdicts that the page draws
_RATE_WINDOW = 3.0  # seconds that frames per second are counted over
_PINNED = 4  # pictures kept for browsers that know of them and may still ask
#: State while no frame is judged, by the reason of the last report: a camera that gives pictures isn't lost.
WITHOUT_FRAME = {Reason.CAMERA_FAULT: State.CAMERA_FAULT, Reason.STALE: State.STALE}


@dataclass(frozen=True)
class Watched:
    """A camera as the page names it.

    Attributes:
        name: Its name.
        source: Its source, without credentials.
        live: Whether the source gives frames even if nobody reads them, so that silence means that it is lost.
        deadline_ms: The deadline in milliseconds, shown beside the latencies.
    """

    name: str
    source: str
    live: bool
    deadline_ms: float | None = None


class CameraView:
    """Not thread-safe.

    Args:
        watched: The camera.
        stale_after: Seconds without a frame after which a live source counts as lost.
        clock: Gives seconds.
        overload: See Monitor.
    """

    def __init__(
        self,
        watched: Watched,
        stale_after: float,
        clock: Callable[[], float],
        overload: tuple[int, int] | None = None,
    ) -> None:
        self._most_late, frames = overload or (0, 0)
        self._late: deque[bool] = deque(maxlen=frames)  # of the last frames: whether a verdict came too late
        self._overloaded = False
        self.watched, self._stale_after, self._clock = watched, stale_after, clock
        self.drift: DriftState | None = None
        #: The source has no more frames.
        self.ended = False
        self._picture: Picture | None = None
        self._pinned: deque[Picture] = deque(maxlen=_PINNED)
        self._verdicts: Sequence[Verdict] = ()
        self._looked_at: Region | None = None
        self._captured_at: float | None = None
        self._returning = ""
        self._lost: tuple[State, str, float] | None = None  # state, detail and time of a report without a frame
        self._released, self._withheld = Sightings(), Sightings()
        self._reasons: Counter[Reason] = Counter()
        self._frames = self._released_total = self._dropped = self._restarts = 0
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._trace: deque[tuple[float, int]] = deque(maxlen=_TRACE)
        self._arrivals: deque[float] = deque(maxlen=1000)
        self._first_arrival: float | None = None

    def report(self, report: FrameReport, change: int, now: float, wall: float) -> None:
        """Take one report.

        Args:
            report: A report on this camera.
            change: Number of the report.
            now: What the clock says, in seconds.
            wall: Unix time in seconds.
        """
        self._dropped, self._restarts = report.dropped, report.restarts
        self._returning = report.returning
        self._count_late(report)
        if report.frame is None:
            told = next((verdict for verdict in report.verdicts if verdict.detail), None)
            state = State.LOST if told is None else WITHOUT_FRAME.get(told.reason, State.LOST)
            self._lost = (state, "" if told is None else told.detail, now)
        else:
            self._lost = None
            self._frames += 1
            self._picture, self._verdicts = Picture(report.frame), tuple(report.verdicts)
            self._looked_at = report.looked_at
            self._captured_at = report.frame.captured_at
            self._first_arrival = now if self._first_arrival is None else self._first_arrival
            self._arrivals.append(now)
        for verdict in report.verdicts:
            if verdict.released:
                self._released_total += 1
            else:
                self._reasons[verdict.reason] += 1
            (self._released if verdict.released else self._withheld).add(verdict, change, now, wall)
            if report.frame is not None and math.isfinite(verdict.latency_ms):
                self._latencies.append(verdict.latency_ms)
                self._trace.append((round(verdict.latency_ms, 2), int(verdict.released)))

    def _count_late(self, report: FrameReport) -> None:
        """What was late before a loss, or while all is withheld anyway, says nothing of what comes after."""
        reasons = {verdict.reason for verdict in report.verdicts}
        if report.frame is None or report.returning or Reason.SELF_TEST in reasons or self._is_stale():
            self._late.clear()
            self._overloaded = False
        if report.frame is not None and self._most_late:
            self._late.append(Reason.LATE in reasons)
            late = sum(self._late)
            self._overloaded = late > self._most_late // 2 if self._overloaded else late >= self._most_late

    def picture(self, sequence: int | None) -> Picture | None:
        """The picture of that frame if a reader may still ask for it, else the newest; None before the first."""
        return next((p for p in self._pinned if p.sequence == sequence), self._picture)

    @property
    def share_looked_at(self) -> float | None:
        """Share of the newest frame's pixels that regions are looked for in, 0..1; None if no part of it was named."""
        if self._picture is None or self._looked_at is None:
            return None
        _, _, width, height = self._looked_at
        return float(width * height / (self._picture.width * self._picture.height))

    @property
    def started(self) -> bool:
        """A frame has come."""
        return self._captured_at is not None

    @property
    def fresh(self) -> bool:
        """Frames come, as far as they have to (of a live source the newest is fresh), and are trusted."""
        return not self.ended and not self._returning and not self._is_stale()

    def seen(self, detail: str) -> tuple[State, str]:
        """(state, line for people) of this camera in a service that is ready; `detail` is of the service."""
        if self._lost is not None:
            state, told, at = self._lost
            silent = self.watched.live and self._clock() - at > self._stale_after
            # What a camera's pictures were like is no news once it gives none.
            return (State.LOST, self._silence()) if silent and state is not State.LOST else (state, told)
        if self._captured_at is None:
            return State.STARTING, "waiting for the first frame"
        if self._is_stale():
            return State.LOST, self._silence()
        if self._returning:
            return State.RETURNING, self._returning
        if self._overloaded:
            return State.OVERLOADED, f"{sum(self._late)} of {len(self._late)} frames were judged too late"
        return State.GUARDING, detail

    def _silence(self) -> str:
        return f"no frame for more than {self._stale_after:g} s"

    def summary(self) -> dict[str, Any]:
        """What the page shows of each of several cameras."""
        return {
            "name": self.watched.name,
            "source": self.watched.source,
            "age_s": self._age_s(),
            "fps": round(self._rate(), 1),
            "frame": self._newest_frame(),
            "released": self._released_total,
            "withheld": sum(self._reasons.values()),
            "drift": bool(self.drift and self.drift.spoken),
        }

    def state(self, after: int) -> dict[str, Any]:
        """All that the page shows of this camera.

        Args:
            after: Sightings that haven't changed since that report are left out.
        """
        return {
            "camera": self.watched.name,
            "source": self.watched.source,
            "live_source": self.watched.live,
            "deadline_ms": self.watched.deadline_ms,
            "age_s": self._age_s(),
            "fps": round(self._rate(), 1),
            "frame": self._newest_frame(),
            "totals": {
                "frames": self._frames,
                "released": self._released_total,
                "withheld": sum(self._reasons.values()),
                "reasons": {reason.value: count for reason, count in self._reasons.most_common()},
                "dropped": self._dropped,
                "restarts": self._restarts,
            },
            "drift": None
            if self.drift is None
            else {"spoken": self.drift.spoken, "signs": self.drift.values, "line": self.drift.line()},
            "latency_ms": self._latency(),
            "trace": list(self._trace),
            "released": self._released.since(after),
            "withheld": self._withheld.since(after),
        }

    def _newest_frame(self) -> dict[str, Any] | None:
        picture = self._picture
        if picture is None:
            return None
        if picture not in self._pinned:
            self._pinned.append(picture)
        return {
            "sequence": picture.sequence,
            "width": picture.width,
            "height": picture.height,
            "looked_at": self._looked_at,
            "verdicts": [public_line(verdict) for verdict in self._verdicts],
        }

    def _latency(self) -> dict[str, Any]:
        ordered = sorted(self._latencies)
        if not ordered:
            return {"p50": None, "p99": None, "max": None, "count": 0}
        # Nearest rank: a value that was really measured.
        p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.50, 0.99))
        return {"p50": round(p50, 2), "p99": round(p99, 2), "max": round(ordered[-1], 2), "count": len(ordered)}

    def _rate(self) -> float:
        if self._first_arrival is None:
            return 0.0
        now = self._clock()
        window = min(_RATE_WINDOW, max(0.5, now - self._first_arrival))
        return sum(1 for arrival in self._arrivals if now - arrival <= window) / window

    def _age(self) -> float | None:
        return None if self._captured_at is None else max(0.0, self._clock() - self._captured_at)

    def _age_s(self) -> float | None:
        age = self._age()
        return None if age is None else round(age, 2)

    def _is_stale(self) -> bool:
        age = self._age()
        return self.watched.live and (age is None or age > self._stale_after)
