"""Verdict lines: one JSON object a line."""

from __future__ import annotations

import json
from typing import TextIO

from firewall.errors import FirewallError
from firewall.sinks.report import FrameReport

__all__ = ["JsonLines"]


class JsonLines:
    """Writes each verdict of a report as a line to `stream` and flushes, so that a killed process loses nothing.

    operator: add suspicion and detector scores; only where nobody but the operator reads the lines.
    Raises FirewallError if the stream can't be written (a full disk, a closed pipe).
    """

    def __init__(self, stream: TextIO, *, operator: bool = False) -> None:
        self._stream, self._operator = stream, operator

    def report(self, report: FrameReport) -> None:
        """Write the report's verdicts."""
        lines = [json.dumps(verdict.line(operator=self._operator), ensure_ascii=False) for verdict in report.verdicts]
        try:
            self._stream.write("".join(line + "\n" for line in lines))
            self._stream.flush()
        except OSError as error:
            raise FirewallError(f"can't write verdict lines to {self._stream.name}: {error.strerror}") from error

    def close(self) -> None:
        """Close the stream unless it is a standard stream, which isn't ours."""
        if self._stream.fileno() > 2:
            self._stream.close()
