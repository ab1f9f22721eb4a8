"""`firewall serve` as systemd starts it: a process of its own, and a real datagram socket that hears what it says."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firewall.device.notify import Notifier, NotifySocket
from firewall.errors import UsageError
from firewall.sinks import FrameReport
from firewall.verdict import Reason
from tests.device.manager import PATIENT, Manager, guarding
from tests.sinks.making import RELEASED, WITHHELD, failure, report
from tests.sources.cameras import MjpegServer


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Manager]:
    """A socket with a path."""
    listening = Manager(str(tmp_path / "notify"))
    yield listening
    listening.close()


@pytest.fixture
def ended() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that don't outlive the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def test_a_run_from_its_start_to_its_end(ended: list[subprocess.Popen[str]]) -> None:
    """READY comes once, with the first judged frame and not before; then the watchdog is fed, and the status counts
    what the verdict lines say; STOPPING comes last. Over an abstract socket."""
    manager = Manager(f"@firewall test {os.getpid()}")
    ended.append(process := guarding(manager, "--source", "demo?fps=20", "--max-frames", "12"))
    manager.until("STOPPING")
    stdout, stderr = process.communicate(timeout=PATIENT)
    manager.close()

    assert process.returncode == 0, stderr
    lines = [json.loads(line) for line in stdout.splitlines()]
    released = sum(line["decision"] == "release" for line in lines)
    said = manager.heard
    assert said[0] == {"STATUS": "starting: demo?fps=20"}
    assert [states["READY"] for states in said if "READY" in states] == ["1"]
    first = next(index for index, states in enumerate(said) if "READY" in states)
    assert all(" 0 frames," in states["STATUS"] for states in said[1:first])
    assert ", 1 frames, " in said[first]["STATUS"] and said[first]["STATUS"].startswith("guarding: demo?fps=20")
    assert all(states["WATCHDOG"] == "1" for states in said[first:-1])
    assert said[-1] == {
        "STOPPING": "1",
        "STATUS": f"stopped: 12 frames, {released} labels released, {len(lines) - released} withheld",
    }
    assert 0 < released < len(lines)


def test_a_camera_that_shows_nothing_yet_and_one_that_dies(
    listener: Manager, ended: list[subprocess.Popen[str]]
) -> None:
    """A camera that takes the connection and shows nothing: no READY, while the watchdog is fed; it comes with the
    first frame. Then kill -9 of the capture process, which was not given the socket's name: the status says that
    everything is withheld, the watchdog is fed on, and the guard goes on."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 120, 160, 3), np.uint8)
    server = MjpegServer(lambda number: noise[number])
    server.mute.set()
    more = [("FIREWALL_CAPTURE__OPEN_TIMEOUT", "60"), ("FIREWALL_CAPTURE__READ_TIMEOUT", "60")]
    source = f"http://127.0.0.1:{server.port}/front.mjpg"
    try:
        ended.append(process := guarding(listener, "--source", source, "--output", "off", more=more))
        for _ in range(8):
            states = listener.next()
            assert states is not None and "READY" not in states
        assert "no frame has been judged yet" in states["STATUS"] and states["WATCHDOG"] == "1"
        server.mute.clear()
        assert ", 1 frames, " in listener.until("READY")["STATUS"]

        tasks = Path(f"/proc/{process.pid}/task")
        (capture,) = [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
        variables = Path(f"/proc/{capture}/environ").read_bytes().split(b"\0")
        told = {b"NOTIFY_SOCKET", b"WATCHDOG_USEC", b"WATCHDOG_PID"}
        assert not told & {each.partition(b"=")[0] for each in variables}
        os.kill(capture, signal.SIGKILL)
        for wanted in ("withholding everything (source error", "guarding: "):
            limit = time.monotonic() + PATIENT
            while not (states := listener.next() or {})["STATUS"].startswith(wanted):
                assert states["WATCHDOG"] == "1" and time.monotonic() < limit
    finally:
        server.stop()


_HANG = """
import threading
import {module} as module
done, whole = [0], module.{owner}.{method}
def hanging(*given, **named):
    if done[0] == 20:  # behind the golden frames
        threading.Event().wait()
    found = whole(*given, **named)
    done[0] += type(found).__name__ in ("Frame", "list")
    return found
module.{owner}.{method} = hanging
"""


@pytest.mark.parametrize(
    ("module", "owner", "method"),
    [("firewall.screening", "Firewall", "screen_frame"), ("firewall.sources.capture", "Capture", "read")],
)
def test_a_hung_engine_or_source_starves_the_watchdog(
    module: str, owner: str, method: str, listener: Manager, ended: list[subprocess.Popen[str]]
) -> None:
    """A call into the engine, or one that asks the source, doesn't come back: no WATCHDOG follows, though the process
    and its other threads live, and SIGTERM doesn't end it. With the SIGABRT that systemd sends then it ends, and says
    where it hung."""
    code = _HANG.format(module=module, owner=owner, method=method)
    ended.append(process := guarding(listener, "--source", "demo?fps=20", "--output", "off", code=code))
    listener.until("READY")
    assert listener.starved(quiet=2.5)
    process.terminate()
    assert listener.starved(quiet=1.0)
    assert process.poll() is None
    process.send_signal(signal.SIGABRT)
    _, said = process.communicate(timeout=PATIENT)
    assert process.returncode == -signal.SIGABRT and "in hanging" in said


def test_an_error_is_the_last_status(listener: Manager, ended: list[subprocess.Popen[str]]) -> None:
    """A camera that isn't there: exit code 1, no READY, and the error is what `systemctl status` shows."""
    ended.append(process := guarding(listener, "--source", "/dev/video63"))
    states = listener.until("STOPPING")
    while (later := listener.next(1.0)) is not None:
        states = later
    assert process.wait(PATIENT) == 1
    assert states["STATUS"].startswith("failed: can't open camera /dev/video63: ")
    assert not [each for each in listener.heard if "READY" in each]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("NOTIFY_SOCKET", "vsock:2:1234", "must be a path that begins with / or @NAME, got 'vsock:2:1234'"),
        ("NOTIFY_SOCKET", "@", "must be a path that begins with / or @NAME"),
        ("NOTIFY_SOCKET", "/" + "long/" * 40, "longer than the 107 bytes"),
        ("WATCHDOG_USEC", "0", "must be a whole number above 0, got '0'"),
        ("WATCHDOG_USEC", "1e6", "must be a whole number above 0, got '1e6'"),
        ("WATCHDOG_PID", "me", "must be a whole number above 0, got 'me'"),
    ],
)
def test_what_systemd_never_says_is_refused(name: str, value: str, said: str, listener: Manager) -> None:
    """A variable that can't come from systemd is one line that names it."""
    environment = {"NOTIFY_SOCKET": listener.address, "WATCHDOG_USEC": "1000000", name: value}
    with pytest.raises(UsageError) as error:
        Notifier.from_environment("demo", 60, environment)
    assert name in str(error.value) and said in str(error.value)


