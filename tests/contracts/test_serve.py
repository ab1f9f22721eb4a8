"""`firewall serve` as a user runs it: a process of its own, real sources, a real browser."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from firewall.demo.source import truth
from firewall.frame import Pixels, Region
from tests.browser import PATIENCE

if TYPE_CHECKING:
    from playwright.sync_api import Page

Line = dict[str, Any]
PATIENT = 60.0  # seconds: the machine may be busy


class Serving:
    """A running `firewall serve`; its verdict lines as they come, and what it says on stderr."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "firewall", "serve", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._lines: queue.Queue[Line | None] = queue.Queue()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._listen)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        self.said.extend(iter(self.process.stderr.readline, ""))

    def line(self) -> Line | None:
        """The next verdict line; None after the last."""
        return self._lines.get(timeout=PATIENT)

    def until(self, decision: str, reason: str) -> list[Line]:
        """Lines up to the first with this decision whose reason starts so."""
        lines: list[Line] = []
        for line in iter(self.line, None):
            lines.append(line)
            if line["decision"] == decision and line["reason"].startswith(reason):
                return lines
        pytest.fail(f"serve ended before it said {decision}, {reason}: {lines[-3:]} {self.said}")

    def url(self) -> str:
        """Of the live page."""
        limit = time.monotonic() + PATIENT
        while time.monotonic() < limit:
            found = re.search(r"http://\S+", "".join(self.said))
            if found:
                return found[0]
            time.sleep(0.05)
        pytest.fail(f"no live page: {self.said}")

    def children(self) -> list[int]:
        """Process ids of its children: the capture process."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]

    def end(self) -> str:
        """SIGTERM; the last line it said."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENT) == 0, self.said
        for thread in self._threads:
            thread.join()
        return self.said[-1]

    def close(self) -> None:
        """Whatever came, nothing stays behind."""
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join(5)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def serving() -> Iterator[type[Serving]]:
    """Starts `firewall serve`; ends it with the test."""
    started: list[Serving] = []

    class Kept(Serving):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)
            started.append(self)

    yield Kept
    for each in started:
        each.close()


def test_a_killed_capture_process_comes_back_and_nothing_is_released_meanwhile(serving: type[Serving]) -> None:
    """kill -9 of the capture process: one withheld source error, then frames again, later than all before; ready is
    down in between, and the summary counts one restart."""
    serve = serving("--source", "demo?fps=10", "--http", "off")
    before = serve.until("release", "benign")
    (capture,) = serve.children()

    os.kill(capture, signal.SIGKILL)
    meanwhile = serve.until("withhold", "source error")
    after = serve.until("release", "benign")

    failure = meanwhile.pop()
    assert "SIGKILL" in failure["reason"] and failure["label"] is None
    # What had been captured by then was still judged; then the failure; then only what was captured anew.
    assert {line["sequence"] for line in before + meanwhile} == set(range(failure["sequence"]))
    assert min(line["sequence"] for line in after) == failure["sequence"] + 1
    assert serve.children() != [capture]
    assert "1 capture restarts" in serve.end()


def test_a_mute_camera_is_an_error_in_time(serving: type[Serving], tmp_path: Path) -> None:
    """A camera that takes the connection and never answers: one line after the time-out, exit code 1, no verdict."""
    config = tmp_path / "firewall.yaml"
    config.write_text("capture: {open_timeout: 2, read_timeout: 2}\n")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        started = time.monotonic()
        serve = serving("--source", f"rtsp://127.0.0.1:{port}/front", "--http", "off", "--config", config)
        assert serve.line() is None
    assert serve.process.wait(PATIENT) == 1
    assert time.monotonic() - started < 30
    (error,) = [line for line in serve.said if line.startswith("firewall: error: ")]
    assert f"127.0.0.1:{port}" in error and not any("Traceback" in line for line in serve.said)


def test_a_truncated_video_is_judged_as_far_as_it_goes(
    serving: type[Serving], tmp_path: Path, demo_frames: list[Pixels]
) -> None:
    """Half a file: its whole frames get verdicts, the rest is one withheld source error, and nothing hangs."""
    path = tmp_path / "drive.avi"
    height, width = demo_frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    for pixels in demo_frames[:20]:
        writer.write(np.ascontiguousarray(pixels[..., ::-1]))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    serve = serving("--source", path, "--http", "off")
    lines = list(iter(serve.line, None))

    assert serve.process.wait(PATIENT) in (0, 1)
    assert 5 <= len({line["sequence"] for line in lines}) <= 15
    assert lines[-1]["decision"] == "withhold" and lines[-1]["reason"].startswith("source error")
    assert "damaged" in lines[-1]["reason"] or "truncated" in lines[-1]["reason"]


