"""Rows of long certifications survive whatever stops the process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from firewall.errors import FirewallError
from firewall.lab.certification.journal import Journal
from firewall.transforms import resize
from tests.lab.certification.test_sweeps import _drawn
from tests.lab.in_process import lab


def test_rows_are_known_again_but_not_of_other_settings_nor_half_of_one(tmp_path: Path) -> None:
    """A line that was cut off is made anew, whole ones aren't; other settings begin anew; in the end it is gone."""
    result = tmp_path / "out" / "r.json"
    first = Journal(result, {"area": 0.02})
    for index in (3, 5):
        first.row(index, lambda: {"label": 1})
    path = result.with_name("r.json.rows")
    path.write_text(path.read_text() + '{"index": 7, "lab')

    again = Journal(result, {"area": 0.02})
    rows = [again.row(index, lambda: {"label": 4}) for index in (3, 5, 7)]
    assert rows == [{"index": 3, "label": 1}, {"index": 5, "label": 1}, {"index": 7, "label": 4}]
    other = Journal(result, {"area": 0.01})
    assert other.row(3, lambda: {"label": 2})["label"] == 2
    other.done()
    assert not path.exists()
    assert Journal().row(1, lambda: {"label": 0}) == {"index": 1, "label": 0}


def test_a_journal_that_is_none_is_an_error(tmp_path: Path) -> None:
    """Rows that can't be read aren't thrown away in silence."""
    settings = {"area": 0.02}
    (tmp_path / "r.json.rows").write_text(json.dumps(settings) + "\n{}\n")
    with pytest.raises(FirewallError, match="take the file away"):
        Journal(tmp_path / "r.json", settings)


def test_a_killed_certification_goes_on(tmp_path: Path) -> None:
    """SIGKILL in the midst of it: the same command keeps the rows that were there and ends with the same result."""
    for label in (12, 13, 14, 17):
        folder = tmp_path / "signs" / f"{label:02d}"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "a.png"), resize(_drawn(label), 48, 48)[..., ::-1])
    out = tmp_path / "r.json"
    command = ["certify", "patch", "--dataset", f"folder:{tmp_path / 'signs'}", "--limit", "4", "--masks", "4"]
    journal = out.with_name("r.json.rows")
    line = [sys.executable, "-m", "firewall", "lab", *command, "--json", str(out)]
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (journal.is_file() and journal.read_text().count("\n") >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = [json.loads(line) for line in journal.read_text().split("\n")[1:-1]]
    assert kept and not out.exists()
    marked = {**kept[0], "recovered": 99}  # to be told from a row that is made anew
    lines = journal.read_text().split("\n")
    journal.write_text("\n".join([lines[0], json.dumps(marked), *lines[2:]]))

    assert lab(*command, "--json", out).returncode == 0
    assert lab(*command, "--json", tmp_path / "whole.json").returncode == 0

    rows, whole = (json.loads(path.read_text())["rows"] for path in (out, tmp_path / "whole.json"))
    assert rows[0] == marked and rows[1:] == whole[1:] and len(whole) == 4
    assert not journal.exists()