class Hand:
    """A clock that is moved by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def heard(listener: Manager) -> list[dict[str, str]]:
    """All that has come so far."""
    found = []
    while (states := listener.next(0.05)) is not None:
        found.append(states)
    return found


def test_turns_without_a_frame_or_a_failure_stop_counting(listener: Manager) -> None:
    """A capture process that says "wait" for ever: the loop turns, but after the patience nothing feeds the watchdog,
    until a report comes again."""
    clock = Hand()
    with Notifier(NotifySocket(listener.address), source="x", watchdog=8, patience=30, clock=clock) as notifier:
        notifier.report(report(0))
        assert [set(states) for states in heard(listener)] == [{"STATUS"}, {"READY", "WATCHDOG", "STATUS"}]
        fed = []
        for _ in range(60):
            clock.now += 1
            notifier.beat()
            fed.append("WATCHDOG" in (listener.next() or {}))
        assert fed == [True] * 30 + [False] * 30
        assert "neither a frame nor a failure for 60 s" in listener.heard[-1]["STATUS"]
        notifier.report(failure(1))
        clock.now += 1
        notifier.beat()
        assert "WATCHDOG" in (listener.next() or {})


@pytest.mark.parametrize("reason", [Reason.ENGINE_ERROR, Reason.DETECTOR_ERROR, Reason.UNKNOWN])
def test_an_engine_that_always_fails_starves_the_watchdog(reason: Reason, listener: Manager) -> None:
    """Every frame fails in a part of the guard: the loop turns and reports, the status says so, and nothing feeds the
    watchdog until a frame is judged again. One region that fails beside others is none of that."""
    stamp = report(0).verdicts[0].stamp
    withheld = replace(WITHHELD, reason=reason, detail="no GPU", stamp=stamp)
    broken = replace(report(0), verdicts=[withheld] * 2)
    half = replace(report(0), verdicts=[withheld, replace(RELEASED, stamp=stamp)])
    clock = Hand()
    with Notifier(NotifySocket(listener.address), source="x", watchdog=8, clock=clock) as notifier:
        notifier.report(report(0))
        heard(listener)
        fed = []
        for each in (broken, broken, None, half, broken, report(1), None):
            clock.now += 1
            if each is not None:
                notifier.report(each)
            notifier.beat()
            fed.append("WATCHDOG" in (listener.next() or {}))
        assert fed == [False, False, False, True, False, True, True]
        said = [states["STATUS"] for states in listener.heard]
        assert sum(each.startswith(f"withholding everything ({reason}: no GPU): x, ") for each in said) == 4


def test_of_several_cameras_one_that_fails_is_named(listener: Manager) -> None:
    """The others are guarded, so the watchdog is fed; only where none is judged is everything withheld."""

    def of(camera: str, **changes: object) -> FrameReport:
        plain = report(0)
        stamp = plain.verdicts[0].stamp
        assert stamp is not None
        return replace(plain, verdicts=[replace(WITHHELD, stamp=replace(stamp, camera=camera), **changes)])  # type: ignore[arg-type]

    clock = Hand()
    with Notifier(NotifySocket(listener.address), source="2 cameras", watchdog=8, clock=clock) as notifier:
        for each in (of("left"), of("right", reason=Reason.ENGINE_ERROR), of("left", reason=Reason.ENGINE_ERROR)):
            clock.now += 1
            notifier.report(each)
    said = heard(listener)
    assert any("WATCHDOG" in one and "camera right withheld: engine error" in one["STATUS"] for one in said)
    assert "WATCHDOG" not in said[-1] and "withholding everything (engine error" in said[-1]["STATUS"]


def test_who_is_ready(listener: Manager) -> None:
    """A frame that is judged, or withheld for a camera fault, makes it ready; no frame and a broken engine don't."""

    def ready(*reports: FrameReport) -> bool:
        with Notifier(NotifySocket(listener.address), source="x") as notifier:
            for each in reports:
                notifier.report(each)
        return any("READY" in states for states in heard(listener))

    def of(reason: Reason) -> FrameReport:
        lost = failure(0)
        return replace(lost, verdicts=[replace(lost.verdicts[0], reason=reason)])

    broken = replace(report(0), verdicts=[replace(WITHHELD, reason=Reason.ENGINE_ERROR)])
    half = replace(report(0), verdicts=[replace(WITHHELD, reason=Reason.ENGINE_ERROR), RELEASED])
    assert ready(report(0)) and ready(half) and ready(of(Reason.CAMERA_FAULT)) and ready(of(Reason.STALE))
    assert not ready() and not ready(broken) and not ready(failure(0), failure(1))
    assert ready(failure(0), broken, report(1))


