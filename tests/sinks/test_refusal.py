"""What is written of a start that was refused, and when it is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firewall.sinks import open_outputs, refusal
from firewall.sinks.audit_log import audit_files
from firewall.sinks.refusal import leave_refusal
from tests.sinks.making import report


def _refused(folder: Path) -> list[str]:
    files = audit_files(folder)
    lines = [json.loads(line) for number in sorted(files) for line in files[number].read_text().splitlines()]
    return [line["why"] for line in lines if line["event"] == "refused"]


def test_the_same_refusal_is_written_once_until_something_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a unit that is started again every two seconds has no older files deleted. Another cause, a guard that ran
    meanwhile, and an hour later: it is written."""
    folder = tmp_path / "log"
    named = ["-", f"audit:{folder}?keep=20"]
    for _ in range(3):
        leave_refusal(named, "no bundle", {"settings_sha256": "a"})
    assert _refused(folder) == ["no bundle"]
    leave_refusal(named, "no key", {})
    leave_refusal(named, "no bundle", {})
    assert _refused(folder) == ["no bundle", "no key", "no bundle"]
    ran = open_outputs(named[1:], camera="front")
    ran.report(report(0))
    ran.close()
    leave_refusal(named, "no bundle", {})
    leave_refusal(named, "no bundle", {})
    assert len(_refused(folder)) == 4
    monkeypatch.setattr(refusal, "AGAIN", 0.0)
    leave_refusal(named, "no bundle", {})
    assert len(_refused(folder)) == 5
    for line in audit_files(folder)[1].read_text().splitlines()[:1]:
        assert json.loads(line)["settings_sha256"] == "a"


def test_a_log_that_can_not_be_written_is_left_alone(tmp_path: Path) -> None:
    """A folder that isn't there, options that are none, a log that another guard writes: no error, no record."""
    leave_refusal([f"audit:{tmp_path}/no/log", "audit:", f"audit:{tmp_path}/log?colour=red"], "why", {})
    other = open_outputs([f"audit:{tmp_path}/log"], camera="front")
    leave_refusal([f"audit:{tmp_path}/log"], "why", {})
    other.close()
    assert _refused(tmp_path / "log") == []
