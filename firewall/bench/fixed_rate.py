"""Frames at a camera's rate: how old the verdicts are, which come too late and which frames are never judged."""

from __future__ import annotations

import time
from collections.abc import Callable

from firewall.bench.fields import summary
from firewall.bench.inputs import Inputs
from firewall.bench.report import FixedRate, PacedKind
from firewall.bench.subjects import Subject

__all__ = ["Clock", "FixedRateRun"]


class Clock:
    """Seconds, and waiting."""

    def now(self) -> float:
        """Seconds since some moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait.

        Args:
            seconds: How long, at least 0.
        """
        time.sleep(seconds)


class FixedRateRun:
    """Frames at one rate. One is due each period, the kinds of pictures in turns.

    While a frame is judged, those that become due are missed, and the newest is judged next, as `firewall serve` does
    with a live source. The firewall is given no deadline: late verdicts are counted, not cut short.
    """

    def __init__(
        self, guarded: Subject, inputs: Inputs, fps: float, deadline_ms: float | None, clock: Clock | None = None
    ) -> None:
        """Make ready to run.

        Args:
            guarded: What judges the frames.
            inputs: The pictures.
            fps: Frames a second.
            deadline_ms: Milliseconds from the moment a frame is due; None is one period.
            clock: Another clock, for tests.
        """
        self._clock = clock or Clock()
        self.fps = fps
        self.deadline_ms = 1e3 / fps if deadline_ms is None else deadline_ms
        self._guarded, self._inputs = guarded, inputs
        self._kinds = list(inputs.kinds)
        self._ages: dict[str, list[float]] = {kind: [] for kind in self._kinds}
        self._dropped = dict.fromkeys(self._kinds, 0)
        self._latencies: list[float] = []

    def run(self, frames: int, step: Callable[[int], None]) -> None:
        """Let frames become due, one a period, and judge those that are not missed.

        Args:
            frames: How many become due.
            step: Called with the number of frames that are over.

        Raises:
            EngineError: If a frame can't be judged.
        """
        period = 1 / self.fps
        first = self._clock.now() + period
        number = 0
        while number < frames:
            now = self._clock.now()
            newest = min(int((now - first) / period), frames - 1) if now > first else 0
            for passed in range(number, newest):
                self._dropped[self._kind(passed)] += 1
            number = max(number, newest)
            due = first + number * period
            self._clock.sleep(max(0.0, due - now))
            kind = self._kind(number)
            pictures = self._inputs.kinds[kind]
            seconds, _ = self._guarded.run(pictures[number // len(self._kinds) % len(pictures)])
            self._ages[kind].append(1e3 * (self._clock.now() - due))
            self._latencies.append(1e3 * seconds)
            number += 1
            step(number)

    def _kind(self, number: int) -> str:
        return self._kinds[number % len(self._kinds)]

    def result(self) -> FixedRate | None:
        """Figures of the frames so far; None before the first."""
        kinds = {}
        for kind in self._kinds:
            ages, dropped = self._ages[kind], self._dropped[kind]
            kinds[kind] = PacedKind(
                due=len(ages) + dropped,
                late=sum(age > self.deadline_ms for age in ages),
                dropped=dropped,
                age=summary(ages),
                ages_ms=[round(age, 3) for age in ages],
            )
        due = sum(kind.due for kind in kinds.values())
        if not due:
            return None
        late, dropped = (sum(getattr(kind, name) for kind in kinds.values()) for name in ("late", "dropped"))
        return FixedRate(
            fps=self.fps,
            deadline_ms=self.deadline_ms,
            due=due,
            late=late,
            dropped=dropped,
            missed=(late + dropped) / due,
            age=summary([age for kind in self._kinds for age in self._ages[kind]]),
            latency=summary(self._latencies),
            kinds=kinds,
        )
