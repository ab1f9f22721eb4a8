"""Outputs of several cameras: apart where a reader can't tell them apart by itself, labelled where it can."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import can
import cantools
import pytest
from mcap.reader import make_reader

from firewall.errors import UsageError
from firewall.sinks import FrameReport, Outlet, Output, open_outputs
from firewall.sinks.can_bus import DBC, CanBus, CanTarget, checksum
from firewall.sinks.mcap_file import McapFile
from firewall.sinks.mqtt import MqttTarget
from firewall.verdict import Stamps
from tests.sinks.making import STAMPS, failure, until
from tests.sinks.making import report as of_front
from tests.sinks.test_mqtt import Broker, Reader, broker, program

__all__ = ["broker", "program"]

_REAR = Stamps(STAMPS.bundle, "rear")


def rear(report: FrameReport) -> FrameReport:
    """The same of the other camera."""
    moment = time.monotonic() if report.frame is None else report.frame.captured_at
    return replace(report, verdicts=_REAR.on(report.verdicts, captured_at=moment, frame=report.frame is not None))


class Slow(Output):
    """Takes nothing until it may."""

    def __init__(self, may: threading.Event) -> None:
        self.may, self.seen = may, list[tuple[str | None, int]]()

    def report(self, report: FrameReport) -> None:
        self.may.wait()
        self.seen.append((report.camera, report.verdicts[0].sequence))

    def close(self) -> None:
        pass


def test_a_camera_that_floods_does_not_cost_the_others_their_reports() -> None:
    """A queue of eight that nobody takes from: what goes is the oldest report of the camera that has most of it, so
    the three of the quiet one are still there, and in order."""
    may = threading.Event()
    slow = Slow(may)
    outlet = Outlet("slow", lambda: slow, limit=8)
    outlet.report(of_front(0))  # in hand
    until(lambda: outlet.health().waiting == 0)
    for number in range(1, 4):
        outlet.report(rear(of_front(number)))
    for number in range(4, 20):
        outlet.report(of_front(number))
    assert outlet.health().dropped == 11
    may.set()
    outlet.close()
    assert slow.seen == [("front", 0), *[("rear", n) for n in (1, 2, 3)], *[("front", n) for n in range(15, 20)]]


def test_videos_are_one_each_and_lines_are_common(tmp_path: Path) -> None:
    """One file for each camera's pictures, which may have other sizes; one for all lines, which bear the name. With one
    camera the video's name is as it was given."""
    named = [f"video:{tmp_path}/drive.mp4", f"jsonl:{tmp_path}/v.jsonl", f"mcap:{tmp_path}/drive.mcap"]
    outlets = open_outputs(named, camera="front", others=["rear"])
    for number in range(3):
        outlets.report(of_front(number))
        outlets.report(rear(of_front(number, size=(80, 60))))
    outlets.report(failure(3))
    outlets.close()
    for camera, width, frames in (("front", 160, 4), ("rear", 80, 3)):
        with av.open(str(tmp_path / f"drive-{camera}.mp4")) as container:
            pictures = list(container.decode(video=0))
        assert (pictures[0].width, len(pictures)) == (width, frames)
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [line["camera"] for line in lines] == ["front"] * 2 + ["rear"] * 2 + ["front"] * 2 + ["rear"] * 2 + [
        *["front"] * 2,
        *["rear"] * 2,
        "front",
    ]
    assert [each.name for each in outlets.health()] == [
        f"video:{tmp_path}/drive-front.mp4",
        f"video:{tmp_path}/drive-rear.mp4",
        *named[1:],
    ]
    with (tmp_path / "drive.mcap").open("rb") as file:
        topics = [channel.topic for _, channel, _ in make_reader(file).iter_messages()]
    assert topics.count("/front/detections") == 4 and topics.count("/rear/detections") == 3
    assert topics.count("/rear/image/compressed") == 3 and topics.count("/diagnostics") == 2
    open_outputs([f"video:{tmp_path}/alone.mp4"], camera="front").close()
    assert (tmp_path / "alone.mp4").exists()


def test_topics_that_would_be_the_same_are_refused(tmp_path: Path) -> None:
    """ROS knows no - in a topic."""
    with pytest.raises(UsageError, match="ROS has the topic /rear_2 for camera 'rear_2' and for another") as caught:
        McapFile(tmp_path / "x.mcap", camera="rear-2", others=["rear_2"])
    assert "\n" not in str(caught.value)
    named = [f"video:{tmp_path}/drive.mp4"] * 2
    with pytest.raises(UsageError, match=r"drive-front\.mp4 is named twice"):
        open_outputs(named, camera="front", others=["rear"])


