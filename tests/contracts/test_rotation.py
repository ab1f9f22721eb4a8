"""Verdict lines in a file that is moved away while the guard runs, as logrotate does."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENT = 60.0  # seconds: the machine may be busy


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`firewall serve` on a picture that comes again and again, until it is ended."""
    command = [sys.executable, "-m", "firewall", "serve", "--source", "test://pattern?fps=50", "--http", "off"]
    with subprocess.Popen(
        [*command, "--regions", "whole", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def until(true: Callable[[], object]) -> None:
    """Wait for that."""
    limit = time.monotonic() + PATIENT
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


def sequences(file: Path) -> list[int]:
    """The frames that a file's lines tell of; every line is whole."""
    return [json.loads(line)["sequence"] for line in file.read_text().splitlines()]


def has_lines(file: Path) -> bool:
    """Some are there."""
    return file.exists() and file.stat().st_size > 0


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """(exit code, error lines, all of stderr)."""
    _, said = process.communicate(timeout=PATIENT)
    return process.returncode, [line for line in said.splitlines() if line.startswith("firewall: error: ")], said


def verdicts(said: str) -> int:
    """How many there were, by the summary."""
    found = re.search(r"(\d+) labels released, (\d+) withheld", said)
    assert found is not None, said
    return int(found[1]) + int(found[2])


def test_a_moved_file_is_reopened_and_no_line_is_lost_or_doubled(tmp_path: Path) -> None:
    """Move, SIGHUP, again and again, twice also with the new file made beforehand: every frame's line is in exactly one
    of the files, in order, and the last file is the only one that still grows."""
    file = tmp_path / "verdicts.jsonl"
    moved = [tmp_path / f"verdicts.jsonl.{number}" for number in range(5)]
    with serving("--output", f"jsonl:{file}") as process:
        for number, away in enumerate(moved):
            until(lambda: has_lines(file))
            file.rename(away)
            if number % 2:
                file.touch()  # logrotate's `create`
            process.send_signal(signal.SIGHUP)
            until(lambda: has_lines(file))
        process.send_signal(signal.SIGTERM)
        code, errors, said = ended(process)
    assert code == 0 and errors == [], said
    parts = [sequences(each) for each in [*moved, file]]
    told = [sequence for part in parts for sequence in part]
    assert all(parts) and told == sorted(set(told))
    assert len(told) == verdicts(said)


def test_a_burst_of_hangups_harms_nothing(tmp_path: Path) -> None:
    """Signals in the middle of everything: all lines are whole and each is there once."""
    file = tmp_path / "verdicts.jsonl"
    with serving("--output", f"jsonl:{file}") as process:
        until(lambda: has_lines(file))
        for _ in range(300):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.003)
        process.send_signal(signal.SIGTERM)
        code, _, said = ended(process)
    told = sequences(file)
    assert code == 0 and told == sorted(set(told)) and len(told) == verdicts(said)


def test_moving_to_another_file_system_is_copying_and_deleting(tmp_path: Path) -> None:
    """The file is gone for a moment before the signal comes: that is waited for."""
    file, away = tmp_path / "verdicts.jsonl", tmp_path / "old.jsonl"
    with serving("--output", f"jsonl:{file}") as process:
        until(lambda: has_lines(file))
        shutil.copy(file, away)
        file.unlink()
        time.sleep(0.3)
        process.send_signal(signal.SIGHUP)
        until(lambda: has_lines(file))
        process.send_signal(signal.SIGTERM)
        assert ended(process)[0] == 0
    told = sequences(file)
    assert told and told == sorted(set(told))


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_deleted_file_is_one_line_and_1(tmp_path: Path, what: str) -> None:
    """Lines that nobody can ever read are as good as lost: the guard ends instead, with a line that says what to do."""
    folder = tmp_path / "log"
    folder.mkdir()
    file = folder / "verdicts.jsonl"
    with serving("--output", f"jsonl:{file}") as process:
        until(lambda: has_lines(file))
        if what == "file":
            file.unlink()
        else:
            shutil.rmtree(folder)
        code, errors, said = ended(process)
    assert code == 1 and len(errors) == 1 and "Traceback" not in said
    assert str(file) in errors[0] and "deleted" in errors[0] and "SIGHUP" in errors[0]


def test_a_file_that_can_not_be_opened_again_is_one_line_and_1(tmp_path: Path) -> None:
    """Its folder was moved away: the signal ends the guard, with a line that names the file."""
    folder = tmp_path / "log"
    folder.mkdir()
    file = folder / "verdicts.jsonl"
    with serving("--output", f"jsonl:{file}") as process:
        until(lambda: has_lines(file))
        folder.rename(tmp_path / "gone")
        process.send_signal(signal.SIGHUP)
        code, errors, said = ended(process)
    assert code == 1 and len(errors) == 1 and "Traceback" not in said
    assert str(file) in errors[0] and "No such file" in errors[0]
    assert sequences(tmp_path / "gone" / "verdicts.jsonl")


def test_a_hangup_with_lines_on_standard_output_does_what_it_did() -> None:
    """There is nothing to reopen: the process ends as one whose terminal has gone."""
    with serving() as process:
        assert process.stdout is not None and process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.communicate(timeout=PATIENT)
        assert process.returncode == -signal.SIGHUP
