"""`firewall serve` with several outputs, of which one hangs, one has a full disk and one has no broker."""

from __future__ import annotations

import fcntl
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import av
import pytest

from firewall.config import load_settings
from firewall.errors import ConfigError

PATIENT = 60.0  # seconds: the machine may be busy


def serve(*arguments: object) -> subprocess.Popen[str]:
    """`firewall serve`, whose standard output nobody reads."""
    command = [sys.executable, "-m", "firewall", "serve", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ready(url: str) -> dict[str, Any]:
    """What /v2/health/ready says."""
    try:
        with urllib.request.urlopen(f"{url}v2/health/ready", timeout=10) as answer:
            told: dict[str, Any] = json.load(answer)
    except urllib.error.HTTPError as error:
        told = json.load(error)
    return told


def test_outputs_that_hang_or_fail_delay_no_verdict_and_release_none(tmp_path: Path) -> None:
    """A live camera, its lines into a pipe that nobody reads, onto a full disk, to a broker that isn't there, and into
    a file and a video: the file has every frame, none late for it, in order; health and metrics tell which output
    misses what, while the guard is ready; SIGTERM ends it in time with 1 and one line that says what was not
    written."""
    file, video = tmp_path / "v.jsonl", tmp_path / "v.mp4"
    outputs = ["-", "jsonl:/dev/full", "mqtt://guard:secret@127.0.0.1:1", f"jsonl:{file}?size=100M", f"video:{video}"]
    named = [word for output in outputs for word in ("--output", output)]
    source = ("--source", "test://pattern?fps=240&size=64x64", "--regions", "whole", "--deadline-ms", "20000")
    with serve(*source, "--http", "127.0.0.1:0", *named) as process:
        try:
            assert process.stderr is not None and process.stdout is not None
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
            said = []
            while not any(line.startswith("guarding") for line in said):
                said.append(process.stderr.readline())
            url = re.findall(r"http://\S+", "".join(said))[0]
            limit = time.monotonic() + PATIENT
            # The pipe and then the queue are full after some three hundred frames.
            told: dict[str, dict[str, Any]] = {}
            while not told.get("-", {}).get("dropped"):
                assert time.monotonic() < limit, told
                time.sleep(0.1)
                told = {each["name"]: each for each in ready(url).get("outputs", [])}
            state = ready(url)
            with urllib.request.urlopen(f"{url}metrics", timeout=10) as answer:
                metrics = answer.read().decode()
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            code = process.wait(PATIENT)
        finally:
            process.kill()
    said.append(rest)
    assert state["ready"] is True
    names = ["-", "jsonl:/dev/full", "mqtt://127.0.0.1:1/firewall/camera", f"jsonl:{file}", f"video:{video}"]
    assert list(told) == names
    assert [told[name]["healthy"] for name in names] == [False, False, False, True, True]
    assert "No space left" in told[names[1]]["detail"] and "can't connect" in told[names[2]]["detail"]
    assert 'firewall_output_healthy{output="jsonl:/dev/full"} 0.0' in metrics
    assert f'firewall_output_healthy{{output="jsonl:{file}"}} 1.0' in metrics
    assert float(re.findall(r'firewall_output_dropped_total\{output="-"\} (\S+)', metrics)[0]) > 0
    assert "firewall_output_failures_total" in metrics and "firewall_output_waiting" in metrics
    assert "secret" not in "".join([*said, metrics, json.dumps(state)])
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) >= told[names[3]]["taken"] and told[names[3]]["dropped"] == 0
    sequences = [line["sequence"] for line in lines]
    assert sequences == sorted(set(sequences)) and len(lines) > 200
    assert {line["decision"] for line in lines} == {"withhold"} and "late" not in {line["reason"] for line in lines}
    with av.open(str(video)) as container:
        assert next(container.decode(video=0)).width == 64
    errors = [line for line in "".join(said).splitlines() if line.startswith("firewall: error: ")]
    assert code == 1 and len(errors) == 1 and "Traceback" not in "".join(said), said


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("jsonl:a,b", ("jsonl:a,b",)),
        ("[jsonl:a, 'mqtt://b']", ("jsonl:a", "mqtt://b")),
        ("off", ("off",)),
        ("[on, off]", ("-", "off")),
        ("-", ("-",)),
    ],
)
def test_outputs_in_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, expected: object) -> None:
    """One or a list, in the file and in the environment (a list as JSON); the command line replaces all of them."""
    (tmp_path / "s.yaml").write_text(f"output: {written!r}\n" if written == "-" else f"output: {written}\n")
    assert load_settings(tmp_path / "s.yaml").output == expected
    assert load_settings(tmp_path / "s.yaml", output=["jsonl:c"]).output == ("jsonl:c",)
    monkeypatch.setenv("FIREWALL_OUTPUT", '["jsonl:x", "mqtt://y"]')
    assert load_settings().output == ("jsonl:x", "mqtt://y")
    monkeypatch.setenv("FIREWALL_OUTPUT", "jsonl:x,y")
    assert load_settings().output == ("jsonl:x,y",)


@pytest.mark.parametrize("written", ["output:\n", "output: []\n", "output: {a: b}\n", "camera_name: 'a b'\n"])
def test_settings_that_do_not_fit(tmp_path: Path, written: str) -> None:
    """No output isn't `off`; a camera's name stands in topics."""
    (tmp_path / "s.yaml").write_text(written)
    with pytest.raises(ConfigError, match=written.partition(":")[0]):
        load_settings(tmp_path / "s.yaml")


def test_packages_of_outputs_are_imported_only_by_them() -> None:
    """The guard starts without them, and a command line without the libraries that frames need."""
    code = "import sys, firewall.{}; print(*({{'paho', 'can', 'cantools', 'mcap', 'av', 'numpy'}} & set(sys.modules)))"
    for module, there in (("service.serving", {"numpy"}), ("cli", set())):
        command = [sys.executable, "-c", code.format(module)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENT)
        assert set(done.stdout.split()) == there
