"""What is printed is written, or the command says that it wasn't and ends with 1. Real processes, real file systems."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall.host.output import json_text, readable

COMMANDS = {
    "screen": ["screen", "a.png"],
    "serve": ["serve", "--http", "off", "--max-frames", "3"],
    "doctor": ["doctor"],
    "doctor --json": ["doctor", "--json"],
    "bundle show": ["bundle", "show"],
    "bundle show --json": ["bundle", "show", "--json"],
    "version": ["--version"],
}


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save("a.png")


def run(
    arguments: list[str | bytes], *, redirected: str = "", environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """The command. redirected: redirections, as in a shell's line."""
    command = ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-m", "firewall", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, timeout=120, env={**os.environ, **(environment or {})}
    )


def is_one_line(stderr: bytes, words: str) -> bool:
    """There is one error line, it has the words, and nothing looks like a traceback."""
    errors = [line for line in stderr.decode().splitlines() if line.startswith("firewall: error: ")]
    return len(errors) == 1 and words in errors[0] and b"Traceback" not in stderr and b"Exception" not in stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_one_line_and_1(command: str) -> None:
    """/dev/full as standard output of everything that prints: no exit code 0, no traceback."""
    result = run([*COMMANDS[command]], redirected=">/dev/full")
    assert result.returncode == 1
    assert is_one_line(result.stderr, "can't write")
    assert is_one_line(result.stderr, "No space left on device")


@pytest.mark.parametrize("command", ["screen", "serve", "version"])
def test_a_closed_output_is_one_line_and_1(command: str) -> None:
    """`>&-`: what was to be printed is missed, though Python itself would say nothing."""
    result = run([*COMMANDS[command]], redirected=">&-")
    assert result.returncode == 1
    assert is_one_line(result.stderr, "standard output: it is closed")


def test_a_closed_output_that_nobody_needs_is_none(tmp_path: Path) -> None:
    """A service without standard streams writes its lines to a file and ends with 0; no file is taken for a stream."""
    result = run([*COMMANDS["serve"], "--output", "jsonl:lines"], redirected="<&- >&- 2>&-")
    assert result.returncode == 0
    lines = Path("lines").read_text().splitlines()
    assert lines and all(json.loads(line)["source"] for line in lines)


