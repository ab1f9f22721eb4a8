"""Several cameras in front of one engine: their signs are judged together, in turn, each by its own deadline."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from firewall.errors import SourceError
from firewall.frame import Frame
from firewall.screening import Firewall, Look
from firewall.service.camera import Camera, Summary
from firewall.service.feed import Feed
from firewall.service.golden import SelfTest
from firewall.service.loop import Loop
from firewall.sinks import FrameReport, Sink

__all__ = ["Together"]

_LONGEST_WAIT = 0.5  # seconds without a heartbeat
_MOST = 16  # frames of one batch
_FADING = 0.9  # one slow frame must not count for ever


@dataclass
class _Seen:
    """A frame whose regions are known."""

    feed: Feed
    look: Look
    seconds: float  # that looking for them took


class Together(Loop):
    """Guards several cameras.

    Whoever waits for longest comes first, with one frame: a camera that floods costs the others one frame of its own in
    each turn. All frames that wait are judged together as long as, going by what frames have cost lately, the last
    verdict is there before the first deadline; what doesn't fit waits for the next turn.

    A camera that can't be opened at the start is withheld and opened again while others are guarded.

    Args:
        firewall: As of Loop.
        cameras: Two or more, each with a name and with a capture that is `patient`.
        sinks: As of Loop.
        max_frames: As of Loop.
        heartbeat: As of Loop.
        self_test: As of Loop.
        ending: As of Loop.
        say: Prints one line for the operator.
        ended: Called with the name of a camera whose source has ended.
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
        say: Callable[[str], None] = lambda _: None,
        ended: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        super().__init__(
            firewall,
            cameras,
            sinks,
            max_frames=max_frames,
            heartbeat=heartbeat,
            self_test=self_test,
            ending=ending,
        )
        self._summary = Summary()
        self._say, self._ended = say, ended
        self._arrived = threading.Event()
        self._feeds = [Feed(camera, self._arrived) for camera in cameras]
        self._going = list(self._feeds)
        self._closed: dict[str | None, str] = {}  # cameras that have not been opened yet -> why
        self._turns = 0

    @property
    def summary(self) -> Summary:
        """What the run has come to so far, all cameras together."""
        parts = [camera.summary for camera in self.cameras]
        self._summary.seconds = max(part.seconds for part in parts)
        self._summary.dropped = sum(part.dropped for part in parts)
        self._summary.restarts = sum(part.restarts for part in parts)
        return self._summary

    def run(self) -> Summary:
        """As of Loop.

        Raises:
            SourceError: If none of the cameras can be opened the first time.
        """
        with ExitStack() as stack:
            for feed in self._feeds:
                stack.enter_context(feed)
            try:
                return super().run()
            finally:
                for feed in self._feeds:  # all of them at once; the stack then waits for each
                    feed.close()

    def _turn(self) -> bool:
        for feed in [feed for feed in self._going if feed.finished]:
            self._going.remove(feed)
            self._ended(feed.camera.name)
        if not self._going:
            return False
        if self.self_test is not None:
            self.self_test.between(idle=all(feed.camera.returning for feed in self._going))
        ready = [feed for feed in self._going if feed.waiting is not None]
        if not ready:
            self._arrived.wait(_LONGEST_WAIT)
            self._arrived.clear()
            return True
        self._turns += 1
        ready.sort(key=lambda feed: (feed.served, _deadline(feed)))
        seen = self._looked(self._admitted(ready))
        started = time.monotonic()
        for one, verdicts in zip(seen, self.firewall.screen_frames([each.look for each in seen]), strict=True):
            now = time.monotonic()
            # Of the first frame's time a part is the classification of all; it is a small one.
            one.feed.cost = max(one.seconds + now - started, _FADING * one.feed.cost)
            started = now
            self._tell(one.feed.camera.judged(one.look.frame, verdicts, one.look.stages))
            if self.self_test is not None:
                self.self_test.seen(one.look.frame, one.feed.camera.name)
        return True

    def _admitted(self, ready: Sequence[Feed]) -> list[Feed]:
        """Of the cameras with something to take, in their order, those that come with this turn."""
        admitted: list[Feed] = []
        most = min(_MOST, len(ready) if (left := self._left()) is None else left)
        end, soonest = time.monotonic(), math.inf
        for feed in ready[:most]:
            end, soonest = end + feed.cost, min(soonest, _deadline(feed))
            if admitted and end > soonest:
                break
            admitted.append(feed)
        return admitted

    def _looked(self, admitted: Sequence[Feed]) -> list[_Seen]:
        """The frames of this turn in which there is something to judge, the most urgent first; the others are reported
        at once."""
        seen = []
        for feed in admitted:
            feed.served = self._turns
            taken = feed.take()
            if feed.camera.capture.opened and self._closed.pop(feed.camera.name, None) is not None:
                self._say(f"camera {feed.camera.name} is there")
            if isinstance(taken, Frame) and self._passes_over(feed, taken):
                feed.camera.overtaken += 1
            elif isinstance(taken, Frame):
                started = time.monotonic()
                look = feed.camera.look(taken)
                if isinstance(look, FrameReport):
                    self._tell(look)
                else:
                    seen.append(_Seen(feed, look, time.monotonic() - started))
            elif taken is not None:
                self._tell(feed.camera.failed(taken))
                if not feed.camera.capture.opened:
                    self._check_open(feed, taken.detail)
        return sorted(seen, key=lambda each: math.inf if each.look.deadline is None else each.look.deadline)

    def _passes_over(self, feed: Feed, frame: Frame) -> bool:
        """Whether the frame waited for a golden one for too long."""
        test, camera = self.self_test, feed.camera
        return test is not None and test.passes_over(frame, camera.name, camera.deadline(frame), feed.cost)

    def _check_open(self, feed: Feed, detail: str) -> None:
        name = feed.camera.name
        if name in self._closed:
            return
        self._closed[name] = detail
        if len(self._closed) == len(self._feeds):
            every = "; ".join(f"{camera}: {why}" for camera, why in self._closed.items())
            raise SourceError(f"none of the {len(self._feeds)} cameras can be opened: {every}")
        again = "it is withheld and opened again" if feed.camera.capture.spec.live else "it is withheld"
        self._say(f"camera {name} can't be opened: {detail}; {again}, the others are guarded")

    def _tell(self, report: FrameReport) -> None:
        self._summary.add(report)
        super()._tell(report)


def _deadline(feed: Feed) -> float:
    waiting = feed.waiting
    deadline = feed.camera.deadline(waiting) if isinstance(waiting, Frame) else None
    return math.inf if deadline is None else deadline
