"""From frame to verdict, with and without `--cores`, while something else loads the machine.

    python benchmarks/pinned.py --json raw.json [--frames 700] [--block 80]
    python benchmarks/summary.py raw.json benchmarks/results/pinned.json && python benchmarks/tables.py

Loads: nothing of ours; two busy processes that may run on any core; two that are kept (as by taskset) to the first
core, which the pinned guard doesn't name. On a machine of two cores.

`judged`: guards that are loaded once and then given the demo's frames in turns, one frame after the other, each first
as often as the others. The clock runs from before the frame's number is written into the guard's pipe until its
verdicts are there, so waking up is inside. Between two frames all of them sleep, as a guard does that waits for its
camera.

`served`: whole runs of `firewall serve` on the demo at 15 frames a second, in turns, and the latency of its verdict
lines, from capture to verdict. The first five frames of a run don't count.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from firewall.bench.inputs import of_demo
from firewall.bench.loading import load
from firewall.bench.resampling import interval
from firewall.bench.subjects import Guarded
from firewall.host.pinning import judge_here, pinned
from firewall.regions import build

_PAUSE, _WARM_UP, _SKIPPED, _FPS = 0.01, 10, 5, 15
#: Way -> options. What each is compared with is the way before it.
JUDGED = {
    "any core, 1 thread": ("-", 1),
    "--cores 1": ("1", 1),
    "any core, 2 threads": ("-", 2),
    "--cores 0-1": ("0-1", 2),
}
SERVED = {"any core, 1 thread": ("--threads", "1"), "--cores 1": ("--cores", "1")}
#: Load -> cores of two busy processes.
LOADS: dict[str, set[int] | None] = {"none of ours": None, "two busy, any core": {0, 1}, "two busy on core 0": {0}}


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=700, help="of each way and load")
    parser.add_argument("--block", type=int, default=80, help="frames of a run of serve, five runs each")
    parser.add_argument("--worker", nargs=2, metavar=("CORES", "THREADS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        _work(None if given.worker[0] == "-" else given.worker[0], int(given.worker[1]))
        return
    from machine import machine

    about = machine()
    if about["cpus"] != len(os.sched_getaffinity(0)) or about["cpus"] != 2:
        raise SystemExit("this takes a machine of two cores, both free for it")
    found: dict[str, Any] = {"machine": about, "judged": [], "served": []}
    with ExitStack() as stack:
        guards = {way: stack.enter_context(_guard(*options)) for way, options in JUDGED.items()}
        for load_name, cores in LOADS.items():
            with _busy(cores):
                found["judged"] += _compared(load_name, _judged(guards, given.frames))
            _keep(given.json, found)
    for load_name, cores in LOADS.items():
        with _busy(cores):
            found["served"] += _compared(load_name, _served(given.block, 5))
        _keep(given.json, found)


def _keep(file: Path, found: dict[str, Any]) -> None:
    """What there is so far."""
    file.write_text(json.dumps(found) + "\n", encoding="utf-8")


def _judged(guards: dict[str, subprocess.Popen[bytes]], frames: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {way: [] for way in guards}
    ways = list(guards)
    for number in range(-_WARM_UP, frames):
        first = number % len(ways)
        for way in ways[first:] + ways[:first]:
            guard = guards[way]
            if guard.stdin is None or guard.stdout is None:
                raise SystemExit("no pipe")
            time.sleep(_PAUSE)
            guard.stdin.write(f"{max(number, 0)} {time.monotonic()}\n".encode())
            guard.stdin.flush()
            answer = float(guard.stdout.readline())
            if number >= 0:
                times[way].append(answer)
    return times


def _served(block: int, runs: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {way: [] for way in SERVED}
    for number in range(runs):
        ways = list(SERVED.items())
        for way, options in ways if number % 2 else ways[::-1]:
            with tempfile.TemporaryDirectory() as folder:
                lines = Path(folder) / "lines.jsonl"
                command = [sys.executable, "-m", "firewall", "serve", "--source", f"demo?fps={_FPS}", "--http", "off"]
                command += ["--output", f"jsonl:{lines}", "--max-frames", f"{block}", *options]
                subprocess.run(command, check=True, capture_output=True)
                ages: dict[int, float] = {}
                for line in map(json.loads, lines.read_text().splitlines()):
                    if line.get("sequence") is not None:
                        ages[line["sequence"]] = line["latency_ms"]
                times[way] += [ages[place] for place in sorted(ages)][_SKIPPED:]
    return times


def _compared(load_name: str, times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """A row for each way; of every second one also the pairs with the one before."""
    rows, before = [], np.empty(0)
    for number, (way, values) in enumerate(times.items()):
        ages = np.asarray(values)
        p50, p99 = (round(float(np.percentile(ages, q)), 3) for q in (50, 99))
        row = {
            "load": load_name,
            "way": way,
            "n": len(ages),
            "p50": p50,
            "p99": p99,
            "max": round(float(ages.max()), 3),
            "load_average": round(os.getloadavg()[1], 1),
        }
        if number % 2:
            both = min(len(ages), len(before))
            differences = ages[:both] - before[:both]
            low, high = interval(differences, 50)
            row["pairs"] = [round(float(each), 3) for each in (np.median(differences), low, high)]
        rows.append(row | {"samples_ms": [round(value, 3) for value in values]})
        before = ages
    return rows


@contextmanager
def _busy(cores: set[int] | None) -> Iterator[None]:
    """Two processes that do nothing but compute, on these cores; None: none."""
    code = "import os, sys; os.sched_setaffinity(0, {int(c) for c in sys.argv[1:]})\nwhile True: pass"
    command = [sys.executable, "-c", code, *map(str, cores or ())]
    processes = [subprocess.Popen(command) for _ in range(2 if cores else 0)]
    time.sleep(1)
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def _guard(cores: str, threads: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, __file__, "--json", os.devnull, "--worker", cores, f"{threads}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise SystemExit(f"the guard on {cores} doesn't start")
        yield process
        process.kill()


def _work(cores: str | None, threads: int) -> None:
    """A guard that is given numbers of frames."""
    with pinned(cores, threads):
        guard = load("default", None, None, "cpu", threads)
        subject = Guarded(guard, build("signs", threads=threads, bundle=guard.bundle))
        kinds = of_demo().kinds
        pictures = [picture for pair in zip(*kinds.values(), strict=False) for picture in pair]
        judge_here()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for line in sys.stdin:
            number, sent = line.split()
            subject.run(pictures[int(number) % len(pictures)])
            sys.stdout.write(f"{1e3 * (time.monotonic() - float(sent))}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
