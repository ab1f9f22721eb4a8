"""Several cameras in one process, against as many processes: verdicts a second, age, drops, processor time and memory.

    python benchmarks/cameras.py [--cameras 1,2,4,8] [--fps 10] [--seconds 20] [--json FILE]

Each camera is a recording of the demo's drive (640x400) as a network camera sends it: MJPEG over HTTP, so many pictures
a second, whether or not anybody keeps up. For each number of cameras one process guards all of them, then one process
each, one after the other: first as they are, when each of them gets as much of a busy machine as the one process did;
then (even) with a lower priority, so that all together get about as much as it did. Age is from capture to the
verdict's way out; a frame that nobody looked at counts as dropped. Processor time is that of the guards and their
capture processes, memory their proportional share (PSS). What else the machine does is its load, which is written down.
"""

from __future__ import annotations

import argparse
import http.server
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from machine import machine

from firewall.bundle import load_bundle
from firewall.demo.source import DemoReader

_PATIENCE = 300.0  # seconds until all cameras have given a frame
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Serve, guard, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", default="1,2,4,8")
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--deadline-ms", type=float, default=1000.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    server = serve(arguments.fps)
    uri = f"http://127.0.0.1:{server.server_address[1]}/"
    bundle = load_bundle()
    result: dict[str, Any] = {
        "machine": machine(),
        "bundle": {"name": bundle.manifest.name, "sha256": bundle.sha256},
        "fps": arguments.fps,
        "size": "640x400",
        "seconds": arguments.seconds,
        "deadline_ms": arguments.deadline_ms,
        "rows": [],
    }
    for count in map(int, arguments.cameras.split(",")):
        for processes, even in dict.fromkeys(((1, False), (count, False), (count, count > 1))):
            row = guarded(uri, count, processes, arguments.seconds, arguments.deadline_ms, even=even)
            result["rows"].append(row)
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()
    server.shutdown()
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def serve(fps: float) -> http.server.ThreadingHTTPServer:
    """A network camera that as many may watch as like."""
    drive = [pixels for pixels, _ in DemoReader({"fps": "0", "loop": "0"})]
    pictures = [cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes() for pixels in drive]

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
            self.end_headers()
            began, number = time.monotonic(), 0
            with suppress(OSError):
                while True:
                    time.sleep(max(0.0, began + number / fps - time.monotonic()))
                    picture = pictures[number % len(pictures)]
                    head = f"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    self.wfile.write(head.encode() + picture + b"\r\n")
                    number += 1

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def guarded(
    uri: str, cameras: int, processes: int, seconds: float, deadline_ms: float, *, even: bool
) -> dict[str, Any]:
    """So many cameras in one process, or one in each of as many."""
    names = [f"camera{number}" for number in range(cameras)]
    shares = [names] if processes == 1 else [[name] for name in names]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.jsonl" for number in range(len(shares))]
        # A step of `nice` is a fifth less of a processor that others want.
        nice = round(math.log(processes) / math.log(1.25)) if even else 0
        guards = [start(uri, share, file, deadline_ms, nice) for share, file in zip(shares, files, strict=True)]
        try:
            limit = time.monotonic() + _PATIENCE
            while {line["camera"] for line in lines(files) if line["frame_id"]} != set(names):
                if time.monotonic() > limit:
                    raise SystemExit("not all cameras came up")
                time.sleep(0.5)
            begin, worked, load = time.monotonic(), processor_seconds(guards), os.getloadavg()[0]
            time.sleep(seconds)
            end, memory = time.monotonic(), sum(map(pss_mb, family(guards)))
            worked = processor_seconds(guards) - worked
        finally:
            for guard in guards:
                guard.send_signal(signal.SIGTERM)
            for guard in guards:
                guard.wait()
        told = [line for line in lines(files) if begin <= line["monotonic_ns"] / 1e9 < end]
    seen = [line for line in told if line["frame_id"]]
    by_frame = {line["frame_id"]: line for line in seen}
    ages = [line["age_ms"] for line in by_frame.values()]
    dropped = 0
    for name in names:
        numbers = {line["sequence"] for line in told if line["camera"] == name}
        dropped += max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0
    return {
        "cameras": cameras,
        "processes": processes,
        "even": even,
        "verdicts_a_second": round(len(seen) / seconds, 1),
        "frames_a_second": round(len(by_frame) / seconds, 1),
        "age_ms": {"p50": round(float(np.percentile(ages, 50)), 1), "p99": round(float(np.percentile(ages, 99)), 1)},
        "late": round(sum(line["reason"].startswith("late") for line in seen) / len(seen), 3),
        "dropped": round(dropped / (dropped + len(by_frame)), 3),
        "processor_ms_a_frame": round(1e3 * worked / len(by_frame), 1),
        "memory_mb": round(memory),
        "load": round(load, 1),
    }


def start(uri: str, names: list[str], file: Path, deadline_ms: float, nice: int) -> subprocess.Popen[bytes]:
    """A guard of these cameras."""
    named = [word for name in names for word in ("--source", uri, "--camera-name", name)]
    more = ("--http", "off", "--output", f"jsonl:{file}", "--deadline-ms", str(deadline_ms))
    command = ["nice", "-n", str(nice), sys.executable, "-m", "firewall", "serve", *named, *more]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def lines(files: list[Path]) -> list[dict[str, Any]]:
    """All whole verdict lines so far."""
    texts = [file.read_text() for file in files if file.exists()]
    return [json.loads(line) for text in texts for line in text.splitlines(keepends=True) if line.endswith("\n")]


def family(guards: list[subprocess.Popen[bytes]]) -> list[int]:
    """The guards and their capture processes."""
    pids = [guard.pid for guard in guards]
    for guard in guards:
        for task in Path(f"/proc/{guard.pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
    return pids


def processor_seconds(guards: list[subprocess.Popen[bytes]]) -> float:
    """Of all of them so far."""
    ticks = 0
    for pid in family(guards):
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        ticks += int(user) + int(system)
    return ticks / _TICKS


def pss_mb(pid: int) -> float:
    """Memory of a process; what it shares counts by its share."""
    told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in told.splitlines() if line.startswith("Pss:")).split()[1]) / 1024


if __name__ == "__main__":
    main()
