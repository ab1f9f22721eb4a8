"""A guard that is late too often: the state `overloaded`, where it shows, and the way back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from firewall.cli import app, run
from firewall.config import load_settings
from firewall.errors import ConfigError
from firewall.server import HttpServer, Monitor, Watched, create_app
from firewall.sinks.audit_check import check_audit
from firewall.verdict import BundleStamp, Reason, Stamps
from tests.clock import Clock
from tests.server.reports import SOURCE, Reports
from tests.server.test_app import fetch
from tests.service.test_records import records


def take(monitor: Monitor, clock: Clock, reports: Reports, letters: str) -> str:
    """The first letter of the state after each of these: l a late frame, f one in time, x a loss, c a frame after one,
    t one while the self-test fails, s a long silence."""
    told = ""
    for letter in letters:
        clock.now += 0.03
        if letter == "s":
            clock.now += 60
        elif letter == "x":
            monitor.report(reports.failure("unplugged"))
        else:
            reason = {"l": Reason.LATE, "t": Reason.SELF_TEST}.get(letter)
            report = reports.frame(
                (lambda r=reason: reports.withheld(r)) if reason else reports.released, captured_at=clock.now
            )
            monitor.report(replace(report, returning="golden frames first") if letter == "c" else report)
        told += monitor.status()[0][0]
    return told


@pytest.fixture
def monitor(clock: Clock) -> Monitor:
    """Of a live camera; four late of six are too many."""
    monitor = Monitor(source=SOURCE, bundle="b", live=True, overload=(4, 6), clock=clock)
    monitor.set_ready(True, "guarding")
    return monitor


@pytest.mark.parametrize(
    ("letters", "states"),
    [
        ("lflflflfl", "ggggggggg"),  # never four of six
        ("lllfl", "ggggo"),
        ("llll", "gggo"),
        ("llllffff", "gggoooog"),
        ("lllxlll", "gggsggg"),  # what was before a loss does not count
        ("lllcflll", "gggrgggg"),
        ("llltlll", "ggggggg"),
        ("lllslll", "gggsggg"),
        ("llllxl", "gggosg"),
        ("llllllllllllffffffl", "ggg" + "o" * 12 + "gggg"),
    ],
)
def test_so_many_of_so_many_and_half_as_many_to_come_back(
    monitor: Monitor, clock: Clock, reports: Reports, letters: str, states: str
) -> None:
    """The state after each frame."""
    assert take(monitor, clock, reports, letters) == states


def test_it_never_is_where_that_is_switched_off(clock: Clock, reports: Reports) -> None:
    """`late: 0`, and a monitor that was told nothing."""
    for overload in ((0, 6), None):
        monitor = Monitor(source=SOURCE, bundle="b", live=True, overload=overload, clock=clock)
        monitor.set_ready(True)
        assert take(monitor, clock, reports, "l" * 20) == "g" * 20


def test_page_health_and_metrics_name_it(monitor: Monitor, clock: Clock, reports: Reports) -> None:
    """With how many of how many; ready stays: each label is still judged by its own age. Of two cameras the one that
    is overloaded is named."""
    take(monitor, clock, reports, "llll")
    with HttpServer(create_app(monitor), "127.0.0.1", 0) as server:
        status, body = fetch(server, "/v2/health/ready")
        told = json.loads(body)
        assert (status, told["status"], told["detail"]) == (200, "overloaded", "4 of 4 frames were judged too late")
        assert b'firewall_state{state="overloaded"} 1.0' in fetch(server, "/metrics")[1]
    assert monitor.state()["status"] == "overloaded"
    two = Monitor(bundle="b", cameras=[Watched("a", "a", True), Watched("b", "b", True)], overload=(1, 2), clock=clock)
    two.set_ready(True)
    for name, reason in (("a", Reason.LATE), ("b", Reason.SUSPICIOUS)):
        report = reports.frame(lambda r=reason: reports.withheld(r), captured_at=clock.now)  # type: ignore[misc]
        stamps = Stamps(BundleStamp("b", 1, "0" * 12), name)
        two.report(replace(report, verdicts=stamps.on(report.verdicts, captured_at=clock.now)))
    assert two.status() == ("overloaded", "a: 1 of 1 frames were judged too late") and two.ready


def test_a_real_guard_is_overloaded_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A live source and a deadline that no verdict can meet: the change is a line and a record of the audit log, and no
    label came out."""
    log, settings = tmp_path / "log", tmp_path / "s.yaml"
    settings.write_text("overload: {late: 3, frames: 4}\ndeadline_ms: 0.001\nregions: whole\nthreads: 1\n")
    options = ["--source", "test://pattern?fps=10", "--http", "off", "--max-frames", "8", "--output", f"audit:{log}"]
    assert run(app, ["serve", "--config", str(settings), *options], "firewall") == 0
    changes = [(each["before"], each["state"], each["cause"]) for each in records(log, "state")]
    assert ("guarding", "overloaded", "3 of 3 frames were judged too late") in changes
    assert all(each["verdict"]["decision"] == "withhold" for each in records(log, "verdict"))
    assert "state guarding -> overloaded: 3 of 3 frames were judged too late" in capsys.readouterr().err
    assert check_audit(log).faults == []


def test_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the last 300 frames unless said otherwise; off; what can't be is one line that names the setting."""
    told = load_settings().overload
    assert (told.late, told.frames) == (150, 300)
    monkeypatch.setenv("FIREWALL_OVERLOAD__LATE", "off")
    assert load_settings().overload.late == 0
    monkeypatch.delenv("FIREWALL_OVERLOAD__LATE")
    for wrong, words in (
        ({"late": 301}, "of 300 frames no more than 300 can be late"),
        ({"late": -1}, "overload.late"),
        ({"frames": 0}, "overload.frames"),
        ({"of": 5}, "unknown setting 'overload.of'; known settings: late, frames"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_settings(overload=wrong)
