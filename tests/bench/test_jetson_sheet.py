"""`firewall bench jetson-sheet` on trees of files like a board's, with nvpmodel, tegrastats and sudo that are faked.

The steps are real processes; most tests give them a firewall that only says what a real one would, so that the power
mode, what is resumed and what is written are seen in seconds. One test runs the real commands on this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from firewall.bench.power_modes import PowerMode, chosen, current, modes
from firewall.bench.privacy import LEFT_OUT, without_names
from firewall.bench.sheet import Orders, run_sheet
from firewall.cli import app, run
from firewall.errors import FirewallError, UsageError
from tests.bench import boards

CHECKOUT = Path(__file__).parents[2]

#: As nvpmodel of JetPack 6: the mode lies in a file, some modes are refused, one wants a restart.
NVPMODEL = """#!/bin/sh
state="$FAKE/mode"
case "$1" in
-q) echo "NV Power Mode: MODE_$(cat "$state")"; cat "$state" ;;
-m) echo "$2" >>"$FAKE/asked"
    if [ "$2" = "$(cat "$FAKE/refused" 2>/dev/null)" ]; then
        echo "NVPM ERROR: optMask is 1, no request for power mode" >&2; exit 255
    fi
    if [ "$2" = "$(cat "$FAKE/restart" 2>/dev/null)" ]; then
        echo "NVPM WARN: Reboot required for changing to this power mode: $2"; read -r answer || exit 0
        [ "$answer" = YES ] || exit 0
    fi
    [ -e "$FAKE/slow" ] && sleep 1
    echo "$2" >"$state" ;;
esac
"""
#: Says what each command of the firewall tells, and in which mode it was asked.
FIREWALL = """import json, os, pathlib, sys, time
fake = pathlib.Path(os.environ["FAKE"])
told = [each for each in sys.argv[1:] if not each.startswith("-B")]
(fake / "ran").open("a").write(" ".join(told[:4]) + " in mode " + (fake / "mode").read_text().strip() + "\\n")
word = told[0] if told[0] != "-m" else told[1]
if (fake / "hang").exists() and word == "bench":
    (fake / "hanging").touch()
    time.sleep(120)
if (fake / "broken").exists() and word in (fake / "broken").read_text():
    sys.exit("firewall: error: " + str(fake / "secret" / "x.onnx") + " is broken on " + (fake / "host").read_text())
if word == "doctor":
    devices = ("cpu", "cuda", "tensorrt")
    print(json.dumps([{"name": f"--device {device}", "ok": device != "tensorrt"} for device in devices]))
elif word == "firewall.bench.golden":
    print(json.dumps({"frames": 9, "different": [], "networks": {}}))
else:
    file = told[told.index("--json") + 1]
    summary = {"median": 20.5, "p99": 44.0}
    if word == "export":
        parity = {"largest": 1e-5, "allowed": 1e-3}
        found = {"bundle": "b", "compared": [{"network": "n.onnx", "runtime": "r", "reference": "t", "logits": parity}]}
    else:
        series = {"latency": summary, "throughput": 40.0, "samples_ms": [1.0] * 500, "stages_ms": {}}
        rate = {"with_firewall": series, "without_firewall": series, "added": summary}
        found = dict.fromkeys(("fixed_rate", "device_times", "cold_start", "memory", "machine"))
        found |= {"complete": True, "jetson_after": None, "jetson_events": ["throttled"], "full_rate": {"normal": rate}}
        found |= {"energy": {"normal, with_firewall": {"a_frame": 0.25, "power": 14000.0}}}
        found |= {"bundle": {"name": "b", "sha256": "0", "device": "cpu", "networks": {}, "path": "/home/owner/b"}}
    pathlib.Path(file).write_text(json.dumps(found))