def test_a_page_for_the_network_answers_to_addresses_and_allowed_names(serving: type[Serving], tmp_path: Path) -> None:
    """All addresses bound, as in a container: names from the settings file and the command line, a published port's
    address, a probe without a Host; a foreign name is refused and told how it would be allowed."""
    config = tmp_path / "firewall.yaml"
    config.write_text("http: 0.0.0.0:0\nhttp_names: firewall\noutput: off\nsource: test://pattern\n")
    for given, allowed, refused in (
        ([], "firewall", "guard.lan"),
        (["--http-name", "guard.lan"], "guard.lan", "evil.lan"),
    ):
        serve = serving("--config", config, *given)
        port = int(serve.url().split(":")[2].strip("/"))
        told = {}
        for host in (allowed, refused, "192.0.2.7:18080", None):
            with socket.create_connection(("127.0.0.1", port), PATIENT) as client:
                named = "" if host is None else f"Host: {host}\r\n"
                client.sendall(f"GET /v2/health/live HTTP/1.0\r\n{named}\r\n".encode())
                told[host] = client.makefile().read()
        statuses = {host: int(answer.split()[1]) for host, answer in told.items()}
        assert statuses == {allowed: 200, refused: 421, "192.0.2.7:18080": 200, None: 200}
        assert f"--http-name {refused}" in told[refused]


def overlap(one: Region, other: Region) -> float:
    """Intersection over union."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


# Notes what the page shows, each time it changes: the frame's number, and its boxes in pixels of the frame.
WATCH = """() => {
    const seen = window.seen = [];
    new MutationObserver(() => {
        const size = document.getElementById("frame-size").textContent.match(/[0-9]+/g);
        const number = document.getElementById("frame-number").textContent.match(/[0-9]/g);
        if (!size || !number) return;
        const boxes = [...document.querySelectorAll(".box")].map((box) => ({
            decision: box.dataset.decision, label: box.dataset.label ?? null,
            region: ["left", "top", "width", "height"].map((side, axis) =>
                Math.round(parseFloat(box.style[side]) * size[axis % 2] / 100)),
        }));
        seen.push({sequence: Number(number.join("")), boxes});
    }).observe(document.getElementById("frame-number"), {childList: true, characterData: true, subtree: true});
}"""


@pytest.mark.browser
def test_a_browser_sees_a_sign_released_and_an_attacked_one_withheld(
    serving: type[Serving], page: Page, complaints: list[str]
) -> None:
    """The demo as `make serve` shows it: on the page, a benign sign's box is released with its name, and the boxes that
    cover an attacked sign are withheld; the page never gives a detector's score away."""
    from playwright.sync_api import expect

    serve = serving("--source", "demo?fps=8", "--http", "127.0.0.1:0", "--output", "off")
    url = serve.url()
    page.goto(url)
    page.evaluate(WATCH)
    expect(page.locator('#released li[data-decision="release"]').first).to_be_visible(timeout=PATIENCE)
    # Frames 20 to 29 show an attacked stop sign.
    seen: dict[int, list[dict[str, Any]]] = {}
    limit = time.monotonic() + PATIENT
    while max(seen, default=0) < 31 and time.monotonic() < limit:
        page.wait_for_timeout(500)
        seen = {each["sequence"]: each["boxes"] for each in page.evaluate("() => window.seen")}
    released, withheld = set(), set()
    for sequence, boxes in seen.items():
        fact = truth(sequence)
        on_sign = [box for box in boxes if overlap(tuple(box["region"]), fact.box) >= 0.5]
        if fact.attack is None:
            released |= {box["label"] for box in on_sign if box["decision"] == "release"}
        elif on_sign and all(box["decision"] == "withhold" for box in on_sign):
            withheld.add(sequence)
    attacked = {sequence for sequence in seen if truth(sequence).attack}
    assert "stop" in {str(label).lower() for label in released}, released
    assert len(attacked) >= 5 and len(withheld) >= 0.9 * len(attacked), (attacked - withheld, seen)
    expect(page.locator("#withheld li").first).to_be_visible()
    assert complaints == []

    for path in ("v2/health/live", "v2/health/ready"):
        with urllib.request.urlopen(url + path, timeout=10) as answer:
            assert answer.status == 200
    with urllib.request.urlopen(url + "metrics", timeout=10) as answer:
        metrics = answer.read().decode()
    assert 'firewall_frames_total{decision="release",reason="benign"}' in metrics
    assert "agreement" not in page.content() and "suspicion" not in page.content()
    serve.end()
