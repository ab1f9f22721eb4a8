"""What `firewall serve` tells systemd (sd_notify(3)), in lines of our own: READY, WATCHDOG, STATUS and STOPPING.

READY is said when the first frame was judged, and not when the source is open: only then it is known that camera,
bundle, engine and finder work together, and a unit that is ordered after ours finds verdicts. A frame that came and was
withheld, for a blocked camera too, counts: the guard does its work, and to start it again would mend nothing. A source
that gives no frame and an engine that fails don't count: systemd ends the start after its time-out and tries again.

WATCHDOG is said by the frame loop itself, in no thread of its own: a loop that hangs in an engine or a source is
silent, and systemd kills the process. Nor is it said when the loop turns but gets nowhere: every frame fails in the
engine (a new process may get the GPU back), or neither a frame nor a failure has come for longer than the capture
process may take. A camera that is gone is no reason for silence: the guard withholds, says so, and opens the camera
again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from types import TracebackType

from typing_extensions import Self

from firewall.errors import UsageError
from firewall.host.output import readable
from firewall.sinks.report import FrameReport
from firewall.verdict import Reason

__all__ = ["Notifier", "NotifySocket"]

_LONGEST_STATUS = 400  # characters
_STATUS_EVERY = 1.0  # seconds
#: Where all verdicts of a frame say so, a part of the guard is broken and not what the camera shows.
_BROKEN = (Reason.ENGINE_ERROR, Reason.DETECTOR_ERROR, Reason.UNKNOWN)


class NotifySocket:
    """Sends states to the service manager; never waits for it.

    Args:
        address: A path, or @ and the name of an abstract socket; empty: there is nobody to tell.

    Raises:
        UsageError: If the address is neither.
    """

    def __init__(self, address: str) -> None:
        self._socket: socket.socket | None = None
        if not address:
            return
        if address[0] not in "/@" or len(address) < 2:
            raise UsageError(f"NOTIFY_SOCKET must be a path that begins with / or @NAME, got {address!r}")
        # Whole bytes of the name count in an abstract address, so it isn't text for Python.
        self._address = b"\0" + os.fsencode(address[1:]) if address[0] == "@" else os.fsencode(address)
        if len(self._address) > 107:
            raise UsageError(f"NOTIFY_SOCKET is longer than the 107 bytes that an address may have: {address!r}")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def __bool__(self) -> bool:
        return self._socket is not None

    def send(self, *states: str) -> bool:
        """Send states such as "READY=1" in one datagram.

        Args:
            states: One line each.

        Returns:
            Whether it was taken. It isn't where nobody listens, or as long as the listener has no room.
        """
        if self._socket is None:
            return False
        try:
            self._socket.sendto("\n".join(states).encode(), socket.MSG_DONTWAIT, self._address)
        except OSError:  # a manager that is gone or busy is no reason to stop guarding
            return False
        return True

    def close(self) -> None:
        """Nothing is sent from now on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Notifier:
    """A Sink that tells systemd how the guard is. Call `beat` on every turn of the frame loop, from its thread.

    Args:
        to: Where the states go.
        source: Name of the source, without credentials.
        watchdog: Seconds after which systemd kills a silent process; None: it doesn't.
        patience: Seconds without a frame or a failure after which turns of the loop don't count any more.
        clock: Gives seconds; another than `time.monotonic` is for tests.
    """

    def __init__(
        self,
        to: NotifySocket,
        *,
        source: str,
        watchdog: float | None = None,
        patience: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._to, self._source, self._watchdog, self._patience, self._clock = to, source, watchdog, patience, clock
        # systemd advises half of its time; a quarter leaves room for a loop that is late once.
        self._every = _STATUS_EVERY if watchdog is None else min(_STATUS_EVERY, watchdog / 4)
        self._frames = self._released = self._withheld = 0
        #: By camera: why its last report releases nothing, "" if it may; and whether a part of the guard broke on it.
        self._wrong: dict[str | None, str] = {}
        self._broken: dict[str | None, bool] = {}
        self._came_at = clock()
        self._told_at = float("-inf")
        self._judged = self._ready = False
        to.send(f"STATUS={_one_line(f'starting: {source}')}")

    @classmethod
    def from_environment(
        cls, source: str, patience: float, environment: MutableMapping[str, str] = os.environ
    ) -> Notifier:
        """The one that systemd asks for. Its variables are taken away: no child of ours shall speak for us.

        Args:
            source: Name of the source, without credentials.
            patience: See `Notifier`.
            environment: Variables, changed in place.

        Raises:
            UsageError: If a variable is none that systemd sets.
        """
        address, usec, pid = (environment.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
            if value and not (value.isascii() and value.isdigit() and int(value) > 0):
                raise UsageError(f"{name} must be a whole number above 0, got {value!r}; systemd sets it, or unset it")
        ours = bool(usec) and (not pid or int(pid) == os.getpid())
        watchdog = int(usec) / 1e6 if ours else None
        return cls(NotifySocket(address), source=source, watchdog=watchdog, patience=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """The guard has ended, perhaps for an error."""
        if error is not None:
            failed = _one_line(f"failed: {str(error) or type(error).__name__}")
            self._to.send("STOPPING=1", f"STATUS={failed}")
        self._to.close()

    def report(self, report: FrameReport) -> None:
        """Take a report: a frame that was judged, or that there was none."""
        now = self._clock()
        self._came_at = now
        reasons = {verdict.reason for verdict in report.verdicts}
        released = sum(verdict.released for verdict in report.verdicts)
        self._released += released
        self._withheld += len(report.verdicts) - released
        self._frames += report.frame is not None
        broken = report.frame is not None and bool(reasons) and reasons <= set(_BROKEN)
        wrong = next((str(verdict.line()["reason"]) for verdict in report.verdicts), "no frame")
        self._broken[report.camera] = broken
        self._wrong[report.camera] = wrong if report.frame is None or broken else ""
        # Of a stale frame and one with a camera fault no pixels are handed on, but it came.
        came = report.frame is not None or bool(reasons & {Reason.STALE, Reason.CAMERA_FAULT})
        self._judged = self._judged or (came and not broken)
        self.beat()

    def beat(self) -> None:
        """The loop turns."""
        now = self._clock()
        if self._judged and not self._ready:
            self._ready = self._to.send("READY=1", *self._states(now))  # else on the next turn
        elif now - self._told_at >= self._every:
            self._to.send(*self._states(now))
        else:
            return
        self._told_at = now

    def close(self) -> None:
        """The loop has ended."""
        self._to.send("STOPPING=1", f"STATUS=stopped: {self._counts()}")

    def _states(self, now: float) -> list[str]:
        silent = now - self._came_at > self._patience
        states = [f"STATUS={_one_line(f'{self._word(now, silent)}: {self._source}, {self._counts()}')}"]
        stuck = bool(self._broken) and all(self._broken.values())
        if self._watchdog is not None and not stuck and not silent:
            states.insert(0, "WATCHDOG=1")
        return states

    def _word(self, now: float, silent: bool) -> str:
        wrong = {camera: why for camera, why in self._wrong.items() if why}
        if silent:
            return f"withholding everything (neither a frame nor a failure for {now - self._came_at:.0f} s)"
        if not self._wrong:
            return "withholding everything (no frame has been judged yet)"
        if len(wrong) == len(self._wrong):
            return f"withholding everything ({next(iter(wrong.values()))})"
        cameras = ", ".join(f"camera {camera} withheld: {why}" for camera, why in wrong.items())
        return f"guarding ({cameras})" if wrong else "guarding"

    def _counts(self) -> str:
        return f"{self._frames} frames, {self._released} labels released, {self._withheld} withheld"


def _one_line(text: str) -> str:
    """A line's end would begin a state of its own."""
    line = " ".join(readable(text).split())
    return line if len(line) <= _LONGEST_STATUS else f"{line[: _LONGEST_STATUS - 1]}\u2026"