"""


class Board:
    """A board's files, and programs on PATH; `fake` holds what they do."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.fake, self.sheet = folder / "root", folder / "fake", folder / "sheet"
        boards.orin_nano(self.root)
        lines = ("ID=0 NAME=MAXN", "ID=1 NAME=15W", "ID=2 NAME=30W", "ID=3 NAME=50W")
        models = "".join(f"< POWER_MODEL {line} >\n" for line in lines)
        boards.write(self.root, {"etc/nvpmodel.conf": models, "proc/device-tree/serial-number": "1421022078787\0"})
        programs = folder / "bin"
        for name, content in (
            ("nvpmodel", NVPMODEL),
            ("sudo", '#!/bin/sh\n[ "$1" = -n ] && shift\nexec "$@"\n'),
            ("tegrastats", "#!/bin/sh\nwhile :; do echo 'VDD_IN 5000mW/5000mW'; sleep 0.1; done\n"),
        ):
            boards.write(programs, {name: content})
            (programs / name).chmod(0o755)
        boards.write(self.fake, {"mode": "3\n", "host": socket.gethostname(), "firewall.py": FIREWALL})
        self.programs = programs
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setenv("FAKE", str(self.fake))
        #: As sys.executable, but everything that it runs is the fake above.
        boards.write(programs, {"python": f'#!/bin/sh\nexec {sys.executable} "$FAKE/firewall.py" "$@"\n'})
        (programs / "python").chmod(0o755)
        self.said: list[str] = []

    @property
    def mode(self) -> str:
        return (self.fake / "mode").read_text().strip()

    @property
    def ran(self) -> list[str]:
        file = self.fake / "ran"
        return file.read_text().splitlines() if file.exists() else []

    def orders(self, **changes: Any) -> Orders:
        fields: dict[str, Any] = {"root": self.root, "program": (str(self.programs / "python"),), "settle": 0.0}
        return Orders(self.sheet, **{**fields, "quick": True, "yes": True, **changes})

    def run(self, *, ask: Callable[[str], bool] | None = None, **changes: Any) -> tuple[bool, dict[str, Any]]:
        complete = run_sheet(self.orders(**changes), ask=ask, say=self.said.append)
        return complete, json.loads((self.sheet / "sheet.json").read_text())


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(tmp_path, monkeypatch)


def test_every_mode_is_measured_on_every_device_and_the_old_one_is_set_again(board: Board) -> None:
    """15 W, 30 W, and the one without a limit for 60; both files hold the figures, and no samples."""
    complete, told = board.run()
    assert complete and board.mode == "3" and told["mode_before"] is None
    benches = [line for line in board.ran if line.startswith("bench")]
    assert benches == [
        f"bench --device {device} --json in mode {mode}" for mode in (1, 2, 0) for device in ("cpu", "cuda")
    ]
    assert {name: step["status"] for name, step in told["steps"].items()} == dict.fromkeys(
        (
            *("doctor", "verify", "golden frames on cpu", "golden frames on cuda"),
            *(f"{mode}, {device}" for mode in ("15W", "30W", "MAXN") for device in ("cpu", "cuda")),
        ),
        "done",
    )
    rate = told["steps"]["15W, cuda"]["found"]["full_rate"]["normal"]["with_firewall"]
    assert rate["latency"]["p99"] == 44.0 and "samples_ms" not in rate and "path" not in str(told)
    shown = (board.sheet / "sheet.md").read_text()
    assert "| 15W, cuda | 20.5 | 44 | 20.5 | 40 | 0.25 | 14 | throttled |" in shown
    assert "| n.onnx | r | t | 1e-05 | 0.001 |" in shown and "; complete." in shown and "6.2.1" in shown
    assert "power mode 3 is set again" in board.said


