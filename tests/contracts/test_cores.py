"""`--cores` as a user sees it: each thread of each process, as the kernel lists it in /proc."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firewall.frame import Pixels
from firewall.host.core_list import listed

ALL = frozenset(os.sched_getaffinity(0))
FIRST, LAST = min(ALL), max(ALL)
REST = ALL - {LAST}
PATIENT = 60.0  # seconds: the machine may be busy
two_cores = pytest.mark.skipif(len(ALL) < 2, reason="this process may use one core alone")


class Guard:
    """A running command, what it says on stderr, and where its threads are."""

    def __init__(self, *arguments: object, kept_on: int | None = None) -> None:
        command = [sys.executable, "-m", "firewall", *map(str, arguments)]
        command = command if kept_on is None else ["taskset", "-c", f"{kept_on}", *command]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(iter(self.process.stderr.readline, ""))

    def until(self, words: str) -> str:
        """The first line with these words."""
        limit = time.monotonic() + PATIENT
        while time.monotonic() < limit:
            for line in list(self.said):
                if words in line:
                    return line
            time.sleep(0.05)
        pytest.fail(f"{words!r} was not said: {self.said}")

    def get(self, path: str) -> str:
        """From the live page."""
        url = self.until("http://").split("http://")[1].split("/")[0]
        with urllib.request.urlopen(f"http://{url}{path}", timeout=PATIENT) as answer:
            return str(answer.read().decode())

    def captures(self) -> list[int]:
        """Process ids of its capture processes, the oldest first."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sorted(int(pid) for task in tasks for pid in (task / "children").read_text().split())

    def threads(self, process: int | None = None) -> dict[int, frozenset[int]]:
        """Thread -> cores."""
        found = {}
        for task in Path(f"/proc/{process or self.process.pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                status = (task / "status").read_text()
                found[int(task.name)] = cores(status.split("Cpus_allowed_list:\t")[1].split("\n")[0])
        return found

    def end(self) -> None:
        """It ends as it should."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENT) == 0, self.said

    def close(self) -> None:
        """Whatever came, nothing stays behind."""
        self.process.kill()
        self.process.wait()
        self._listener.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()


def cores(text: str) -> frozenset[int]:
    """A list of the kernel's, read by another hand than the firewall's."""
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


@pytest.fixture
def start() -> Iterator[type[Guard]]:
    """Starts commands; ends them with the test."""
    started: list[Guard] = []

    class Kept(Guard):
        def __init__(self, *arguments: object, kept_on: int | None = None) -> None:
            super().__init__(*arguments, kept_on=kept_on)
            started.append(self)

    yield Kept
    for each in started:
        each.close()


def only_the_judge_is_on(core: int, guard: Guard) -> None:
    """The main thread of a guard judges there, and no other thread or process of it may come there."""
    limit = time.monotonic() + PATIENT
    while guard.threads()[guard.process.pid] != {core}:  # while it starts a process it is elsewhere itself
        assert time.monotonic() < limit
        time.sleep(0.01)
    threads = guard.threads()
    del threads[guard.process.pid]
    assert threads and set(threads.values()) == {REST}
    for capture in guard.captures():
        assert set(guard.threads(capture).values()) == {REST}


@two_cores
def test_each_thread_is_where_it_should_be_and_stays_there_when_capture_comes_again(
    start: type[Guard], tmp_path: Path
) -> None:
    """`serve --cores N` on the demo: the judging thread on N, all others (page, outputs, libraries) and the capture
    process elsewhere; the same after the capture process was killed and came again. Startup line, health and metrics
    say so."""
    output = f"jsonl:{tmp_path}/lines.jsonl"
    guard = start("serve", "--source", "demo?fps=15", "--cores", LAST, "--http", "127.0.0.1:0", "--output", output)
    said = f"judging on core {LAST}, everything else on {listed(REST)}"
    assert said in guard.until("guarding demo")
    guard.until("frames are judged")
    (capture,) = guard.captures()
    only_the_judge_is_on(LAST, guard)

    os.kill(capture, signal.SIGKILL)
    limit = time.monotonic() + PATIENT
    while guard.captures() in ([], [capture]):
        assert time.monotonic() < limit, guard.said
        time.sleep(0.05)
    only_the_judge_is_on(LAST, guard)

    health = json.loads(guard.get("/v2/health/ready"))
    assert health["cores"] == {"judging": f"{LAST}", "others": listed(REST), "stays": True}
    metrics = guard.get("/metrics")
    assert f'firewall_core{{core="{LAST}",use="judging"}} 1.0' in metrics
    assert f'firewall_core{{core="{FIRST}",use="others"}} 1.0' in metrics
    assert "firewall_judging_stays 1.0" in metrics
    os.sched_setaffinity(guard.process.pid, ALL)  # from outside, as taskset -p does
    assert "firewall_judging_stays 0.0" in guard.get("/metrics")
    assert json.loads(guard.get("/v2/health/ready"))["cores"]["stays"] is False
    guard.end()


@two_cores
def test_every_thread_of_the_networks_has_a_core_of_its_own(start: type[Guard]) -> None:
    """Two cores: as many threads by default, the judging one on the first that is named, the pools of ONNX Runtime and
    of the native runtime on the other. No core is left for the rest on a machine with two."""
    named = [LAST, FIRST]
    guard = start("serve", "--cores", f"{LAST},{FIRST}", "--http", "off", "--output", "off")
    guard.until("frames are judged")
    threads = guard.threads()
    others = ALL - {*named} or ALL
    assert threads.pop(guard.process.pid) == {LAST}
    assert {*threads.values()} <= {frozenset({FIRST}), others}
    assert sum(on == {FIRST} for on in threads.values()) >= 2  # finder and classifier at least have a pool
    guard.end()


@two_cores
def test_cameras_may_have_cores_of_their_own(start: type[Guard], tmp_path: Path) -> None:
    """Each capture process on its own; what overlaps is told once and not refused. Their readers don't judge."""
    settings = tmp_path / "two.yaml"
    settings.write_text(
        f"cores: [{LAST}]\nhttp: off\noutput: off\n"
        f"cameras:\n- {{name: one, source: 'test://pattern', cores: {LAST}}}\n"
        f"- {{name: two, source: 'test://pattern', cores: '{LAST}, {FIRST}'}}\n- {{name: three, source: demo}}\n"
    )
    guard = start("serve", "--config", settings)
    for camera in ("one", "two", "three"):
        guard.until(f"camera {camera}: state starting -> guarding")
    assert sorted(line for line in guard.said if " read on " in line) == [
        f"camera one is read on core {LAST}, which judges too\n",
        f"camera two is read on core {LAST}, which judges too\n",
        f"cameras one and two are both read on core {LAST}\n",
    ]
    found = [frozenset(guard.threads(capture).values()) for capture in guard.captures()]
    assert len(found) == 3
    assert {*found} == {frozenset({one}) for one in (frozenset({LAST}), frozenset({FIRST, LAST}), REST)}
    threads = guard.threads()
    assert threads.pop(guard.process.pid) == {LAST} and {*threads.values()} == {REST}
    guard.end()


def test_on_the_cores_that_there_are(start: type[Guard]) -> None:
    """All of them named, be it one: it judges, and says that the rest runs there too."""
    guard = start("serve", "--cores", listed(ALL), "--threads", "1", "--http", "off", "--max-frames", "5")
    assert "everything else" in guard.until("guarding demo")
    assert guard.process.wait(PATIENT) == 0
    assert "5 frames in" in guard.said[-1]


@two_cores
@pytest.mark.parametrize("command", ["serve", "gate", "screen"])
def test_a_core_that_taskset_forbids_is_one_line(command: str, start: type[Guard], tmp_path: Path) -> None:
    """Exit code 2, before anything is opened."""
    if shutil.which("taskset") is None:
        pytest.skip("taskset is not installed: apt-get install util-linux")
    arguments = [tmp_path / "none.png"] if command == "screen" else []
    guard = start(command, *arguments, "--cores", LAST, kept_on=FIRST)
    assert guard.process.wait(PATIENT) == 2
    guard._listener.join(PATIENT)
    (line,) = guard.said
    assert re.match(rf"firewall: error: (--)?cores '{LAST}': this process may not run on core {LAST}, ", line)
    assert f"but on {FIRST} " in line and "cgroup" in line


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("serve", ["--cores", "9999"], "no range of cores"),
        ("serve", ["--cores", "8000"], "there is no core 8000"),
        ("serve", ["--cores", ""], "no core is named"),
        ("serve", ["--cores", f"{FIRST},{FIRST}"], f"core {FIRST} is named twice"),
        ("serve", ["--cores", f"{FIRST}", "--threads", "2"], "2 threads need 2 cores"),
        ("gate", ["--cores", "8000"], "there is no core 8000"),
        ("gate", ["--cores", f"{FIRST}", "--threads", "3"], "3 threads need 3 cores"),
        ("screen", ["--cores", "two", "x.png"], "numbers and ranges"),
        ("bench", ["--cores", "0-"], "numbers and ranges"),
    ],
)
def test_what_cannot_be_had_is_one_line(command: str, arguments: list[str], words: str, start: type[Guard]) -> None:
    """Exit code 2."""
    guard = start(command, *arguments)
    assert guard.process.wait(PATIENT) == 2
    guard._listener.join(PATIENT)
    (line,) = guard.said
    assert words in line and line.startswith("firewall: error: ")


