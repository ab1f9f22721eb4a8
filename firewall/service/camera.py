"""One guarded camera: where its frames come from, where in them to look, by when, and what is known of its signs."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from firewall.bundle import Bundle
from firewall.decision.drift import Drift, DriftState
from firewall.decision.tracks import Tracks
from firewall.errors import EngineError, FirewallError
from firewall.frame import Frame, Region
from firewall.regions import RegionFinder
from firewall.regions.within import WithinPart
from firewall.screening import Look, Stages
from firewall.service.golden import SelfTest
from firewall.sinks import FrameReport
from firewall.sources import Capture, Failure
from firewall.verdict import BundleStamp, Reason, Stamps, Verdict

__all__ = ["Camera", "Summary"]

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
#: Seconds after a lost source's first frame for which a round of golden frames is waited for, not longer.
_LONGEST_RETURN = 10.0
_RETURNING = "the source came back; golden frames are judged first"


@dataclass
class Summary:
    """The result of a run.

    Attributes:
        frames: Frames that were screened.
        released: Labels that were released.
        withheld: Reason -> verdicts that withhold for it.
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

    def add(self, report: FrameReport) -> None:
        """Count a report."""
        self.frames += report.frame is not None
        for verdict in report.verdicts:
            self.released += verdict.released
            if not verdict.released:
                self.withheld[str(verdict.reason)] += 1
            self.latencies.append(verdict.latency_ms)

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


