"""A video that nobody annotated: how many labels go out an hour, and pictures of each, to be looked at by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from firewall.config import CaptureSettings
from firewall.errors import DataError, UsageError
from firewall.lab.evaluation.scenes.figures import a_unit, times
from firewall.lab.evaluation.scenes.guard import Guard
from firewall.lab.evaluation.scenes.pictures import Shown, around
from firewall.lab.evaluation.scenes.released_labels import ReleasedLabels
from firewall.service import Service
from firewall.sinks import FrameReport
from firewall.sources import Capture, parse
from firewall.sources.uri import printable
from firewall.verdict import Reason

__all__ = ["judged_video"]


class _Collected:
    """Takes the reports of a service."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels
        self.events = ReleasedLabels()
        self.frames = self.failures = self.regions = 0
        self.ms: list[float] = []
        self.shown: list[Shown] = []

    def report(self, report: FrameReport) -> None:
        """See Sink."""
        if report.frame is None:
            self.failures += 1
            return
        self.frames += 1
        self.regions += sum(verdict.reason is not Reason.NOTHING_FOUND for verdict in report.verdicts)
        self.ms.append(1e3 * sum(report.stages.values()))
        out = [(verdict.region, verdict.label) for verdict in report.verdicts if verdict.released]
        released = [(region, label) for region, label in out if label is not None]
        for event in self.events.add(report.frame.sequence, released):
            where, caption = f"frame {report.frame.sequence}", f"released as {self.labels[event.label]}"
            image = around(report.frame.pixels, event.region)
            self.shown.append(Shown("released labels of the video", where, caption, image))

    def close(self) -> None:
        """See Sink."""


def judged_video(guard: Guard, file: Path) -> tuple[dict[str, Any], list[Shown]]:
    """Guard a video file as `firewall serve` does, with tracks, and count the labels that go out.

    Args:
        guard: Judges.
        file: The video.

    Returns:
        The figures, ready for JSON, and a picture of each released label.

    Raises:
        UsageError: It is no video file.
        SourceError: It can't be opened, or is damaged.
        DataError: It says no frame rate.
    """
    spec = parse(str(file))
    if spec.kind != "video":
        raise UsageError(f"--video takes a video file, got {printable(str(file))}")
    rate = _frames_a_second(file)
    collected = _Collected(guard.labels)
    with Capture(spec, CaptureSettings()) as capture:
        summary = Service(guard.firewall, capture, guard.finder, [collected], tracks=guard.tracks()).run()
    if not collected.frames:
        raise DataError(f"{printable(str(file))} gave no frame that can be judged")
    seconds = collected.frames / rate
    events = collected.events.events
    return {
        "video": file.name,
        "frames": collected.frames,
        "failures": collected.failures,
        "seconds": round(seconds, 2),
        "released_labels": len(events),
        "released_labels_an_hour": a_unit(len(events), seconds / 3600),
        "labels": dict(Counter(guard.labels[event.label] for event in events).most_common()),
        "regions_a_frame": round(collected.regions / collected.frames, 3),
        "withheld_because": dict(summary.withheld.most_common()),
        "frame_ms": times(collected.ms),
        "what": "tracks on, nobody annotated it: a label that goes on going out at one place counts once",
    }, collected.shown


def _frames_a_second(file: Path) -> float:
    import av

    try:
        with av.open(str(file)) as container:
            rate = container.streams.video[0].average_rate if container.streams.video else None
    except (OSError, ValueError, av.error.FFmpegError) as error:
        raise DataError(f"{printable(str(file))} can't be opened as a video ({error})") from error
    if not rate:
        raise DataError(f"{printable(str(file))} says no frame rate; store it as a video with a constant one")
    return float(rate)
