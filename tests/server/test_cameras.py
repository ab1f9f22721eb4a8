"""Several cameras behind one page: each with its own state, and what all of them come to."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from firewall.decision.drift import DriftState
from firewall.frame import Frame
from firewall.server import HttpServer, Monitor, Watched, create_app
from firewall.server.picture import SMALL_SIDE, Picture
from firewall.sinks import FrameReport
from firewall.verdict import BundleStamp, Reason, Stamps
from tests.server.reports import Reports
from tests.server.test_app import asking, events, fetch

STAMPS = {name: Stamps(BundleStamp("hand-made", 1, "0" * 12), name) for name in ("front", "rear")}


def of(name: str, report: FrameReport) -> FrameReport:
    """The report, of this camera."""
    return replace(report, verdicts=STAMPS[name].on(report.verdicts, captured_at=time.monotonic()))


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def two() -> Monitor:
    """A monitor of a live camera and a recording, ready. Slow to call frames stale: the machine may be busy."""
    cameras = [Watched("front", "test://front", True, 33.0), Watched("rear", "rear.mp4", False)]
    monitor = Monitor(bundle="hand-made", cameras=cameras, stale_after=60.0)
    monitor.set_ready(True, "guarding")
    return monitor


@pytest.fixture
def both(two: Monitor) -> Iterator[HttpServer]:
    """Its server."""
    with HttpServer(create_app(two), "127.0.0.1", 0) as server:
        yield server


def test_each_camera_has_a_state_of_its_own(two: Monitor, reports: Reports) -> None:
    """Frames, totals, lists and latencies don't mix; a lost one is lost alone; the page's state of one camera has what
    a single camera's has, and a line about each; an unknown name shows the first."""
    two.report(of("front", reports.frame(lambda: reports.released(14, "Stop"), dropped=3)))
    two.report(of("rear", reports.frame(reports.withheld, restarts=2)))
    two.report(of("rear", reports.failure("no signal", restarts=2)))
    front, rear = two.state(0, "front"), two.state(0, "rear")
    assert (front["camera"], front["source"], front["deadline_ms"]) == ("front", "test://front", 33.0)
    assert (rear["camera"], rear["source"], rear["deadline_ms"]) == ("rear", "rear.mp4", None)
    assert front["totals"]["frames"] == rear["totals"]["frames"] == 1
    assert (front["totals"]["dropped"], rear["totals"]["dropped"], rear["totals"]["restarts"]) == (3, 0, 2)
    assert len(front["released"]) == 1 and front["withheld"] == [] and rear["released"] == []
    assert (front["status"], rear["status"], rear["detail"]) == ("guarding", "source lost", "no signal")
    assert [(each["name"], each["status"]) for each in front["cameras"]] == [
        ("front", "guarding"),
        ("rear", "source lost"),
    ]
    assert two.state(0, "nobody")["camera"] == two.state()["camera"] == "front"
    assert json.dumps(front).count("0.7312549") == 0  # what is for the operator alone
    single = Monitor(source="x", bundle="b", live=True).state()
    assert single["cameras"] == [] and set(single) == set(front)


def test_health_is_of_all_and_of_each(two: Monitor, both: HttpServer, reports: Reports) -> None:
    """Ready are all of them or not; each by its name; a recording that has ended holds up nobody; drift stands with
    its camera; an unknown name is told which there are."""
    status, body = fetch(both, "/v2/health/ready")
    assert (status, json.loads(body)["status"]) == (503, "starting")
    two.report(of("rear", reports.frame()))
    status, body = fetch(both, "/v2/health/ready")
    told = json.loads(body)
    assert (status, told["status"], told["detail"]) == (503, "starting", "front: waiting for the first frame")
    assert [(each["name"], each["ready"]) for each in told["cameras"]] == [("front", False), ("rear", True)]
    two.report(of("front", reports.frame()))
    assert fetch(both, "/v2/health/ready")[0] == 200
    two.report(of("rear", reports.failure("no signal")))
    assert two.status() == ("source lost", "rear: no signal")
    assert fetch(both, "/v2/health/ready?camera=front")[0] == 200
    two.ended("rear")
    assert two.status("rear") == ("ended", "its source has ended") and two.status() == ("guarding", "guarding")
    assert fetch(both, "/v2/health/ready")[0] == 200 and fetch(both, "/v2/health/ready?camera=rear")[0] == 503
    two.set_drift(DriftState(spoken=True, since=3, property="label", values=9), "rear")
    told = json.loads(fetch(both, "/v2/health/ready")[1])
    assert "drift" not in told and [bool(each.get("drift")) for each in told["cameras"]] == [False, True]
    assert two.drift is None
    status, body = fetch(both, "/v2/health/ready?camera=top")
    assert (status, body) == (404, b"there is no such camera; there are front, rear")
    two.ended("front")
    assert fetch(both, "/v2/health/ready")[0] == 503
    two.close()
    assert two.status() == two.status("front") == ("stopped", "the firewall has stopped; nothing is released")


