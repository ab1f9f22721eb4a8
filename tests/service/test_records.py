"""What the audit log of a real guard holds besides verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from firewall.cli import app, run
from firewall.frame import Pixels
from firewall.sinks.audit_check import check_audit
from firewall.sinks.audit_log import audit_files


def records(folder: Path, *events: str) -> list[dict[str, Any]]:
    """All records of an audit log, or those of some kinds."""
    files = audit_files(folder)
    found = [json.loads(line) for number in sorted(files) for line in files[number].read_text().splitlines()]
    return [record for record in found if not events or record["event"] in events]


@pytest.fixture
def pictures(tmp_path: Path, benign_sign: Pixels) -> Path:
    """A folder with three pictures of a sign."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(benign_sign).save(folder / f"{number}.png")
    return folder


def guard(log: Path, *more: str, regions: Sequence[str] = ("--regions", "whole")) -> int:
    """`firewall serve` with that audit log, to its end."""
    options = ["--http", "off", "--threads", "1", *regions, "--output", "-", "--output", f"audit:{log}", *more]
    return run(app, ["serve", *options], "firewall")


def test_each_change_of_state_is_a_record_and_a_line(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the start to the end, with its cause and both clocks, in the order of the verdicts; the same on stderr."""
    log = tmp_path / "log"
    assert guard(log, "--source", str(pictures)) == 0
    told = records(log, "state")
    assert [(each["before"], each["state"], each["cause"]) for each in told] == [
        ("starting", "guarding", "frames are judged"),
        ("guarding", "stopped", "the firewall has stopped (all sources have ended); nothing is released"),
    ]
    assert all(each["camera"] == "camera" and each["time"].endswith("Z") and each["monotonic_ns"] for each in told)
    assert [each["event"] for each in records(log, "start", "verdict", "state", "stop")][-2:] == ["state", "stop"]
    assert check_audit(log).faults == []
    err = capsys.readouterr().err
    assert "\nstate starting -> guarding: frames are judged\n" in err and "\nstate guarding -> stopped: " in err


def test_the_record_of_two_cameras_names_them(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One camera that is not there: the other is guarded, and log and lines say which is which."""
    log = tmp_path / "log"
    assert guard(log, "--source", str(pictures), "--source", "http://127.0.0.1:9/none", "--max-frames", "6") == 0
    told = {(each["camera"], each["state"]) for each in records(log, "state")}
    assert {("camera1", "guarding"), ("camera2", "source lost"), ("camera2", "stopped")} <= told
    assert "\ncamera camera2: state starting -> source lost: " in capsys.readouterr().err
