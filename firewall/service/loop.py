"""The loop around the firewall: capture -> regions -> screen -> sinks, until it is stopped."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from firewall.decision.drift import Drift, DriftState
from firewall.decision.tracks import Tracks
from firewall.frame import Frame
from firewall.regions import RegionFinder
from firewall.screening import Firewall
from firewall.service.camera import Camera, Summary
from firewall.service.golden import SelfTest
from firewall.sinks import FrameReport, Sink
from firewall.sources import Capture, End, Failure

__all__ = ["Alone", "Loop", "Service", "Summary"]


class Loop(ABC):
    """Screens what cameras give until they end, `max_frames` reports are made, or `stop` is called.

    Args:
        firewall: Judges the regions.
        cameras: What is guarded.
        sinks: Receive a report on every frame and every failure, in this order. `run` closes them.
        max_frames: Stop after so many reports (frames, or failures to get one) of all cameras. None: never.
        heartbeat: Called on every turn of the loop, at least twice a second while it is alive.
        self_test: Judges golden frames between live ones, and withholds all while one is judged wrongly.
        ending: Called with why the loop ends, one line, before the sinks are closed.
    """

    def __init__(
        self,
        firewall: Firewall,
        cameras: Sequence[Camera],
        sinks: Sequence[Sink],
        *,
        max_frames: int | None = None,
        heartbeat: Callable[[], None] = lambda: None,
        self_test: SelfTest | None = None,
        ending: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.firewall, self.cameras, self.sinks, self.max_frames = firewall, cameras, sinks, max_frames
        self._heartbeat, self.self_test, self._ending = heartbeat, self_test, ending
        for camera in cameras:
            camera.self_test = self_test
        self._reports = 0
        self._stopping = threading.Event()

    @property
    @abstractmethod
    def summary(self) -> Summary:
        """What the run has come to so far."""

    def stop(self) -> None:
        """End `run` after the current frame. May be called from any thread or a signal handler."""
        self._stopping.set()

    def run(self) -> Summary:
        """Screen frames until there is a reason to stop. The sinks are closed at the end, whatever happened.

        Returns:
            What the run came to.

        Raises:
            FirewallError: If the source or a sink fails for good.
        """
        started, why = time.monotonic(), "it was told to"
        try:
            while not self._stopping.is_set() and self._left() != 0:
                self._heartbeat()
                if not self._turn():
                    why = "all sources have ended"
                    break
        except BaseException as error:
            why = str(error) or type(error).__name__
            raise
        finally:
            for camera in self.cameras:
                camera.end(time.monotonic() - started)
            self._ending(why)
            with ExitStack() as closing:  # each of them, also where another can't
                for sink in reversed(self.sinks):
                    closing.callback(sink.close)
        return self.summary

    @abstractmethod
    def _turn(self) -> bool:
        """Report on what is there, or wait for it, half a second at most; False at the end of all sources."""

    def _left(self) -> int | None:
        """How many reports may still be made; None: any number."""
        return None if self.max_frames is None else max(0, self.max_frames - self._reports)

    def _tell(self, report: FrameReport) -> None:
        self._reports += 1
        for sink in self.sinks:
            sink.report(report)


class Alone(Loop):
    """Guards one camera. A frame is fetched only when there is time for it, so that none waits here and grows old.

    Args:
        firewall: As of Loop.
        camera: The camera.
        sinks: As of Loop.
        max_frames: As of Loop.
        heartbeat: As of Loop.
        self_test: As of Loop.
        ending: As of Loop.
    """

    def __init__(
        self,
        firewall: Firewall,
        camera: Camera,
        sinks: Sequence[Sink],
        *,
        max_frames: int | None = None,
        heartbeat: Callable[[], None] = lambda: None,
        self_test: SelfTest | None = None,
        ending: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.camera, self._cost = camera, 0.0
        super().__init__(
            firewall,
            [camera],
            sinks,
            max_frames=max_frames,
            heartbeat=heartbeat,
            self_test=self_test,
            ending=ending,
        )

    @property
    def summary(self) -> Summary:
        """What the run has come to so far."""
        return self.camera.summary

    def screen(self, frame: Frame) -> FrameReport:
        """Find and judge the regions of one frame. Whatever goes wrong becomes a verdict that withholds.

        Args:
            frame: The frame.

        Returns:
            The report for the sinks.
        """
        look = self.camera.look(frame)
        if isinstance(look, FrameReport):
            return look
        verdicts = self.firewall.screen_frame(frame, look.regions, deadline=look.deadline, stages=look.stages)
        return self.camera.judged(frame, verdicts, look.stages)

    def _turn(self) -> bool:
        taken = self.camera.capture.read()
        if isinstance(taken, Frame):
            self._take(taken)
        elif isinstance(taken, Failure):
            self._tell(self.camera.failed(taken))
        if self.self_test is not None:
            self.self_test.between(idle=self.camera.returning)
        return not isinstance(taken, End)

    def _take(self, frame: Frame) -> None:
        started, test = time.monotonic(), self.self_test
        if test is not None and test.passes_over(frame, self.camera.name, self.camera.deadline(frame), self._cost):
            self.camera.overtaken += 1
            return
        self._tell(self.screen(frame))
        self._cost = time.monotonic() - started
        if test is not None:
            test.seen(frame, self.camera.name)


class Service(Alone):
    """Guards one camera, which is set up with it."""

    def __init__(
        self,
        firewall: Firewall,
        capture: Capture,
        finder: RegionFinder,
        sinks: Sequence[Sink],
        *,
        deadline_ms: float | None = None,
        max_frames: int | None = None,
        heartbeat: Callable[[], None] = lambda: None,
        tracks: Tracks | None = None,
        drift: Drift | None = None,
        drift_told: Callable[[DriftState], None] = lambda _: None,
        drift_every: int = 1,
        camera: str | None = None,
        self_test: SelfTest | None = None,
    ) -> None:
        """Set up a service; `run` starts it. See Loop and Camera.

        Args:
            firewall: Judges the regions.
            capture: Gives the frames.
            finder: Names the regions of a frame.
            sinks: Receive a report on every frame and every failure, in this order. `run` closes them.
            deadline_ms: As of Camera.
            max_frames: As of Loop.
            heartbeat: As of Loop.
            tracks: As of Camera.
            drift: As of Camera.
            drift_told: As of Camera.
            drift_every: As of Camera.
            camera: Name of the camera, which every verdict line bears.
            self_test: Judges golden frames between live ones, and withholds all while one is judged wrongly.
        """
        alone = Camera(
            capture,
            finder,
            firewall.bundle,
            name=camera,
            deadline_ms=deadline_ms,
            tracks=tracks,
            drift=drift,
            drift_told=drift_told,
            drift_every=drift_every,
        )
        super().__init__(firewall, alone, sinks, max_frames=max_frames, heartbeat=heartbeat, self_test=self_test)
