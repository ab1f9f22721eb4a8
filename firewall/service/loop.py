"""The loop around the firewall: capture -> regions -> screen -> sinks, until it is stopped."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np

from firewall.decision.drift import Drift, DriftState
from firewall.decision.tracks import Tracks
from firewall.errors import EngineError, FirewallError
from firewall.frame import Frame
from firewall.regions import RegionFinder
from firewall.screening import Firewall, Stages
from firewall.service.golden import SelfTest
from firewall.sinks import FrameReport, Sink
from firewall.sources import Capture, End, Failure
from firewall.verdict import BundleStamp, Reason, Stamps, Verdict

__all__ = ["Service", "Summary"]

#: Reasons of verdicts that the drift monitor may see: the region was judged by its own pixels.
_SAMPLED = (
    Reason.BENIGN,
    Reason.SUSPICIOUS,
    Reason.NOT_A_SIGN,
    Reason.OBSTRUCTED,
    Reason.LOW_CONTRAST,
    Reason.UNCERTIFIED,
    Reason.DETECTOR_ERROR,
    Reason.ENGINE_ERROR,
)
_FAILED = {"failed": Reason.SOURCE_ERROR, "stale": Reason.STALE, "fault": Reason.CAMERA_FAULT}
#: The drift monitor ignores tracks of fewer frames: many of them are not signs and only flicker.
_LONG_ENOUGH = 3


@dataclass
class Summary:
    """The result of a run.

    Attributes:
        frames: Frames that were screened.
        released: Labels that were released.
        withheld: Reason -> verdicts that withheld for it.
        dropped: Frames of a live source that nobody looked at, because newer ones were there.
        restarts: Capture processes that had to be started again.
        seconds: How long the run took.
        latencies: Milliseconds from capture to verdict, of the last 10,000 verdicts.
    """

    frames: int = 0
    released: int = 0
    withheld: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    restarts: int = 0
    seconds: float = 0.0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))

    def line(self) -> str:
        """One line for people."""
        rate = self.frames / self.seconds if self.seconds > 0 else 0.0
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.withheld.most_common())
        p50, p99 = (np.percentile(self.latencies, q) for q in (50, 99)) if self.latencies else (math.nan, math.nan)
        return (
            f"{self.frames} frames in {self.seconds:.1f} s ({rate:.1f} a second), {self.released} labels released, "
            f"{sum(self.withheld.values())} withheld ({reasons or 'none'}), {self.dropped} frames dropped, "
            f"{self.restarts} capture restarts, latency p50 {p50:.1f} ms p99 {p99:.1f} ms"
        )


class Service:
    """Screens what a capture gives until the source ends, `max_frames` reports are made, or `stop` is called."""

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
        """Set up a service; `run` starts it.

        Args:
            firewall: Judges the regions.
            capture: Gives the frames.
            finder: Names the regions of a frame.
            sinks: Receive a report on every frame and every failure, in this order. `run` closes them.
            deadline_ms: Milliseconds after capture at which a verdict is too late. None: no deadline.
            max_frames: Stop after so many reports (frames, or failures to get one). None: never.
            heartbeat: Called on every turn of the loop, at least twice a second while it is alive.
            tracks: Withholds labels for the evidence of several frames; only for sources whose frames follow each
                other. None: each frame is judged alone.
            drift: Receives one verdict of every track or, without tracks, every `drift_every`-th verdict.
            drift_told: Called with each new state of `drift`.
            drift_every: See `drift`; at least 1.
            camera: Name of the camera, which every verdict line bears.
            self_test: Judges golden frames between live ones, and withholds all while one is judged wrongly.
        """
        self.firewall, self.capture, self.finder, self.sinks = firewall, capture, finder, sinks
        self.deadline_ms, self.max_frames = deadline_ms, max_frames
        self.tracks, self.drift = tracks, drift
        self.summary = Summary()
        bundle = firewall.bundle
        self.stamps = Stamps(BundleStamp.of(bundle.manifest.name, bundle.manifest.version, bundle.sha256), camera)
        self._drift_told, self._drift_every, self._judged = drift_told, max(1, drift_every), 0
        self._heartbeat, self.self_test = heartbeat, self_test
        self._stopping = threading.Event()

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
        started = time.monotonic()
        reports = 0
        try:
            while not self._stopping.is_set() and (self.max_frames is None or reports < self.max_frames):
                self._heartbeat()
                taken = self.capture.read()
                if isinstance(taken, End):
                    break
                if isinstance(taken, Frame):
                    if self.self_test is not None and self.self_test.passes_over(taken):
                        continue
                    self._report(self.screen(taken))
                elif isinstance(taken, Failure):
                    self._report(self._failed(taken))
                if self.self_test is not None:
                    self.self_test.between(taken if isinstance(taken, Frame) else None)
                reports += isinstance(taken, Frame | Failure)  # or there is nothing new yet
        finally:
            self.summary.seconds = time.monotonic() - started
            self.summary.dropped, self.summary.restarts = self._dropped, self.capture.restarts
            with ExitStack() as closing:  # each of them, also where another can't
                for sink in reversed(self.sinks):
                    closing.callback(sink.close)
        return self.summary

    def screen(self, frame: Frame) -> FrameReport:
        """Find and judge the regions of one frame. Whatever goes wrong becomes a verdict that withholds.

        Args:
            frame: The frame.

        Returns:
            The report for the sinks.
        """
        stages = Stages()
        deadline = None if self.deadline_ms is None else frame.captured_at + self.deadline_ms / 1e3
        try:
            with stages.timed("regions"):
                regions = self.finder.find(frame.pixels)
        except FirewallError as error:
            reason = Reason.ENGINE_ERROR if isinstance(error, EngineError) else Reason.BAD_IMAGE
            verdicts = [_withheld(frame, reason, str(error))]
        except Exception as error:  # closed by default: a region finder that breaks must not stop the guard
            verdicts = [_withheld(frame, Reason.UNKNOWN, f"{type(error).__name__} while looking for regions")]
        else:
            verdicts = self.firewall.screen_frame(frame, regions, deadline=deadline, stages=stages)
        if self.tracks is not None or self.drift is not None:
            with stages.timed("tracks"):
                verdicts = self._over_time(frame, verdicts)
        verdicts = self.stamps.on(verdicts, captured_at=frame.captured_at, stages=stages)
        return FrameReport(frame, verdicts, dict(stages), self._dropped, self.capture.restarts)

    @property
    def _dropped(self) -> int:
        return self.capture.dropped + (0 if self.self_test is None else self.self_test.dropped)

    def _over_time(self, frame: Frame, verdicts: list[Verdict]) -> list[Verdict]:
        """The verdicts, with those withheld whose tracks are suspicious. Drift is only reported; it changes nothing."""
        judged = verdicts
        if self.tracks is not None:
            try:
                judged = self.tracks.judge(verdicts)
            except Exception as error:  # closed by default, as everywhere
                judged = [_withheld(frame, Reason.UNKNOWN, f"{type(error).__name__} while following tracks")]
        if self.drift is not None:
            for sample in self._samples(verdicts):
                self._drift_told(self.drift.add(sample))
        return judged

    def _samples(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts for the drift monitor. Frames of one sign are nearly the same picture, so a sign counts once."""
        if self.tracks is not None:
            ended = self.tracks.ended()
            return [track.sample for track in ended if track.sample is not None and track.frames >= _LONG_ENOUGH]
        samples = []
        for verdict in verdicts:
            if verdict.reason in _SAMPLED:
                self._judged += 1
                if self._judged % self._drift_every == 0:
                    samples.append(verdict)
        return samples

    def _failed(self, failure: Failure) -> FrameReport:
        verdict = Verdict(
            failure.source,
            failure.sequence,
            (0, 0, 0, 0),
            reason=_FAILED[failure.kind],
            detail=failure.detail,
            latency_ms=(time.monotonic() - failure.at) * 1e3,
        )
        verdicts = self.stamps.on([verdict], captured_at=failure.at, frame=False)
        return FrameReport(None, verdicts, {}, self._dropped, self.capture.restarts)

    def _report(self, report: FrameReport) -> None:
        if self.self_test is not None and report.frame is not None:
            report = replace(report, verdicts=self.self_test.on(report.verdicts))
        if self.firewall.bundle.unsigned:
            report = replace(report, verdicts=[replace(verdict, unsigned=True) for verdict in report.verdicts])
        self.summary.frames += report.frame is not None
        for verdict in report.verdicts:
            self.summary.released += verdict.released
            if not verdict.released:
                self.summary.withheld[str(verdict.reason)] += 1
            self.summary.latencies.append(verdict.latency_ms)
        for sink in self.sinks:
            sink.report(report)


def _withheld(frame: Frame, reason: Reason, detail: str) -> Verdict:
    height, width = frame.pixels.shape[:2]
    age = (time.monotonic() - frame.captured_at) * 1e3
    return Verdict(frame.source, frame.sequence, (0, 0, width, height), reason=reason, detail=detail, latency_ms=age)
