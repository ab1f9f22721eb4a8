"""One frame that is to be judged, where to look in it, until when, and where its time went."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from firewall.frame import Frame, Region

__all__ = ["Look", "Stages", "passed"]


class _Timed:
    """Adds the time of a block to its stage."""

    __slots__ = ("_stage", "_stages", "_started")

    def __init__(self, stages: Stages, stage: str) -> None:
        self._stages, self._stage, self._started = stages, stage, 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._stages[self._stage] = self._stages.get(self._stage, 0.0) + time.perf_counter() - self._started


class Stages(dict[str, float]):
    """Seconds spent in each stage, added up."""

    def timed(self, stage: str) -> AbstractContextManager[None]:
        """Add the time of the block to `stage`."""
        return _Timed(self, stage)


@dataclass(frozen=True, slots=True)
class Look:
    """One frame and where to look in it: what `Firewall.screen_frames` takes several of.

    Attributes:
        frame: The frame.
        regions: (x, y, width, height) in pixels each. None: the whole frame. Empty: nothing was found.
        deadline: `time.monotonic()` in seconds after which nothing is released. None: no deadline.
        stages: The time spent in each stage is added to it.
    """

    frame: Frame
    regions: Sequence[Region] | None = None
    deadline: float | None = None
    stages: Stages = field(default_factory=Stages)


def passed(deadline: float | None, ahead: float = 0.0) -> bool:
    """The deadline, `time.monotonic()` in seconds, has passed, or will have passed `ahead` seconds from now."""
    return deadline is not None and time.monotonic() + ahead > deadline
