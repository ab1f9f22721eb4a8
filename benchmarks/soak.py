"""Half an hour of everything at once: twice the rate that the machine sustains, cameras, outputs and clock that fail.

    python -m benchmarks.soak [--minutes 30] [--json FILE] [--folder DIR]
    python -m benchmarks.soak --folder DIR --judge [--json FILE]

A real `firewall serve` guards network cameras whose pictures are drawn, so that for each of them the truth is known.
First it is measured how many frames a second the machine judges when the cameras give far more; the cameras then send
twice as many. Every minute a camera is killed, by turns its server and its capture process, and comes back. The broker
of MQTT is killed and started again, the file system of the audit log and the quarantine is filled and emptied, and the
clock of the guard, and of no other process, is set back by an hour. Each released label is then held against what the
camera showed; memory, files, threads, readiness and outputs are written down all the while.

Everything is kept in the folder; --judge judges it once more. Needs mosquitto, a C compiler, and root for a file system
of its own (without it the disk isn't filled, and the figures say so).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho

from benchmarks.machine import machine
from benchmarks.soak_calm import Calm
from benchmarks.soak_camera import draw
from benchmarks.soak_judge import judge, read

HERE = Path(__file__).parent
CAMERAS = ("front", "left", "rear")
_FLOOD = 20.0  # frames a second of each camera while the sustainable rate is measured
_SMALL = "16m"  # the file system that is filled
_BACK = -3600  # seconds by which the clock is set
_PATIENCE = 300.0


class Soak:
    """One run. Whatever it starts, `close` ends."""

    def __init__(self, folder: Path, minutes: float, deadline_ms: float, every: float) -> None:
        self.folder, self.minutes, self.deadline_ms, self.every = folder, minutes, deadline_ms, every
        self.down = min(15.0, every / 4)  # seconds that what was killed stays away
        self.small, self.clock = folder / "small", folder / "clock"
        self.cameras: dict[str, subprocess.Popen[bytes]] = {}
        self.ports = {name: _free_port() for name in CAMERAS}
        self.broker_port, self.broker = _free_port(), None
        self.guard: subprocess.Popen[str] | None = None
        self.status: dict[str, str] = {}
        self.url, self.outputs, self.fps, self.seed = "", list[Any](), _FLOOD, 0
        self._events = (folder / "events.jsonl").open("w")
        self._lock, self._done = threading.Lock(), threading.Event()
        self._filling = threading.Event()
        self._chance = random.Random(19)  # noqa: S311

    def event(self, what: str, **more: Any) -> None:
        """Write down what happened."""
        with self._lock:
            self._events.write(json.dumps({"at": time.monotonic(), "what": what, **more}) + "\n")
            self._events.flush()
        if what != "sample":
            sys.stdout.write(f"{time.strftime('%H:%M:%S')} {what} {more or ''}\n")
            sys.stdout.flush()

    def prepare(self) -> None:
        """Pictures, the clock's library, the small file system."""
        self.pictures = draw(self.folder / "pictures", Calm(self.folder))
        self.event("pictures drawn", **self.pictures)
        self.clock.write_bytes(struct.pack("<q", 0))
        library = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(self.folder / "clock.so"), str(HERE / "soak_clock.c")]
        subprocess.run([*library, "-ldl"], check=True)
        self.small.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL}", "tmpfs", str(self.small)]
        self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def start_camera(self, name: str) -> None:
        """A server with other drives than before."""
        self.seed += 1
        words = (str(self.ports[name]), str(self.folder / "pictures"), f"{self.fps:.3f}", str(self.seed))
        command = [sys.executable, str(HERE / "soak_camera.py"), *words, str(self.folder / f"{name}.log")]
        self.cameras[name] = subprocess.Popen(command)

    def start_broker(self) -> None:
        """mosquitto, without memory of before."""
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
        if program is None:
            raise SystemExit("mosquitto is not installed: apt-get install mosquitto")
        config = self.folder / "mosquitto.conf"
        config.write_text(f"listener {self.broker_port} 127.0.0.1\nuser root\nallow_anonymous true\n")
        self.broker = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL)

    def start_guard(self, *outputs: str) -> None:
        """`firewall serve`, with a clock of its own, until it has judged a frame of each camera."""
        cameras = [
            {"name": name, "source": f"http://127.0.0.1:{port}/", "deadline_ms": self.deadline_ms}
            for name, port in self.ports.items()
        ]
        settings = self.folder / "settings.yaml"  # JSON is YAML, too
        settings.write_text(json.dumps({"cameras": cameras, "http": "127.0.0.1:0", "output": list(outputs)}))
        environment = os.environ | {"LD_PRELOAD": str(self.folder / "clock.so"), "SOAK_CLOCK": str(self.clock)}
        command = [sys.executable, "-m", "firewall", "serve", "--config", str(settings)]
        self.guard = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
        )
        self.url = ""
        threading.Thread(target=self._listen, args=(self.guard,), daemon=True).start()
        limit = time.monotonic() + _PATIENCE
        while not self.url or not all(self.health()[1].values()):
            if time.monotonic() > limit or self.guard.poll() is not None:
                raise SystemExit("the guard did not come up")
            time.sleep(0.5)

    def _listen(self, guard: subprocess.Popen[str]) -> None:
        for line in guard.stderr or ():
            found = re.search(r"http://127\S+", line)
            if found and not self.url:
                self.url = found[0]
            self.event("said", line=line.strip())

    def stop_guard(self) -> int:
        """SIGTERM; the exit code."""
        assert self.guard is not None  # noqa: S101
        self.guard.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.guard.wait(60)
        code = self.guard.poll()
        self.guard.kill()
        return -1 if code is None else code

    def health(self) -> tuple[int, dict[str, bool]]:
        """Status of /v2/health/ready, 0 without an answer, and which cameras are ready."""
        try:
            with urllib.request.urlopen(f"{self.url}v2/health/ready", timeout=5) as answer:  # noqa: S310
                status, told = answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            status, told = error.code, json.load(error)
        except (OSError, ValueError):
            return 0, {"": False}
        self.outputs = told.get("outputs", self.outputs)
        self.status = {each["name"]: each["status"] for each in told.get("cameras", [])}
        return status, {each["name"]: each["ready"] for each in told.get("cameras", [])} or {"": False}

    def sustained(self, seconds: float) -> float:
        """Frames a second that are judged while the cameras give far more."""
        for name in CAMERAS:
            self.start_camera(name)
        lines = self.folder / "flood.jsonl"
        self.start_guard(f"jsonl:{lines}")
        time.sleep(3)
        begin = time.monotonic_ns()
        time.sleep(seconds)
        end = time.monotonic_ns()
        self.stop_guard()
        judged = {line["frame_id"] for line in read(lines) if begin <= line["monotonic_ns"] < end}
        return len(judged - {None}) / seconds

    def run(self, sustained: float) -> None:
        """Guard, kill, fill, set, sample, until the time is up."""
        for camera in self.cameras.values():
            camera.kill()
        self.fps = 2 * sustained / len(CAMERAS)
        self.start_broker()
        for name in CAMERAS:
            self.start_camera(name)
        self._subscribe()
        verdicts, mqtt = self.folder / "verdicts.jsonl", f"mqtt://127.0.0.1:{self.broker_port}/soak"
        audit, quarantine = f"audit:{self.small}/audit?size=1M&keep=5", f"quarantine:{self.small}/cases?size=5M"
        self.start_guard(f"jsonl:{verdicts}", mqtt, audit, quarantine)
        begin = time.monotonic()
        plan: dict[str, Any] = {
            "cameras": list(CAMERAS),
            "minutes": self.minutes,
            "pictures": self.pictures,
            "sustained": round(sustained, 1),
            "fps": self.fps,
            "deadline_ms": self.deadline_ms,
            "begin": begin,
            "machine": machine(),
        }
        (self.folder / "plan.json").write_text(json.dumps(plan))
        workers = [self._poll, self._sample, *([self._fill] if self.mounted else [])]
        threads = [threading.Thread(target=worker, daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        for at, action in self._schedule():
            while time.monotonic() < begin + at:
                if self.guard is None or self.guard.poll() is not None:
                    code = None if self.guard is None else self.guard.poll()
                    self.event("the guard has ended", code=code)
                    raise SystemExit("the guard has ended")
                time.sleep(0.1)
            action()
        self.health()
        self._done.set()
        plan["exit"] = self.stop_guard()
        for thread in threads:
            thread.join(30)
        plan["outputs"] = self.outputs
        checked = [sys.executable, "-m", "firewall", "audit", "verify", str(self.small / "audit")]
        done = subprocess.run(checked, capture_output=True, text=True, check=False)
        plan["audit"] = {"exit": done.returncode, "said": (done.stdout + done.stderr).strip().splitlines()[-3:]}
        plan["quarantine"] = {"cases": sum(1 for each in (self.small / "cases").glob("*/verdict.json"))}
        plan["disk"] = "filled" if self.mounted else "not filled: no file system could be mounted"
        (self.folder / "plan.json").write_text(json.dumps(plan))

    def _schedule(self) -> list[tuple[float, Callable[[], None]]]:
        """(seconds, what happens then), in order; the last does nothing at the end."""
        total = 60 * self.minutes
        plan: list[tuple[float, Callable[[], None]]] = [(total, lambda: None)]
        for number in range(int((total - self.down - 1) // self.every)):
            at, name = (number + 1) * self.every, CAMERAS[number // 2 % len(CAMERAS)]
            if number % 2:
                plan.append((at, lambda name=name: self._kill_capture(name)))  # type: ignore[misc]
            else:
                plan.append((at, lambda name=name: self._kill_camera(name)))  # type: ignore[misc]
                plan.append((at + self.down, lambda name=name: self._camera_back(name)))  # type: ignore[misc]
        for share in (0.2, 0.6):
            plan.append((share * total + self.every / 2, self._kill_broker))
            plan.append((share * total + self.every / 2 + self.down, self._broker_back))
        for share in (0.3, 0.75):
            plan.append((share * total, lambda: self._fill_disk(True)))
            plan.append((share * total + 2 * self.down, lambda: self._fill_disk(False)))
        plan.append((0.45 * total + self.every / 3, self._set_clock))
        return sorted(plan, key=lambda each: each[0])

    def _kill_camera(self, name: str) -> None:
        self.cameras[name].kill()
        self.cameras[name].wait()
        self.event("kill camera: server", camera=name)

    def _camera_back(self, name: str) -> None:
        self.start_camera(name)
        self.event("camera back", camera=name)

    def _kill_capture(self, name: str) -> None:
        """The capture process that is connected to this camera."""
        pid = next((pid for pid, port in self._captures() if port == self.ports[name]), None)
        if pid is None:
            self.event("no capture process to kill", camera=name)
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self.event("kill camera: capture", camera=name)

    def _kill_broker(self) -> None:
        assert self.broker is not None  # noqa: S101
        self.broker.kill()
        self.broker.wait()
        self.event("kill broker")

    def _broker_back(self) -> None:
        self.start_broker()
        self.event("broker back")

    def _fill_disk(self, full: bool) -> None:
        if not self.mounted:
            return
        if full:
            self._filling.set()
        else:
            self._filling.clear()
        self.event("disk full" if full else "disk has room")

    def _set_clock(self) -> None:
        with self.clock.open("r+b", buffering=0) as file:  # never shorter: the guard has it in its memory
            file.write(struct.pack("<q", _BACK))
        self.event("clock set back", seconds=_BACK)

    def _fill(self) -> None:
        """While it is to be full: also what is made free meanwhile."""
        ballast = self.small / "ballast"
        while not self._done.wait(0.3):
            if self._filling.is_set():
                with suppress(OSError), ballast.open("ab", buffering=0) as file:
                    while file.write(bytes(4096)):
                        pass
            else:
                ballast.unlink(missing_ok=True)
        ballast.unlink(missing_ok=True)

    def _subscribe(self) -> None:
        """A planner, which connects again as often as the broker comes back."""
        file = (self.folder / "mqtt.jsonl").open("w")
        client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda *_: client.subscribe("soak/#", qos=1)

        def took(_client: Any, _data: Any, message: Any) -> None:
            topic, payload = message.topic.rsplit("/", 2)[1:], message.payload.decode()
            line = {"at": time.monotonic(), "camera": topic[0], "topic": topic[1], "retained": message.retain}
            file.write(json.dumps(line | {"payload": json.loads(payload) if topic[1] == "verdict" else payload}) + "\n")
            file.flush()

        client.on_message = took
        limit = time.monotonic() + 30
        while True:
            try:
                client.connect("127.0.0.1", self.broker_port)
                break
            except OSError:
                if time.monotonic() > limit:
                    raise
                time.sleep(0.2)
        client.loop_start()

    def _poll(self) -> None:
        """Readiness four times a second, metrics every ten seconds."""
        with (self.folder / "ready.jsonl").open("w") as file:
            number = 0
            while not self._done.wait(0.25):
                at = time.monotonic()
                status, cameras = self.health()
                file.write(json.dumps({"at": at, "status": status, "cameras": cameras, "words": self.status}) + "\n")
                file.flush()
                number += 1
                if number % 40 == 0:
                    with suppress(OSError):
                        urllib.request.urlopen(f"{self.url}metrics", timeout=5).read()  # noqa: S310

    def _sample(self) -> None:
        """Memory, files and threads every ten seconds, or more often in a short run."""
        while not self._done.wait(min(10.0, self.every / 5)):
            assert self.guard is not None  # noqa: S101
            service = _used(self.guard.pid)
            captures = [used for pid, _ in self._captures() if (used := _used(pid)) is not None]
            if service is not None:
                self.event("sample", load=os.getloadavg()[0], service=[service], captures=captures)

    def _captures(self) -> list[tuple[int, int]]:
        """(pid, port of its camera or 0) of the capture processes."""
        assert self.guard is not None  # noqa: S101
        found = []
        for task in Path(f"/proc/{self.guard.pid}/task").iterdir():
            with suppress(OSError):
                found += [(int(pid), _port_of(int(pid))) for pid in (task / "children").read_text().split()]
        return found

    def close(self) -> None:
        """End all that was started."""
        self._done.set()
        for process in (self.guard, self.broker, *self.cameras.values()):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        subprocess.run(["umount", str(self.small)], capture_output=True, check=False)  # noqa: S607


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _used(pid: int) -> dict[str, float] | None:
    """Resident memory, open files and threads of a process; None if it is gone."""
    try:
        told = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        files = len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208
        return {
            "pid": pid,
            "rss_mb": int(told["VmRSS"].split()[0]) / 1024,
            "files": files,
            "threads": int(told["Threads"]),
        }
    except (OSError, KeyError):
        return None


def _port_of(pid: int) -> int:
    """The port at the other end of a process' TCP connection; 0 if it has none."""
    sockets = set()
    for name in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            sockets.add(os.readlink(name))  # noqa: PTH115
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if f"socket:[{fields[9]}]" in sockets and fields[3] == "01":
            return int(fields[2].rpartition(":")[2], 16)
    return 0


def main() -> None:
    """Measure, run, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two kills of a camera (default 60)")
    parser.add_argument("--measure", type=float, default=30.0, help="seconds for the sustainable rate (default 30)")
    parser.add_argument("--deadline-ms", type=float, default=1000.0)
    parser.add_argument("--folder", type=Path, help="where all is kept; else a temporary folder")
    parser.add_argument("--judge", action="store_true", help="judge what lies in the folder, without a run")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    if not arguments.judge:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise SystemExit(f"{folder} is not empty; name another folder, or judge it with --judge")
        soak = Soak(folder.resolve(), arguments.minutes, arguments.deadline_ms, arguments.every)
        try:
            soak.prepare()
            soak.run(soak.sustained(arguments.measure))
        finally:
            soak.close()
    result = judge(folder)
    result["machine"] = json.loads((folder / "plan.json").read_text())["machine"]
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
