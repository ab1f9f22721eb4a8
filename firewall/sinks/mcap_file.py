"""A recording that ROS 2 plays (rosbag2's MCAP) and Foxglove opens: pictures, detections, verdicts and diagnostics.

Topics: `/CAMERA/image/compressed` (sensor_msgs/CompressedImage), `/CAMERA/detections` (vision_msgs/Detection2DArray; a
withheld region is there without a result), `/CAMERA/verdict` (std_msgs/String, the verdict line) and, each second,
`/diagnostics` (diagnostic_msgs/DiagnosticArray). Time stamps are of the capture, by the wall clock.

A crash loses the last chunk, a quarter of a mebibyte or one picture. A file that is there at the start is kept.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from firewall import __version__
from firewall.errors import FirewallError, MissingExtraError, UsageError
from firewall.frame import Pixels
from firewall.host.output import json_text
from firewall.sinks import ros_messages as ros
from firewall.sinks.report import FrameReport, Output
from firewall.sinks.rotation import rotate
from firewall.verdict import Reason, Verdict

__all__ = ["McapFile", "topic_name"]

_CHUNK = 1 << 18
_QUALITY = 90  # of the JPEG pictures
_STATUS_EVERY = 1.0  # seconds
_OK, _ERROR = 0, 2
_BROKEN = (
    Reason.SOURCE_ERROR,
    Reason.STALE,
    Reason.CAMERA_FAULT,
    Reason.SELF_TEST,
    Reason.ENGINE_ERROR,
    Reason.BAD_IMAGE,
    Reason.UNKNOWN,
)


class McapFile(Output):
    """Writes reports to an MCAP file.

    Args:
        path: The file.
        camera: Name of the camera, for topics and headers.
        others: Names of the cameras besides, each with topics of its own.
        operator: Add the operator's fields to the verdict lines.
        size: Bytes that the file may have; then it becomes NAME.1.mcap, and a new one begins. None: it may grow.
        keep: How many such files are kept.

    Raises:
        UsageError: If two cameras would have the same topics.
        MissingExtraError: If the package mcap is not installed.
        FirewallError: If the file can't be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        camera: str,
        others: Sequence[str] = (),
        operator: bool = False,
        size: int | None = None,
        keep: int = 10,
    ) -> None:
        self._topics: dict[str, str] = {}
        for each in (camera, *others):
            if topic_name(each) in self._topics.values():
                raise UsageError(
                    f"--output mcap:{path}: ROS has the topic /{topic_name(each)} for camera {each!r} and for another; "
                    "give them names that differ in more than - and _"
                )
            self._topics[each] = topic_name(each)
        try:
            from mcap import writer
        except ImportError as error:
            raise MissingExtraError(
                f"--output mcap:{path} needs mcap, which is not installed: pip install 'perception-firewall[mcap]'"
            ) from error
        self._mcap = writer
        self._path, self._camera, self._operator, self._size, self._keep = path, camera, operator, size, keep
        self._counts: dict[str, Counter[str]] = {each: Counter() for each in self._topics}
        self._told_at = dict.fromkeys(self._topics, float("-inf"))
        self._open()

    def report(self, report: FrameReport) -> None:
        """Write the picture, what was found in it, and the verdict lines."""
        stamp = report.verdicts[0].stamp
        when = time.time_ns() if stamp is None or stamp.time_us is None else stamp.time_us * 1000
        when = min(max(when, 0), (2**31 - 1) * 10**9)  # what a ROS time stamp can say
        name = report.camera if report.camera in self._topics else self._camera
        try:
            if report.frame is not None:
                picture = ros.compressed_image(when, name, _jpeg(report.frame.pixels))
                self._write(name, "image/compressed", when, picture)
            found = [] if report.frame is None else [_detection(verdict) for verdict in report.verdicts]
            self._write(name, "detections", when, ros.detections(when, name, found))
            counts = self._counts[name]
            for verdict in report.verdicts:
                self._write(name, "verdict", when, ros.text(json_text(verdict.line(operator=self._operator))))
                counts["released" if verdict.released else "withheld"] += 1
            counts["frames"] += report.frame is not None
            if time.monotonic() - self._told_at[name] >= _STATUS_EVERY:
                self._told_at[name] = time.monotonic()
                self._write("", "diagnostics", when, self._status(name, report, when))
            if self._size is not None and self._bytes > self._size:
                self._end()
                self._open()
        except OSError as error:
            raise self._refused(error) from error

    def close(self) -> None:
        """Write what is left and the index."""
        try:
            self._end()
        except OSError as error:
            raise self._refused(error) from error

    def _open(self) -> None:
        try:
            if self._path.is_file() and self._path.stat().st_size > 0:
                rotate(self._path, self._keep)
            self._file = self._path.open("wb")
        except OSError as error:
            raise self._refused(error) from error
        kinds = self._mcap.CompressionType
        self._writer: Any = self._mcap.Writer(self._file, chunk_size=_CHUNK, compression=kinds.NONE)
        self._writer.start(profile="ros2", library=f"perception-firewall {__version__}")
        topics = {("", "diagnostics"): ("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")}
        for camera, base in self._topics.items():
            topics[camera, "image/compressed"] = (f"/{base}/image/compressed", "sensor_msgs/msg/CompressedImage")
            topics[camera, "detections"] = (f"/{base}/detections", "vision_msgs/msg/Detection2DArray")
            topics[camera, "verdict"] = (f"/{base}/verdict", "std_msgs/msg/String")
        self._channels, schemas = {}, {}
        for key, (topic, kind) in topics.items():
            if kind not in schemas:
                schemas[kind] = self._writer.register_schema(kind, "ros2msg", ros.DEFINITIONS[kind].encode())
            more = {"offered_qos_profiles": ""}
            self._channels[key] = self._writer.register_channel(topic, "cdr", schemas[kind], more)
        self._sequence: Counter[tuple[str, str]] = Counter()
        self._bytes = 0  # of messages: the file itself grows in chunks

    def _write(self, camera: str, name: str, when: int, data: bytes) -> None:
        self._sequence[camera, name] += 1
        self._bytes += len(data)
        self._writer.add_message(self._channels[camera, name], when, data, when, self._sequence[camera, name])

    def _status(self, camera: str, report: FrameReport, when: int) -> bytes:
        first = report.verdicts[0]
        broken = report.frame is None or first.reason in _BROKEN
        bundle = None if first.stamp is None else first.stamp.bundle
        values = {
            **{key: str(self._counts[camera][key]) for key in ("frames", "released", "withheld")},
            "dropped": str(report.dropped),
            "capture restarts": str(report.restarts),
            "bundle": "" if bundle is None else f"{bundle.name} {bundle.version} {bundle.hash}",
        }
        message = first.line()["reason"] if broken else "guarding"
        level = _ERROR if broken else _OK
        return ros.diagnostics(when, camera, f"firewall: {camera}", level, str(message), values)

    def _end(self) -> None:
        try:
            self._writer.finish()
        finally:
            self._file.close()

    def _refused(self, error: OSError) -> FirewallError:
        return FirewallError(f"can't write to {self._path}: {error.strerror}")


def topic_name(camera: str) -> str:
    """A camera's name as ROS 2 allows it in a topic: letters, digits and _, no digit at the start."""
    name = camera.replace("-", "_")
    return f"camera_{name}" if name[0].isdigit() else name


def _detection(verdict: Verdict) -> ros.Detection:
    label = verdict.label if verdict.label_name is None else verdict.label_name
    return ros.Detection(
        verdict.region,
        str(label) if verdict.released else None,
        "" if verdict.track is None else str(verdict.track),
    )


def _jpeg(pixels: Pixels) -> bytes:
    picture = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
