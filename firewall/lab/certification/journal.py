"""Rows of a long certification, each on disk as soon as it is known: after a kill the same command continues."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firewall.errors import FirewallError

__all__ = ["Journal"]

Row = dict[str, Any]


class Journal:
    """Rows by the index of their image, in a file beside the result until that is written.

    Args:
        result: The file that the result will be written to; None: nothing is kept.
        settings: What rows depend on; rows of other settings are not taken over.

    Raises:
        FirewallError: The file can't be written.
    """

    def __init__(self, result: Path | None = None, settings: dict[str, Any] | None = None) -> None:
        self._path = None if result is None else result.with_name(f"{result.name}.rows")
        self._known: dict[int, Row] = {}
        if self._path is None:
            return
        header = json.dumps(settings, sort_keys=True, default=str)
        try:
            lines = self._path.read_text(encoding="utf-8").split("\n") if self._path.is_file() else []
            whole = lines[:-1]  # after the last line's end; a line that a kill has cut off is not one
            if whole[:1] == [header]:
                self._known = {int(row["index"]): row for row in map(json.loads, whole[1:])}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            rows = [json.dumps(row) for row in self._known.values()]
            partial = self._path.with_name(f"{self._path.name}.partial")
            partial.write_text("".join(f"{line}\n" for line in (header, *rows)), encoding="utf-8")
            partial.replace(self._path)  # killed here too, the rows stay
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FirewallError(f"can't keep rows in {self._path} ({error}); take the file away") from error

    def row(self, index: int, make: Callable[[], Row]) -> Row:
        """The row of an image, made if it isn't known yet.

        Args:
            index: The image's.
            make: Makes the row; JSON must give back what it gives.

        Returns:
            The row, with the index.
        """
        if index not in self._known:
            self._known[index] = {"index": index, **make()}
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(self._known[index]) + "\n")
        return self._known[index]

    def done(self) -> None:
        """Remove the file: the result has been written, and the rows are in it."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