class Camera:
    """All that one camera doesn't share with others. Use it from one thread, with the frames in order."""

    def __init__(
        self,
        capture: Capture,
        finder: RegionFinder,
        bundle: Bundle,
        *,
        name: str | None = None,
        deadline_ms: float | None = None,
        tracks: Tracks | None = None,
        drift: Drift | None = None,
        drift_told: Callable[[DriftState], None] = lambda _: None,
        drift_every: int = 1,
    ) -> None:
        """Set up a camera.

        Args:
            capture: Gives the frames.
            finder: Names the regions of a frame. Cameras of one service may share it.
            bundle: What judges.
            name: Name of the camera, which every verdict line bears.
            deadline_ms: Milliseconds after capture at which a verdict is too late. None: no deadline.
            tracks: Withholds labels for the evidence of several frames; only for sources whose frames follow each
                other. None: each frame is judged alone.
            drift: Receives one verdict of every track or, without tracks, every `drift_every`-th verdict.
            drift_told: Called with each new state of `drift`.
            drift_every: See `drift`; at least 1.
        """
        self.capture, self.finder, self.name = capture, finder, name
        self.deadline_ms, self.tracks, self.drift = deadline_ms, tracks, drift
        self.stamps = Stamps(BundleStamp.of(bundle.manifest.name, bundle.manifest.version, bundle.sha256), name)
        self.summary = Summary()
        #: Frames that this machine fetched and nobody looked at, besides those that the capture counts.
        self.overtaken = 0
        #: Withholds everything while golden frames are judged otherwise than they should be; the loop sets it.
        self.self_test: SelfTest | None = None
        self._awaited: int | None = None  # rounds of golden frames that there are when the source is trusted again
        self._back_at: float | None = None  # when the first frame came again
        self._unsigned = bundle.unsigned
        self._drift_told, self._drift_every, self._judged = drift_told, max(1, drift_every), 0

    def deadline(self, frame: Frame) -> float | None:
        """`time.monotonic()` in seconds after which nothing of this frame is released; None if there is no such."""
        return None if self.deadline_ms is None else frame.captured_at + self.deadline_ms / 1e3

    def look(self, frame: Frame) -> Look | FrameReport:
        """Where to look in a frame; if that can't be said, the report that withholds it."""
        stages = Stages()
        try:
            with stages.timed("regions"):
                return Look(frame, self.finder.find(frame.pixels), self.deadline(frame), stages)
        except FirewallError as error:
            reason = Reason.ENGINE_ERROR if isinstance(error, EngineError) else Reason.BAD_IMAGE
            verdict = _withheld(frame, reason, str(error))
        except Exception as error:  # closed by default: a region finder that breaks must not stop the guard
            verdict = _withheld(frame, Reason.UNKNOWN, f"{type(error).__name__} while looking for regions")
        return self.judged(frame, [verdict], stages)

    def judged(self, frame: Frame, verdicts: list[Verdict], stages: Stages) -> FrameReport:
        """The report on a frame whose regions were judged, as they come out over time."""
        if self.tracks is not None or self.drift is not None:
            with stages.timed("tracks"):
                verdicts = self._over_time(frame, verdicts)
        waits = _RETURNING if self._waits() else ""
        if waits:
            verdicts = [
                replace(each, released=False, label=None, label_name=None, reason=Reason.UNCONFIRMED, detail=waits)
                if each.released
                else each
                for each in verdicts
            ]
        if self.self_test is not None:
            verdicts = self.self_test.on(verdicts)
        verdicts = self.stamps.on(verdicts, captured_at=frame.captured_at, stages=stages)
        return self._report(
            FrameReport(frame, verdicts, dict(stages), returning=waits, looked_at=self._looked_at(frame))
        )

    @property
    def returning(self) -> bool:
        """The source was lost, and no round of golden frames has ended since; nothing of it is released until then."""
        test = self.self_test
        return test is not None and self._awaited is not None and test.state.rounds < self._awaited

    def _looked_at(self, frame: Frame) -> Region | None:
        """The part of a frame that is looked at; None if none was named, or if it doesn't lie in this frame."""
        if not isinstance(self.finder, WithinPart):
            return None
        try:
            height, width = frame.pixels.shape[:2]
            return self.finder.looked_at(width, height)
        except FirewallError:  # the frame was withheld for it
            return None

    def _waits(self) -> bool:
        """Whether a frame that is there now is not trusted yet. A guard without time for a round waits no longer than
        `_LONGEST_RETURN`: golden frames go on, and what they say holds."""
        now = time.monotonic()
        self._back_at = now if self._back_at is None else self._back_at
        if not self.returning or now - self._back_at > _LONGEST_RETURN:
            self._awaited = None
        return self._awaited is not None

    def failed(self, failure: Failure) -> FrameReport:
        """The report on a frame that isn't there."""
        if failure.kind == "failed" and self.capture.spec.live:
            self._back_at, test = None, self.self_test
            if self._awaited is None and test is not None and test.has_frames:
                self._awaited = test.begin()
        verdict = Verdict(
            failure.source,
            failure.sequence,
            (0, 0, 0, 0),
            reason=_FAILED[failure.kind],
            detail=failure.detail,
            latency_ms=(time.monotonic() - failure.at) * 1e3,
        )
        return self._report(FrameReport(None, self.stamps.on([verdict], captured_at=failure.at, frame=False)))

    def end(self, seconds: float) -> None:
        """Write down what the run came to, which took so long."""
        self.summary.seconds = seconds
        self.summary.dropped, self.summary.restarts = self.capture.dropped + self.overtaken, self.capture.restarts

    def _report(self, report: FrameReport) -> FrameReport:
        verdicts = report.verdicts
        if self._unsigned:
            verdicts = [replace(verdict, unsigned=True) for verdict in verdicts]
        dropped = self.capture.dropped + self.overtaken
        report = replace(report, verdicts=verdicts, dropped=dropped, restarts=self.capture.restarts)
        self.summary.add(report)
        return report

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


def _withheld(frame: Frame, reason: Reason, detail: str) -> Verdict:
    height, width = frame.pixels.shape[:2]
    age = (time.monotonic() - frame.captured_at) * 1e3
    return Verdict(frame.source, frame.sequence, (0, 0, width, height), reason=reason, detail=detail, latency_ms=age)
