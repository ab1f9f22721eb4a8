"""When and where a frame was captured, and what judged it: the same for all verdicts on one frame.

Two clocks. All that decides or orders (deadlines, ages, `monotonic_ns`) goes by the monotonic clock, which nobody can
set. The wall clock is only written down, for people and other machines: when it jumps, `time` jumps with it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from firewall.verdict.verdict import Verdict

__all__ = ["BundleStamp", "Stamp", "Stamps"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_YEAR_10000 = 253_402_300_800_000_000  # microseconds; RFC 3339 has no year of five digits


@dataclass(frozen=True, slots=True)
class BundleStamp:
    """What judged.

    Attributes:
        name: The bundle's name.
        version: Its version, 1 or more.
        hash: The first 12 hexadecimal digits of the SHA-256 of its manifest.
    """

    name: str
    version: int
    hash: str

    @classmethod
    def of(cls, name: str, version: int, sha256: str) -> BundleStamp:
        """The stamp of a bundle of this name, version and SHA-256 of its manifest, in hexadecimal."""
        return cls(name, version, sha256[:12])


@dataclass(frozen=True, slots=True)
class Stamp:
    """When and where a frame was captured, and what judged it.

    Attributes:
        time_us: Unix time of the capture in microseconds, by the wall clock as it stood when the verdict was given.
        monotonic_ns: The same by `time.monotonic_ns()` of this machine, in nanoseconds.
        age_ms: Milliseconds from capture until the verdict was handed to the outputs.
        camera: The camera's name; None where there is none, as with a picture from the command line.
        frame_id: No other frame has it, in this run or another. None if there was no frame.
        bundle: What judged.
        stages: Seconds spent in each stage of screening this frame.
    """

    time_us: int | None = None
    monotonic_ns: int | None = None
    age_ms: float | None = None
    camera: str | None = None
    frame_id: str | None = None
    bundle: BundleStamp | None = None
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def time(self) -> str | None:
        """The capture in UTC as RFC 3339 with microseconds; None if the clock shows what that can't say."""
        if self.time_us is None or not 0 <= self.time_us < _YEAR_10000:
            return None
        return (_EPOCH + timedelta(microseconds=self.time_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Stamps:
    """Stamps the verdicts of one run.

    Args:
        bundle: What judges.
        camera: The camera's name, or None.
    """

    def __init__(self, bundle: BundleStamp, camera: str | None = None) -> None:
        self.bundle, self.camera = bundle, camera
        self._run = secrets.token_hex(4)

    def on(
        self,
        verdicts: Sequence[Verdict],
        *,
        captured_at: float,
        frame: bool = True,
        stages: Mapping[str, float] | None = None,
    ) -> list[Verdict]:
        """The verdicts on one frame, stamped; to be called when they are handed out.

        Args:
            verdicts: One or more.
            captured_at: `time.monotonic()` in seconds when the frame was taken, or when there was none.
            frame: Whether there was one.
            stages: Seconds spent in each stage of screening it.

        Returns:
            The verdicts in the same order.
        """
        age = max(0.0, time.monotonic() - captured_at)
        stamp = Stamp(
            time_us=(time.time_ns() - round(age * 1e9)) // 1000,
            monotonic_ns=round(captured_at * 1e9),
            age_ms=age * 1e3,
            camera=self.camera,
            frame_id=f"{self._run}-{verdicts[0].sequence}" if frame and verdicts else None,
            bundle=self.bundle,
            stages=dict(stages or {}),
        )
        return [replace(verdict, stamp=stamp) for verdict in verdicts]
