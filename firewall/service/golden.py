"""The self-test of a running guard: it judges the golden frames of its bundle on its own engine, at the start and again
every few minutes. While one of them has another verdict than it should, everything is withheld.

A live frame doesn't have to wait for that. One golden frame at a time is judged, in the gap before the next live frame:
when that comes and how long a golden frame takes is known from the ones before. Where there is never such a gap,
because the guard is busy all the time, a live frame is passed over once a second instead, as any that comes too fast.

A round can be demanded, too: it begins at once and waits for no gap for longer than a second.
"""

from __future__ import annotations

import io
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from firewall.bundle import GoldenFrame
from firewall.decision.golden import GoldenState, difference, outcome
from firewall.errors import FirewallError
from firewall.frame import Frame
from firewall.regions import RegionFinder
from firewall.screening import Firewall
from firewall.sources.image import decode_image
from firewall.verdict import Reason, Verdict

__all__ = ["SelfTest", "judged"]

_AGAIN = 60.0  # seconds between two rounds after a fault, and the longest wait for a gap
_PASSES = 3  # rounds without a fault, one after the other, after which a fault is over
_MARGIN = 1.5  # a golden frame may take this much longer than the last time
_FORCED_EVERY = 1.0  # seconds
_LOST = 0.4  # seconds after which a frame that was due isn't waited for


def judged(firewall: Firewall, finder: RegionFinder | None, frame: GoldenFrame, content: bytes) -> str:
    """How the verdict on a golden frame differs from what it should be, in one line; empty if it doesn't.

    Args:
        firewall: What judges.
        finder: The bundle's finder, for golden frames that need it.
        frame: The golden frame.
        content: Its file.
    """
    try:
        pixels = decode_image(io.BytesIO(content), frame.file)
        regions = finder.find(pixels) if frame.regions == "signs" and finder is not None else None
    except FirewallError as error:
        return f"{frame.file}: {error}"
    except Exception as error:  # closed by default, as everywhere
        return f"{frame.file}: {type(error).__name__} while looking for regions"
    verdicts = firewall.screen_frame(Frame(pixels, "golden", 0, time.monotonic()), regions)
    stricter = firewall.values is not None or firewall.patches != firewall.bundle.manifest.patches
    return difference(frame, outcome(verdicts, stricter=stricter))


@dataclass
class _Coming:
    """When a camera's next frame is due, by the ones before."""

    captured_at: float
    sequence: int
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=32))

    @property
    def next_one(self) -> float:
        """In seconds by the monotonic clock; while that isn't known, when this one was captured."""
        return self.captured_at + min(self.gaps, default=0.0)


