"""Nothing is sent anywhere and nothing is kept outside the named folders, whatever our dependencies would like.

Each command runs as a user who has just come: empty HOME, no XDG folders, an empty folder for temporary files, and none
of the variables that keep telemetry still by chance (ONNX Runtime's is off where CI is set).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from firewall.frame import Pixels
from firewall.host.onnxruntime import ort
from tests.tracing import Surroundings, require_strace, silent, traced

CHECKOUT = Path(__file__).resolve().parents[2]
FIREWALL = (sys.executable, "-m", "firewall")
_LIBRARY = """
import sys, time
import numpy as np
from firewall import Firewall
verdict = Firewall.load("default", threads=1).screen(np.full((40, 40, 3), 90, np.uint8))
import onnxruntime  # what the program around us does afterwards is silent too
time.sleep(float(sys.argv[1]))
print(verdict.decision)
"""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder."""
    return tmp_path_factory.mktemp("q")


@pytest.fixture
def picture(tmp_path: Path, benign_sign: Pixels) -> Path:
    """A sign to judge."""
    Image.fromarray(benign_sign).save(tmp_path / "sign.png")
    return tmp_path / "sign.png"


def test_strace_would_see_the_telemetry(folder: Path) -> None:
    """ONNX Runtime by itself keeps an id and a database in the user's folder: what the tests below would catch. Fails
    too if a version of ONNX Runtime keeps to itself, so that this file can be thought over again."""
    require_strace()
    if tuple(map(int, ort.__version__.split(".")[:2])) < (1, 29):
        pytest.skip("this ONNX Runtime has no telemetry on Linux")
    trace = traced(folder, sys.executable, "-c", "import onnxruntime, time; time.sleep(1)")

    assert any("onnxruntime" in path for path in trace.outside()), trace.written
    assert any("onnxruntime" in path for path in trace.left)


def test_strace_would_see_a_connection(folder: Path) -> None:
    """A look-up of a name is seen, whatever comes of it."""
    require_strace()
    look = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect_ex(('192.0.2.1', 53))"
    assert traced(folder, sys.executable, "-c", look).sent == ["connect 192.0.2.1 port 53"]


def test_screening_is_silent(folder: Path, picture: Path) -> None:
    """`firewall screen`, and with the switch turned on by the caller too."""
    require_strace()
    trace = traced(folder, *FIREWALL, "screen", picture, ORT_DISABLE_TELEMETRY="0")

    assert '"decision": "release"' in trace.stdout
    silent(trace)
    assert trace.written == []


def test_serving_is_silent(folder: Path) -> None:
    """`firewall serve` with its capture process listens on the loopback page alone, and writes the named file alone. No
    byte code either, which the capture process would write on the first start after an installation."""
    require_strace()
    for code in (CHECKOUT / "firewall" / "demo" / "__pycache__").glob("signs.*"):
        code.unlink()
    lines = folder / "lines" / "verdicts.jsonl"
    lines.parent.mkdir()
    served = ("serve", "--max-frames", "15", "--http", "127.0.0.1:0", "--output", f"jsonl:{lines}")
    trace = traced(folder, *FIREWALL, *served)

    assert "live page: http://127.0.0.1:" in trace.stderr and lines.stat().st_size > 0
    silent(trace, lines.parent)
    assert set(trace.written) == {lines}


@pytest.mark.slow
def test_the_library_is_silent_and_stays_so(folder: Path) -> None:
    """`Firewall.load(...).screen(...)` in somebody's program, watched for longer than the telemetry waits before it
    looks up its host (10 s)."""
    require_strace()
    trace = traced(folder, sys.executable, "-c", _LIBRARY, 12)

    assert trace.stdout.strip() == "withhold"
    silent(trace)


def test_the_doctor_and_the_benchmark_are_silent(folder: Path) -> None:
    """Their child processes too."""
    require_strace()
    for name, command in (
        ("doctor", ("doctor",)),
        ("bench", ("bench", "--samples", 3, "--warm-up", 1, "--fps", "off", "--cold-starts", 1, "--energy-seconds", 0)),
        ("verify", ("bundle", "verify")),
    ):
        (folder / name).mkdir()
        silent(traced(folder / name, *FIREWALL, *command))


def test_nothing_is_kept_where_strace_is_missing(tmp_path: Path, picture: Path) -> None:
    """The same without strace, so that it holds on any machine: HOME and the temporary files stay empty."""
    around = Surroundings.below(tmp_path)
    for command in (
        (*FIREWALL, "screen", picture),
        (*FIREWALL, "serve", "--max-frames", "3", "--http", "127.0.0.1:0"),
        (sys.executable, "-c", _LIBRARY, "1"),
    ):
        environment = around.environment()
        done = subprocess.run(
            [str(part) for part in command],
            env=environment,
            cwd=around.work,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert around.left() == [] and list(around.work.iterdir()) == []


def test_one_door_to_onnx_runtime() -> None:
    """No file but firewall/host/onnxruntime.py imports ONNX Runtime, by whatever form of import; ruff says so as it is
    written, this also where ruff is made to look away or a name is given as text. A program of another environment,
    which has no firewall, switches telemetry off itself before it imports it."""
    imports = re.compile(
        r"^\s*(?:import|from)\s+onnxruntime\b|(?:import_module|__import__)\(\s*f?[\"']onnxruntime\b", re.MULTILINE
    )
    found = [
        str(path.relative_to(CHECKOUT))
        for root in ("benchmarks", "export", "firewall")
        for path in sorted((CHECKOUT / root).rglob("*.py"))
        if imports.search(path.read_text(encoding="utf-8"))
    ]
    assert found == ["benchmarks/alternatives/peer_program.py", "firewall/host/onnxruntime.py"]
    program = (CHECKOUT / found[0]).read_text(encoding="utf-8")
    assert 0 < program.index('os.environ["ORT_DISABLE_TELEMETRY"] = "1"') < program.index('"onnxruntime"')


@pytest.mark.parametrize("value", [None, "", "0", "false"])
def test_it_is_off_before_anything_of_ours_is_imported(value: str | None) -> None:
    """`import firewall` alone sets the variable, whatever it was, for this process and its children."""
    environment = {name: text for name, text in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    if value is not None:
        environment["ORT_DISABLE_TELEMETRY"] = value
    code = (
        "import firewall, os, sys, subprocess\nassert 'onnxruntime' not in sys.modules\n"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], flush=True)\n"
        "subprocess.run([sys.executable, '-c', 'import os; print(os.environ[\"ORT_DISABLE_TELEMETRY\"])'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
