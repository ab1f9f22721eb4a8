"""What `Freshness` says of frames, for the tests of stale frames and of camera faults."""

from __future__ import annotations

from firewall.errors import CameraFaultError, StaleError
from firewall.frame import Pixels
from firewall.sources.freshness import Freshness

__all__ = ["judged"]


def judged(freshness: Freshness, frames: list[Pixels], rate: float = 10) -> list[str]:
    """What is said of each frame, "" of a good one; they come at `rate` a second."""

    def check(number: int, pixels: Pixels) -> str:
        try:
            freshness.check(pixels, 100 + number / rate)
        except (CameraFaultError, StaleError) as error:
            return str(error)
        return ""

    return [check(number, pixels) for number, pixels in enumerate(frames)]
