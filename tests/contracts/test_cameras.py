"""`firewall serve` with several cameras, as a user runs it: real capture processes, network cameras and outputs."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from mcap.reader import make_reader

from firewall.cli import app, run
from firewall.frame import Pixels
from firewall.sinks.audit_check import check_audit
from firewall.verdict import verdict_schema
from tests.browser import PATIENCE
from tests.contracts.test_serve import Line, Serving, serving
from tests.sources.cameras import MjpegServer, RtspServer, rtsp

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["rtsp", "serving"]

PATIENT = 60.0  # seconds: the machine may be busy
#: No label is late here, or misses frames to agree with, for what else the machine does; drawn pictures are no scenes.
CALM = """\
deadline_ms: 20000
confirm: 1
capture: {camera_faults: false, frozen_after: 0, first_delay: 0.1, longest_delay: 0.5}
"""


@pytest.fixture
def network_camera(demo_frames: list[Pixels]) -> Iterator[MjpegServer]:
    """A network camera that shows the demo's drive, 25 pictures a second."""
    server = MjpegServer(lambda number: np.ascontiguousarray(demo_frames[number]))
    yield server
    server.stop()


def settings(tmp_path: Path, cameras: dict[str, str], more: str = CALM) -> Path:
    """A settings file with these cameras, each with YAML lines of its own."""
    lines = "".join(f"- name: {name}\n  {given}\n" for name, given in cameras.items())
    file = tmp_path / "cameras.yaml"
    file.write_text(f"cameras:\n{lines}{more}")
    return file


def until(lines: Callable[[], Line | None], fits: Callable[[Line], bool], seen: list[Line]) -> Line:
    """The next line that fits; all up to it are added to `seen`."""
    for line in iter(lines, None):
        seen.append(line)
        if fits(line):
            return line
    pytest.fail(f"serve ended before that: {seen[-3:]}")


