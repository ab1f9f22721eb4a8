"""What the monitor keeps, and when it says ready and live."""

from __future__ import annotations

import json
import math
import threading
import time

import numpy as np
import pytest

from firewall.decision.drift import DriftState
from firewall.frame import Frame
from firewall.server import Monitor
from firewall.sinks.report import FrameReport
from firewall.verdict import Reason
from tests.clock import Clock
from tests.server.reports import SOURCE, Reports


def watch(clock: Clock, *, live: bool = True) -> Monitor:
    """A monitor on that clock, stale after 3 s, hung after 10 s."""
    return Monitor(source=SOURCE, bundle="b", live=live, deadline_ms=33.0, clock=clock)


def test_ready_needs_the_word_of_the_service_and_a_frame(clock: Clock, reports: Reports) -> None:
    """A live source: not ready before set_ready, nor before the first frame."""
    monitor = watch(clock)
    assert not monitor.ready
    monitor.report(reports.frame(captured_at=clock.now))
    assert not monitor.ready
    assert monitor.status()[0] == "not ready"
    monitor.set_ready(True, "guarding")
    assert monitor.ready
    assert monitor.status() == ("guarding", "guarding")

    other = watch(clock)
    other.set_ready(True)
    assert not other.ready
    assert other.status()[0] == "starting"


def test_ready_ends_when_a_live_source_falls_silent(clock: Clock, reports: Reports) -> None:
    """Three seconds without a frame is a loss, reports of failure don't hide it, and a frame ends it."""
    monitor = watch(clock)
    monitor.set_ready(True)
    monitor.report(reports.frame(captured_at=clock.now))
    clock.now += 3.0
    assert monitor.ready
    clock.now += 0.1
    monitor.report(reports.failure("the camera is gone"))
    assert not monitor.ready
    assert monitor.status() == ("source lost", "the camera is gone")
    monitor.report(reports.frame(captured_at=clock.now))
    assert monitor.ready
    assert monitor.status()[0] == "guarding"


@pytest.mark.parametrize(
    ("reason", "word"),
    [(Reason.CAMERA_FAULT, "camera fault"), (Reason.STALE, "stale"), (Reason.BAD_IMAGE, "source lost")],
)
def test_a_camera_that_gives_pictures_is_not_lost(clock: Clock, reports: Reports, reason: Reason, word: str) -> None:
    """As long as a fault lasts its name is told, also long after the last good frame; not ready by then. Once the
    reports end too, or the camera is gone, the source is lost; a frame ends it."""
    monitor = watch(clock)
    monitor.set_ready(True)
    monitor.report(reports.frame(captured_at=clock.now))
    for _ in range(40):
        clock.now += 0.5
        monitor.report(reports.failure("frozen: camera 0: it repeats one picture", reason=reason))
        assert monitor.status() == (word, "frozen: camera 0: it repeats one picture")
    assert not monitor.ready and monitor.state()["status"] == word
    clock.now += 3.1
    if word != "source lost":
        assert monitor.status() == ("source lost", "no frame for more than 3 s")
    monitor.report(reports.failure("the camera is gone"))
    assert monitor.status() == ("source lost", "the camera is gone")
    monitor.report(reports.failure("blank: camera 0: all black", reason=reason))
    assert monitor.status() == (word, "blank: camera 0: all black")
    monitor.report(reports.frame(captured_at=clock.now))
    assert monitor.status()[0] == "guarding" and monitor.ready


def test_silence_without_a_report_is_a_loss_too(clock: Clock, reports: Reports) -> None:
    """A loop that hangs reports nothing; the page must still tell."""
    monitor = watch(clock)
    monitor.set_ready(True)
    monitor.report(reports.frame(captured_at=clock.now))
    clock.now += 4.0
    assert monitor.status() == ("source lost", "no frame for more than 3 s")
    assert monitor.state()["age_s"] == 4.0


def test_files_are_never_stale(clock: Clock, reports: Reports) -> None:
    """A source that waits for its reader is ready however old its newest frame is."""
    monitor = watch(clock, live=False)
    monitor.set_ready(True)
    assert monitor.ready
    monitor.report(reports.frame(captured_at=clock.now))
    clock.now += 100.0
    assert monitor.ready
    assert monitor.status()[0] == "guarding"


def test_the_service_may_take_its_word_back(clock: Clock, reports: Reports) -> None:
    """set_ready(False) is heard at once."""
    monitor = watch(clock)
    monitor.set_ready(True)
    monitor.report(reports.frame(captured_at=clock.now))
    monitor.set_ready(False, "self-test failed")
    assert not monitor.ready
    assert monitor.status() == ("not ready", "self-test failed")


def test_live_ends_with_close_and_with_a_hung_loop(clock: Clock, reports: Reports) -> None:
    """Alive until closed; once the loop beats, a long silence is a death, and a report is a beat."""
    monitor = watch(clock)
    clock.now += 1000.0
    assert monitor.live
    monitor.beat()
    clock.now += 9.0
    monitor.report(reports.failure())
    clock.now += 9.0
    assert monitor.live
    clock.now += 2.0
    assert not monitor.live
    monitor.beat()
    assert monitor.live
    monitor.set_ready(True)
    monitor.close()
    assert not monitor.live
    assert not monitor.ready
    assert monitor.status()[0] == "stopped"


def test_the_state_counts(clock: Clock, reports: Reports) -> None:
    """Totals, reasons, drops and restarts as reported; a failure is a verdict but no frame."""
    monitor = watch(clock)
    monitor.report(reports.frame(reports.released, reports.withheld, captured_at=clock.now))
    monitor.report(reports.frame(lambda: reports.withheld(Reason.LATE), captured_at=clock.now, dropped=4))
    monitor.report(reports.failure(restarts=2))
    totals = monitor.state()["totals"]
    assert totals == {
        "frames": 2,
        "released": 1,
        "withheld": 3,
        "reasons": {"suspicious": 1, "late": 1, "source error": 1},
        "dropped": 0,
        "restarts": 2,
    }


