"""The firewall behind the gate: one thread that judges one request after the other."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from firewall.frame import Frame, Pixels
from firewall.screening import Firewall
from firewall.verdict import Verdict

__all__ = ["Judge"]

_T = TypeVar("_T")
_STUCK = 30.0  # seconds; a request has a limit that is far below


class Judge:
    """A firewall is for one thread at a time; what waits for it is bounded by the gate's places."""

    def __init__(self, guard: Firewall) -> None:
        """Take a firewall.

        Args:
            guard: From here on it is used by the judge's thread alone.
        """
        self.guard = guard
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="firewall-gate")
        self._sequence = itertools.count()
        self._busy_since: float | None = None

    def screen(self, images: Sequence[Pixels], source: str, arrived: float, deadline: float) -> list[Verdict]:
        """The verdicts on a request's images, each judged by itself. Called in the judge's thread.

        Args:
            images: (H, W, 3) uint8 RGB each.
            source: Who asks, for the operator.
            arrived: `time.monotonic()` of the request.
            deadline: `time.monotonic()` after which nothing is released.

        Returns:
            One verdict for each image.
        """
        return [
            self.guard.screen_frame(Frame(pixels, source, next(self._sequence), arrived), deadline=deadline)[0]
            for pixels in images
        ]

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Have the judge's thread do something, after what it was given before."""

        def timed() -> _T:
            self._busy_since = time.monotonic()
            try:
                return work()
            finally:
                self._busy_since = None

        return self._thread.submit(timed)

    @property
    def live(self) -> bool:
        """The thread isn't stuck in a piece of work."""
        since = self._busy_since
        return since is None or time.monotonic() - since < _STUCK

    def close(self) -> None:
        """No more work; what waits is forgotten."""
        self._thread.shutdown(wait=False, cancel_futures=True)