def health(url: str, query: str = "") -> tuple[int, dict[str, Any]]:
    """Status and answer of /v2/health/ready."""
    try:
        with urllib.request.urlopen(f"{url}v2/health/ready{query}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def comes(true: Callable[[], bool]) -> None:
    """Wait for that: on a busy machine a camera that is well may be out of time for a moment."""
    limit = time.monotonic() + PATIENT
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_a_killed_capture_process_withholds_its_own_camera_alone(
    serving: type[Serving], network_camera: MjpegServer, tmp_path: Path
) -> None:
    """Three real cameras: kill -9 of one capture process is a source error of one camera; no line of the others is one;
    it comes back under its name, and the metrics count one restart of that camera and none of the others."""
    uris = {
        "front": "source: demo?fps=10&live=1",
        "left": f"source: 'http://127.0.0.1:{network_camera.port}/'",
        "rear": "source: test://pattern?fps=10\n  regions: whole",
    }
    serve = serving("--config", settings(tmp_path, uris), "--http", "127.0.0.1:0")
    url, lines = serve.url(), list[Line]()
    waiting = set(uris)
    while waiting:
        waiting.discard(str(until(serve.line, lambda _: True, lines)["camera"]))
    assert not any(line["reason"].startswith("source error") for line in lines)
    captures = serve.children()
    assert len(captures) == 3

    os.kill(captures[1], signal.SIGKILL)
    lines.clear()
    failed = until(serve.line, lambda line: line["reason"].startswith("source error"), lines)
    until(serve.line, lambda line: line["camera"] == failed["camera"] and line["frame_id"] is not None, lines)
    for name in set(uris) - {failed["camera"]}:
        until(serve.line, lambda line, name=name: line["camera"] == name, lines)

    assert "SIGKILL" in failed["reason"] and failed["decision"] == "withhold" and failed["label"] is None
    assert {line["camera"] for line in lines if line["reason"].startswith("source error")} == {failed["camera"]}
    with urllib.request.urlopen(f"{url}metrics", timeout=30) as answer:
        metrics = answer.read().decode()
    restarts = dict(re.findall(r'firewall_capture_restarts_total\{camera="(\w+)"\} (\S+)', metrics))
    assert restarts == {name: "1.0" if name == failed["camera"] else "0.0" for name in uris}
    serve.end()
    summaries = [line for line in serve.said if re.match(r"camera \w+: \d+ frames", line)]
    assert len(summaries) == 3 and sum("1 capture restarts" in line for line in summaries) == 1


def test_a_camera_that_comes_later_is_withheld_until_then(
    serving: type[Serving], network_camera: MjpegServer, tmp_path: Path
) -> None:
    """A network camera that is off at the start, beside one that is on: one line says so, the other is guarded and its
    labels go out; health tells them apart, by itself and by camera; switched on, it is guarded too."""
    network_camera.stop()
    uris = {
        "front": "source: demo?fps=10&live=1",
        "rear": f"source: 'http://admin:secret@127.0.0.1:{network_camera.port}/'",
    }
    serve = serving("--config", settings(tmp_path, uris), "--http", "127.0.0.1:0")
    url, lines = serve.url(), list[Line]()
    until(serve.line, lambda line: line["camera"] == "rear" and line["reason"].startswith("source error"), lines)
    until(serve.line, lambda line: line["camera"] == "front" and line["decision"] == "release", lines)
    assert not any(line["decision"] == "release" for line in lines if line["camera"] == "rear")
    status, told = health(url)
    assert (status, told["ready"], told["status"]) == (503, False, "source lost") and told["detail"].startswith(
        "rear: "
    )
    rear = next(each for each in told["cameras"] if each["name"] == "rear")
    assert not rear["ready"] and rear["status"] == "source lost"
    comes(lambda: next(each for each in health(url)[1]["cameras"] if each["name"] == "front")["ready"])
    comes(lambda: health(url, "?camera=front")[0] == 200)
    assert health(url, "?camera=rear")[0] == 503

    network_camera.start()
    until(serve.line, lambda line: line["camera"] == "rear" and line["decision"] == "release", lines)
    comes(lambda: health(url)[0] == 200)
    serve.end()
    said = "".join(serve.said)
    assert said.count("camera rear can't be opened") == 1 and "the others are guarded" in said
    assert "camera rear is there" in said
    assert "secret" not in said + json.dumps([lines, told])


def test_no_camera_that_can_be_opened_is_one_line(serving: type[Serving], tmp_path: Path) -> None:
    """Nobody at either address: exit code 1 and one line that names both; every line before it withholds."""
    uris = {"a": "source: 'rtsp://127.0.0.1:1/'", "b": "source: 'http://127.0.0.1:1/'"}
    serve = serving("--config", settings(tmp_path, uris), "--http", "off")
    lines = list(iter(serve.line, None))
    assert serve.process.wait(PATIENT) == 1
    (error,) = [line for line in serve.said if line.startswith("firewall: error: ")]
    assert "none of the 2 cameras can be opened" in error and "a: " in error and "b: " in error
    assert {line["decision"] for line in lines} <= {"withhold"} and "Traceback" not in "".join(serve.said)


def test_a_source_that_floods_lets_a_slow_camera_come_to_its_turn(serving: type[Serving], tmp_path: Path) -> None:
    """A file that is read as fast as it can be, beside a camera of ten frames a second: between capture and verdict of
    a frame of the camera come, as a rule, at most the frames of the file that were in hand."""
    uris = {"flood": "source: 'demo?fps=0'", "slow": "source: 'demo?fps=10&live=1'"}
    serve = serving("--config", settings(tmp_path, uris), "--http", "off")
    lines: list[Line] = []
    while sum(line["camera"] == "slow" for line in lines) < 40:
        until(serve.line, lambda line: line["camera"] == "slow", lines)
    serve.end()
    out = {line["frame_id"]: (line["monotonic_ns"], line["monotonic_ns"] + 1e6 * line["age_ms"]) for line in lines}
    camera = {line["frame_id"]: line["camera"] for line in lines}
    flood = [end for frame, (_, end) in out.items() if camera[frame] == "flood"]
    between = [
        sum(begin < other < end for other in flood)
        for frame, (begin, end) in out.items()
        if camera[frame] == "slow" and end > flood[0]
    ]
    assert len(flood) >= 10 and statistics.median(between) <= 3, Counter(between)


def test_outputs_keep_cameras_apart(serving: type[Serving], tmp_path: Path, demo_frames: list[Pixels]) -> None:
    """Two recordings of different sizes, read to their ends: lines and audit log bear the camera's name, each camera
    has a video of its own, MCAP has topics for each; no frame is missing anywhere, and tracks begin at 1 in each."""
    names = {"front": 1.0, "rear-2": 0.5}
    uris = {}
    for name, scale in names.items():
        path = tmp_path / f"{name}.avi"
        small = [cv2.resize(pixels, None, fx=scale, fy=scale) for pixels in demo_frames[:12]]
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, small[0].shape[1::-1])
        for pixels in small:
            writer.write(np.ascontiguousarray(pixels[..., ::-1]))
        writer.release()
        uris[name] = f"source: '{path}'"
    lines, log = tmp_path / "v.jsonl", tmp_path / "log"
    outputs = [f"jsonl:{lines}", f"audit:{log}", f"video:{tmp_path}/out.mp4", f"mcap:{tmp_path}/out.mcap"]
    named = [word for output in outputs for word in ("--output", output)]
    serve = serving("--config", settings(tmp_path, uris), "--http", "off", *named)
    assert serve.process.wait(2 * PATIENT) == 0, serve.said

    told = [json.loads(line) for line in lines.read_text().splitlines()]
    schema = Draft202012Validator(verdict_schema())
    for line in told:
        schema.validate(line)
    assert check_audit(log).faults == []
    for name, scale in names.items():
        own = [line for line in told if line["camera"] == name]
        assert {line["sequence"] for line in own} == set(range(12))
        assert min(line["track"] for line in own if line["track"]) == 1
        with av.open(str(tmp_path / f"out-{name}.mp4")) as container:
            pictures = list(container.decode(video=0))
        assert len(pictures) == 12 and pictures[0].width == round(demo_frames[0].shape[1] * scale)
    records = [json.loads(line) for line in (log / "audit-00000001.jsonl").read_text().splitlines()]
    assert [each["verdict"]["frame_id"] for each in records if each["event"] == "verdict"] == [
        line["frame_id"] for line in told
    ]
    with (tmp_path / "out.mcap").open("rb") as file:
        topics = Counter(channel.topic for _, channel, _ in make_reader(file).iter_messages())
    assert topics["/front/image/compressed"] == topics["/rear_2/image/compressed"] == 12
    assert topics["/front/detections"] == topics["/rear_2/detections"] == 12 and topics["/diagnostics"] >= 2


