"""A ROS 2 node that guards an image topic.

    source /opt/ros/humble/setup.bash       # ROS 2 Humble or newer, with ros-$ROS_DISTRO-vision-msgs
    python3 examples/ros2/firewall_node.py --ros-args -r image:=/front/image_raw -p camera:=front

Subscribes to `image` (sensor_msgs/Image); publishes `detections` (vision_msgs/Detection2DArray) for every image, in
which a withheld region has no result that could be read, `verdict` (std_msgs/String, the verdict lines) and each second
`/diagnostics` (diagnostic_msgs/DiagnosticArray). The messages are those of `--output mcap:`.

Act on a result only if its header's stamp is fresh: a node that has died publishes nothing more.

No ROS 2 was at hand: what is published was checked against the message definitions alone (tests/test_ros2_node.py).
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np

from firewall import Firewall, Frame
from firewall.decision.over_time import over_time, served
from firewall.decision.tracks import Tracks
from firewall.errors import CameraFaultError, EngineError, FirewallError, ImageError, StaleError
from firewall.frame import Pixels
from firewall.host.output import json_text
from firewall.regions import build
from firewall.sinks import ros_messages as ros
from firewall.sources.freshness import Freshness
from firewall.verdict import BundleStamp, Reason, Stamps, Verdict

OK, ERROR, STALE = 0, 2, 3  # diagnostic_msgs/DiagnosticStatus
STALE_AFTER = 0.5  # seconds: an image that is older isn't judged, and longer silence is reported
DEADLINE = 0.1  # seconds after the image's stamp; what is judged later is withheld
CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}
BROKEN = (Reason.STALE, Reason.CAMERA_FAULT, Reason.BAD_IMAGE, Reason.ENGINE_ERROR, Reason.UNKNOWN)


class Guard:
    """Judges images as ROS 2 brings them, and answers in its messages. Whatever goes wrong withholds."""

    def __init__(self, camera: str, bundle: str = "default", regions: str = "signs", *, threads: int = 0) -> None:
        self.camera = camera
        self._guard = Firewall.load(bundle, threads=threads)
        loaded = self._guard.bundle
        self._finder = build(regions, threads=threads, bundle=loaded)
        self._tracks = Tracks(served(over_time(loaded)[0])) if regions == "signs" else None
        self._freshness = Freshness(camera, frozen_after=2.0, stale_rows=0.0, picture_faults=True, good_frames=5)
        self._stamps = Stamps(BundleStamp.of(loaded.manifest.name, loaded.manifest.version, loaded.sha256), camera)
        self._counts: Counter[str] = Counter()
        self._newest, self._stamp = float("-inf"), -1
        self._wrong = "no image has come yet"

    def judge(self, image: Any, now_ns: int) -> list[Verdict]:
        """Judge one sensor_msgs/Image.

        Args:
            image: The message.
            now_ns: Now, in nanoseconds, by the clock that stamps the images.

        Returns:
            One verdict or more.
        """
        now = time.monotonic()
        age = (now_ns - stamp_ns(image)) / 1e9
        captured_at, sequence = now - max(age, 0.0), self._counts["images"]
        self._counts["images"] += 1
        try:
            if not -STALE_AFTER <= age <= STALE_AFTER:
                raise StaleError(f"the image is {age:.3f} s old by its stamp, at most {STALE_AFTER:g} are allowed")
            if stamp_ns(image) <= self._stamp:
                raise StaleError("the image's stamp is not newer than that of the one before")
            self._stamp = stamp_ns(image)
            pixels = pixels_of(image)
            self._freshness.check(pixels, stamp_ns(image) / 1e9)
            frame = Frame(pixels, self.camera, sequence, captured_at)
            found = self._finder.find(pixels)
            verdicts = self._guard.screen_frame(frame, found, deadline=captured_at + DEADLINE)
            verdicts = verdicts if self._tracks is None else self._tracks.judge(verdicts)
        except Exception as error:  # closed by default: nothing that an image does ends the node
            verdicts = [self._refused(image, sequence, error)]
        self._newest = now
        reason = verdicts[0].line()["reason"]
        self._wrong = str(reason) if all(verdict.reason in BROKEN for verdict in verdicts) else ""
        for verdict in verdicts:
            self._counts["released" if verdict.released else "withheld"] += 1
        return self._stamps.on(verdicts, captured_at=captured_at)

    def detections(self, image: Any, verdicts: list[Verdict]) -> bytes:
        """A vision_msgs/Detection2DArray with the image's own header, serialized."""
        found = [
            ros.Detection(
                verdict.region,
                (verdict.label_name or str(verdict.label)) if verdict.released else None,
                "" if verdict.track is None else str(verdict.track),
            )
            for verdict in verdicts
            if verdict.reason not in BROKEN and verdict.reason is not Reason.NOTHING_FOUND
        ]
        return ros.detections(stamp_ns(image), image.header.frame_id, found)

    def diagnostics(self, now_ns: int) -> bytes:
        """A diagnostic_msgs/DiagnosticArray, serialized: OK while fresh images are judged."""
        silent = time.monotonic() - self._newest > STALE_AFTER
        level = STALE if silent else ERROR if self._wrong else OK
        message = self._wrong or ("no image for longer than half a second" if silent else "guarding")
        values = {key: str(self._counts[key]) for key in ("images", "released", "withheld")}
        return ros.diagnostics(now_ns, self.camera, f"firewall: {self.camera}", level, message, values)

    def _refused(self, image: Any, sequence: int, error: Exception) -> Verdict:
        reason = Reason.UNKNOWN
        for kind, known in (
            (StaleError, Reason.STALE),
            (CameraFaultError, Reason.CAMERA_FAULT),
            (EngineError, Reason.ENGINE_ERROR),
            (ImageError, Reason.BAD_IMAGE),
        ):
            if isinstance(error, kind):
                reason = known
                break
        detail = str(error) if isinstance(error, FirewallError) else type(error).__name__
        return Verdict(self.camera, sequence, (0, 0, image.width, image.height), reason=reason, detail=detail)


