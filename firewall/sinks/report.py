"""The report on a frame, and what takes it: the one form that every sink understands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from firewall.frame import Frame, Region
from firewall.sinks.event import Event
from firewall.verdict import Verdict

__all__ = ["FrameReport", "Output", "Sink"]


@dataclass(frozen=True, slots=True)
class FrameReport:
    """One frame, or one failure to get a frame, and what was said of it.

    Attributes:
        frame: None when the source failed (the verdicts then withhold with a source error).
        verdicts: One or more.
        stages: Seconds spent in each stage of screening this frame.
        dropped: Frames of this live source since the start that nobody looked at.
        restarts: Capture processes of this source since the start that had to be started again.
        returning: Why nothing is released though frames come again after a loss, one line; empty: that isn't so.
        looked_at: The part of the frame in which regions were looked for, in pixels; None: no part was named.
    """

    frame: Frame | None
    verdicts: Sequence[Verdict]
    stages: Mapping[str, float] = field(default_factory=dict)
    dropped: int = 0
    restarts: int = 0
    returning: str = ""
    looked_at: Region | None = None

    @property
    def camera(self) -> str | None:
        """Name of the camera, as its verdicts bear it."""
        stamp = self.verdicts[0].stamp if self.verdicts else None
        return None if stamp is None else stamp.camera


class Sink(Protocol):
    """Takes reports in order, one at a time. An exception from `report` stops the service."""

    def report(self, report: FrameReport) -> None:
        """Take one report; must not block the frame loop for long."""

    def close(self) -> None:
        """Flush and release; called once, also after a failure."""


class Output(ABC):
    """A sink with a thread of its own (firewall.sinks.outlet): it may take its time, and what it raises stops it alone.

    Attributes:
        every: Seconds between two calls of `tick` while there is nothing to report.
    """

    every = 0.5

    @abstractmethod
    def report(self, report: FrameReport) -> None:
        """Take one report."""

    @abstractmethod
    def close(self) -> None:
        """Flush and release; called once, also after a failure."""

    def event(self, event: Event) -> None:  # noqa: B027 - most outputs tell of verdicts alone
        """Take what happened to the guard itself."""

    def missed(self, reports: int) -> None:  # noqa: B027 - only a log has to be without gaps
        """So many reports were dropped since the last time, before what comes now."""

    def tick(self) -> None:  # noqa: B027 - most outputs have nothing to do
        """What has to be done now and then."""

    def reopen(self) -> None:  # noqa: B027 - the same
        """Open the file again: somebody has moved it away. Called from a signal handler, so that it only notes it."""

    def abandon(self) -> None:  # noqa: B027 - the same
        """Wait no longer for who takes nothing; called from another thread, when the guard ends."""
