"""Frames from a source that is read in a separate process. If that process hangs it is killed and started again.

Frames are pulled: a live source keeps only the newest frame and the rest count as dropped, a file waits. Whatever goes
wrong comes out as a `Failure`, so that the caller can withhold; it never comes out as silence or as an old frame.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, final

import numpy as np

from firewall.errors import FirewallError, SourceError
from firewall.frame import Frame, check_pixels
from firewall.host.pinning import elsewhere
from firewall.sources.channel import Channel, Message
from firewall.sources.uri import SourceSpec, printable

if TYPE_CHECKING:
    from firewall.config import CaptureSettings

__all__ = ["Capture", "End", "Failure", "Idle", "longest_silence"]

#: Longest time in seconds that `read` keeps its caller waiting.
LONGEST_WAIT = 0.5
_START_TIMEOUT = 20.0  # for Python and its imports on a busy machine; the source is not touched before
_GRACE = 0.5  # the capture process knows the time-outs too, and says better what happened
_CLOSE_TIMEOUT = 2.0
# What the capture process has to know.
_TOLD = ("open_timeout", "read_timeout", "frozen_after", "stale_rows", "camera_faults", "good_frames")
_TRIES = 3  # of a file that kills its reader at the same frame again and again

# -I: neither the current folder nor the user's environment may slip modules in; the path is our own.
_MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from firewall.sources.process import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the cores belong to the classifier


def longest_silence(settings: CaptureSettings) -> float:
    """Seconds in which a capture that works gives at least one frame or failure.

    Args:
        settings: Its time-outs: a process that has to be awaited, started, opened and read, one after the other.
    """
    patience = 2 * max(settings.open_timeout, settings.read_timeout) + 2 * _GRACE
    return settings.longest_delay + _START_TIMEOUT + patience + LONGEST_WAIT


@dataclass(frozen=True)
class Failure:
    """There is no frame at this point, and why.

    Attributes:
        source: What was read, a file of a folder for instance.
        sequence: The number the frame would have had.
        at: `time.monotonic()` in seconds.
        detail: One line.
        kind: failed: there was no frame. stale: there was one, but it shows what was seen before. fault: its camera is
            frozen, repeating, blank, blocked or over-exposed, or was so a moment ago; `detail` begins with which.
    """

    source: str
    sequence: int
    at: float
    detail: str
    kind: Literal["failed", "stale", "fault"] = "failed"


@dataclass(frozen=True)
class Idle:
    """Nothing yet: the source is opening, waiting to be restarted, or has no new frame. Ask again."""


@dataclass(frozen=True)
class End:
    """The source has no more frames and never will."""


class _Child(NamedTuple):
    process: subprocess.Popen[bytes]
    channel: Channel


@final
class Capture:
    """Reads a source.

        with Capture(parse("rtsp://..."), settings.capture) as capture:
            taken = capture.read()  # Frame | Failure | Idle | End, after half a second at the latest

    `dropped` counts frames that were captured but not fetched in time, `restarts` restarts of the capture process.
    Sequence numbers count captured frames and failures. They go on over restarts, so a gap means dropped frames. Use it
    from one thread.
    """

    def __init__(
        self, spec: SourceSpec, settings: CaptureSettings, *, patient: bool = False, cores: Collection[int] = ()
    ) -> None:
        """Take a source; it is opened by `with` or the first `read`.

        Args:
            spec: The source.
            settings: How long to wait, and when frames are refused.
            patient: That it can't be opened the first time is a failure as later ones are, and not the end.
            cores: What its process runs on. Empty: the cores that judging leaves, see firewall.host.pinning.
        """
        self.spec, self.settings = spec, settings
        self._patient, self._cores = patient, cores
        self.dropped = 0
        self.restarts = 0
        self._child: _Child | None = None
        self._phase = "starting"  # of the process: starting, opening, reading
        self._patience = self._deadline = 0.0
        self._asked = self._opened = self._ended = False
        self._captured_at = -math.inf
        self._sequence = self._first_sequence = 0  # of the next frame; of the first one of this process
        self._position = self._first_position = 0  # in a file: frames or pictures done; before this process
        self._failures = self._tries = 0  # since the last good frame; at this position
        self._resume_at = -math.inf

    def __enter__(self) -> Capture:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the capture process, None while there is none."""
        return None if self._child is None else self._child.process.pid

    @property
    def opened(self) -> bool:
        """Whether the source could be opened, now or before."""
        return self._opened

    def read(self) -> Frame | Failure | Idle | End:
        """The next frame, or why there is none; returns after LONGEST_WAIT seconds at the latest.

        After a failure the source is opened again, without end if it is live; each failed attempt gives one Failure.

        Returns:
            A frame, a failure, `Idle` if there is nothing yet, or `End`.

        Raises:
            SourceError: If the source can't be opened the first time, unless it is `patient`.
        """
        if self._ended:
            return End()
        child = self._child
        if child is None:
            wait = self._resume_at - time.monotonic()
            if wait > 0:
                time.sleep(min(wait, LONGEST_WAIT))
            if wait > LONGEST_WAIT:
                return Idle()
            try:
                child = self._start()
            except SourceError as error:
                return self._failed(str(error))
        received = child.channel.received
        try:
            if self._phase == "reading" and not self._asked:
                child.channel.send({"ask": "next"})
                self._asked = True
                self._wait_for(self._patience)
            message = child.channel.receive(min(LONGEST_WAIT, max(0.0, self._deadline - time.monotonic())))
            if message is not None:
                return self._understood(child, message)
        except EOFError:
            return self._failed(self._death(child))
        except (FirewallError, KeyError, TypeError, ValueError) as error:
            if self._ended:
                raise
            return self._failed(f"the capture process of {self.spec.name} sent nonsense: {error}")
        if time.monotonic() >= self._deadline and child.channel.received == received:
            return self._failed(self._overdue())
        return Idle()

    def close(self) -> None:
        """End the capture process: it gets a moment to release a camera properly, then it is killed."""
        self._ended = True
        self._stop(_CLOSE_TIMEOUT)

    def _start(self) -> _Child:
        if self._ended:
            raise SourceError(f"source {self.spec.name} was closed")
        ours, theirs = socket.socketpair()
        with theirs:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            descriptor = theirs.fileno()
            # -I takes no word from the environment, so whether byte code may be written has to be said again.
            flags = ["-I", "-B"] if sys.dont_write_bytecode else ["-I"]
            command = [sys.executable, *flags, "-c", _MAIN, json.dumps(sys.path), str(descriptor), str(os.getpid())]
            try:
                # A session of its own: Ctrl-C is meant for us, and we end it when we are done.
                with elsewhere(self._cores):
                    process = subprocess.Popen(
                        command,
                        pass_fds=[descriptor],
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        start_new_session=True,
                        env={**os.environ, **_ONE_THREAD},
                    )
            except OSError as error:
                ours.close()
                raise SourceError(f"can't start a capture process: {error.strerror}") from error
        self._child = _Child(process, Channel(ours))
        self._phase, self._asked = "starting", False
        self._first_sequence, self._first_position = self._sequence, self._position
        if self._resume_at > -math.inf:
            self.restarts += 1
        self._wait_for(_START_TIMEOUT)
        return self._child

    def _stop(self, timeout: float) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.channel.close()
        try:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(timeout)
        finally:
            child.process.kill()
        with suppress(subprocess.TimeoutExpired):  # held by a driver: not even the kernel ends it; leave it behind
            child.process.wait(1.0)

    def _wait_for(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def _understood(self, child: _Child, message: Message) -> Frame | Failure | Idle | End:
        header, kind = message.header, message.header["kind"]
        longest = max(self.settings.open_timeout, self.settings.read_timeout)
        if kind == "started":
            told = {key: getattr(self.settings, key) for key in _TOLD}
            # The source goes through the socket, not on the command line: there everybody could read its password.
            child.channel.send({"spec": asdict(self.spec), "start": self._position, **told})
            self._phase = "opening"
            self._wait_for(self.settings.open_timeout + _GRACE)
        elif kind == "open":
            self._phase, self._opened = "reading", True
            self._patience = longest + _GRACE  # many a camera takes its time over the first frame
        elif kind == "alive":
            self._wait_for(self._patience)
        elif kind == "frame":
            return self._frame(header, message.body)
        elif kind in ("bad", "stale", "fault"):
            number = self._count(header)
            source, sequence, detail = self._source(number), self._advance(number), str(header["detail"])
            return Failure(source, sequence, time.monotonic(), detail, "failed" if kind == "bad" else kind)
        elif kind == "end":
            self.close()
            return End()
        elif kind == "failed":
            return self._failed(str(header["detail"]), final=not self.spec.live)
        else:
            raise ValueError(f"kind {kind!r}")
        return Idle()

    def _frame(self, header: dict[str, Any], body: bytearray) -> Frame:
        height, width, channels = header["shape"]
        captured_at = header["captured_at"]
        pixels = check_pixels(np.frombuffer(body, np.uint8).reshape(height, width, channels))
        if type(captured_at) is not float or not self._captured_at <= captured_at <= time.monotonic():
            raise ValueError(f"captured at {captured_at!r}")
        number = self._count(header)
        source = self._source(number)
        self._captured_at = captured_at
        self._failures = self._tries = 0
        if self.spec.live:
            self._patience = self.settings.read_timeout
        return Frame(pixels, source, self._advance(number), captured_at)

    def _count(self, header: dict[str, Any]) -> int:
        """How many frames this process had captured before this one; a repeated or, in a file, a left out one is not
        let through."""
        number = header["index"]
        due = self._sequence - self._first_sequence
        if type(number) is not int or number < due or (number > due and not self.spec.live):
            raise ValueError(f"frame {number!r} where {due} is due")
        return number

    def _advance(self, number: int) -> int:
        """The sequence number of a frame that is handed out."""
        sequence = self._first_sequence + number
        self.dropped += sequence - self._sequence
        self._sequence = sequence + 1
        self._position = self._first_position + number + 1
        self._asked = False
        self._tries = 0
        return sequence

    def _source(self, number: int) -> str:
        position = self._first_position + number
        return printable(self.spec.files[position]) if position < len(self.spec.files) else self.spec.name

    def _failed(self, detail: str, *, final: bool = False) -> Failure:
        """The capture process is of no more use. final: nor is the source."""
        self._stop(0)
        if not self._opened and not self._patient:
            self._ended = True
            raise SourceError(detail)
        failure = Failure(self._source(self._position - self._first_position), self._sequence, time.monotonic(), detail)
        self._sequence += 1
        if not self.spec.live:
            self._tries += 1
            if final or (self._tries == _TRIES and not self.spec.files):
                self._ended = True
            elif self._tries == _TRIES:
                self._position, self._tries = self._position + 1, 0  # this file breaks its reader: on to the next
        delay = self.settings.first_delay * 2.0 ** min(self._failures, 30)
        self._failures += 1
        self._resume_at = time.monotonic() + min(delay, self.settings.longest_delay)
        return failure

    def _death(self, child: _Child) -> str:
        try:
            status = child.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return f"the capture process of {self.spec.name} hung up"
        if status < 0:
            return f"the capture process of {self.spec.name} was killed by {signal.Signals(-status).name}"
        return f"the capture process of {self.spec.name} ended with status {status}"

    def _overdue(self) -> str:
        name = self.spec.name
        if self._phase == "starting":
            return f"the capture process of {name} did not start within {_START_TIMEOUT:g} s"
        if self._phase == "opening":
            return f"{name} did not open within {self.settings.open_timeout:g} s"
        return f"no frame from {name} within {self._patience:g} s; its capture process is killed"