@two_cores
def test_the_gate_judges_on_its_core(start: type[Guard]) -> None:
    """One thread of it, and no other."""
    guard = start("gate", "--cores", LAST, "--http", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
    assert f"judging on core {LAST}, everything else on {listed(REST)}" in guard.until("gate: http")
    on = list(guard.threads().values())
    assert on.count(frozenset({LAST})) == 1 and {*on} == {frozenset({LAST}), REST}
    metrics = guard.get("/metrics")  # the first address that is said
    assert f'firewall_core{{core="{LAST}",use="judging"}} 1.0' in metrics and "firewall_judging_stays 1.0" in metrics
    guard.end()


def test_screen_says_where_it_judges(start: type[Guard], tmp_path: Path) -> None:
    """And judges."""
    Image.fromarray(np.full((40, 40, 3), 120, np.uint8)).save(tmp_path / "a.png")
    guard = start("screen", tmp_path / "a.png", "--cores", LAST)
    assert guard.process.wait(PATIENT) == 0
    guard._listener.join(PATIENT)
    assert guard.said[0].startswith(f"judging on core {LAST}, everything else ")


def test_a_benchmark_says_which_cores_it_used(benign_sign: Pixels, tmp_path: Path) -> None:
    """In its JSON and in words; two runs on other cores can't be compared."""
    Image.fromarray(benign_sign).save(tmp_path / "a.png")
    quick = ("--samples", "2", "--warm-up", "0", "--fps", "off", "--energy-seconds", "0", "--cold-starts")
    command = [sys.executable, "-m", "firewall", "bench", "--image", tmp_path / "a.png", *quick]

    def report(name: str, *options: object) -> tuple[dict[str, Any], str]:
        line = [*map(str, command), *map(str, options), "--json", str(tmp_path / name)]
        done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=PATIENT)
        return json.loads((tmp_path / name).read_text()), done.stdout

    pinned, said = report("pinned.json", 1, "--cores", LAST)
    assert (pinned["settings"]["cores"], pinned["threads"]) == (f"{LAST}", 1)
    assert pinned["machine"]["usable_cores"] == len(ALL) and pinned["cold_start"]["runs"] == 1
    where = pinned["machine"]["cores_in_use"]
    assert where.startswith(f"judging on core {LAST}, everything else ") and where in said
    free, said = report("free.json", 0, "--threads", 1)
    assert free["settings"]["cores"] is None and free["machine"]["cores_in_use"] == listed(ALL)
    assert f"any of cores {listed(ALL)}, " in said
    compared = [sys.executable, "-m", "firewall", "bench", "compare", tmp_path / "free.json", tmp_path / "pinned.json"]
    done = subprocess.run([*map(str, compared)], capture_output=True, text=True, check=True, timeout=PATIENT)
    assert f"cores: None | {LAST}" in done.stdout
