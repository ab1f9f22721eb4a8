"""When golden frames are judged besides their turn: on a signal and after a loss; and how long a verdict takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from firewall import Firewall, Frame
from firewall.bundle import Bundle, load_bundle
from firewall.decision.golden import GoldenState
from firewall.frame import Pixels
from firewall.server import HttpServer, Monitor, create_app
from firewall.service import camera as cameras
from firewall.service import golden
from firewall.service.golden import SelfTest
from firewall.service.records import time_check
from firewall.service.signals import self_test_on_signal
from firewall.sinks.guarding import Guarding
from firewall.sources import Failure
from firewall.verdict import Reason
from tests.kept import Kept
from tests.server.test_app import fetch
from tests.service.test_records import guard, records
from tests.sinks.making import report as fresh
from tests.test_service import Script, service


@pytest.fixture(scope="module")
def whole() -> Bundle:
    """The package's bundle with its golden frames that need no finder."""
    bundle = load_bundle()
    listed = [frame for frame in bundle.manifest.golden or () if frame.regions == "whole"]
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"golden": tuple(listed[:4])}))


class Judging:
    """In the place of the judgement of golden frames: how many there were, and what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times, self.says = 0, ""
        monkeypatch.setattr(golden, "judged", self)

    def __call__(self, *_: object) -> str:
        self.times += 1
        return self.says


@pytest.fixture
def judging(monkeypatch: pytest.MonkeyPatch) -> Judging:
    return Judging(monkeypatch)


def lost(number: int = 0) -> Failure:
    return Failure("test", number, time.monotonic(), "unplugged")


def stream(pixels: Pixels, script: str) -> Iterator[object]:
    """A letter each: f a frame, x a loss, c a camera fault."""
    for number, letter in enumerate(script):
        yield {
            "f": lambda n=number: Frame(pixels, "test", n, time.monotonic()),
            "x": lambda n=number: lost(n),
            "c": lambda n=number: replace(lost(n), kind="fault"),
        }[letter]()


def run_script(
    guard: Firewall, check: SelfTest | None, pixels: Pixels, script: str, uri: str = "test://pattern"
) -> Kept:
    sink = Kept()
    capture = Script(uri=uri)
    capture.taken = stream(pixels, script)
    service(guard, capture, sink, self_test=check).run()
    return sink


def said(sink: Kept) -> str:
    """A letter for each report: r released, w withheld for the return, t self-test, - no frame."""
    told = {Reason.BENIGN: "r", Reason.UNCONFIRMED: "w", Reason.SELF_TEST: "t"}
    return "".join(told.get(report.verdicts[0].reason, "-") for report in sink.reports)


def test_a_source_that_comes_back_waits_for_golden_frames(whole: Bundle, judging: Judging, benign_sign: Pixels) -> None:
    """Four golden frames, one between two frames: nothing is released from the loss on until all four were judged
    after it, and then it is; a second loss begins again. A camera fault, or a file, is no such loss."""
    guard = Firewall.load(whole.path, threads=1)
    check = SelfTest(replace_bundle(guard, whole))
    check.start()
    sink = run_script(guard, check, benign_sign, "ffxffffffxxffff")
    assert said(sink) == "rr-wwwrrr--wwrr"
    first = sink.reports[3]
    assert first.returning and first.verdicts[0].label is None and not sink.reports[6].returning
    assert first.verdicts[0].line()["reason"] == (
        "not confirmed yet: the source came back; golden frames are judged first"
    )
    assert said(run_script(guard, check, benign_sign, "fcfxf", uri="test://pattern?live=0")) == "r-r-r"
    assert said(run_script(guard, None, benign_sign, "fxf")) == "r-r"


def replace_bundle(guard: Firewall, bundle: Bundle) -> Firewall:
    """The guard, with the golden frames of that bundle."""
    guard.bundle = bundle
    return guard


def test_a_round_that_fails_after_a_loss_withholds_on(whole: Bundle, judging: Judging, benign_sign: Pixels) -> None:
    """The device was damaged with the camera: the golden frames say so, and nothing is released."""
    guard = Firewall.load(whole.path, threads=1)
    check = SelfTest(replace_bundle(guard, whole), every=3600)
    check.start()
    judging.says = "golden-00.png should give class 14, and gives nothing"
    assert said(run_script(guard, check, benign_sign, "xffffffff")) == "-tttttttt"


def test_it_does_not_withhold_for_ever(
    whole: Bundle, judging: Judging, benign_sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is never time for a round, as when golden frames are not judged at all: after `_LONGEST_RETURN` from
    the first frame on labels go out. A bundle without golden frames is as before."""
    guard = Firewall.load(whole.path, threads=1)
    check = SelfTest(replace_bundle(guard, whole))
    check.start()
    monkeypatch.setattr(check, "between", lambda **_: None)
    assert said(run_script(guard, check, benign_sign, "xfff")) == "-www"
    monkeypatch.setattr(cameras, "_LONGEST_RETURN", -1.0)
    assert said(run_script(guard, check, benign_sign, "xfff")) == "-rrr"
    monkeypatch.undo()
    bare = whole.manifest.model_copy(update={"golden": None})
    none = SelfTest(replace_bundle(guard, replace(whole, manifest=bare)))
    assert not none.has_frames and said(run_script(guard, none, benign_sign, "xff")) == "-rr"


