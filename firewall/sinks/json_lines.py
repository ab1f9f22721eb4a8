"""Verdict lines: one JSON object a line."""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from firewall.errors import FirewallError
from firewall.host.output import json_text
from firewall.sinks.report import FrameReport, Output
from firewall.sinks.rotation import rotate

__all__ = ["JsonLines"]

# Seconds that a program which rotates the file may take from its deletion to SIGHUP: moving it to another file system
# is a copy and a deletion.
_ROTATION = 2.0


class JsonLines(Output):
    """Writes each verdict of a report as a line to `stream` and flushes, so that a killed process loses none of them.

    Always UTF-8, whatever the stream's own encoding.

    Args:
        stream: Where the lines go.
        operator: Add suspicion and detector scores; only where nobody but the operator reads the lines.
        path: The file behind the stream, which can be reopened there.
        size: Bytes that the file may have; then it becomes NAME.1.jsonl, and a new one begins. None: it may grow.
        keep: How many such files are kept beside it.

    Raises:
        FirewallError: If the stream can't be written (a full disk, a closed pipe) or the file was deleted.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        operator: bool = False,
        path: Path | None = None,
        size: int | None = None,
        keep: int = 5,
    ) -> None:
        self.path = path
        self._stream, self._operator, self._size, self._keep = stream, operator, size, keep
        self._abandoned = False
        self._failed = self._reopening = False
        self._kept = path is not None and _links(stream) > 0

    @classmethod
    def append(
        cls, path: Path, *, operator: bool = False, size: int | None = None, keep: int = 5, wait: bool = True
    ) -> JsonLines:
        """Lines at the end of a file, which is made if there is none. See JsonLines.

        Args:
            path: The file.
            operator: Add suspicion and detector scores.
            size: Bytes that it may have.
            keep: How many older files are kept.
            wait: If it is a named pipe, wait until somebody reads it; else that is an error.

        Raises:
            OSError: If it can't be opened.
        """
        return cls(_open(path, wait=wait), operator=operator, path=path, size=size, keep=keep)

    def report(self, report: FrameReport) -> None:
        """Write the report's verdicts."""
        self.tick()
        lines = [json_text(verdict.line(operator=self._operator)) for verdict in report.verdicts]
        if self._deleted():
            self._await_rotation()
        data = "".join(line + "\n" for line in lines).encode()
        self._guarded(lambda: self._rotate(len(data)))
        self._guarded(lambda: self._write(data))

    def reopen(self) -> None:
        """Open the file again before the next line is written; where it was moved away a new one is made. May be called
        from a signal handler. Nothing happens where there is no file, as with standard output."""
        self._reopening = self.path is not None

    def tick(self) -> None:
        """Do what `reopen` asked for; to be called now and then while there is nothing to write."""
        if not self._reopening or self.path is None:
            return
        self._reopening = False
        try:
            stream = _open(self.path)
        except OSError as error:
            raise FirewallError(f"can't reopen {self.path} for verdict lines: {error.strerror}") from error
        before, self._stream = self._stream, stream
        self._guarded(before.close)
        self._kept = _links(stream) > 0

    def abandon(self) -> None:
        """Don't wait any longer for a reader that takes nothing."""
        self._abandoned = True

    def close(self) -> None:
        """Close the stream unless it is a standard stream, which isn't ours."""
        ours = self._stream is not sys.stdout and self._stream.fileno() > 2
        if self._failed:  # said already; closing would try to write once more
            with suppress(OSError, FirewallError):
                if ours:
                    self._stream.close()
            return
        deleted = self._deleted() and not self._reopening
        if ours:
            self._guarded(self._stream.close)
        if deleted:
            raise self._gone()

    def _rotate(self, more: int) -> None:
        if self._size is None or self.path is None:
            return
        there = os.fstat(self._stream.fileno())
        if stat.S_ISREG(there.st_mode) and there.st_size > 0 and there.st_size + more > self._size:
            rotate(self.path, self._keep)
            before, self._stream = self._stream, _open(self.path)
            before.close()

    def _write(self, data: bytes) -> None:
        self._stream.flush()
        waits = _takes_its_time(self._stream)
        step = select.PIPE_BUF if waits else max(1, len(data))
        for start in range(0, len(data), step):
            while waits and not _takes(self._stream):
                if self._abandoned:
                    raise FirewallError(f"nobody reads the verdict lines that are written to {self._stream.name}")
            self._stream.buffer.write(data[start : start + step])
            self._stream.flush()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._failed = True
            raise FirewallError(f"can't write verdict lines to {self._stream.name}: {error.strerror}") from error
        except FirewallError:
            self._failed = True
            raise

    def _deleted(self) -> bool:
        return self._kept and _links(self._stream) == 0

    def _await_rotation(self) -> None:
        limit = time.monotonic() + _ROTATION
        while not self._reopening:
            if time.monotonic() > limit:
                self._failed = True
                raise self._gone()
            time.sleep(0.05)
        self.tick()

    def _gone(self) -> FirewallError:
        return FirewallError(
            f"{self.path} was deleted while verdict lines were written to it; to rotate it, move it and send SIGHUP"
        )


def _open(path: Path, *, wait: bool = True) -> TextIO:
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | (0 if wait else os.O_NONBLOCK), 0o666)

    stream: TextIO = open(path, "a", encoding="utf-8", opener=opener)  # noqa: SIM115 - it is kept
    os.set_blocking(stream.fileno(), True)
    told = os.fstat(stream.fileno())
    if stat.S_ISREG(told.st_mode) and told.st_size > 0:
        with suppress(OSError), path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # who wrote it last was cut off; the first line of ours shall stand by itself
                stream.buffer.write(b"\n")  # with that line
    return stream


def _links(stream: TextIO) -> int:
    """How many names the file has; 1 for what is no file, such as a pipe."""
    told = os.fstat(stream.fileno())
    return told.st_nlink if stat.S_ISREG(told.st_mode) else 1


def _takes_its_time(stream: TextIO) -> bool:
    """Whether somebody reads at the other end, who may stop: a pipe, a socket or a terminal."""
    try:
        return not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except ValueError:  # no file of the system's, in somebody's program
        return False


def _takes(stream: TextIO) -> bool:
    """Whether PIPE_BUF bytes can be written at once; waits a moment for that."""
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLOUT)
    return bool(poll.poll(100))
