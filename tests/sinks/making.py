"""Reports as the service makes them, and waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from firewall.frame import Frame
from firewall.sinks import FrameReport
from firewall.verdict import BundleStamp, Reason, Stamps, Verdict

__all__ = ["RELEASED", "STAMPS", "WITHHELD", "failure", "report", "until"]

STAMPS = Stamps(BundleStamp("traffic-signs", 4, "128a7be433d4"), "front")
RELEASED = Verdict("cam", 0, (10, 12, 30, 40), True, 14, "stop", Reason.BENIGN, track=7, frames_seen=3)
WITHHELD = Verdict("cam", 0, (60, 30, 20, 22), reason=Reason.SUSPICIOUS, track=8, frames_seen=300)


def report(
    sequence: int, *verdicts: Verdict, size: tuple[int, int] = (160, 120), age: float = 0.0, stamped: bool = True
) -> FrameReport:
    """A frame of (width, height) that was captured `age` seconds ago, with a released and a withheld region."""
    captured_at = time.monotonic() - age
    pixels = np.full((size[1], size[0], 3), (40 + sequence % 100, 90, 200), np.uint8)
    told = verdicts or (RELEASED, WITHHELD)
    numbered = [Verdict(**{**_fields(verdict), "sequence": sequence}) for verdict in told]  # type: ignore[arg-type]
    stamped_ = STAMPS.on(numbered, captured_at=captured_at) if stamped else numbered
    return FrameReport(Frame(pixels, "cam", sequence, captured_at), stamped_, {"classify": 0.004}, 2, 1)


def _fields(verdict: Verdict) -> dict[str, object]:
    return {name: getattr(verdict, name) for name in Verdict.__dataclass_fields__}


def failure(sequence: int) -> FrameReport:
    """A source that gave no frame."""
    gone = Verdict("cam", sequence, (0, 0, 0, 0), reason=Reason.SOURCE_ERROR, detail="unplugged")
    return FrameReport(None, STAMPS.on([gone], captured_at=time.monotonic(), frame=False))


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for that; the machine may be busy."""
    limit = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < limit, "that never came"
        time.sleep(0.01)
