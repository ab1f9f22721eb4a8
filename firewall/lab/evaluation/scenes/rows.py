"""What was made of each frame, kept as a line of JSON, so that a run goes on where it was killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from firewall.errors import DataError
from firewall.frame import Region
from firewall.verdict import Reason, Verdict

__all__ = ["Looked", "kept", "looked_at"]


@dataclass(frozen=True, slots=True)
class Looked:
    """A region and what was made of it.

    Attributes:
        region: (x, y, width, height) in pixels of the frame.
        named: The class that the bare classifier gives it; None if it could not be classified.
        released: The label that went out; None if none did.
        reason: Why it went out or not.
    """

    region: Region
    named: int | None
    released: int | None
    reason: str

    def to_json(self) -> list[Any]:
        """Ready for JSON: x, y, width, height, named, released, reason."""
        return [*self.region, self.named, self.released, self.reason]

    @classmethod
    def from_json(cls, row: Sequence[Any]) -> Looked:
        """The other way round."""
        x, y, width, height, named, released, reason = row
        return cls((x, y, width, height), named, released, reason)


def looked_at(verdicts: Sequence[Verdict]) -> list[Looked]:
    """The regions of a frame; none if nothing was found."""
    return [
        Looked(verdict.region, verdict.suspected_label, verdict.label, str(verdict.reason))
        for verdict in verdicts
        if verdict.reason is not Reason.NOTHING_FOUND
    ]


def kept(file: Path, keys: Sequence[str], make: Callable[[int], dict[str, Any]], what: str) -> list[dict[str, Any]]:
    """Make a row for each key, or take it from the file.

    Args:
        file: Where each row is written as soon as it is known. Rows of other keys, and half a line, are cut off.
        keys: What each row is made of: the same key, the same row.
        make: Place -> the row, ready for JSON.
        what: Names the rows for the progress bar.

    Returns:
        The rows, in the order of the keys.

    Raises:
        DataError: The file can't be read or written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = _there(file, keys)
        if len(rows) < len(keys):
            with file.open("r+b" if file.exists() else "w+b") as out:
                out.truncate(sum(len(_line(key, row)) for key, row in zip(keys, rows, strict=False)))
                out.seek(0, 2)
                places = range(len(rows), len(keys))
                for place in track(places, what, transient=True, console=Console(stderr=True)):
                    rows.append(make(place))
                    out.write(_line(keys[place], rows[-1]))
                    out.flush()
    except OSError as error:
        raise DataError(f"can't write {file}: {error.strerror}; make room or name another --work") from error
    return rows


def _there(file: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a file as far as they are whole and of these keys."""
    rows: list[dict[str, Any]] = []
    if not file.exists():
        return rows
    for key, line in zip(keys, file.read_bytes().split(b"\n")[:-1], strict=False):
        try:
            row = json.loads(line)
            found = row.pop("key")
        except (ValueError, TypeError, KeyError, AttributeError):
            break
        if found != key or _line(key, row) != line + b"\n":
            break
        rows.append(row)
    return rows


def _line(key: str, row: dict[str, Any]) -> bytes:
    return json.dumps({"key": key, **row}, allow_nan=False).encode() + b"\n"