def stamp_ns(image: Any) -> int:
    """The time in a message's header, in nanoseconds."""
    stamp = image.header.stamp
    return int(stamp.sec) * 10**9 + int(stamp.nanosec)


def pixels_of(image: Any) -> Pixels:
    """The pixels of a sensor_msgs/Image, (H, W, 3) uint8 RGB.

    Raises:
        ImageError: If the encoding is another, or the data has not the size that the message says.
    """
    order = CHANNELS.get(image.encoding)
    if order is None:
        raise ImageError(f"the encoding must be one of {', '.join(CHANNELS)}, got {image.encoding!r}")
    channels = {"mono8": 1, "rgba8": 4, "bgra8": 4}.get(image.encoding, 3)
    height, width, step = int(image.height), int(image.width), int(image.step)
    data = np.frombuffer(bytes(image.data), np.uint8)
    if min(height, width) < 1 or step < width * channels or data.size != height * step:
        raise ImageError(f"{data.size} bytes are no {width}x{height} {image.encoding} image of {step} bytes a row")
    rows = data.reshape(height, step)[:, : width * channels].reshape(height, width, channels)
    return np.ascontiguousarray(rows[..., list(order)])


def main() -> None:
    """Guard the topic until the node is shut down."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image
    from std_msgs.msg import String
    from vision_msgs.msg import Detection2DArray

    rclpy.init()
    node = rclpy.create_node("perception_firewall")
    named = {"camera": "camera", "bundle": "default", "regions": "signs"}
    values = {name: str(node.declare_parameter(name, default).value) for name, default in named.items()}
    guard = Guard(values["camera"], values["bundle"], values["regions"])
    publish = {
        "detections": node.create_publisher(Detection2DArray, "detections", 10).publish,
        "verdict": node.create_publisher(String, "verdict", 10).publish,
        "diagnostics": node.create_publisher(DiagnosticArray, "/diagnostics", 10).publish,
    }

    def now_ns() -> int:
        return int(node.get_clock().now().nanoseconds)

    def on_image(image: Any) -> None:
        verdicts = guard.judge(image, now_ns())
        publish["detections"](guard.detections(image, verdicts))  # rclpy takes serialized messages as bytes
        for verdict in verdicts:
            publish["verdict"](ros.text(json_text(verdict.line())))

    # One image waits, the newest: an older one would only make the next verdict late.
    newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    node.create_subscription(Image, "image", on_image, newest)
    node.create_timer(1.0, lambda: publish["diagnostics"](guard.diagnostics(now_ns())))
    try:
        rclpy.spin(node)
    except KeyboardInterrupt:
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
