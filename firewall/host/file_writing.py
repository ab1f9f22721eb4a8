"""Files that a reader sees whole: the old one or the new one, never half of it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["replace_file"]


def replace_file(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Write a file beside `path`, push it to the disk, and put it in `path`'s place in one step.

    Args:
        path: The file; its folder must exist.
        content: What it will hold.
        mode: Permissions of the new file, less the process's umask.

    Raises:
        OSError: If it can't be written. What was there before stays as it was.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink()
        raise