def test_each_camera_has_a_state_and_a_last_will_of_its_own(broker: Broker) -> None:
    """A real broker: one camera is guarding while the other's newest report is a failure; verdicts come below their
    camera's name, also where a prefix and a client's name are given."""
    uri = f"mqtt://127.0.0.1:{broker.port}/car?client_id=guard"
    names = [MqttTarget(uri, camera=name, below=True) for name in ("front", "rear")]
    assert [each.prefix for each in names] == ["car/front", "car/rear"]
    assert [each.client_id for each in names] == ["guard-front", "guard-rear"]
    assert MqttTarget("mqtt://h", camera="rear", below=True).prefix == "firewall/rear"
    readers = {name: Reader(broker.port, f"car/{name}") for name in ("front", "rear")}
    outlets = open_outputs([uri], camera="front", others=["rear"])
    outlets.report(of_front(1))
    outlets.report(rear(failure(7)))
    until(lambda: readers["front"].sequences() == [1, 1] and readers["rear"].sequences() == [7])
    assert readers["front"].states()[:2] == ["withhold", "guarding"] and readers["rear"].states() == ["withhold"]
    outlets.report(rear(of_front(8)))
    until(lambda: readers["rear"].states()[:2] == ["withhold", "guarding"])
    outlets.close()
    assert [each.healthy for each in outlets.health()] == [True, True]
    for each in readers.values():
        each.close()


def received(bus: Any) -> list[tuple[int, str, dict[str, Any]]]:
    """Place of the camera, name of the message and its signals, by the DBC that ships."""
    database = cantools.database.load_file(DBC)
    found = []
    while (got := bus.recv(0.05)) is not None:
        place, kind = divmod(got.arbitration_id - 0x6F0, 4)
        message: Any = database.get_message_by_frame_id(0x6F0 + kind)
        assert got.data[7] == checksum(got.arbitration_id, bytes(got.data[:7]) + b"\0")
        found.append((place, message.name, message.decode(got.data, decode_choices=False)))
    return found


def test_each_camera_has_identifiers_counters_and_a_state_of_its_own_on_the_bus() -> None:
    """The first camera has those of the DBC, the second those four further on. While one floods, the silent one's state
    still comes, and says that its labels may not be used."""
    receiver = can.Bus(interface="virtual", channel="several")
    bus = CanTarget("can://several?interface=virtual&stale_ms=60000", ["front", "rear"]).connect()
    assert isinstance(bus, CanBus)
    bus.tick()
    bus.report(of_front(1))
    bus.report(rear(of_front(9)))
    bus.report(rear(failure(10)))
    until(lambda: time.sleep(0.15) or True)
    for number in range(2, 5):
        bus.report(of_front(number))
    bus.close()
    messages = received(receiver)
    receiver.shutdown()
    states: dict[int, list[tuple[int, int, int]]] = {0: [], 1: []}
    for place, name, signals in messages:
        if name == "FirewallState":
            states[place].append((signals["StateCounter"], signals["Guarding"], signals["Sequence"]))
    assert states[0] == [(0, 0, 0), (1, 1, 1), (2, 1, 2), (3, 1, 3), (4, 1, 4), (5, 0, 4)]
    assert states[1] == [(0, 0, 0), (1, 1, 9), (2, 0, 10), (3, 0, 10), (4, 0, 10)]
    labels = [(place, signals["Label"]) for place, name, signals in messages if name == "FirewallVerdict"]
    assert labels[:5] == [(0, 14), (0, 1023), (1, 14), (1, 1023), (1, 1023)]


@pytest.mark.parametrize(
    ("more", "cameras", "words"),
    [
        ("&step=1", 2, "FirewallVerdict of camera c0 would have one identifier, 0x6F1"),
        ("", 80, "would have the identifier 0x800, past the last one 0x7FF"),
        ("&step=0", 2, "option 'step' .* must be a whole number from 1"),
    ],
)
def test_identifiers_that_do_not_fit_are_one_line(more: str, cameras: int, words: str) -> None:
    """Two cameras on one identifier, or one past the last: refused before the bus is opened."""
    with pytest.raises(UsageError, match=words) as caught:
        CanTarget(f"can://can0?interface=virtual{more}", [f"c{number}" for number in range(cameras)])
    assert "\n" not in str(caught.value)
