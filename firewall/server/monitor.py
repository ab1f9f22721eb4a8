"""The sink behind the page: it takes every report, keeps what may be shown, and says if the firewall is ready."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from firewall import __version__
from firewall.decision.drift import DriftState
from firewall.server.metrics import Metrics
from firewall.server.picture import Picture
from firewall.server.sightings import Sightings, public_line
from firewall.sinks.outlet import OutputHealth
from firewall.sinks.report import FrameReport
from firewall.verdict import Reason, Verdict

__all__ = ["Monitor"]

_LATENCIES = 300  # verdicts that the percentiles are taken over
_TRACE = 120  # verdicts that the page draws
_RATE_WINDOW = 3.0  # seconds that frames per second are counted over
_PINNED = 4  # pictures kept for browsers that know of them and may still ask
#: Status while no frame is judged, by the reason of the last report: a camera that gives pictures isn't lost.
_WITHOUT_FRAME = {Reason.CAMERA_FAULT: "camera fault", Reason.STALE: "stale"}
_LOST = "source lost"


class Monitor:
    """A Sink. The frame loop calls `report`, which does little; the web server's threads call everything else.

    Args:
        source: Name of the source, as it is shown.
        bundle: Name of the bundle, as it is shown.
        live: Whether the source gives frames even if nobody reads them, so that silence means that it is lost.
        deadline_ms: The deadline in milliseconds, shown beside the latencies.
        stale_after: Seconds without a frame after which a live source counts as lost.
        hung_after: Seconds without a sign of life after which the loop counts as dead, from the first `beat` on.
        clock: Gives seconds; another than `time.monotonic` is for tests.
    """

    def __init__(
        self,
        *,
        source: str,
        bundle: str,
        live: bool,
        deadline_ms: float | None = None,
        stale_after: float = 3.0,
        hung_after: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = Metrics(__version__)
        self._about: dict[str, Any] = {
            "version": __version__,
            "source": source,
            "bundle": bundle,
            "unsigned": False,
            "live_source": live,
            "deadline_ms": deadline_ms,
        }
        self._live_source, self._stale_after, self._hung_after = live, stale_after, hung_after
        self._clock = clock
        self._lock = threading.Lock()
        self._change = 0
        self._said_ready, self._detail, self._closed = False, "starting", False
        self._beat: float | None = None
        self._picture: Picture | None = None
        self._pinned: deque[Picture] = deque(maxlen=_PINNED)
        self._verdicts: Sequence[Verdict] = ()
        self._captured_at: float | None = None
        self._lost: tuple[str, str, float] | None = None  # status, detail and time of a report without a frame
        self._released, self._withheld = Sightings(), Sightings()
        self._reasons: Counter[Reason] = Counter()
        self._frames = self._released_total = self._dropped = self._restarts = 0
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._trace: deque[tuple[float, int]] = deque(maxlen=_TRACE)
        self._arrivals: deque[float] = deque(maxlen=1000)
        self._first_arrival: float | None = None
        self._drift: DriftState | None = None
        self._outputs: Callable[[], list[OutputHealth]] = list
        self._networks: dict[str, str] = {}

    def report(self, report: FrameReport) -> None:
        """Take one report. No pixels are touched: a JPEG is made when a browser asks for it."""
        now, wall = self._clock(), time.time()
        self.metrics.observe(report)
        with self._lock:
            self._change += 1
            if self._beat is not None:
                self._beat = now
            self._dropped, self._restarts = report.dropped, report.restarts
            if report.frame is None:
                told = next((v for v in report.verdicts if v.detail), None)
                word = _LOST if told is None else _WITHOUT_FRAME.get(told.reason, _LOST)
                self._lost = (word, "" if told is None else told.detail, now)
            else:
                self._lost = None
                self._frames += 1
                self._picture, self._verdicts = Picture(report.frame), tuple(report.verdicts)
                self._captured_at = report.frame.captured_at
                self._first_arrival = now if self._first_arrival is None else self._first_arrival
                self._arrivals.append(now)
            for verdict in report.verdicts:
                if verdict.released:
                    self._released_total += 1
                else:
                    self._reasons[verdict.reason] += 1
                (self._released if verdict.released else self._withheld).add(verdict, self._change, now, wall)
                if report.frame is not None and math.isfinite(verdict.latency_ms):
                    self._latencies.append(verdict.latency_ms)
                    self._trace.append((round(verdict.latency_ms, 2), int(verdict.released)))

    def close(self) -> None:
        """The loop has ended: neither live nor ready from now on."""
        with self._lock:
            self._closed = True
            self._change += 1

    def set_bundle(self, name: str, *, unsigned: bool = False) -> None:
        """The bundle that was loaded.

        Args:
            name: Name of the bundle.
            unsigned: Nobody who is trusted here vouches for it.
        """
        with self._lock:
            self._about = {**self._about, "bundle": name, "unsigned": unsigned}
            self._change += 1

    def set_ready(self, ready: bool, detail: str = "") -> None:
        """Say whether the service can judge frames.

        Args:
            ready: Whether it can judge frames.
            detail: One line for people.
        """
        with self._lock:
            self._said_ready, self._detail = ready, detail
            self._change += 1

    def set_outputs(self, health: Callable[[], list[OutputHealth]]) -> None:
        """Who says how the outputs are. Like drift that never changes `ready`: verdicts are given all the same."""
        self._outputs = health
        self.metrics.set_outputs(health)

    def outputs(self) -> list[OutputHealth]:
        """How the outputs are."""
        return self._outputs()

    def set_networks(self, networks: Mapping[str, str]) -> None:
        """What runs each network: file -> such as "CPUExecutionProvider"."""
        with self._lock:
            self._networks = dict(networks)

    @property
    def networks(self) -> dict[str, str]:
        """What runs each network; empty before they are loaded."""
        with self._lock:
            return dict(self._networks)

    def set_drift(self, state: DriftState) -> None:
        """What the drift monitor says. It never changes `ready`: drift is news for people, not a failure."""
        self.metrics.drift(state)
        with self._lock:
            if self._drift is None or state.spoken != self._drift.spoken:
                self._change += 1  # that one more sign was seen is no news
            self._drift = state

    @property
    def drift(self) -> DriftState | None:
        """The newest state of the drift monitor; None if there is none."""
        with self._lock:
            return self._drift

    @property
    def unsigned(self) -> bool:
        """Nobody who is trusted here vouches for the bundle."""
        with self._lock:
            return bool(self._about["unsigned"])

    def beat(self) -> None:
        """The loop turns. From the first beat on, `live` falls if neither a beat nor a report comes for hung_after."""
        with self._lock:
            self._beat = self._clock()

    @property
    def live(self) -> bool:
        """The loop is alive."""
        with self._lock:
            return not self._closed and (self._beat is None or self._clock() - self._beat <= self._hung_after)

    @property
    def ready(self) -> bool:
        """Frames are judged: the service said so and, for a live source, the newest frame is fresh."""
        with self._lock:
            return self._is_ready()

    @property
    def change(self) -> int:
        """Goes up with everything that a reader could see, but for time itself."""
        with self._lock:
            return self._change

    def status(self) -> tuple[str, str]:
        """(word, detail): `starting`, `guarding`, `camera fault`, `stale`, `source lost`, `not ready` or `stopped`, and
        a line for people."""
        with self._lock:
            return self._status()

    def jpeg(self, sequence: int | None = None) -> tuple[int, bytes] | None:
        """(sequence, JPEG) of that frame if a reader may still ask for it, else of the newest; None before the first.

        Raises:
            ImageError: If the frame can't be encoded.
        """
        with self._lock:
            picture = next((p for p in self._pinned if p.sequence == sequence), self._picture)
        return (picture.sequence, picture.jpeg()) if picture else None

    def state(self, after: int = 0) -> dict[str, Any]:
        """All that the page shows, ready for JSON.

        Args:
            after: The `change` of the state that the reader has; sightings that haven't changed since then are left
                out.
        """
        with self._lock:
            status, detail = self._status()
            age = self._age()
            return {
                **self._about,
                "change": self._change,
                "full": after == 0,
                "status": status,
                "detail": detail,
                "ready": self._is_ready(),
                "age_s": None if age is None else round(age, 2),
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
                if self._drift is None
                else {"spoken": self._drift.spoken, "signs": self._drift.values, "line": self._drift.line()},
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
        verdicts = [public_line(verdict) for verdict in self._verdicts]
        return {
            "sequence": picture.sequence,
            "width": picture.width,
            "height": picture.height,
            "verdicts": verdicts,
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

    def _is_stale(self) -> bool:
        age = self._age()
        return self._live_source and (age is None or age > self._stale_after)

    def _is_ready(self) -> bool:
        return self._said_ready and not self._closed and not self._is_stale()

    def _status(self) -> tuple[str, str]:
        if self._closed:
            return "stopped", "the firewall has stopped; nothing is released"
        if not self._said_ready:
            return ("starting" if self._captured_at is None else "not ready"), self._detail
        if self._lost is not None:
            word, told, at = self._lost
            silent = self._live_source and self._clock() - at > self._stale_after
            # What a camera's pictures were like is no news once it gives none.
            return (word, told) if word == _LOST or not silent else (_LOST, self._silence())
        if self._captured_at is None:
            return "starting", "waiting for the first frame"
        if self._is_stale():
            return _LOST, self._silence()
        return "guarding", self._detail

    def _silence(self) -> str:
        return f"no frame for more than {self._stale_after:g} s"
