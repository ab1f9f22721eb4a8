"""When a packet of a stream had come, also where nobody had time to take it.

A process that gets no processor time, or a network that stands still, leaves packets waiting: those that are read then
are old, and the moment of reading says nothing of it. Two things are known all the same. A stream has a usual gap
between two packets, and a packet that had to be waited for had not come before. So a packet that comes after a silence
much longer than usual counts as come when it was due, and so do those that lie ready behind it, one gap after another,
until one has to be waited for again. A camera that makes a pause, or grows slower, loses a few frames to this: they
seem older than they are, and never newer.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from pathlib import Path

__all__ = ["Arrivals"]

_REMEMBERED = 16  # gaps, before there is a usual one
_SHORTEST = 0.005  # seconds: below, a server sends as fast as it is read, and has no gap
_LONG, _SLACK = 3.0, 0.02  # a silence is unusual beyond so many gaps and so many seconds
_WAITED = 0.001  # seconds: who slept for less found the packet there
_DELAY = Path("/proc/thread-self/schedstat")


class Arrivals:
    """Of one stream, read by one thread: `asking` before each packet, `came` after it."""

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=_REMEMBERED)
        self._asked = self._read_at = self._stamp = time.monotonic()
        self._busy = _busy()

    def asking(self) -> None:
        """The next packet is waited for from now on."""
        self._asked, self._busy = time.monotonic(), _busy()

    def came(self) -> float:
        """The packet was read.

        Returns:
            `time.monotonic()` when it had come; never more than now, and never less than that of the packet before.
        """
        now = time.monotonic()
        waited = now - self._asked - (_busy() - self._busy) >= _WAITED
        gap = statistics.median(self._gaps) if len(self._gaps) == _REMEMBERED else 0.0
        stamp = now
        if gap >= _SHORTEST:
            if not waited:
                stamp = self._stamp + gap
            elif now - self._read_at > _LONG * gap + _SLACK:
                stamp = self._read_at + gap
        if waited or stamp >= now:
            self._gaps.append(now - self._read_at)
        self._read_at = now
        self._stamp = min(max(stamp, self._stamp), now)
        return self._stamp


def _busy() -> float:
    """Seconds in which this thread has worked, or would have if it had got a processor."""
    try:
        waited = int(_DELAY.read_text(encoding="ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):  # a kernel that doesn't count
        waited = 0.0
    return time.thread_time() + waited
