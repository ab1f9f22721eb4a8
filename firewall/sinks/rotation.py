"""Files that are full make room for new ones: NAME.SUFFIX becomes NAME.1.SUFFIX, that NAME.2.SUFFIX, and so on."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["numbered", "rotate"]


def numbered(path: Path, number: int) -> Path:
    """The name of an older file, 1 for the newest of them: log.jsonl -> log.1.jsonl."""
    return path.with_name(f"{path.stem}.{number}{path.suffix}")


def rotate(path: Path, keep: int) -> None:
    """Move a file out of the way; older ones move up, and the one that would be number `keep` + 1 is deleted.

    Args:
        path: The file.
        keep: How many older files there may be, 1 or more.

    Raises:
        OSError: If a file can't be moved. None is lost then.
    """
    for number in range(keep - 1, 0, -1):
        with suppress(FileNotFoundError):
            numbered(path, number).replace(numbered(path, number + 1))
    with suppress(FileNotFoundError):
        path.replace(numbered(path, 1))