def test_a_reader_that_has_gone_is_one_line_and_1() -> None:
    """EPIPE is no success: not all was read."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "firewall", "screen", "a.png", "a.png"]
    result = subprocess.run(command, check=False, stdout=write, stderr=subprocess.PIPE, timeout=120)
    os.close(write)
    assert result.returncode == 1
    assert is_one_line(result.stderr, "Broken pipe")


@pytest.mark.parametrize("output", ["-", "jsonl:lines"])
def test_a_disk_that_fills_up_later_ends_the_guard(output: str) -> None:
    """The lines up to then are whole, then one line and exit code 1; and the next run begins on a line of its own."""
    limit = 2000

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-m", "firewall", "serve", "--source", "demo?fps=0", "--http", "off", "--output", output]
    with Path("lines" if output == "-" else "stdout").open("wb") as stdout:
        result = subprocess.run(
            command, check=False, stdout=stdout, stderr=subprocess.PIPE, timeout=120, preexec_fn=small
        )
    assert result.returncode == 1
    assert is_one_line(result.stderr, "File too large")
    written = Path("lines").read_text()
    *whole, last = written.split("\n")
    assert len(written) == limit and len(whole) > 3 and all(json.loads(line)["source"] for line in whole)
    if last and output != "-":
        assert run([*COMMANDS["serve"], "--output", output]).returncode == 0
        after = Path("lines").read_text().split("\n")
        assert after[len(whole)] == last and all(json.loads(line)["source"] for line in after[len(whole) + 1 : -1])


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_lines_are_utf8_whatever_the_locale(environment: dict[str, str]) -> None:
    r"""Names with umlauts as they are, bytes of names that are no UTF-8 as \xNN; in messages too."""
    names = ["stra\xdfe \u4ea4\u901a.png".encode(), b"caf\xe9 \xff.png"]
    for name in names:
        Path(os.fsdecode(name)).write_bytes(Path("a.png").read_bytes())
    for missing in ([], [b"gone \xe9.png"]):
        result = run(["screen", *names, *missing], environment=environment)
        lines = [json.loads(line) for line in result.stdout.decode("utf-8").splitlines()]
        assert [line["source"] for line in lines[:2]] == ["stra\xdfe \u4ea4\u901a.png", "caf\\xe9 \\xff.png"]
        assert result.returncode == (1 if missing else 0)
        assert b"Traceback" not in result.stderr
        if missing:
            assert lines[2]["source"] == "gone \\xe9.png" and "gone \\xe9.png: No such file" in lines[2]["reason"]


def test_serve_names_a_source_that_is_no_utf8() -> None:
    """A folder whose name is latin-1: verdict lines are UTF-8, on stdout and in a file."""
    folder = Path(os.fsdecode(b"fa\xe7ade"))
    folder.mkdir()
    (folder / "a.png").write_bytes(Path("a.png").read_bytes())
    for output, environment in (("-", {"PYTHONIOENCODING": "latin-1"}), ("jsonl:lines", {})):
        result = run(["serve", "--http", "off", "--source", b"fa\xe7ade", "--output", output], environment=environment)
        assert result.returncode == 0, result.stderr
        told = result.stdout if output == "-" else Path("lines").read_bytes()
        (line,) = told.decode("utf-8").splitlines()
        assert "fa\\xe7ade" in json.loads(line)["source"]


def test_a_pipe_that_is_full_and_does_not_block_is_waited_for() -> None:
    """Who shares the output can have set it to non-blocking: nothing is lost then."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    command = [sys.executable, "-m", "firewall", "screen", *["a.png"] * 600]
    with subprocess.Popen(command, stdout=write) as process:
        os.close(write)
        with os.fdopen(read, "rb") as stdout:
            assert process.stderr is None
            lines = stdout.read().splitlines()
    assert process.returncode == 0 and len(lines) == 600
    assert [json.loads(line)["sequence"] for line in lines] == list(range(600))


def test_messages_that_nobody_takes_do_not_stop_the_guard() -> None:
    """Standard error on a full disk or closed: verdicts are still written."""
    for redirected in ("2>/dev/full", "2>&-"):
        result = run([*COMMANDS["serve"]], redirected=redirected)
        assert result.returncode == 0 and len(result.stdout.splitlines()) >= 3


def test_a_file_that_can_not_be_written_is_one_line_and_1() -> None:
    """Results that go to a named file, not to standard output."""
    result = run(["bundle", "keygen", "--out", "nowhere/release.key"])
    assert result.returncode in (1, 2) and is_one_line(result.stderr, "nowhere")


def test_json_text_is_always_utf8() -> None:
    """Half characters in values and keys, alone and in a row; bytes that are UTF-8 after all are read so."""
    text = os.fsdecode(b"a\xe9\xc3") + "\ud800" + "\xe4"
    for compact in (False, True):
        line = json_text({"name": [text], text: 1, "quote": '"\\\udcff"'}, compact=compact)
        found = json.loads(line.encode("utf-8"))
        assert found["name"] == ["a\\xe9\\xc3\\ud800\xe4"] and found["quote"] == '"\\\\xff"'
    assert json_text({"a": 1, "b": [2, 3]}) == '{"a": 1, "b": [2, 3]}'
    assert json_text({"a": 1, "b": [2, 3]}, compact=True) == '{"a":1,"b":[2,3]}'
    assert readable("\udcc3\udca4\udcff\n") == "\xe4\\xff\n"
    with pytest.raises(ValueError, match="JSON"):
        json_text(float("nan"))
