from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from firewall import Firewall, Frame
from firewall.errors import FirewallError, ImageError
from firewall.frame import Pixels, Region
from firewall.regions import build
from firewall.service import Service, stop_on_signals
from firewall.sinks import FrameReport
from firewall.sources import End, Failure, Idle
from firewall.verdict import Reason


class Script:
    """A capture that gives what a test lists, then ends."""

    def __init__(self, *taken: object) -> None:
        self.taken: Iterator[object] = iter(taken)
        self.dropped = 3
        self.restarts = 1

    def read(self) -> object:
        return next(self.taken, End())


class Kept:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[FrameReport] = []
        self.closed = 0

    def report(self, report: FrameReport) -> None:
        self.reports.append(report)

    def close(self) -> None:
        self.closed += 1


def frames(*pictures: Pixels, age: float = 0.0) -> list[Frame]:
    return [Frame(pixels, "test", number, time.monotonic() - age) for number, pixels in enumerate(pictures)]


def service(guard: Firewall, capture: Script, sink: Kept, **options: object) -> Service:
    return Service(guard, capture, build("whole"), [sink], **options)  # type: ignore[arg-type]


def test_every_frame_and_failure_is_reported_in_order(guard: Firewall, benign_sign: Pixels) -> None:
    """Release, withhold and source failure each give a report; drops and restarts are passed on; sinks are closed."""
    blank = np.zeros((30, 30, 3), np.uint8)
    first, second = frames(benign_sign, blank)
    failure = Failure(source="test", sequence=2, at=time.monotonic(), detail="capture was killed")
    sink = Kept()

    summary = service(guard, Script(first, failure, second), sink).run()

    reasons = [report.verdicts[0].reason for report in sink.reports]
    assert reasons[0] is Reason.BENIGN and reasons[1] is Reason.SOURCE_ERROR and reasons[2] is Reason.SUSPICIOUS
    assert (summary.frames, summary.released, summary.dropped, summary.restarts) == (2, 1, 3, 1)
    assert sink.closed == 1
    assert "1 labels released" in summary.line() and "1 source error" in summary.line()


def test_late_frames_are_withheld(guard: Firewall, benign_sign: Pixels) -> None:
    """A frame older than the deadline when its turn comes is not released."""
    sink = Kept()

    service(guard, Script(*frames(benign_sign, age=1.0)), sink, deadline_ms=33.0).run()

    assert sink.reports[0].verdicts[0].reason is Reason.LATE


@pytest.mark.parametrize("error", [ImageError("no such box"), RuntimeError("broken finder")])
def test_a_failing_region_finder_withholds_and_the_loop_goes_on(
    guard: Firewall, benign_sign: Pixels, error: Exception
) -> None:
    """One frame whose regions can't be found is withheld with a reason; the next is judged as ever."""

    class Finder:
        calls = 0

        def find(self, pixels: Pixels) -> list[Region]:
            self.calls += 1
            if self.calls == 1:
                raise error
            return [(0, 0, pixels.shape[1], pixels.shape[0])]

    sink = Kept()
    Service(guard, Script(*frames(benign_sign, benign_sign)), Finder(), [sink]).run()  # type: ignore[arg-type]

    assert [report.verdicts[0].released for report in sink.reports] == [False, True]


def test_a_failing_sink_stops_the_service_and_every_sink_is_closed(guard: Firewall, benign_sign: Pixels) -> None:
    """A verdict that can't be recorded is not passed over: the error comes out, sinks are closed once."""

    class Full(Kept):
        def report(self, report: FrameReport) -> None:
            raise FirewallError("disk full")

    full, other = Full(), Kept()
    broken = Service(guard, Script(*frames(benign_sign)), build("whole"), [full, other])  # type: ignore[arg-type]

    with pytest.raises(FirewallError, match="disk full"):
        broken.run()
    assert full.closed == other.closed == 1 and other.reports == []


def test_max_frames_counts_failures_too(guard: Firewall) -> None:
    """A source that only fails still comes to an end."""
    failure = Failure(source="test", sequence=0, at=time.monotonic(), detail="stalled")
    sink = Kept()

    service(guard, Script(*[failure] * 50), sink, max_frames=4).run()

    assert len(sink.reports) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_loop_after_the_frame_in_hand(guard: Firewall, benign_sign: Pixels, number: int) -> None:
    """A signal in the middle of an endless source: run returns, the summary is whole, handlers are put back."""

    class Endless(Script):
        def read(self) -> object:
            return Frame(benign_sign, "test", 0, time.monotonic())

    sink = Kept()
    endless = service(guard, Endless(), sink)
    before = signal.getsignal(number)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.start()
    with stop_on_signals(endless):
        summary = endless.run()

    assert summary.frames == len(sink.reports) > 0
    assert signal.getsignal(number) is before


def test_the_loop_has_a_heartbeat(guard: Firewall, benign_sign: Pixels) -> None:
    """Every turn beats, also while the source gives nothing: only a loop that hangs falls silent."""
    beats: list[float] = []

    service(
        guard, Script(Idle(), Idle(), *frames(benign_sign)), Kept(), heartbeat=lambda: beats.append(time.monotonic())
    ).run()

    assert len(beats) == 4
