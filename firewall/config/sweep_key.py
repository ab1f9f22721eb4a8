"""The secret of a device that its keyed sweeps are drawn by: where it comes from, and what is refused as one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from firewall.errors import UsageError

__all__ = ["LEAST_BYTES", "check_sweep_key", "read_sweep_key"]

#: Bytes of the shortest key.
LEAST_BYTES = 16
#: And of the longest.
_MOST_BYTES = 4096
#: Random bytes, or random hexadecimal digits, have at least so many different ones among them.
_LEAST_DIFFERENT = 6
_MAKE = "make one with: (umask 077; head -c 32 /dev/urandom > FILE)"


def check_sweep_key(key: bytes, where: str = "the sweep key") -> bytes:
    """Check a key. No message ever holds a byte of it.

    Args:
        key: The secret.
        where: What it is called.

    Returns:
        The same bytes.

    Raises:
        UsageError: If it is too short, too long, or no secret because it repeats a few bytes.
    """
    if not isinstance(key, bytes | bytearray):
        raise UsageError(f"{where} must be bytes, got {type(key).__name__}; {_MAKE}")
    if not LEAST_BYTES <= len(key) <= _MOST_BYTES:
        fault = "too short" if len(key) < LEAST_BYTES else "too long"
        raise UsageError(
            f"{where} is {fault}: {len(key)} bytes; {LEAST_BYTES} to {_MOST_BYTES} random bytes are needed: {_MAKE}"
        )
    if len(set(key)) < _LEAST_DIFFERENT:
        raise UsageError(f"{where} holds {len(set(key))} different bytes only, so it can be guessed; {_MAKE}")
    return bytes(key)


def read_sweep_key(where: str) -> bytes:
    """The key that a setting names.

    Args:
        where: A file, or `env:NAME` for an environment variable. A line end after the key doesn't count.

    Returns:
        The key.

    Raises:
        UsageError: If there is none, others may read or replace it, or it is no key (`check_sweep_key`).
    """
    if where.startswith("env:"):
        name = where.removeprefix("env:")
        value = os.environ.get(name)
        if not name or value is None:
            raise UsageError(
                f"--sweep-key {where}: there is no environment variable {name!r}; set it, or name a file with the key"
            )
        content, what = os.fsencode(value), f"the sweep key in the environment variable {name}"
    else:
        content, what = _read(Path(where)), f"the sweep key in {where}"
    return check_sweep_key(content.removesuffix(b"\n").removesuffix(b"\r"), what)


def _read(path: Path) -> bytes:
    """The bytes of a plain file that nobody else may read or write; the group of its owner may read it."""
    try:
        # A pipe in the place of a file would otherwise be waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UsageError(f"--sweep-key {path} is no plain file; name a file with the key, or env:NAME")
            if found.st_uid not in (0, os.geteuid()):
                raise UsageError(
                    f"--sweep-key {path} belongs to user {found.st_uid}; a key must belong to who runs the firewall, "
                    f"or to root: chown {os.geteuid()} {path}"
                )
            if found.st_mode & 0o027:
                does = "read" if found.st_mode & 0o004 else "change"
                raise UsageError(f"--sweep-key {path}: others may {does} it, so it is no secret; chmod 600 {path}")
            return file.read(_MOST_BYTES + 3)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(f"can't read --sweep-key {str(path)!r} ({why}); {_MAKE}") from error
