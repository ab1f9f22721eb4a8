"""Time that passes only when a test says so."""

from __future__ import annotations

__all__ = ["Clock"]


class Clock:
    """Stands for a function that tells the time in seconds, or for the module `time`. Only waiting moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    monotonic = perf_counter = __call__

    def sleep(self, seconds: float) -> None:
        """Let so much time pass."""
        self.now += seconds
