"""ROS 2 messages as bytes: plain CDR, little-endian (OMG DDSI-RTPS 10.2), and the definitions that readers need.

Only what firewall.sinks.mcap_file writes. The definitions say what ROS 2 says (common_interfaces, vision_msgs 4), with
no more than the fields.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from firewall.frame import Region

__all__ = ["DEFINITIONS", "Detection", "compressed_image", "detections", "diagnostics", "text"]

_PARTS = {
    "std_msgs/Header": "builtin_interfaces/Time stamp\nstring frame_id",
    "builtin_interfaces/Time": "int32 sec\nuint32 nanosec",
    "geometry_msgs/Point": "float64 x\nfloat64 y\nfloat64 z",
    "geometry_msgs/Quaternion": "float64 x 0\nfloat64 y 0\nfloat64 z 0\nfloat64 w 1",
    "geometry_msgs/Pose": "geometry_msgs/Point position\ngeometry_msgs/Quaternion orientation",
    "geometry_msgs/PoseWithCovariance": "geometry_msgs/Pose pose\nfloat64[36] covariance",
    "vision_msgs/Point2D": "float64 x\nfloat64 y",
    "vision_msgs/Pose2D": "vision_msgs/Point2D position\nfloat64 theta",
    "vision_msgs/BoundingBox2D": "vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/ObjectHypothesis": "string class_id\nfloat64 score",
    "vision_msgs/ObjectHypothesisWithPose": (
        "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose"
    ),
    "vision_msgs/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox2D bbox\nstring id"
    ),
    "diagnostic_msgs/KeyValue": "string key\nstring value",
    "diagnostic_msgs/DiagnosticStatus": (
        "byte OK=0\nbyte WARN=1\nbyte ERROR=2\nbyte STALE=3\n"
        "byte level\nstring name\nstring message\nstring hardware_id\ndiagnostic_msgs/KeyValue[] values"
    ),
}
_HEADER = ("std_msgs/Header", "builtin_interfaces/Time")
_WHOLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "sensor_msgs/msg/CompressedImage": ("std_msgs/Header header\nstring format\nuint8[] data", _HEADER),
    "vision_msgs/msg/Detection2DArray": (
        "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
        tuple(part for part in _PARTS if not part.startswith("diagnostic_msgs")),
    ),
    "diagnostic_msgs/msg/DiagnosticArray": (
        "std_msgs/Header header\ndiagnostic_msgs/DiagnosticStatus[] status",
        (*_HEADER, "diagnostic_msgs/DiagnosticStatus", "diagnostic_msgs/KeyValue"),
    ),
    "std_msgs/msg/String": ("string data", ()),
}
#: Name of a message -> its definition with those that it is made of, as rosbag2 writes them.
DEFINITIONS = {
    name: own + "".join(f"\n{'=' * 80}\nMSG: {part}\n{_PARTS[part]}" for part in parts)
    for name, (own, parts) in _WHOLE.items()
}


@dataclass(frozen=True)
class Detection:
    """One region.

    Attributes:
        region: (x, y, width, height) in pixels.
        label: The released label's name; None if it is withheld, and then the message has no result to read.
        track: Number of its track as text, or empty.
    """

    region: Region
    label: str | None
    track: str


class _Cdr:
    def __init__(self) -> None:
        self.data = bytearray(b"\x00\x01\x00\x00")  # little-endian

    def numbers(self, form: str, *values: float) -> None:
        """Numbers of one kind, at a multiple of their size."""
        size = struct.calcsize(form)
        self.data += bytes(-(len(self.data) - 4) % size)
        self.data += struct.pack(f"<{len(values)}{form}", *values)

    def text(self, value: str) -> None:
        """A string: its length with the zero at its end, then both."""
        content = value.encode("utf-8", "replace")
        self.numbers("I", len(content) + 1)
        self.data += content + b"\0"

    def header(self, stamp_ns: int, frame: str) -> None:
        """A std_msgs/Header."""
        self.numbers("i", stamp_ns // 10**9)
        self.numbers("I", stamp_ns % 10**9)
        self.text(frame)


def compressed_image(stamp_ns: int, frame: str, jpeg: bytes) -> bytes:
    """A sensor_msgs/CompressedImage."""
    out = _Cdr()
    out.header(stamp_ns, frame)
    out.text("jpeg")
    out.numbers("I", len(jpeg))
    out.data += jpeg
    return bytes(out.data)


def detections(stamp_ns: int, frame: str, found: Sequence[Detection]) -> bytes:
    """A vision_msgs/Detection2DArray. A withheld region is there without a result; a released one's score is 1."""
    out = _Cdr()
    out.header(stamp_ns, frame)
    out.numbers("I", len(found))
    for each in found:
        out.header(stamp_ns, frame)
        out.numbers("I", each.label is not None)
        if each.label is not None:
            out.text(each.label)
            out.numbers("d", 1.0, 0, 0, 0, 0, 0, 0, 1.0, *[0.0] * 36)  # score, position, orientation, covariance
        x, y, width, height = each.region
        out.numbers("d", x + width / 2, y + height / 2, 0.0, width, height)
        out.text(each.track)
    return bytes(out.data)


def diagnostics(stamp_ns: int, frame: str, name: str, level: int, message: str, values: Mapping[str, str]) -> bytes:
    """A diagnostic_msgs/DiagnosticArray of one status; level 0 is OK, 1 WARN, 2 ERROR, 3 STALE."""
    out = _Cdr()
    out.header(stamp_ns, frame)
    out.numbers("I", 1)
    out.numbers("B", level)
    for part in (name, message, frame):
        out.text(part)
    out.numbers("I", len(values))
    for key, value in values.items():
        out.text(key)
        out.text(value)
    return bytes(out.data)


def text(value: str) -> bytes:
    """A std_msgs/String."""
    out = _Cdr()
    out.text(value)
    return bytes(out.data)
