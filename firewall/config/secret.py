"""Secrets that a user names by a file or an environment variable, never on the command line itself."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from firewall.errors import UsageError

__all__ = ["named_secret", "read_secret"]


def named_secret(where: str) -> str:
    """What messages call the secret that `where` names: 'the environment variable NAME' or the file."""
    return f"the environment variable {where.removeprefix('env:')}" if where.startswith("env:") else where


def read_secret(where: str, *, option: str, holds: str, make: str, most: int) -> bytes:
    """The bytes that a setting names. No message ever holds one of them.

    Args:
        where: A file, or `env:NAME` for an environment variable.
        option: The setting, for messages.
        holds: What it holds, for messages.
        make: How to make one, for messages.
        most: What is behind so many bytes isn't read.

    Returns:
        The bytes.

    Raises:
        UsageError: If there is none, or others may read or replace it.
    """
    if not where.startswith("env:"):
        return _read(Path(where), option, holds, make, most)
    name = where.removeprefix("env:")
    value = os.environ.get(name)
    if not name or value is None:
        raise UsageError(
            f"{option} {where}: there is no environment variable {name!r}; set it, or name a file with the {holds}"
        )
    return os.fsencode(value)


def _read(path: Path, option: str, holds: str, make: str, most: int) -> bytes:
    """The bytes of a plain file that nobody else may read or write; the group of its owner may read it."""
    try:
        # A pipe in the place of a file would otherwise be waited for.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise UsageError(f"{option} {path} is no plain file; name a file with the {holds}, or env:NAME")
            if found.st_uid not in (0, os.geteuid()):
                raise UsageError(
                    f"{option} {path} belongs to user {found.st_uid}; a {holds} must belong to who runs the firewall, "
                    f"or to root: chown {os.geteuid()} {path}"
                )
            if found.st_mode & 0o027:
                does = "read" if found.st_mode & 0o004 else "change"
                raise UsageError(f"{option} {path}: others may {does} it, so it is no secret; chmod 600 {path}")
            return file.read(most)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(f"can't read {option} {str(path)!r} ({why}); {make}") from error
