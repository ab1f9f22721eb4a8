"""One frame that is to be judged, where to look in it, until when, and where its time went."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from firewall.frame import Frame, Region

__all__ = ["Look", "Stages"]


class Stages(dict[str, float]):
    """Seconds spent in each stage, added up."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self[stage] = self.get(stage, 0.0) + time.perf_counter() - started


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
