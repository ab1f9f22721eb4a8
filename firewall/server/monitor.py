"""The sink behind the page: it takes every report, keeps what may be shown, and says if the firewall is ready."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from firewall import __version__
from firewall.decision.drift import DriftState
from firewall.decision.golden import GoldenState
from firewall.host.core_list import listed
from firewall.host.pinning import Cores, judge_stays
from firewall.server.camera_view import CameraView, Watched
from firewall.server.metrics import Metrics
from firewall.server.states import Change, Course, State
from firewall.sinks.outlet import OutputHealth
from firewall.sinks.report import FrameReport

__all__ = ["Monitor"]

#: Of several cameras the worst state is that of all.
_WORST_FIRST = (
    State.LOST,
    State.CAMERA_FAULT,
    State.STALE,
    State.RETURNING,
    State.STARTING,
    State.NOT_READY,
    State.OVERLOADED,
)


class Monitor:
    """A Sink. The frame loop calls `report`, which does little; the web server's threads call everything else.

    Args:
        source: Name of the source, as it is shown.
        bundle: Name of the bundle, as it is shown.
        live: Whether the source gives frames even if nobody reads them, so that silence means that it is lost.
        deadline_ms: The deadline in milliseconds, shown beside the latencies.
        cameras: In place of source, live and deadline_ms: all cameras. Of two or more the metrics bear the name.
        stale_after: Seconds without a frame after which a live source counts as lost.
        overload: (late, frames): so many of the last so many frames late, and a camera's guard is overloaded; half as
            many, and it is no longer. None: it never is.
        hung_after: Seconds without a sign of life after which the loop counts as dead, from the first `beat` on.
        told: Called with each change of a camera's state, in their order. A change is noticed with every report and
            beat, and by whoever asks.
        clock: Gives seconds; another than `time.monotonic` is for tests.
    """

    def __init__(
        self,
        *,
        bundle: str,
        source: str = "",
        live: bool = False,
        deadline_ms: float | None = None,
        cameras: Sequence[Watched] = (),
        stale_after: float = 3.0,
        overload: tuple[int, int] | None = None,
        hung_after: float = 10.0,
        told: Callable[[Change], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        watched = cameras or (Watched("camera", source, live, deadline_ms),)
        self._views = {each.name: CameraView(each, stale_after, clock, overload) for each in watched}
        self._courses = {each.name: Course(each.name) for each in watched}
        self._told, self._changes, self._telling = told, deque[Change](), threading.Lock()
        self._first = next(iter(self._views.values()))
        self.metrics = Metrics(__version__, tuple(self._views) if len(self._views) > 1 else ())
        self._about: dict[str, Any] = {"version": __version__, "bundle": bundle, "unsigned": False}
        self._hung_after, self._clock = hung_after, clock
        self._lock = threading.Lock()
        self._change = 0
        self._said_ready: bool | None = None  # nothing was said yet
        self._detail, self._closed = "starting", ""
        self._beat: float | None = None
        self._golden: GoldenState | None = None
        self._outputs: Callable[[], list[OutputHealth]] = list
        self._networks: dict[str, str] = {}
        self._cores: Cores | None = None
        self._warning = ""

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras."""
        return tuple(self._views)

    def report(self, report: FrameReport) -> None:
        """Take one report. No pixels are touched: a JPEG is made when a browser asks for it."""
        now, wall = self._clock(), time.time()
        self.metrics.observe(report)
        with self._lock:
            self._change += 1
            if self._beat is not None:
                self._beat = now
            self._view(report.camera).report(report, self._change, now, wall)
        self._look()

    def ended(self, camera: str | None) -> None:
        """The source of one of several cameras has no more frames."""
        with self._lock:
            self._view(camera).ended = True
            self._change += 1
        self._look()

    def close(self, why: str = "") -> None:
        """The loop has ended: neither live nor ready from now on.

        Args:
            why: One line for people; it counts where nothing was said before.
        """
        with self._lock:
            if not self._closed:
                self._closed = "the firewall has stopped" + (f" ({why})" if why else "") + "; nothing is released"
            self._change += 1
        self._look()

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
        self._look()

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

    def set_cores(self, cores: Cores | None) -> None:
        """Where threads were put; None: they may run anywhere."""
        self._cores = cores
        if cores is not None:
            self.metrics.set_cores(cores)

    @property
    def cores(self) -> dict[str, Any] | None:
        """Where threads were put, as Linux lists cores, and whether the judging thread still `stays` there."""
        cores = self._cores
        if cores is None:
            return None
        return {"judging": listed(cores.judging), "others": listed(cores.others), "stays": judge_stays()}

    def set_warning(self, text: str) -> None:
        """What whoever asks for health should know, one line; it changes nothing else."""
        with self._lock:
            self._warning = text

    @property
    def warning(self) -> str:
        """What `set_warning` was told; empty if nothing."""
        with self._lock:
            return self._warning

    @property
    def networks(self) -> dict[str, str]:
        """What runs each network; empty before they are loaded."""
        with self._lock:
            return dict(self._networks)

    def set_drift(self, state: DriftState, camera: str | None = None) -> None:
        """What a camera's drift monitor says. It never changes `ready`: drift is news for people, not a failure."""
        self.metrics.drift(state, camera)
        with self._lock:
            view = self._view(camera)
            if view.drift is None or state.spoken != view.drift.spoken:
                self._change += 1  # that one more sign was seen is no news
            view.drift = state

    @property
    def drift(self) -> DriftState | None:
        """The newest state of the (first camera's) drift monitor; None if there is none."""
        return self.drift_of(None)

    def drift_of(self, camera: str | None) -> DriftState | None:
        """The newest state of a camera's drift monitor; None if there is none."""
        with self._lock:
            return self._view(camera).drift

    def share_looked_at(self, camera: str | None) -> float | None:
        """Share of a camera's newest frame that is looked at, 0..1; None if no part of it was named."""
        with self._lock:
            return self._view(camera).share_looked_at

    def set_golden(self, state: GoldenState) -> None:
        """What the golden frames say; whether the guard is ready is said by `set_ready`."""
        self.metrics.golden(state)
        with self._lock:
            self._golden = state

    @property
    def golden(self) -> GoldenState | None:
        """The newest state of the golden frames; None if there are none."""
        with self._lock:
            return self._golden

    @property
    def unsigned(self) -> bool:
        """Nobody who is trusted here vouches for the bundle."""
        with self._lock:
            return bool(self._about["unsigned"])

    def beat(self) -> None:
        """The loop turns. From the first beat on, `live` falls if neither a beat nor a report comes for hung_after."""
        with self._lock:
            self._beat = self._clock()
        self._look()

    @property
    def live(self) -> bool:
        """The loop is alive."""
        with self._lock:
            return not self._closed and (self._beat is None or self._clock() - self._beat <= self._hung_after)

    @property
    def ready(self) -> bool:
        """Frames are judged and trusted: the service said so and, for a live source, the newest frame is fresh. Of
        several cameras all have to be so whose source has not ended."""
        return self.ready_of(None)

    def ready_of(self, camera: str | None) -> bool:
        """The same of one camera; None: of all."""
        with self._lock:
            views = self._views.values() if camera is None else (self._view(camera),)
            going = [view for view in views if not view.ended]
            return self._is_ready() and bool(going) and all(view.fresh for view in going)

    @property
    def change(self) -> int:
        """Goes up with everything that a reader could see, but for time itself."""
        with self._lock:
            return self._change

    def status(self, camera: str | None = None) -> tuple[str, str]:
        """(state, detail): the word of a State, and a line for people.

        Args:
            camera: Whose; None: of all, and then the worst of them, with its name where there are several.
        """
        self._look()
        with self._lock:
            if camera is not None or len(self._views) == 1:
                return self._status(self._view(camera))
            told = {name: self._status(view) for name, view in self._views.items()}
        if len(set(told.values())) == 1:
            return next(iter(told.values()))
        for state in _WORST_FIRST:
            of_these = [f"{name}: {detail}" for name, (said, detail) in told.items() if said == state.value]
            if of_these:
                return state.value, "; ".join(of_these)
        return next(each for each in told.values() if each[0] == State.GUARDING.value)

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format 0.0.4, of the states as they are now."""
        self._look()
        return self.metrics.exposition()

    def jpeg(
        self, sequence: int | None = None, camera: str | None = None, *, small: bool = False
    ) -> tuple[int, bytes] | None:
        """(sequence, JPEG) of that frame if a reader may still ask for it, else of the newest; None before the first.

        Raises:
            ImageError: If the frame can't be encoded.
        """
        with self._lock:
            picture = self._view(camera).picture(sequence)
        if picture is None:
            return None
        return picture.sequence, picture.small() if small else picture.jpeg()

    def state(self, after: int = 0, camera: str | None = None) -> dict[str, Any]:
        """All that the page shows, ready for JSON.

        Args:
            after: The `change` of the state that the reader has; sightings that haven't changed since then are left
                out.
            camera: Whose; of the others only what `cameras` has. None, or one that isn't there: the first.
        """
        self._look()
        with self._lock:
            view = self._view(camera)
            status, detail = self._status(view)
            return {
                **self._about,
                "change": self._change,
                "full": after == 0,
                "status": status,
                "detail": detail,
                "ready": self._is_ready() and view.fresh,
                **view.state(after),
                "cameras": [self._summary(each) for each in self._views.values()] if len(self._views) > 1 else [],
            }

    def _view(self, camera: str | None) -> CameraView:
        return self._first if camera is None else self._views.get(camera, self._first)

    def _summary(self, view: CameraView) -> dict[str, Any]:
        status, detail = self._status(view)
        return {**view.summary(), "status": status, "detail": detail}

    def _is_ready(self) -> bool:
        return bool(self._said_ready) and not self._closed

    def _status(self, view: CameraView) -> tuple[str, str]:
        course = self._courses[view.watched.name]
        return course.state.value, course.detail

    def _look(self) -> None:
        """Let each camera's state be what it is by now, and tell of what has changed."""
        with self._lock:
            for view, course in zip(self._views.values(), self._courses.values(), strict=True):
                if (change := course.to(*self._seen(view))) is not None:
                    self._changes.append(change)
                    self._change += 1
                    self.metrics.state(change.state, change.camera)
        with self._telling:  # in their order, and outside of the lock: a listener may take its time
            while self._changes:
                self._told(self._changes.popleft())

    def _seen(self, view: CameraView) -> tuple[State, str]:
        if self._closed:
            return State.STOPPED, self._closed
        if view.ended:
            return State.ENDED, "its source has ended"
        if not self._said_ready:
            starting = self._said_ready is None and not view.started
            return (State.STARTING if starting else State.NOT_READY), self._detail
        return view.seen(self._detail)
