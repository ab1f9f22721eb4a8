"""Whether labels may be used at this moment, for outputs that others rely on while there is nothing new to say."""

from __future__ import annotations

import time

from firewall.sinks.report import FrameReport
from firewall.verdict import Reason

__all__ = ["Guarding"]


class Guarding:
    """True while the newest report is of a frame that was captured at most `stale` seconds ago, by the monotonic clock.

    A source that fails or has just come back, a frame loop that hangs, a self-test that failed and a guard that was
    closed all make it false.
    """

    def __init__(self, stale: float) -> None:
        self.stale = stale
        self._captured_at = float("-inf")

    def seen(self, report: FrameReport) -> None:
        """Take a report."""
        failed = any(verdict.reason is Reason.SELF_TEST for verdict in report.verdicts)
        gone = report.frame is None or report.returning or failed
        self._captured_at = float("-inf") if report.frame is None or gone else report.frame.captured_at

    def __bool__(self) -> bool:
        return time.monotonic() - self._captured_at <= self.stale
