r"""Standard output and error, and JSON: what was said is written, or it is known that it wasn't.

Where Python would end with exit code 0 though nothing was written (a closed stdout), or with a traceback (a full disk,
a reader that has gone, a name that the terminal's character set doesn't know), a command ends with one line and exit
code 1. JSON is valid UTF-8 whatever the locale. Bytes of a file's name that are no UTF-8 stand in it as \xNN.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import select
import sys
from collections.abc import Callable
from typing import Any, TextIO

from firewall.errors import FirewallError

__all__ = ["close_output", "json_text", "open_standard_streams", "print_line", "readable"]

_SURROGATES = re.compile("[\udc80-\udcff]+|[\ud800-\udfff]")


def json_text(value: Any, *, compact: bool = False, indent: int | None = None) -> str:
    """Write a value as JSON that is valid UTF-8.

    Args:
        value: Any that JSON has.
        compact: No space after commas and colons.
        indent: Spaces; None is all on one line.

    Returns:
        The text.

    Raises:
        ValueError: For NaN and infinities.
    """
    separators = (",", ":") if compact else None
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators, indent=indent)
    return _SURROGATES.sub(lambda found: json.dumps(_told(found[0]), ensure_ascii=False)[1:-1], text)


def readable(text: str) -> str:
    r"""Make a text fit for UTF-8.

    Args:
        text: Any, such as the name of a file.

    Returns:
        The text, with bytes that are no UTF-8 as \xNN.
    """
    return _SURROGATES.sub(lambda found: _told(found[0]), text)


def _told(surrogates: str) -> str:
    r"""Half characters for people. Python makes them of bytes that aren't of the locale's character set: those that are
    UTF-8 all the same are read so, the others become \xNN."""
    if all("\udc80" <= each <= "\udcff" for each in surrogates):
        return bytes(ord(each) - 0xDC00 for each in surrogates).decode("utf-8", "backslashreplace")
    return surrogates.encode("utf-8", "backslashreplace").decode("utf-8")


def print_line(text: str) -> None:
    """Write a line to standard output in UTF-8, whatever the terminal's character set, and flush it.

    Args:
        text: Without the line's end.

    Raises:
        FirewallError: If it can't be written, once `open_standard_streams` was called.
    """
    stream = sys.stdout
    stream.flush()
    buffer = getattr(stream, "buffer", None)
    if buffer is None:
        stream.write(text + "\n")
    else:
        buffer.write(text.encode() + b"\n")
    stream.flush()


class _Output(io.FileIO):
    """Standard output: a failure is for the user, said once. All that follows it is lost."""

    failure = ""

    def write(self, data: Any, /) -> int:
        if self.failure:
            return len(memoryview(data).cast("B"))
        try:
            while (written := super().write(data)) is None:  # set to non-blocking by who shares it, and full
                poll = select.poll()
                poll.register(self, select.POLLOUT)
                poll.poll(1000)
        except OSError as error:
            why = "it is closed" if error.errno == errno.EBADF else error.strerror
            self.failure = f"can't write to standard output: {why}"
            raise FirewallError(self.failure) from error
        return written


class _Messages(io.FileIO):
    """Standard error: a message that nobody can take is no reason to stop guarding."""

    def write(self, data: Any, /) -> int:
        size = len(memoryview(data).cast("B"))
        try:
            written = super().write(data)
        except OSError:
            return size
        return size if written is None else written


def open_standard_streams() -> None:
    """Make sys.stdout raise FirewallError for what it can't write, and sys.stderr never raise. For a process's start.

    To a terminal text goes in its character set, to everything else in UTF-8. A stdout that is closed is an error only
    for who writes to it.
    """
    if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
        return  # somebody else's, in a test for example
    # Else the next file that is opened would be taken for the one that is closed.
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        if not _is_open(number):
            os.open(os.devnull, mode)
    closed = os.open(os.devnull, os.O_RDONLY) if sys.stdout is None else None
    sys.stdout = _text(_Output(1 if closed is None else closed, "wb", closefd=False), sys.stdout)
    unheard = os.open(os.devnull, os.O_WRONLY) if sys.stderr is None else None
    sys.stderr = _text(_Messages(2 if unheard is None else unheard, "wb", closefd=False), sys.stderr, lines=True)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _text(raw: io.FileIO, before: TextIO | None, *, lines: bool = False) -> TextIO:
    terminal = before is not None and raw.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before is not None and terminal else "utf-8",
        errors="backslashreplace",
        line_buffering=terminal or lines,
        write_through=isinstance(before, io.TextIOWrapper) and before.write_through,
    )


def close_output(code: int, say: Callable[[str], None]) -> int:
    """Write what is left, at a process's end.

    Args:
        code: The exit code so far.
        say: Prints a failure.

    Returns:
        The exit code that the process shall have: 1 in the place of 0 if not all could be written.
    """
    stream = sys.stdout
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    told = bool(getattr(raw, "failure", ""))
    try:
        stream.flush()
        if isinstance(raw, _Output):
            os.close(os.dup(raw.fileno()))  # file systems of a network tell of a full disk only now
    except (FirewallError, OSError) as error:
        if not told:
            why = (
                str(error) if isinstance(error, FirewallError) else f"can't write to standard output: {error.strerror}"
            )
            say(why)
        told = True
    return code or int(told)