def test_an_rtsp_camera_beside_a_recording(serving: type[Serving], tmp_path: Path, rtsp: RtspServer) -> None:
    """A server that is killed: only the camera behind it is lost; the recording beside it is read to its end, and the
    guard goes on for the camera, which comes back with the server."""
    uris = {"road": f"source: 'rtsp://127.0.0.1:{rtsp.port}/front'", "file": "source: 'demo?fps=0&loop=0'"}
    serve = serving("--config", settings(tmp_path, uris, f"{CALM}regions: whole\n"), "--http", "off")
    lines: list[Line] = []
    until(serve.line, lambda line: line["camera"] == "road" and line["frame_id"] is not None, lines)
    rtsp.stop()
    until(serve.line, lambda line: line["camera"] == "road" and line["reason"].startswith("source error"), lines)
    rtsp.start()
    until(serve.line, lambda line: line["camera"] == "road" and line["frame_id"] is not None, lines)
    assert not any(line["reason"].startswith("source error") for line in lines if line["camera"] == "file")
    serve.end()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--source", "demo", "--source", "demo", "--camera-name", "a", "--camera-name", "a"), "two cameras have the"),
        (("--source", "demo", "--source", "demo", "--camera-name", "a"), "given 1 times for 2 sources"),
        (("--camera-name", "a", "--camera-name", "b"), "given 2 times for 0 sources"),
        (("--camera", "0", "--camera", "front"), "--camera takes a number"),
        (("--camera", "0", "--source", "demo"), "give --camera or --source, not both"),
        (("--source", "demo", "--source", "nowhere.mp4"), "source 'nowhere.mp4' does not exist"),
        (("--source", "demo", "--source", "rtsp://u:secret@"), "names no host"),
    ],
)
def test_a_command_line_that_does_not_fit_is_one_line(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that are not apart, not as many as sources, sources that can't be understood: refused before anything is
    opened, without a password."""
    assert run(app, ["serve", *arguments, "--http", "off"], "firewall") in (1, 2)
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1, said.err
    assert words in said.err and "secret" not in said.err


@pytest.mark.browser
def test_a_browser_sees_all_cameras(
    serving: type[Serving], network_camera: MjpegServer, tmp_path: Path, page: Page, complaints: list[str]
) -> None:
    """The page of two cameras: a tile of each with its state; a click shows the other one; when one is lost its tile
    and a banner say so, while the other one's page goes on."""
    from playwright.sync_api import expect

    uris = {
        "front": "source: demo?fps=5&live=1",
        "rear": f"source: 'http://127.0.0.1:{network_camera.port}/'",
    }
    serve = serving("--config", settings(tmp_path, uris), "--http", "127.0.0.1:0", "--output", "off")
    page.goto(serve.url())
    tiles = page.locator(".tile")
    expect(tiles).to_have_count(2)
    expect(page.locator('.tile[data-camera="front"][data-status="guarding"]')).to_be_visible()
    expect(page.locator('.tile[data-camera="rear"] .word')).to_have_text("● guarding")
    expect(page.locator('.tile[data-camera="front"]')).to_have_attribute("aria-current", "true")
    expect(page.locator("#source")).to_have_text(re.compile("^front: demo"))
    expect(page.locator('#released li[data-decision="release"]').first).to_be_visible(timeout=PATIENCE)
    expect(page.locator(".tile canvas").nth(1)).to_have_attribute("width", "320")

    page.locator('.tile[data-camera="rear"]').click()
    expect(page.locator("#source")).to_have_text(re.compile("^rear: http"))
    expect(page.locator("#status-word")).to_have_text("Guarding")
    network_camera.stop()
    expect(page.locator('.tile[data-camera="rear"] .word')).to_have_text("▲ source lost")
    expect(page.locator("#status-word")).to_have_text("Source lost")
    page.locator('.tile[data-camera="front"]').click()
    expect(page.locator("#status-word")).to_have_text("Guarding")
    expect(page.locator('#banner[data-kind="cameras"]')).to_contain_text("One camera gives nothing to judge. rear: ")
    network_camera.start()
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator('.tile[data-camera="rear"] .word')).to_have_text("● guarding")
    assert complaints == []
    serve.end()
