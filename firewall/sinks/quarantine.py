"""The quarantine: for every track that was withheld a picture before, at and after it, the crop and the verdict line.

A track is kept once, at the first verdict that speaks against the sign or the machine. One that was never released and
only waited (`not confirmed yet`, `unfit region`, `late`) is kept as it was last seen, once it is gone. Where signs are
not followed each sighting is kept: verdicts of one reason at one place of one source, less than two seconds apart.

How many there may be is bounded three times: by a rate here, by size and age in firewall.sinks.evidence.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from firewall.frame import Frame, Pixels, Region
from firewall.sinks.event import Event
from firewall.sinks.evidence import Cases, refused
from firewall.sinks.report import FrameReport, Output
from firewall.verdict import Reason, Verdict

__all__ = ["LONGEST_SIDE", "Quarantine"]

#: The pictures are scaled down to this along their longer side, in pixels; the crop is not.
LONGEST_SIDE = 1280
_APART = 0.5  # seconds from the picture before to the sighting, and from there to the picture after
_QUALITY = 90  # of the JPEG pictures
# Nothing was withheld, or there was no picture, or the next frames say more.
_NO_CASE = frozenset(
    {Reason.BENIGN, Reason.NOTHING_FOUND, Reason.SOURCE_ERROR, Reason.STALE, Reason.CAMERA_FAULT, Reason.SELF_TEST}
)
_WAITING = frozenset({Reason.UNCONFIRMED, Reason.UNFIT, Reason.LATE})
_GONE = 30  # reports after which a track that isn't seen is over
_MOST_TRACKS, _MOST_WAITING = 1024, 16  # that are remembered for a camera; of these with pictures
_SIGHTING = 2.0  # seconds that two verdicts of one sighting are apart at most
_EXPIRE_EVERY = 60.0  # seconds


@dataclass(frozen=True)
class _Shot:
    """A picture of a frame, scaled down."""

    pixels: Pixels
    captured_at: float
    sequence: int


@dataclass(frozen=True)
class _Sighting:
    """All that a case needs."""

    verdict: Verdict
    at: _Shot
    before: _Shot | None
    size: tuple[int, int]
    crop: Pixels | None


@dataclass
class _Followed:
    """A track. kept: it has its case. settled: it needs none for having waited. seen: number of the last report."""

    seen: int = 0
    kept: bool = False
    settled: bool = False
    waiting: _Sighting | None = None


@dataclass
class _Scene:
    """What is known of one camera."""

    number: int = 0
    last: Frame | None = None
    newest: _Shot | None = None
    shots: deque[_Shot] = field(default_factory=lambda: deque(maxlen=3))
    tracks: OrderedDict[int, _Followed] = field(default_factory=OrderedDict)
    sightings: list[tuple[str, Reason, Region, float]] = field(default_factory=list)
    open: list[tuple[Path, _Shot]] = field(default_factory=list)

    def shot(self, frame: Frame) -> _Shot:
        """The frame as a picture, made once for all that is seen in it."""
        if self.newest is None or self.newest.sequence != frame.sequence:
            self.newest = _shot(frame)
        return self.newest

    def is_new(self, verdict: Verdict, now: float) -> bool:
        """Whether the verdict is no further one of a sighting that there is."""
        self.sightings = [each for each in self.sightings if now - each[3] <= _SIGHTING]
        same = [
            each
            for each in self.sightings
            if each[:2] == (verdict.source, verdict.reason) and _overlaps(each[2], verdict.region)
        ]
        self.sightings = [each for each in self.sightings if each not in same]
        self.sightings.append((verdict.source, verdict.reason, verdict.region, now))
        return not same


class Quarantine(Output):
    """Keeps evidence.

    Args:
        folder: Where to; see Cases.
        operator: Add suspicion and detector scores to the verdict lines.
        size: Most bytes of all cases together.
        days: Cases older than this are removed.
        rate: Most cases in a minute; tracks that only waited have half of it. What was left out is counted in the next
            case.
        told: Called with each case: where the evidence of which verdict lies.

    Raises:
        FirewallError: If the folder can't be written, or another guard writes there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        operator: bool = False,
        size: int = 1 << 30,
        days: int = 30,
        rate: int = 60,
        told: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._told = told
        self._cases = Cases(folder, size=size, days=days)
        self._operator, self._rate = operator, rate
        self._scenes: dict[str | None, _Scene] = {}
        self._written: deque[float] = deque()
        self._left_out = 0
        self._expire_at = time.monotonic() + _EXPIRE_EVERY

    def report(self, report: FrameReport) -> None:
        """Keep what this frame shows of what was withheld."""
        try:
            self._look(report)
            self.tick()
        except OSError as error:
            raise refused(self._cases.folder, error) from error

    def tick(self) -> None:
        """Remove what is too old."""
        if time.monotonic() >= self._expire_at:
            self._expire_at = time.monotonic() + _EXPIRE_EVERY
            self._cases.expire()

    def close(self) -> None:
        """Keep what is still open: tracks that waited, and the last frame as the picture after."""
        try:
            for scene in self._scenes.values():
                self._after(scene, ended=True)
                self._over(scene, ended=True)
        except OSError as error:
            raise refused(self._cases.folder, error) from error
        finally:
            self._cases.close()

    def _look(self, report: FrameReport) -> None:
        stamp = report.verdicts[0].stamp
        scene = self._scenes.setdefault(None if stamp is None else stamp.camera, _Scene())
        scene.number += 1
        if (frame := report.frame) is not None:
            scene.last = frame
            self._after(scene)
            for verdict in report.verdicts:
                self._take(scene, frame, verdict)
            if not scene.shots or frame.captured_at - scene.shots[-1].captured_at >= _APART:
                scene.shots.append(scene.shot(frame))
        self._over(scene)

    def _take(self, scene: _Scene, frame: Frame, verdict: Verdict) -> None:
        if verdict.track is None:
            if verdict.reason not in _NO_CASE and scene.is_new(verdict, frame.captured_at):
                self._write(scene, _sighting(scene, frame, verdict))
            return
        track = scene.tracks.setdefault(verdict.track, _Followed())
        scene.tracks.move_to_end(verdict.track)
        track.seen = scene.number
        if verdict.released:
            track.settled, track.waiting = True, None
        elif verdict.reason not in _WAITING:
            if not track.kept and verdict.reason not in _NO_CASE:
                self._write(scene, _sighting(scene, frame, verdict))
                track.kept = track.settled = True
                track.waiting = None
        elif not track.settled:
            track.waiting = _sighting(scene, frame, verdict)

    def _over(self, scene: _Scene, *, ended: bool = False) -> None:
        """Keep the tracks that only waited, once they are gone, or if there are too many."""
        waiting = [each for each in scene.tracks.values() if each.waiting is not None]
        for place, track in enumerate(waiting):  # the ones that were seen last come last
            gone = scene.number - track.seen > _GONE or len(waiting) - place > _MOST_WAITING
            if (gone or ended) and track.waiting is not None:
                self._write(scene, track.waiting)
                track.settled, track.waiting = True, None
        while len(scene.tracks) > _MOST_TRACKS:
            scene.tracks.popitem(last=False)

    def _write(self, scene: _Scene, sighting: _Sighting) -> None:
        now, verdict = time.monotonic(), sighting.verdict
        while self._written and now - self._written[0] >= 60:
            self._written.popleft()
        if len(self._written) >= (self._rate if verdict.reason not in _WAITING else (self._rate + 1) // 2):
            self._left_out += 1
            return
        files = {"at.jpg": _jpeg(sighting.at.pixels)}
        if sighting.before is not None:
            files["before.jpg"] = _jpeg(sighting.before.pixels)
        if sighting.crop is not None:
            files["crop.png"] = _encoded(".png", sighting.crop, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        record = {
            "frame": list(sighting.size),
            "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            "left_out": self._left_out,
            "verdict": verdict.line(operator=self._operator),
        }
        camera = None if verdict.stamp is None else verdict.stamp.camera
        track = "" if verdict.track is None else f"-track{verdict.track}"
        case = self._cases.add(f"{camera or 'picture'}{track}", record, files)
        if case is None:
            self._left_out += 1
            return
        self._written.append(now)
        self._left_out = 0
        self._told(
            Event.of(
                "evidence",
                case=case.name,
                folder=str(case.parent),
                camera=camera,
                frame_id=None if verdict.stamp is None else verdict.stamp.frame_id,
                track=verdict.track,
                reason=str(verdict.reason),
                sha256=record["sha256"],
            )
        )
        scene.open.append((case, sighting.at))

    def _after(self, scene: _Scene, *, ended: bool = False) -> None:
        """Add the picture after to cases that wait for it."""
        frame, still = scene.last, []
        if frame is None or not scene.open:
            return
        content = b""
        for case, at in scene.open:
            if frame.sequence == at.sequence or (frame.captured_at - at.captured_at < _APART and not ended):
                still.append((case, at))
            else:
                content = content or _jpeg(scene.shot(frame).pixels)
                self._cases.complete(case, "after.jpg", content)
        scene.open = still


def _sighting(scene: _Scene, frame: Frame, verdict: Verdict) -> _Sighting:
    x, y, width, height = verdict.region
    crop = frame.pixels[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
    long_ago = [shot for shot in scene.shots if frame.captured_at - shot.captured_at >= _APART]
    before = long_ago[-1] if long_ago else next(iter(scene.shots), None)
    size = (frame.pixels.shape[1], frame.pixels.shape[0])
    return _Sighting(verdict, scene.shot(frame), before, size, crop.copy() if crop.size else None)


def _overlaps(one: Region, other: Region) -> bool:
    """Whether each of two boxes has its middle in the other."""
    ((x, y, width, height), (u, v, wide, high)) = one, other
    return abs(2 * x + width - 2 * u - wide) <= min(width, wide) and abs(2 * y + height - 2 * v - high) <= min(
        height, high
    )


def _shot(frame: Frame) -> _Shot:
    height, width = frame.pixels.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    pixels = frame.pixels
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA), np.uint8)
    return _Shot(pixels, frame.captured_at, frame.sequence)


def _jpeg(pixels: Pixels) -> bytes:
    return _encoded(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])


def _encoded(suffix: str, pixels: Pixels, options: list[int]) -> bytes:
    image = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    return cv2.imencode(suffix, image, options)[1].tobytes()