def test_ready_says_what_is_to_be_known() -> None:
    """A warning is in the answer, and changes nothing else; without one there is no such key. Labels of a source that
    comes back may not be used, for MQTT and CAN too."""
    monitor = Monitor(source="test", bundle="b", live=False)
    monitor.set_ready(True)
    with HttpServer(create_app(monitor), "127.0.0.1", 0) as server:
        status, body = fetch(server, "/v2/health/ready")
        assert status == 200 and "warning" not in json.loads(body)
        monitor.set_warning("a golden frame takes 41 ms")
        status, body = fetch(server, "/v2/health/ready")
        assert status == 200 and json.loads(body)["warning"] == "a golden frame takes 41 ms"
    usable = Guarding(60.0)
    for report in (fresh(0), replace(fresh(1), returning="golden frames first"), fresh(2)):
        usable.seen(report)
        assert bool(usable) is not bool(report.returning)


def test_page_and_health_say_that_it_comes_back(whole: Bundle, judging: Judging, benign_sign: Pixels) -> None:
    """State `returning`, not ready; then guarding."""
    guard = Firewall.load(whole.path, threads=1)
    check = SelfTest(replace_bundle(guard, whole))
    check.start()
    seen = []
    monitor = Monitor(source="test", bundle="b", live=True, told=lambda change: seen.append(change.state.value))
    monitor.set_ready(True, "guarding")
    ready = []
    for report in run_script(guard, check, benign_sign, "fxffffff").reports:
        monitor.report(report)
        ready.append(monitor.ready)
    assert seen == ["guarding", "source lost", "returning", "guarding"]
    assert ready[2:5] == [False] * 3 and ready[-1] is True


def test_a_demanded_round_begins_at_once(whole: Bundle, judging: Judging) -> None:
    """With a camera that leaves no gap, and nine minutes before the next round: the first golden frame is judged with
    the next turn of the loop, the others a second later each. Demanded where there are none: nothing."""
    told: list[GoldenState] = []
    guard = replace_bundle(Firewall.load(whole.path, threads=1), whole)
    check = SelfTest(guard, every=600, timed=True, live=["front"], told=told.append)
    check.start()
    judging.times = 0
    check.seen(Frame(None, "front", 0, time.monotonic() + 3600), "front")  # type: ignore[arg-type]
    check._coming["front"].gaps.append(-3600.0)  # the next one is always due just now
    check.between()
    assert judging.times == 0
    check.demand()
    for turn in range(1, 5):
        check._forced_at -= 1.0
        check.between()
        check.between()
        assert judging.times == turn and check.answering is (turn < 4)
    assert [state.rounds for state in told] == [1, 2] and check._due - time.monotonic() > 500
    bare = SelfTest(replace_bundle(guard, replace(whole, manifest=whole.manifest.model_copy(update={"golden": None}))))
    bare.demand()
    bare.between()
    assert judging.times == 4 and not bare.answering