def test_percentiles_are_of_the_last_300_verdicts_on_frames(clock: Clock, reports: Reports) -> None:
    """Nearest rank: measured values, older ones forgotten; failures and NaN don't count."""
    monitor = watch(clock)
    assert monitor.state()["latency_ms"] == {"p50": None, "p99": None, "max": None, "count": 0}
    for latency in [9000.0, *range(1, 301), math.nan]:
        monitor.report(reports.frame(lambda ms=latency: reports.released(latency_ms=float(ms)), captured_at=clock.now))  # type: ignore[misc]
    monitor.report(reports.failure())
    assert monitor.state()["latency_ms"] == {"p50": 150.0, "p99": 297.0, "max": 300.0, "count": 300}
    assert len(monitor.state()["trace"]) == 120


def test_the_rate_sinks_when_frames_stop(clock: Clock, reports: Reports) -> None:
    """Ten frames a second are told as such, and none after a silence."""
    monitor = watch(clock)
    for _ in range(60):
        clock.now += 0.1
        monitor.report(reports.frame(captured_at=clock.now))
    assert monitor.state()["fps"] == pytest.approx(10.0, abs=0.5)
    clock.now += 5.0
    assert monitor.state()["fps"] == 0


def test_a_reader_gets_only_what_is_new(clock: Clock, reports: Reports) -> None:
    """The first state is full; the next, asked for with its change, holds only sightings since."""
    monitor = watch(clock)
    monitor.report(reports.frame(reports.released, reports.withheld, captured_at=clock.now))
    first = monitor.state()
    assert first["full"]
    assert (len(first["released"]), len(first["withheld"])) == (1, 1)
    monitor.report(reports.frame(reports.withheld, captured_at=clock.now))
    second = monitor.state(first["change"])
    assert not second["full"]
    assert second["released"] == []
    assert [(s["reason"], s["count"]) for s in second["withheld"]] == [("suspicious", 2)]


def test_the_state_is_json_whatever_the_numbers(clock: Clock, reports: Reports) -> None:
    """NaN and infinity never reach the page."""
    monitor = watch(clock)
    monitor.report(reports.frame(lambda: reports.withheld(latency_ms=math.inf, suspicion=math.nan)))
    json.dumps(monitor.state(), allow_nan=False)


def test_a_report_touches_no_pixels(monitor: Monitor, reports: Reports) -> None:
    """Reporting is cheap for the frame loop: 200 frames of 67 megapixels take no time until one is asked for."""
    huge = np.broadcast_to(np.zeros((1, 1, 3), dtype=np.uint8), (8192, 8192, 3))
    started = time.process_time()
    for sequence in range(200):
        reports.sequence = sequence
        monitor.report(FrameReport(Frame(huge, SOURCE, sequence, time.monotonic()), [reports.released()]))
    assert time.process_time() - started < 1.0


def test_a_jpeg_is_made_once_for_each_frame(monitor: Monitor, reports: Reports) -> None:
    """Asked for twice it is the very same bytes; of another frame it is another."""
    assert monitor.jpeg() is None
    monitor.report(reports.frame())
    first, again = monitor.jpeg(), monitor.jpeg()
    assert first is not None
    assert again is not None
    assert first[1] is again[1]
    monitor.report(reports.frame(colour=(0, 0, 0)))
    second = monitor.jpeg()
    assert second is not None
    assert (first[0], second[0]) == (0, 1)
    assert second[1] != first[1]


def test_a_frame_that_was_told_of_can_be_fetched_a_little_later(monitor: Monitor, reports: Reports) -> None:
    """Boxes and picture belong together: the told frame stays for a while, one never told of does not."""
    monitor.report(reports.frame())
    monitor.state()
    monitor.report(reports.frame())
    monitor.report(reports.frame())
    assert [found[0] for n in (0, 1, 2) if (found := monitor.jpeg(n))] == [0, 2, 2]
    for _ in range(10):
        monitor.report(reports.frame())
        monitor.state()
    found = monitor.jpeg(0)
    assert found is not None
    assert found[0] == 12


def test_many_readers_beside_the_loop(monitor: Monitor, reports: Reports) -> None:
    """Readers in other threads neither fail nor lose a verdict while frames pour in."""
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not done.is_set():
                json.dumps(monitor.state(), allow_nan=False)
                monitor.jpeg()
                monitor.metrics.exposition()
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(300):
        monitor.report(reports.frame(reports.released, reports.withheld))
    done.set()
    for reader in readers:
        reader.join(30)
    assert failures == []
    totals = monitor.state()["totals"]
    assert (totals["frames"], totals["released"], totals["withheld"]) == (300, 300, 300)


def test_drift_is_told_and_leaves_ready_alone(monitor: Monitor, reports: Reports) -> None:
    """Before the first word there is nothing; news is that it spoke, not that another sign was seen; ready stays."""
    monitor.report(reports.frame())
    assert monitor.state()["drift"] is None and monitor.drift is None
    monitor.set_drift(DriftState(values=1))
    change = monitor.change
    monitor.set_drift(DriftState(values=2))
    assert monitor.change == change
    monitor.set_drift(DriftState(spoken=True, since=3, property="suspicion", values=3))
    assert monitor.change == change + 1 and monitor.ready and monitor.status()[0] == "guarding"
    told = monitor.state()["drift"]
    assert told["spoken"] is True and told["signs"] == 3
    assert told["line"] == "since sign 3 the suspicion differs from the calibration set (3 seen)"