class SelfTest:
    """Judges golden frames. Use it from the thread of the frame loop.

    Args:
        firewall: Judges them, and live frames.
        finder: The bundle's finder if the guard looks with it. None: golden frames that need it are left out.
        every: Seconds from the end of a round to the next one. None: only at the start.
        timed: Whether there is a camera with a deadline, so that frames may not wait.
        live: Names of cameras that give frames even if nobody reads them, so that one may be passed over.
        told: Called with each new state.
    """

    def __init__(
        self,
        firewall: Firewall,
        finder: RegionFinder | None = None,
        *,
        every: float | None = None,
        timed: bool = False,
        live: Collection[str | None] = (),
        told: Callable[[GoldenState], None] = lambda _: None,
    ) -> None:
        self._firewall, self._finder, self._told = firewall, finder, told
        self._every, self._timed, self._live = every, timed, live
        listed = firewall.bundle.manifest.golden or ()
        self._frames = [frame for frame in listed if frame.regions == "whole" or finder is not None]
        self._costs = [0.0] * len(self._frames)
        self._waiting: list[int] = []  # of this round
        self._wrong = ""  # in this round
        self._passes = 0
        self._asked = self._urgent = False
        #: The round that is over was demanded; for those who listen.
        self.answering = False
        self._due = self._forced_at = self._ended_at = -math.inf
        self._coming: dict[str | None, _Coming] = {}
        self.state = GoldenState(len(self._frames))

    @property
    def fault(self) -> str:
        """What is wrong, one line; empty if nothing is."""
        return self.state.fault

    def demand(self) -> None:
        """Have a new round begin with the next `between`. May be called from a signal handler."""
        self._asked = True

    def begin(self) -> int:
        """Begin a new round, also in the place of one that is not over yet.

        Returns:
            The number of rounds that there will have been when it is over: `state.rounds`.
        """
        self._asked, self._urgent = False, True
        self._waiting = list(range(len(self._frames)))
        return self.state.rounds + 1

    @property
    def has_frames(self) -> bool:
        """Whether there is a golden frame that can be judged here."""
        return bool(self._frames)

    def start(self) -> None:
        """Judge all of them."""
        if self._frames:
            places = {frame.regions: place for place, frame in reversed(list(enumerate(self._frames)))}
            for place in places.values():  # the first one of each kind takes longer
                judged(self._firewall, self._finder, self._frames[place], self._content(place))
            self._waiting = list(range(len(self._frames)))
            while self._waiting:
                self._judge()

    def passes_over(self, frame: Frame, camera: str | None, deadline: float | None, cost: float) -> bool:
        """Whether a live frame, which was just taken, waited for a golden one so long that it would be late.

        Args:
            frame: The frame.
            camera: Name of its camera.
            deadline: `time.monotonic()` in seconds after which its verdict is late. None: never.
            cost: Seconds that frames of this camera take.
        """
        waited = deadline is not None and camera in self._live and frame.captured_at < self._ended_at
        return waited and deadline is not None and time.monotonic() + cost > deadline

    def seen(self, frame: Frame, camera: str | None) -> None:
        """Learn from a frame that was judged when the next one of its camera comes."""
        last = self._coming.get(camera)
        if last is None or frame.sequence <= last.sequence:
            self._coming[camera] = _Coming(frame.captured_at, frame.sequence)
            return
        last.gaps.append((frame.captured_at - last.captured_at) / (frame.sequence - last.sequence))
        last.captured_at, last.sequence = frame.captured_at, frame.sequence

    def between(self, *, idle: bool = False) -> None:
        """Judge a golden frame if one is due and there is time; to be called when no frame is being judged.

        Args:
            idle: There is time whatever comes: no frame that comes may be released before the round is over.
        """
        now = time.monotonic()
        if self._asked and self._frames:
            self.begin()
            self.answering = True
        if not self._waiting and self._every is not None and now >= self._due:
            self._waiting = list(range(len(self._frames)))
        if self._waiting and (idle or self._may(now)):
            self._judge()

    def on(self, verdicts: list[Verdict]) -> list[Verdict]:
        """The verdicts on one frame; while there is a fault all of them withhold for it."""
        if not self.fault:
            return verdicts
        return [
            replace(verdict, released=False, label=None, label_name=None, reason=Reason.SELF_TEST, detail=self.fault)
            for verdict in verdicts
        ]

    def _may(self, now: float) -> bool:
        if not self._timed or self.fault:
            return True
        # A camera that has been silent for longer than that is lost: nobody knows when it comes back.
        due = [each.next_one for each in self._coming.values() if now <= each.next_one + _LOST]
        if self._coming and now + _MARGIN * self._costs[self._waiting[0]] <= min(due, default=math.inf):
            return True
        overdue = self._urgent or now - self._due > min(_AGAIN, self._every or 0.0)
        if overdue and now - self._forced_at >= _FORCED_EVERY:
            self._forced_at = now
            return True
        return False

    def _judge(self) -> None:
        """Judge the next one."""
        place = self._waiting.pop(0)
        begun = time.monotonic()
        wrong = judged(self._firewall, self._finder, self._frames[place], self._content(place))
        self._ended_at = time.monotonic()
        self._costs[place] = self._ended_at - begun
        state = self.state
        if wrong:
            self._wrong, self._passes = wrong, 0
            state = replace(state, failures=state.failures + 1, fault=wrong)
        if not self._waiting:
            self._passes += not self._wrong
            over = not self._wrong and (self._passes >= _PASSES or not state.fault)
            state = replace(
                state,
                rounds=state.rounds + 1,
                fault="" if over else state.fault,
                checked_at=time.time(),
                median_ms=round(1e3 * statistics.median(self._times()), 1),
                slowest_ms=round(1e3 * max(self._times()), 1),
            )
            self._wrong, self._urgent = "", False
            if self._every is not None:
                self._due = self._ended_at + (min(_AGAIN, self._every) if state.fault else self._every)
        if state != self.state:
            before, self.state = self.state, state
            self._told(state)
            if state.rounds > before.rounds:
                self.answering = False

    def _times(self) -> list[float]:
        """Seconds that golden frames took which are looked at as live ones are."""
        signs = [cost for frame, cost in zip(self._frames, self._costs, strict=True) if frame.regions == "signs"]
        return signs or self._costs

    def _content(self, place: int) -> bytes:
        return self._firewall.bundle.files[self._frames[place].file]
