"""A queue and a thread for each output: one that blocks, fails or fills a disk neither delays nor changes a verdict.

The frame loop lays a report into each queue and goes on. A queue is bounded. When that of a live source is full the
oldest report is dropped and counted, of several cameras that of the one with most of them; a file waits, since nothing
is late there. An output that raises is closed and opened again, after 1 s and then ever later up to 30 s; what comes
meanwhile is dropped and counted. The guard itself ends only when the last of its outputs has failed: then nobody learns
its verdicts any more. What goes over a network never counts as failed for good, since the other end may come back.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from firewall.errors import FirewallError
from firewall.sinks.event import Event
from firewall.sinks.report import FrameReport, Output

__all__ = ["Outlet", "Outlets", "OutputHealth"]

_FIRST_DELAY, _LONGEST_DELAY = 1.0, 30.0  # seconds until a failed output is opened again
_DRAIN = 2.0  # seconds that a live source's output gets at the end to write what is in its queue
_NO_PIXELS = np.zeros((1, 1, 3), np.uint8)


@dataclass(frozen=True)
class OutputHealth:
    """How an output is.

    Attributes:
        name: As it was named, without credentials.
        healthy: It takes reports.
        detail: What is wrong, one line; empty if nothing is.
        taken: Reports that it took.
        dropped: Reports that it will never have.
        failures: How often it failed.
        waiting: Reports in its queue.
    """

    name: str
    healthy: bool
    detail: str
    taken: int
    dropped: int
    failures: int
    waiting: int


class Outlet:
    """One output with its queue and thread.

    Args:
        name: As people know it, without credentials.
        open_output: Opens the output; raises FirewallError or OSError if that can't be done now.
        limit: Most reports in the queue.
        lossless: Wait when the queue is full, for sources that wait.
        network: Whether the other end may come back: then it may be missing at the start, and never counts as failed.
        again: Whether it may be opened again after a failure.
        pixels: Whether it needs the frames' pixels; else the queue doesn't hold them.
        aside: It tells nobody what the verdicts are: whether it fails has no say in whether the guard goes on.
        camera: The only camera whose reports it takes; None: those of all.
        events: Whether it takes what happens to the guard itself, too. None of that is dropped for reports, or while
            the output has failed: there is little of it.
        say: Prints one line for the operator.

    Raises:
        FirewallError: If it can't be opened, unless it is of the network.
    """

    def __init__(
        self,
        name: str,
        open_output: Callable[[], Output],
        *,
        limit: int = 256,
        lossless: bool = False,
        network: bool = False,
        again: bool = True,
        pixels: bool = False,
        aside: bool = False,
        camera: str | None = None,
        events: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name, self.aside = name, aside
        self._open, self._network, self._again, self._say = open_output, network, again, say
        self._limit, self._lossless, self._pixels, self._camera = limit, lossless, pixels, camera
        self._events = events
        self._queue: deque[FrameReport | Event] = deque()
        self._changed = threading.Condition()
        self._closing = self._abandoned = False
        self._output: Output | None = None
        self._detail = ""
        self._taken = self._dropped = self._told_dropped = self._failures = 0
        self._delay, self._open_at = _FIRST_DELAY, 0.0
        try:
            self._output = open_output()
        except (FirewallError, OSError) as error:
            if not network:
                raise
            self._fail(error)
        self._thread = threading.Thread(target=self._run, name=f"output {name}", daemon=True)
        self._thread.start()

    @property
    def failed(self) -> str | None:
        """What it failed of; None if it takes reports, or its other end may come back."""
        with self._changed:
            return None if self._network else self._detail or None

    def report(self, report: FrameReport) -> None:
        """Lay a report into the queue. Where nobody takes it now it is dropped: later it would be old."""
        if self._camera is not None and report.camera != self._camera:
            return
        if not self._pixels and report.frame is not None:
            report = replace(report, frame=replace(report.frame, pixels=_NO_PIXELS))
        with self._changed:
            while self._lossless and self._output is not None and self._full():
                self._changed.wait(0.5)
            if self._output is None:
                self._dropped += 1
                return
            if self._full():
                del self._queue[self._least_missed()]
                self._dropped += 1
            self._queue.append(report)
            self._changed.notify_all()

    def event(self, event: Event) -> None:
        """Lay into the queue what happened to the guard, if this output takes that."""
        if not self._events:
            return
        with self._changed:
            if sum(isinstance(each, Event) for each in self._queue) >= self._limit:
                self._dropped += 1
                return
            self._queue.append(event)
            self._changed.notify_all()

    def _full(self) -> bool:
        """Whether there is no room for a report."""
        waiting = len(self._queue)
        return waiting >= self._limit and sum(isinstance(each, FrameReport) for each in self._queue) >= self._limit

    def _least_missed(self) -> int:
        """Place of the report that goes when the queue is full: the oldest of the camera that has most of it, so that
        one that floods doesn't cost the others their reports."""
        cameras = [(place, each.camera) for place, each in enumerate(self._queue) if isinstance(each, FrameReport)]
        (most, _), *_ = Counter(camera for _, camera in cameras).most_common(1)
        return next(place for place, camera in cameras if camera == most)

    def reopen(self) -> None:
        """Have its file opened again. May be called from a signal handler."""
        if (output := self._output) is not None:
            output.reopen()

    def health(self) -> OutputHealth:
        """How it is."""
        with self._changed:
            waiting = len(self._queue)
            slow = f"takes nothing, or not fast enough: {waiting} reports wait" if waiting >= self._limit else ""
            detail = self._detail or slow
            return OutputHealth(self.name, not detail, detail, self._taken, self._dropped, self._failures, waiting)

    def close(self) -> None:
        """Close it when it has taken what is in its queue; if the source is live it gets a moment for that."""
        self.end()
        self._thread.join(None if self._lossless else _DRAIN)
        with self._changed:
            self._abandoned = self._thread.is_alive()
            output = self._output
        if self._abandoned and output is not None:
            output.abandon()
            self._thread.join(1.0)
        with self._changed:
            self._dropped += len(self._queue)
            if self._queue:
                self._detail = self._detail or f"{len(self._queue)} reports were not taken when the guard ended"
                self._queue.clear()
            elif self._dropped:
                self._say(f"output {self.name} missed {self._dropped} of {self._dropped + self._taken} reports")

    def end(self) -> None:
        """No report follows."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _run(self) -> None:
        while not self._done():
            taken = self._next()
            try:
                self._turn(taken)
            except Exception as error:  # whatever a library raises stops this output and no other
                self._fail(error, taken)
        output, self._output = self._output, None
        try:
            if output is not None:
                self._tell_missed(output)
                output.close()
        except Exception as error:
            self._fail(error)

    def _done(self) -> bool:
        with self._changed:
            return self._abandoned or (self._closing and (not self._queue or self._output is None))

    def _next(self) -> FrameReport | Event | None:
        with self._changed:
            if (not self._queue or self._output is None) and not self._closing:
                wait = self._open_at - time.monotonic() if self._output is None else self._output.every
                self._changed.wait(min(max(wait, 0.01), 0.5))
            if not self._queue or self._output is None:
                return None
            self._changed.notify_all()
            return self._queue.popleft()

    def _turn(self, taken: FrameReport | Event | None) -> None:
        output = self._output
        if output is None:
            if time.monotonic() >= self._open_at and not self._closing:
                self._output = self._open()
                if self._network:
                    self._works()
            return
        self._tell_missed(output)
        if taken is None:
            output.tick()
        elif isinstance(taken, Event):
            output.event(taken)
            self._works()
        else:
            output.report(taken)
            self._works()
            self._taken += 1

    def _tell_missed(self, output: Output) -> None:
        with self._changed:
            dropped = self._dropped
        if dropped > self._told_dropped:
            output.missed(dropped - self._told_dropped)
            self._told_dropped = dropped

    def _works(self) -> None:
        with self._changed:
            failed, self._detail, self._delay = self._detail, "", _FIRST_DELAY
        if failed:
            self._say(f"output {self.name} works again; it missed {self._dropped} reports")

    def _fail(self, error: Exception, lost: FrameReport | Event | None = None) -> None:
        output = self._output
        detail = str(error) if isinstance(error, FirewallError) else f"{type(error).__name__}: {error}"
        with self._changed:
            before, self._detail = self._detail, " ".join(detail.split())
            self._failures += 1
            again = (lost,) if isinstance(error, FirewallError) else ()
            kept = [each for each in (*again, *self._queue) if isinstance(each, Event)]
            self._dropped += len(self._queue) + (lost is not None) - len(kept)
            self._queue = deque(kept)
            self._output = None
            self._open_at = time.monotonic() + self._delay if self._again else math.inf
            self._delay = min(2 * self._delay, _LONGEST_DELAY)
            self._changed.notify_all()
        if output is not None:
            with suppress(Exception):  # it may be as broken as it says
                output.close()
        if self._detail != before:
            self._say(f"output {self.name} failed: {self._detail}")


class Outlets:
    """All outputs of a guard, as one sink.

    Args:
        outlets: The outputs; there may be none.
    """

    def __init__(self, outlets: Sequence[Outlet]) -> None:
        self.outlets = tuple(outlets)
        self._told = False

    def report(self, report: FrameReport) -> None:
        """Lay a report into all queues.

        Raises:
            FirewallError: If none of the outputs takes reports any more.
        """
        for outlet in self.outlets:
            outlet.report(report)
        failed = [outlet.failed for outlet in self.outlets if not outlet.aside]
        if failed and all(failed):
            self._told = True
            raise FirewallError(failed[0])

    def event(self, event: Event) -> None:
        """Lay what happened to the guard into the queues of those that take it. May be called from any thread."""
        for outlet in self.outlets:
            outlet.event(event)

    def reopen(self) -> None:
        """Have all files opened again. May be called from a signal handler."""
        for outlet in self.outlets:
            outlet.reopen()

    def health(self) -> list[OutputHealth]:
        """How the outputs are."""
        return [outlet.health() for outlet in self.outlets]

    def close(self) -> None:
        """Close all of them.

        Raises:
            FirewallError: If one of them has failed and not recovered, unless `report` has said so.
        """
        for some in (True, False):  # what lies aside first: the others have to tell of what it keeps at its end
            those = [outlet for outlet in self.outlets if outlet.aside is some]
            for outlet in those:
                outlet.end()
            for outlet in those:
                outlet.close()
        failed = [outlet.failed for outlet in self.outlets if outlet.failed]
        if failed and not self._told:
            raise FirewallError(failed[0])