def test_a_status_is_one_line(listener: Manager) -> None:
    """Text from a camera can't say a state of its own, and isn't longer than it may be."""
    with Notifier(NotifySocket(listener.address), source="a\nREADY=1\r" + "b" * 5000) as notifier:
        notifier.close()
    assert [set(states) for states in heard(listener)] == [{"STATUS"}, {"STOPPING", "STATUS"}]
    assert len(listener.heard[0]["STATUS"]) == 400


def test_a_full_or_missing_listener_delays_nothing(tmp_path: Path) -> None:
    """Nobody reads, or nobody is there: reports take no time; READY comes when there is room again."""
    listener = Manager(str(tmp_path / "notify"))
    with (
        Notifier(NotifySocket(listener.address), source="x") as notifier,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as stuffing,
    ):
        with suppress(BlockingIOError):
            for _ in range(10_000):
                stuffing.sendto(b"X=1", listener.address)
        with pytest.raises(BlockingIOError):
            stuffing.sendto(b"X=1", listener.address)
        for number in range(50):
            notifier.report(report(number))
        assert not [states for states in heard(listener) if "READY" in states]
        notifier.beat()
        assert (listener.next() or {})["READY"] == "1"
        listener.close()
        Path(listener.address).unlink()
        for number in range(50):
            notifier.report(report(number))


def test_a_watchdog_for_another_process_is_not_fed(listener: Manager) -> None:
    """WATCHDOG_PID names who is meant; without NOTIFY_SOCKET nothing is sent at all. The variables are taken away."""
    environment = {
        "NOTIFY_SOCKET": listener.address,
        "WATCHDOG_USEC": "1000000",
        "WATCHDOG_PID": str(os.getpid() + 1),
        "OTHER": "stays",
    }
    with Notifier.from_environment("x", 60, environment) as notifier:
        notifier.report(report(0))
    assert environment == {"OTHER": "stays"}
    assert "WATCHDOG" not in listener.until("READY")
    with Notifier.from_environment("x", 60, {"WATCHDOG_USEC": "1000000"}) as silent:
        silent.report(report(0))
    assert heard(listener) == []