def test_the_signal_means_that_and_nothing_else(monkeypatch: pytest.MonkeyPatch, whole: Bundle) -> None:
    """SIGUSR1 demands a round, with no golden frames does nothing, and afterwards means what it did; where a system
    doesn't know it, nothing is changed."""
    before = signal.getsignal(signal.SIGUSR1)
    check = SelfTest(replace_bundle(Firewall.load(whole.path, threads=1), whole))
    for test in (check, None):
        with self_test_on_signal(test):
            os.kill(os.getpid(), signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is before
    assert check._asked
    monkeypatch.delattr(signal, "SIGUSR1")
    with self_test_on_signal(check):
        pass


def test_a_running_guard_answers_the_signal(tmp_path: Path, benign_sign: Pixels) -> None:
    """A process that guards the demo: SIGUSR1, and the line and the record of a second round come, while it guards on
    and ends well."""
    log = tmp_path / "log"
    options = [
        "--source",
        "demo?fps=10",
        "--http",
        "off",
        "--output",
        "-",
        "--output",
        f"audit:{log}",
        "--threads",
        "1",
    ]
    command = [sys.executable, "-m", "firewall", "serve", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()  # it judges frames
        process.send_signal(signal.SIGUSR1)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("self-test as asked for"):
                break
        process.terminate()
        process.stdout.read()
        process.stderr.read()
    assert process.returncode == 0 and "golden frames are judged as they should be" in lines[-1]
    rounds = [each["rounds"] for each in records(log, "integrity") if each["what"] == "golden frames"]
    assert rounds == [1, 2]


@pytest.mark.parametrize(("median", "deadline", "ok"), [(12.5, 33.0, True), (41.0, 33.0, False)])
def test_what_a_verdict_takes_is_told(median: float, deadline: float, ok: bool) -> None:
    """With its figures, by the deadline; nothing without a deadline, or without golden frames."""
    state = GoldenState(9, rounds=1, median_ms=median, slowest_ms=70.0)
    check = time_check(state, deadline)
    assert check is not None and check.told["ok"] is ok
    told = f"a golden frame takes {median:g} ms (median; the slowest 70 ms), the deadline is 33 ms after capture"
    assert check.told["detail"] == told + ("" if ok else ": most labels will be late")
    assert time_check(state, None) is None and time_check(GoldenState(0), deadline) is None


def test_times_are_of_frames_that_are_looked_at_as_live_ones(whole: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the guard looks with the finder, those that need it; else those that don't. Each kind is warm before it
    counts."""
    bundle = load_bundle()
    calls: list[str] = []

    def judge(_: object, __: object, frame: object, ___: object) -> str:
        regions = frame.regions  # type: ignore[attr-defined]
        calls.append(regions)
        time.sleep((0.02 if regions == "signs" else 0.001) * (10 if calls.count(regions) == 1 else 1))
        return ""

    monkeypatch.setattr(golden, "judged", judge)
    guard = replace_bundle(Firewall.load(bundle.path, threads=1), bundle)
    signs = SelfTest(guard, object())  # type: ignore[arg-type]
    signs.start()
    assert {frame.regions for frame in bundle.manifest.golden or ()} == {"signs", "whole"}
    assert signs.state.median_ms >= 20 and signs.state.slowest_ms >= signs.state.median_ms
    alone = SelfTest(guard)
    calls.clear()
    alone.start()
    assert 1 <= alone.state.median_ms < signs.state.median_ms


def test_a_guard_that_can_not_meet_its_deadline_says_so(
    tmp_path: Path, benign_sign: Pixels, capsys: pytest.CaptureFixture[str]
) -> None:
    """A deadline of a microsecond on pictures: a warning with figures on standard error and in the audit log, and it
    guards all the same."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(benign_sign).save(pictures / "0.png")
    log = tmp_path / "log"
    assert guard(log, "--source", str(pictures), "--deadline-ms", "0.001") == 0
    (check,) = (each for each in records(log, "integrity") if each["what"] == "time per verdict")
    assert (
        check["ok"] is False and "the deadline is 0.001 ms after capture: most labels will be late" in check["detail"]
    )
    assert f"warning: {check['detail']}" in capsys.readouterr().err
    (verdict,) = records(log, "verdict")
    assert json.dumps(verdict["verdict"]).count("late") >= 1
