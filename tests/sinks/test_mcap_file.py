"""Read back by two programs that know nothing of ours: rosbags and mcap-ros2-support."""

from __future__ import annotations

import io
import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from PIL import Image
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from firewall.errors import FirewallError
from firewall.sinks.mcap_file import McapFile, topic_name
from firewall.verdict import Reason, Verdict
from tests.sinks.making import RELEASED, WITHHELD, failure, report


def record(path: Path, **given: Any) -> None:
    """Five frames, of which the third was not there."""
    recording = McapFile(path, camera="front", **given)
    for number in range(5):
        recording.report(failure(number) if number == 2 else report(number))
    recording.tick()
    recording.close()


def by_mcap_ros2(path: Path) -> dict[str, list[Any]]:
    """Topic -> messages."""
    found: dict[str, list[Any]] = {}
    with path.open("rb") as file:
        for _, channel, message, decoded in make_reader(
            file, decoder_factories=[DecoderFactory()]
        ).iter_decoded_messages():
            found.setdefault(channel.topic, []).append((message, decoded))
    return found


def check(found: dict[str, list[Any]], data: Any) -> None:
    """What record() wrote; `data` takes a message to bytes-like data."""
    assert {topic: len(messages) for topic, messages in found.items()} == {
        "/front/image/compressed": 4,
        "/front/detections": 5,
        "/front/verdict": 9,
        "/diagnostics": 1,
    }
    picture = found["/front/image/compressed"][1]
    assert (picture.format, picture.header.frame_id) == ("jpeg", "front")
    pixels = np.asarray(Image.open(io.BytesIO(bytes(data(picture)))))
    assert pixels.shape == (120, 160, 3) and np.abs(pixels.mean(axis=(0, 1)) - (41, 90, 200)).max() < 4
    lines = [json.loads(message.data) for message in found["/front/verdict"]]
    assert [line["sequence"] for line in lines] == [0, 0, 1, 1, 2, 3, 3, 4, 4]
    stamp = picture.header.stamp
    at = time.gmtime(stamp.sec)
    assert lines[2]["time"] == time.strftime("%Y-%m-%dT%H:%M:%S", at) + f".{stamp.nanosec // 1000:06d}Z"
    assert [len(each.detections) for each in found["/front/detections"]] == [2, 2, 0, 2, 2]
    released, withheld = found["/front/detections"][0].detections
    assert (released.results[0].hypothesis.class_id, released.results[0].hypothesis.score) == ("stop", 1.0)
    assert released.results[0].pose.pose.orientation.w == 1.0 and len(released.results[0].pose.covariance) == 36
    assert len(withheld.results) == 0 and (released.id, withheld.id) == ("7", "8")
    centre = released.bbox.center.position
    assert (centre.x, centre.y, released.bbox.size_x, released.bbox.size_y) == (25.0, 32.0, 30.0, 40.0)
    (status,) = found["/diagnostics"][0].status
    level = status.level if isinstance(status.level, int) else int(bytes(status.level)[0])
    assert (level, status.name, status.message, status.hardware_id) == (0, "firewall: front", "guarding", "front")
    values = {each.key: each.value for each in status.values}
    assert values["frames"] == values["released"] == values["withheld"] == "1"
    assert values["bundle"] == "traffic-signs 4 128a7be433d4" and values["dropped"] == "2"


def test_mcap_ros2_support_reads_it(tmp_path: Path) -> None:
    """Pictures, boxes, verdict lines and diagnostics, with the definitions in the file alone."""
    record(tmp_path / "drive.mcap")
    found = by_mcap_ros2(tmp_path / "drive.mcap")
    check({topic: [each for _, each in messages] for topic, messages in found.items()}, lambda each: each.data)
    message, first = found["/front/image/compressed"][0]
    assert message.log_time == first.header.stamp.sec * 10**9 + first.header.stamp.nanosec and message.sequence == 1


def test_rosbags_reads_it(tmp_path: Path) -> None:
    """As a bag of ROS 2 Humble, by its own type store; and our definitions are its own, field by field."""
    path = tmp_path / "drive.mcap"
    record(path)
    store = get_typestore(Stores.ROS2_HUMBLE)
    found: dict[str, list[Any]] = {}
    with Reader(path) as bag:
        for connection in bag.connections:
            if connection.msgtype not in store.types:
                store.register(_types(connection.msgdef.data, connection.msgtype))
        for connection, _, raw in bag.messages():
            found.setdefault(connection.topic, []).append(store.deserialize_cdr(raw, connection.msgtype))
            # What a program of ROS 2 would send is the same, byte for byte.
            again = store.serialize_cdr(found[connection.topic][-1], connection.msgtype)
            assert bytes(again) == bytes(raw), connection.topic
    check(found, lambda each: each.data)


