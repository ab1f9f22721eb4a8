"""A sink for tests of the service."""

from __future__ import annotations

from firewall.sinks import FrameReport

__all__ = ["Kept"]


class Kept:
    """Keeps the reports that it gets."""

    def __init__(self) -> None:
        self.reports: list[FrameReport] = []
        self.closed = 0

    def report(self, report: FrameReport) -> None:
        self.reports.append(report)

    def close(self) -> None:
        self.closed += 1

    def of(self, name: str) -> list[FrameReport]:
        """Those of one camera."""
        return [report for report in self.reports if report.camera == name]