def test_a_silent_camera_is_stale_alone(reports: Reports) -> None:
    """The newest frame of one live camera is old, that of the other isn't."""
    clock = Clock()
    cameras = [Watched("front", "a", True), Watched("rear", "b", True)]
    monitor = Monitor(bundle="b", cameras=cameras, clock=clock)
    monitor.set_ready(True)
    monitor.report(of("front", reports.frame(captured_at=clock.now)))
    monitor.report(of("rear", reports.frame(captured_at=clock.now)))
    assert monitor.ready
    clock.now += 4
    monitor.report(of("rear", reports.frame(captured_at=clock.now)))
    assert not monitor.ready and monitor.ready_of("rear") and not monitor.ready_of("front")
    assert monitor.status() == ("source lost", "front: no frame for more than 3 s")


def test_pictures_and_events_are_of_the_camera_that_is_asked_for(
    two: Monitor, both: HttpServer, reports: Reports
) -> None:
    """The same number in both: each gives its own picture, large or small; an unknown camera has none."""
    colours = {"front": (200, 30, 30), "rear": (30, 30, 200)}
    for name, colour in colours.items():
        report = reports.frame(colour=colour, size=(1600, 900))
        assert report.frame is not None
        numbered = Frame(report.frame.pixels, "x", 5, report.frame.captured_at)
        two.report(of(name, replace(report, frame=numbered)))
    for name, colour in colours.items():
        for more, width in (("", 1280), ("&small=1", SMALL_SIDE), ("", 1280)):
            status, body = fetch(both, f"/frame.jpg?camera={name}&sequence=5{more}")
            picture = Image.open(io.BytesIO(body))
            assert (status, picture.width) == (200, width)
            pixel = picture.convert("RGB").getpixel((width // 2, 40))
            assert all(abs(one - other) < 12 for one, other in zip(pixel, colour, strict=True))  # type: ignore[arg-type]
        with asking(both, f"/events?camera={name}") as answer:
            state = next(events(answer))
        assert state["camera"] == name and state["frame"]["sequence"] == 5
    assert fetch(both, "/frame.jpg?camera=top")[0] == 404
    assert fetch(both, "/cameras.js")[0] == 200


def test_a_small_picture_can_be_made_before_and_after_the_large_one(reports: Reports) -> None:
    """The pixels are given up when the large one is made."""
    report = reports.frame(size=(640, 400))
    assert report.frame is not None
    for first in ("small", "jpeg"):
        picture = Picture(report.frame)
        getattr(picture, first)()
        assert Image.open(io.BytesIO(picture.small())).size == (320, 200)
        assert Image.open(io.BytesIO(picture.jpeg())).size == (640, 400)
        assert picture.small() is picture.small()


def test_metrics_bear_the_cameras_name(two: Monitor, reports: Reports) -> None:
    """Every series but those of the whole; zeros from the start; one camera's counts are not another's."""
    two.report(of("front", reports.frame(dropped=4)))
    two.report(of("rear", reports.frame(lambda: reports.withheld(Reason.LATE), restarts=1)))
    two.set_drift(DriftState(spoken=True, since=1, property="label", values=2, failures=1), "rear")
    seen = {
        (
            sample.name,
            sample.labels.get("camera"),
            sample.labels.get("reason"),
            sample.labels.get("stage"),
        ): sample.value
        for family in text_string_to_metric_families(two.metrics.exposition().decode())
        for sample in family.samples
    }
    assert {camera for name, camera, *_ in seen if name != "firewall_build_info"} == {"front", "rear"}
    assert seen["firewall_frames_total", "front", "benign", None] == 1
    assert seen["firewall_frames_total", "rear", "benign", None] == 0
    assert seen["firewall_frames_total", "rear", "late", None] == 1
    assert seen["firewall_frames_dropped_total", "front", None, None] == 4
    assert seen["firewall_capture_restarts_total", "front", None, None] == 0
    assert seen["firewall_capture_restarts_total", "rear", None, None] == 1
    assert seen["firewall_drift", "rear", None, None] == 1 and seen["firewall_drift", "front", None, None] == 0
    assert seen["firewall_stage_duration_seconds_count", "front", None, "classify"] == 1
    assert seen["firewall_verdict_latency_seconds_count", "rear", None, None] == 1
