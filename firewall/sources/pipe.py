"""What is no file but can be read: standard input, a FIFO, the shell's <(...)."""

from __future__ import annotations

import os
import re
import select
import stat
import time
from pathlib import Path

from firewall.errors import ImageError

__all__ = ["LONGEST", "STDIN", "is_pipe", "kind_of", "named", "read_pipe"]

#: The name of standard input. A file that is called so is reached as `./-`.
STDIN = "-"
#: Bytes of one picture; the largest that we judge has fewer, also uncompressed.
LONGEST = 256 << 20
#: Seconds of silence after which nothing more is waited for.
PATIENCE = 10.0
MOST_SECONDS = 120.0

_OURS = re.compile(r"/dev/stdin|/dev/fd/[0-9]{1,9}|/proc/self/fd/[0-9]{1,9}", re.ASCII)
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a disk"),
    (stat.S_ISDIR, "a folder"),
)


def named(path: str) -> str:
    """The file behind `-`, /dev/stdin or /dev/fd/N where it is one (`< x.png`), otherwise the path itself, and
    /dev/stdin for `-`: no other process may read our descriptors by these names."""
    path = "/dev/stdin" if path == STDIN else path
    if not _OURS.fullmatch(path):
        return path
    try:
        file = Path(path).resolve()
        return str(file) if file.samefile(path) and file.is_file() else path
    except (OSError, RuntimeError):
        return path


def kind_of(mode: int) -> str:
    """What a file is, in words, from its st_mode; "a file" for one that may be read like any."""
    return next((words for fits, words in _KINDS if fits(mode)), "a file")


def is_pipe(path: str) -> bool:
    """Whether this is standard input, a descriptor of ours or a FIFO, which can be read once.

    Raises:
        OSError: If it can't be looked at.
    """
    return path == STDIN or _OURS.fullmatch(path) is not None or stat.S_ISFIFO(Path(path).stat().st_mode)


def read_pipe(path: str, name: str) -> bytes:
    """All that comes out of a pipe.

    Raises:
        ImageError: If that is more than LONGEST bytes, if nothing came for PATIENCE seconds, or if it is not at its end
            after MOST_SECONDS; OSError if it can't be opened.
    """
    path = "/dev/fd/0" if path in (STDIN, "/dev/stdin") else path
    if _OURS.fullmatch(path):  # it may be another user's, or a socket: neither can be opened by its name
        file = os.dup(int(path.rpartition("/")[2]))
    else:  # without O_NONBLOCK, a FIFO that nobody writes into can't even be opened
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if os.isatty(file):
            raise ImageError(f"{name} is a terminal; send an image into it: firewall screen - < image.png")
        return _read(file, name)
    finally:
        os.close(file)


def _read(file: int, name: str) -> bytes:
    poll = select.poll()
    poll.register(file, select.POLLIN)
    parts: list[bytes] = []
    size, started = 0, time.monotonic()
    while True:
        if time.monotonic() - started > MOST_SECONDS or not poll.poll(PATIENCE * 1000):
            missing = f"after {size} bytes, the end of {name} did not come" if size else f"nothing came out of {name}"
            raise ImageError(f"{missing} within {time.monotonic() - started:.0f} s; does anything write into it?")
        try:
            part = os.read(file, 1 << 20)
        except BlockingIOError:
            continue
        if not part:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > LONGEST:
            raise ImageError(f"{name} holds more than {LONGEST >> 20} MiB; that is not an image that can be read")