def test_a_mode_that_is_refused_or_wants_a_restart_fails_alone(board: Board) -> None:
    """The board isn't restarted; the other modes are measured; the next run tries only those two again."""
    boards.write(board.fake, {"refused": "1", "restart": "0"})
    complete, told = board.run()
    assert not complete and board.mode == "3"
    failed = {name: step["why"] for name, step in told["steps"].items() if step["status"] == "failed"}
    assert set(failed) == {"15W, set", "MAXN, set"}
    assert "mode 1 was asked for, and mode 3 is set: NVPM ERROR: optMask is 1" in failed["15W, set"]
    assert "Reboot required" in failed["MAXN, set"] and told["steps"]["30W, cpu"]["status"] == "done"
    before = len(board.ran)
    for name in ("refused", "restart"):
        (board.fake / name).unlink()
    complete, told = board.run()
    assert complete and board.mode == "3" and "15W, set" not in told["steps"]
    assert [line.rpartition(" ")[2] for line in board.ran[before:]] == ["1", "1", "0", "0"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_is_stopped_sets_the_old_mode_again_and_goes_on_later(board: Board, number: signal.Signals) -> None:
    """In the middle of a benchmark, pressed twice: the process that was running is gone, the steps before stay done."""
    boards.write(board.fake, {"hang": "", "slow": ""})
    code = (
        "import sys\nfrom pathlib import Path\nfrom firewall.bench.sheet import Orders, run_sheet\n"
        f"orders = Orders(Path({str(board.sheet)!r}), root=Path({str(board.root)!r}), quick=True, yes=True, settle=0,\n"
        f"                program=({str(board.programs / 'python')!r},))\n"
        "try:\n    run_sheet(orders, ask=None, say=lambda line: print(line, flush=True))\n"
        "except KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    waited = time.monotonic()
    while not (board.fake / "hanging").exists():
        assert time.monotonic() - waited < 120 and process.poll() is None
        time.sleep(0.02)
    assert board.mode == "1"
    process.send_signal(number)
    time.sleep(0.3)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and board.mode == "3" and "power mode 3 is set again" in said
    told = json.loads((board.sheet / "sheet.json").read_text())
    assert told["stopped"] and not told["complete"] and told["mode_before"] is None
    assert told["steps"]["verify"]["status"] == "done" and told["steps"]["15W, cpu"]["status"] == "interrupted"
    assert "stopped before its end" in (board.sheet / "sheet.md").read_text()

    for name in ("hang", "slow"):
        (board.fake / name).unlink()
    before = len(board.ran)
    complete, told = board.run()
    assert complete and not told["stopped"] and all(line.startswith("bench") for line in board.ran[before:])


def test_after_a_power_cut_the_old_mode_is_set_first(board: Board) -> None:
    """What was cut off in mode 1 had begun in mode 3, and the sheet knows it: not 1 is what is gone back to."""
    board.run()
    told = json.loads((board.sheet / "sheet.json").read_text())
    (board.sheet / "sheet.json").write_text(json.dumps({**told, "mode_before": 3, "steps": {}}))
    boards.write(board.fake, {"mode": "1\n", "asked": ""})
    complete, _ = board.run()
    assert complete and board.mode == "3"
    assert (board.fake / "asked").read_text().split() == ["3", "1", "2", "0", "3"]


@pytest.mark.parametrize(
    ("changes", "ask", "why"),
    [
        ({"yes": False}, None, "nobody was there to allow it; --yes does"),
        ({"yes": False}, False, "it was not allowed"),
        ({"watts": ()}, None, "only the mode that is set was asked for"),
        ({"watts": (7,)}, None, "this board has no mode of 7 W; it has MAXN, 15W, 30W, 50W"),
    ],
)
def test_without_leave_the_mode_stays(board: Board, changes: dict[str, Any], ask: bool | None, why: str) -> None:
    """It is measured in the one that is set, and the sheet says why."""
    asked: list[str] = []
    allowed = None if ask is None else lambda question: bool(asked.append(question)) or bool(ask)
    complete, told = board.run(ask=allowed, **changes)
    assert complete and board.mode == "3" and not (board.fake / "asked").exists()
    assert told["modes_not_changed"] == why and told["steps"]["the mode that was set, cpu"]["status"] == "done"
    assert why in (board.sheet / "sheet.md").read_text()
    assert asked == (
        []
        if ask is None
        else ["measure in the power modes 15W, 30W, MAXN, one after the other, and set mode 3 again at the end?"]
    )


def test_without_root_or_nvpmodel_the_mode_stays(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """sudo that wants a password nobody can give; no nvpmodel at all."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (board.programs / "sudo").write_text("#!/bin/sh\nexit 1\n")
    complete, told = board.run()
    assert complete and "takes root, and sudo can't be used here" in told["modes_not_changed"]
    (board.programs / "nvpmodel").unlink()
    complete, told = board.run(watts=(15,))
    assert complete and "nvpmodel is not there" in told["modes_not_changed"] and current() is None


def test_a_step_that_fails_is_told_and_tried_again(board: Board) -> None:
    """The others are done; its line is in both files, without the folder and the machine's name."""
    boards.write(board.fake, {"broken": "export bench"})
    complete, told = board.run()
    assert not complete and board.mode == "3"
    assert told["steps"]["verify"]["status"] == told["steps"]["30W, cpu"]["status"] == "failed"
    host = LEFT_OUT if len(socket.gethostname()) > 2 and socket.gethostname() != "localhost" else ""
    assert told["steps"]["verify"]["why"].startswith(".../x.onnx is broken on " + host)
    assert told["steps"]["golden frames on cuda"]["status"] == "done"
    (board.fake / "broken").unlink()
    assert board.run()[0]


def test_nothing_that_is_sent_back_says_whose_board_it_is(board: Board) -> None:
    """No serial number, machine id, user, machine or folder; names of packages and boards stay."""
    boards.write(board.root, {"etc/machine-id": "5f8b8e6c6a6f4c0f9a6f\n"})
    clean = without_names(board.root)
    serial = "1421022078787"
    for text, expected in (
        (f"board {serial}, id 5f8b8e6c6a6f4c0f9a6f", f"board {LEFT_OUT}, id {LEFT_OUT}"),
        ("can't read /home/owner/plans/x.plan", "can't read .../x.plan"),
        ("file ~/models/net.onnx", "file .../net.onnx"),
        ("10.0.0.7 and aa:bb:cc:dd:ee:ff", f"{LEFT_OUT} and {LEFT_OUT}"),
        ("nvidia-jetpack 6.2.1, nvidia,tegra234, 15 frames/s", "nvidia-jetpack 6.2.1, nvidia,tegra234, 15 frames/s"),
    ):
        assert clean(text) == expected
    assert clean({"a": [1, 2.5, None, True, serial]}) == {"a": [1, 2.5, None, True, LEFT_OUT]}
    board.run()
    for name in ("sheet.json", "sheet.md"):
        written = (board.sheet / name).read_text()
        assert serial not in written and "5f8b8e6c" not in written and str(board.root) not in written
        assert socket.gethostname() not in written or socket.gethostname() == "localhost"
        assert stat.S_IMODE((board.sheet / name).stat().st_mode) & 0o022 == 0


def test_which_modes_a_board_has(board: Board, tmp_path: Path) -> None:
    """By the names in nvpmodel.conf, comments left out; 60 W is the mode without a limit where none carries it."""
    known = modes(board.root)
    assert known == [
        PowerMode(0, "MAXN", None),
        PowerMode(1, "15W", 15),
        PowerMode(2, "30W", 30),
        PowerMode(3, "50W", 50),
    ]
    assert chosen(known, (15, 30, 60)) == ([known[1], known[2], known[0]], [])
    assert chosen(known, (50, 15, 15, 60, 70))[0] == [known[3], known[1], known[0]]
    taken, missing = chosen(known, (10, 15))
    assert taken == [known[1]] and missing == ["this board has no mode of 10 W; it has MAXN, 15W, 30W, 50W"]
    nano = modes(boards.orin_nano(tmp_path / "nano"))
    assert [mode.name for mode in nano] == ["15W", "25W", "MAXN_SUPER"]
    assert [mode.name for mode in chosen(nano, (15, 30, 60))[0]] == ["15W", "MAXN_SUPER"]
    assert modes(tmp_path) == [] and chosen([], (15,))[0] == []


def test_a_machine_that_is_no_jetson_and_a_folder_of_something_else(
    board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and nothing is written; a full disk and a folder that can't be made, too."""
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageError, match="this machine is no Jetson"):
        board.run(root=tmp_path / "plain")
    assert not board.sheet.exists()
    assert run(app, ["bench", "jetson-sheet", "--out", str(tmp_path / "s")], "firewall") == 2
    error = capsys.readouterr().err
    assert "no Jetson" in error and error.count("\n") == 1 and not (tmp_path / "s").exists()
    for watts in ("15,x", "0", "", "15,,30", "999"):
        assert run(app, ["bench", "jetson-sheet", "--watts", watts], "firewall") == 2
        assert "--watts takes whole watts" in capsys.readouterr().err
    for content in ("{", "[]", '{"format": 2, "steps": {}}', '{"format": 1, "steps": 3}', '{"format": 1}'):
        boards.write(board.sheet, {"sheet.json": content})
        with pytest.raises(UsageError, match="is no run sheet of this version; name another folder"):
            board.run()
    monkeypatch.setattr("firewall.bench.sheet.shutil.disk_usage", lambda _: type("Disk", (), {"free": 1e6}))
    with pytest.raises(FirewallError, match="has 1 MB left; plans and reports need 500"):
        board.run()
    (tmp_path / "file").touch()
    with pytest.raises(FirewallError, match="can't make "):
        run_sheet(Orders(tmp_path / "file" / "s", root=board.root), ask=None, say=board.said.append)


def test_a_sheet_of_another_version_begins_again(board: Board) -> None:
    """Old figures are not mixed with new ones."""
    board.run(watts=())
    told = json.loads((board.sheet / "sheet.json").read_text())
    (board.sheet / "sheet.json").write_text(json.dumps({**told, "firewall": "0.0.1"}))
    before = len(board.ran)
    assert board.run(watts=())[0] and len(board.ran) == 2 * before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_real_commands_on_this_machine(board: Board) -> None:
    """Doctor, verify, golden frames and a short benchmark on the processor: all are done, with figures."""
    complete, told = board.run(watts=(), program=(sys.executable, "-m", "firewall"))
    assert complete, told["steps"]
    found = told["steps"]["the mode that was set, cpu"]["found"]
    assert found["full_rate"]["normal"]["with_firewall"]["latency"]["median"] > 0
    assert told["steps"]["golden frames on cpu"]["found"]["different"] == []
    networks = {each["network"] for each in told["steps"]["verify"]["found"]["compared"]}
    assert {"classifier.onnx", "masked.onnx", "juror-robust.onnx", "finder.onnx"} <= networks
    assert str(CHECKOUT) not in (board.sheet / "sheet.json").read_text()


SCRIPT = CHECKOUT / "examples" / "jetson" / "run_sheet.sh"


def test_shellcheck_has_nothing_to_say() -> None:
    """Of the script that an owner starts, and of the project's other shell scripts."""
    program = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed: the 'dev' extra has it")
    scripts = (SCRIPT, CHECKOUT / "tests" / "native" / "aarch64.sh")
    done = subprocess.run([program, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_script_hands_over_to_the_command(tmp_path: Path) -> None:
    """With what was set up already, and all options; on another machine it ends with one line and does nothing."""
    python = tmp_path / "venv" / "bin" / "python"
    boards.write(tmp_path, {"venv/bin/python": '#!/bin/sh\n[ "$1" = -c ] && exit\necho "$@"\n', "tree/empty": ""})
    python.chmod(0o755)
    boards.orin_nano(tmp_path / "root")
    tools = "/usr/bin:/bin"
    for tree, code, said in (
        (tmp_path / "root/proc/device-tree", 0, "-m firewall bench jetson-sheet --yes --out a b\n"),
        (tmp_path / "tree", 2, ""),
        (tmp_path / "gone", 2, ""),
    ):
        done = subprocess.run(
            ["sh", SCRIPT, "--yes", "--out", "a b"],
            env={"PATH": tools, "VENV": str(tmp_path / "venv"), "DEVICE_TREE": str(tree), "NO_KERNELS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (code, said), done.stderr
        assert done.stderr.count("\n") == (code == 2) and ("no Jetson" in done.stderr) == (code == 2)