def test_definitions_are_those_of_ros(tmp_path: Path) -> None:
    """The hashes by which ROS 2 compares types, of what we write and of what rosbags has of ROS 2 Humble."""
    from firewall.sinks.ros_messages import DEFINITIONS

    plain = get_typestore(Stores.EMPTY)
    humble = get_typestore(Stores.ROS2_HUMBLE)
    for name, definition in DEFINITIONS.items():
        plain.register({key: value for key, value in _types(definition, name).items() if key not in plain.types})
    shared = [name for name in plain.types if name in humble.types]
    assert {"sensor_msgs/msg/CompressedImage", "diagnostic_msgs/msg/DiagnosticArray"} < set(shared)
    for name in shared:
        assert plain.hash_rihs01(name) == humble.hash_rihs01(name), name


def _types(definition: str, name: str) -> Any:
    from rosbags.typesys import get_types_from_msg

    return get_types_from_msg(definition, name)


def test_a_lost_source_and_a_foolish_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first report is a failure: diagnostics say error and why. A time that no ROS stamp can hold, or none, stands
    at its end; operator's lines have scores; a nameless label is its number."""
    recording = McapFile(tmp_path / "drive.mcap", camera="front", operator=True)
    recording.report(failure(0))
    nameless = Verdict("cam", 0, (1, 2, 3, 4), True, 14, None, Reason.BENIGN)
    recording.report(report(1, nameless, stamped=False))
    monkeypatch.setattr("time.time_ns", lambda: 2**62)
    recording.report(report(2, nameless))
    monkeypatch.setattr("firewall.sinks.mcap_file._STATUS_EVERY", 0.0)
    recording.report(report(3, nameless, stamped=False))
    recording.close()
    found = by_mcap_ros2(tmp_path / "drive.mcap")
    status, later = (each.status[0] for _, each in found["/diagnostics"])
    assert status.level == 2 and status.message == "source error: unplugged"
    assert later.level == 0 and {each.key: each.value for each in later.values}["bundle"] == ""
    stamps = [each.header.stamp.sec for _, each in found["/front/detections"]]
    assert abs(stamps[1] - time.time()) < 3600 and stamps[2] == 2**31 - 1
    assert "scores" in json.loads(found["/front/verdict"][0][1].data)
    detection = found["/front/detections"][1][1].detections[0]
    assert detection.results[0].hypothesis.class_id == "14" and detection.id == ""


def test_a_full_file_makes_room_and_an_old_one_is_kept(tmp_path: Path) -> None:
    """By size, and at the start: each file is whole, none of the messages is lost."""
    path = tmp_path / "drive.mcap"
    for _ in range(2):
        record(path, size=4096, keep=20)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 4
    lines = [json.loads(decoded.data) for each in files for _, decoded in by_mcap_ros2(each).get("/front/verdict", [])]
    assert len(lines) == 18


def test_a_disk_that_is_full_is_one_line(tmp_path: Path) -> None:
    """While it is written, when a new file begins, and when it is closed."""
    (tmp_path / "full.mcap").symlink_to("/dev/full")
    for reports in (0, 200):
        recording = McapFile(tmp_path / "full.mcap", camera="front")
        with pytest.raises(FirewallError, match=r"can't write to .*full\.mcap: No space left"):
            _fill(recording, reports)
    with pytest.raises(FirewallError, match="No such file"):
        McapFile(tmp_path / "nowhere" / "v.mcap", camera="front")


def _fill(recording: McapFile, reports: int) -> None:
    try:
        for number in range(reports):
            recording.report(report(number, RELEASED, WITHHELD, size=(640, 480)))
    except FirewallError:
        with suppress(FirewallError):
            recording.close()
        raise
    recording.close()


@pytest.mark.parametrize(("camera", "topic"), [("front", "front"), ("front-left", "front_left"), ("2", "camera_2")])
def test_names_of_topics_are_those_that_ros_allows(camera: str, topic: str) -> None:
    """Letters, digits and _, and no digit at the start."""
    assert topic_name(camera) == topic
