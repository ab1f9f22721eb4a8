"""Golden frames in a running guard: at its start, between live frames, when the device errs, and when it recovers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firewall import Firewall, Frame
from firewall.bundle import Bundle, GoldenFrame, PatchSpec, load_bundle
from firewall.bundle.trust import Trust
from firewall.cli import app, run
from firewall.config import load_settings
from firewall.decision.golden import GoldenState
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import DataError, EngineError, UsageError
from firewall.frame import Pixels, Region
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.calibration.golden import Candidate, with_golden
from firewall.service import golden
from firewall.service.golden import SelfTest
from firewall.sources import Failure, Idle
from firewall.verdict import Reason
from tests.fused_bundle import fused_bundle
from tests.test_service import Kept, Script, frames, service

BLANK = np.full((40, 40, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, benign_sign: Pixels) -> Bundle:
    """A bundle with two golden frames: a sign that is released, and a blank one that is withheld."""
    told: list[str] = []
    plain = load_bundle(fused_bundle(), trust=Trust())
    given = [Candidate("sign", benign_sign), Candidate("blank", BLANK)]
    bundle = with_golden(plain, tmp_path_factory.mktemp("golden") / "b", given, tell=told.append)
    assert [line.split(",")[0] for line in told] == ["golden-00.png", "golden-01.png"] and "blank: " in told[1]
    return bundle


class Erring(OnnxRuntimeEngine):
    """The real engine, which has its classes in another order while `errs`."""

    errs = False
    raises: Exception | None = None

    def classify(self, images: Pixels) -> Any:
        if self.raises is not None:
            raise self.raises
        logits = super().classify(images)
        return logits[:, ::-1].copy() if self.errs else logits


@pytest.fixture
def erring(made: Bundle) -> tuple[Firewall, Erring]:
    engine = Erring(made, threads=1)
    return Firewall(made, engine, threads=1), engine


def test_expected_is_what_the_bundle_says(made: Bundle, benign_sign: Pixels) -> None:
    """Released classes and withheld reasons as a guard gives them, and they pass on the guard's own engine."""
    sign, blank = made.manifest.golden or ()
    assert (sign.released, sign.withheld) == ((Firewall.load(fused_bundle()).screen(benign_sign).label,), ())
    assert blank.released == () and len(blank.withheld) == 1
    states: list[GoldenState] = []
    check = SelfTest(Firewall.load(made.path, threads=1), told=states.append)
    check.start()
    assert check.fault == "" and check.state.rounds == 1 and len(states) == 1 and states[0].frames == 2
    assert abs(states[0].checked_at - time.time()) < 60


def test_a_device_that_errs_withholds_everything_until_it_has_recovered(
    erring: tuple[Firewall, Erring], benign_sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first golden frame with another verdict on, nothing is released, whatever the source gives; after three
    rounds without a fault labels go out again."""
    guard, engine = erring
    monkeypatch.setattr(golden, "_AGAIN", 0.0)
    states: list[GoldenState] = []
    check = SelfTest(guard, every=1e-6, told=states.append)
    check.start()
    many = frames(*[benign_sign] * 40)

    def source() -> Iterator[object]:
        for number, frame in enumerate(many):
            engine.errs = 5 <= number < 15
            yield frame
            if number == 10:
                yield Failure("test", 99, time.monotonic(), "unplugged")

    sink = Kept()
    capture = Script()
    capture.taken = source()
    summary = service(guard, capture, sink, self_test=check).run()
    assert [report.verdicts[0].source for report in sink.reports] == ["test"] * 41, "no golden frame is among them"
    reasons = [report.verdicts[0].reason for report in sink.reports]
    first = reasons.index(Reason.SELF_TEST)
    back = len(reasons) - reasons[::-1].index(Reason.SELF_TEST)
    assert reasons[:first].count(Reason.BENIGN) >= 5 and first <= 8
    assert set(reasons[first:back]) == {Reason.SELF_TEST, Reason.SOURCE_ERROR}
    assert set(reasons[back:]) == {Reason.BENIGN} and back >= 16 + 6
    faults = [bool(each.fault) for each in states]
    assert sum(one != other for one, other in pairwise(faults)) == 2 and not faults[-1]
    line = sink.reports[first].verdicts[0].line()
    assert (line["decision"], line["label"], line["label_name"]) == ("withhold", None, None)
    assert str(line["reason"]).startswith("self-test failed: golden-00.png should give class ")
    assert summary.withheld["self-test failed"] == reasons.count(Reason.SELF_TEST)


def test_a_fault_at_the_start_stays_where_nothing_is_judged_again(
    erring: tuple[Firewall, Erring], benign_sign: Pixels
) -> None:
    """golden_minutes: 0."""
    guard, engine = erring
    engine.errs = True
    check = SelfTest(guard)
    check.start()
    engine.errs = False
    sink = Kept()
    service(guard, Script(*frames(*[benign_sign] * 3)), sink, self_test=check).run()
    assert [report.verdicts[0].reason for report in sink.reports] == [Reason.SELF_TEST] * 3


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), EngineError("the device is gone")])
def test_what_can_not_be_judged_is_a_fault(
    made: Bundle, erring: tuple[Firewall, Erring], tmp_path: Path, error: Exception
) -> None:
    """An engine that raises, a picture that is none, a finder that breaks."""
    guard, engine = erring
    engine.raises = error
    check = SelfTest(guard)
    check.start()
    assert "golden-01.png should give" in check.fault and check.state.failures == 2
    broken = rewritten(made, tmp_path / "b", {"golden-00.png": b"no picture"}, golden=made.manifest.golden)
    check = SelfTest(Firewall(broken, OnnxRuntimeEngine(broken, threads=1), threads=1))
    check.start()
    assert check.fault.startswith("golden-00.png: ") and check.state.failures == 1

    class Finder:
        def find(self, pixels: Pixels) -> list[Region]:
            raise ValueError

    frame = GoldenFrame(file="golden-00.png", regions="signs", released=(14,))
    said = golden.judged(guard, Finder(), frame, made.files["golden-00.png"])
    assert said == "golden-00.png: ValueError while looking for regions"


def test_a_device_that_repeats_an_old_answer_is_found() -> None:
    """The package's own bundle: an engine that gives its first answer again and again, as one does that reads a stale
    buffer, fails the golden frames, whichever of them it saw first; one that works passes."""
    bundle = load_bundle()
    engine = OnnxRuntimeEngine(bundle, threads=1)

    class Stuck:
        provider = engine.provider

        def __init__(self) -> None:
            self.first: Any = None

        def classify(self, images: Pixels) -> Any:
            if self.first is None:
                self.first = engine.classify(images)[:1]
            return np.repeat(self.first, len(images), axis=0)

    assert len({frame.released for frame in bundle.manifest.golden or () if frame.released}) > 1
    listed = bundle.manifest.golden or ()
    for turn, works in ((0, True), (0, False), (1, False), (2, False), (5, False)):
        turned = bundle.manifest.model_copy(update={"golden": listed[turn:] + listed[:turn]})
        judging = engine if works else Stuck()
        check = SelfTest(Firewall(replace(bundle, manifest=turned), judging, threads=1))  # type: ignore[arg-type]
        check.start()
        assert (check.fault == "") == works, check.fault


def test_a_stricter_demand_of_the_user_is_no_fault(made: Bundle, benign_sign: Pixels) -> None:
    """--patches withholds what the bundle would release: that is what the user asked for."""
    guard = Firewall(made, OnnxRuntimeEngine(made, threads=1), patches=PatchSpec(area=0.1, rounds=2), threads=1)
    assert guard.screen(benign_sign).reason is Reason.UNCERTIFIED
    check = SelfTest(guard)
    check.start()
    assert check.fault == ""


class Simulated:
    """A live camera and a guard in simulated time: how old each frame is when its verdict is given."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, guard: Firewall, *, work: float, cost: float, every: float
    ) -> None:
        self.now, self.work, self.ages, self.judged = 1000.0, work, list[float](), list[float]()
        monkeypatch.setattr(golden.time, "monotonic", lambda: self.now)

        def judge(*_: object) -> str:
            self.now += cost
            self.judged.append(self.now)
            return ""

        monkeypatch.setattr(golden, "judged", judge)
        self.check, self.passed_over = SelfTest(guard, every=every, timed=True, live=["front"]), 0

    def run(self, seconds: float, *, period: float = 0.040, from_: float = 0.0, to: float = 1e9) -> None:
        """The guard takes the newest frame whenever it is free. There are frames from `from_` to `to` only."""
        begun, last = self.now, -1
        while self.now < begun + seconds:
            number = int((self.now - begun) / period)
            if number == last or not from_ <= number * period < to:
                waited = begun + (last + 1) * period - self.now
                if -1e-6 < waited < 0.5 and from_ <= (last + 1) * period < to:
                    self.now += waited + 1e-6
                else:
                    self.now += 0.5
                    self.check.between()
                continue
            last = number
            frame = Frame(BLANK, "live", number, begun + number * period)
            if self.check.passes_over(frame, "front", frame.captured_at + 0.033, self.work):
                self.passed_over += 1
                continue
            self.now += self.work
            self.ages.append(self.now - frame.captured_at)
            self.check.seen(frame, "front")
            self.check.between()


def test_no_live_frame_is_pushed_over_its_deadline(monkeypatch: pytest.MonkeyPatch, made: Bundle) -> None:
    """25 frames a second, 12 ms of work each, golden frames of 15 ms: rounds are made on time, in gaps, one golden
    frame at a time, and no frame waits for one."""
    simulated = Simulated(monkeypatch, Firewall.load(made.path), work=0.012, cost=0.015, every=10)
    simulated.check.start()
    simulated.judged.clear()
    simulated.run(100)
    assert simulated.check.state.rounds == 10 and len(simulated.judged) == 18 and simulated.passed_over == 0
    assert max(simulated.ages) == pytest.approx(0.012, abs=1e-4) and len(simulated.ages) == pytest.approx(2500, abs=2)


def test_a_guard_without_gaps_passes_a_frame_over_now_and_then(monkeypatch: pytest.MonkeyPatch, made: Bundle) -> None:
    """More frames than the guard can judge: after a minute without a gap golden frames are judged all the same, at most
    one a second; no verdict is late for it, and what was passed over is counted."""
    simulated = Simulated(monkeypatch, Firewall.load(made.path), work=0.030, cost=0.025, every=300)
    simulated.check.start()
    simulated.judged.clear()
    simulated.run(400, period=0.033)
    assert simulated.check.state.rounds == 2 and len(simulated.judged) == 2
    assert simulated.judged[0] == pytest.approx(1000 + 300 + 60, abs=1.5)
    assert simulated.judged[1] - simulated.judged[0] >= 1.0
    assert max(simulated.ages) <= 0.033 + 0.030 and 1 <= simulated.passed_over <= 2


def test_a_lost_source_leaves_time(monkeypatch: pytest.MonkeyPatch, made: Bundle) -> None:
    """A source that stops, and one that never began: golden frames are judged all the same."""
    for to in (5.0, 0.0):
        simulated = Simulated(monkeypatch, Firewall.load(made.path), work=0.030, cost=0.025, every=60)
        simulated.check.start()
        simulated.run(300, period=0.033, to=to)
        assert simulated.check.state.rounds >= 3 and simulated.passed_over == 0


def test_the_camera_whose_frame_comes_first_counts(monkeypatch: pytest.MonkeyPatch, made: Bundle) -> None:
    """Two cameras: a golden frame has to fit before the next frame of either; one that is lost is not waited for."""
    simulated = Simulated(monkeypatch, Firewall.load(made.path), work=0.0, cost=0.020, every=60)
    check = simulated.check
    check.start()
    simulated.now += 60
    for camera, period in (("front", 0.100), ("rear", 0.040)):
        for number in range(3):
            check.seen(Frame(BLANK, camera, number, simulated.now - (2 - number) * period), camera)
    simulated.now += 0.015  # 25 ms until the rear camera's frame, and 30 ms are wanted
    done = len(simulated.judged)
    check.between()
    assert len(simulated.judged) == done
    simulated.now += 0.030  # its frame is due and not there: it may come at any moment
    check.between()
    assert len(simulated.judged) == done
    simulated.now += 0.410
    check.seen(Frame(BLANK, "front", 3, simulated.now), "front")
    check.between()  # it is lost; the front camera leaves time
    assert len(simulated.judged) == done + 1


def test_the_loop_counts_what_it_passed_over(made: Bundle, benign_sign: Pixels) -> None:
    """A live frame that waited too long for a golden one: no verdict, and one more that was dropped."""
    guard = Firewall.load(made.path, threads=1)
    check = SelfTest(guard, every=3600, live=[None])
    check.start()
    stale, fresh = frames(benign_sign, benign_sign)
    check._ended_at = stale.captured_at + 1e-6
    fresh = Frame(fresh.pixels, fresh.source, 1, time.monotonic())
    sink = Kept()
    summary = service(guard, Script(stale, Idle(), fresh), sink, self_test=check, deadline_ms=1e-3).run()
    assert [report.verdicts[0].sequence for report in sink.reports] == [1]
    assert summary.dropped == sink.reports[0].dropped == 3 + 1


def test_without_golden_frames_all_is_as_before(guard: Firewall, benign_sign: Pixels) -> None:
    """A bundle that has none, and one whose golden frames need a finder that the guard doesn't look with."""
    check = SelfTest(guard, every=1e-6)
    check.start()
    sink = Kept()
    service(guard, Script(*frames(benign_sign)), sink, self_test=check).run()
    assert sink.reports[0].verdicts[0].released and check.state == GoldenState(0)


def test_commands_that_change_verdicts_leave_them_out(made: Bundle, tmp_path: Path) -> None:
    """Another version, provenance or drift keeps golden frames; other thresholds, or another network, don't."""
    kept = rewritten(made, tmp_path / "a", {"drift.json": made.files["drift.json"]}, version=9)
    assert kept.manifest.golden == made.manifest.golden
    for changed in ({"fusion": made.manifest.fusion}, {"patches": None}):
        gone = rewritten(made, tmp_path / "b", {}, **changed)
        assert gone.manifest.golden is None and "golden-00.png" not in gone.files
    again = with_golden(made, tmp_path / "a", [Candidate("blank", BLANK)], drawn=1, version=10)
    assert again.manifest.version == 10 and len(again.manifest.golden or ()) == 3
    assert {path.name for path in (tmp_path / "a").glob("golden-*")} == {
        each.file for each in again.manifest.golden or ()
    }


def test_what_makes_no_golden_frames_is_one_line(made: Bundle, tmp_path: Path, benign_sign: Pixels) -> None:
    """Only released ones, only withheld ones, too many, too large, an older version; a verdict that one grey value more
    or less changes is left out and named."""
    out = tmp_path / "b"
    sign, blank = Candidate("sign", benign_sign), Candidate("blank", BLANK)
    for given, words in (
        ([sign], "got 1 and 0; add some with --images or --demo"),
        ([blank], "got 0 and 1"),
        ([blank] * 40, "at most 32 golden frames"),
    ):
        with pytest.raises(DataError, match=words):
            with_golden(made, out, given)
    with pytest.raises(UsageError, match="--version must be at least"):
        with_golden(rewritten(made, tmp_path / "five", {}, version=5), out, [sign, blank], version=4)
    noise = np.random.default_rng(0).integers(0, 256, (1300, 1300, 3)).astype(np.uint8)
    with pytest.raises(DataError, match=r"of 5[0-9]* bytes together; 32 and 4194304 are allowed"):
        with_golden(made, out, [sign, Candidate("noise", noise)])
    assert not out.exists()


def ask(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def serving(bundle: Path, *sources: str) -> tuple[subprocess.Popen[str], str]:
    """`firewall serve` on some sources, and the address of its page."""
    command = [sys.executable, "-m", "firewall", "serve", "--bundle", str(bundle), "--allow-unsigned"]
    rest = [*(word for source in sources for word in ("--source", source)), "--http", "127.0.0.1:0", "--output", "-"]
    process = subprocess.Popen([*command, *rest], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("live page: "):
            return process, line.split()[-1].rstrip("/")
    raise AssertionError("it never began")


def test_serve_says_that_the_device_can_not_be_relied_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`firewall lab golden` and `firewall serve`, as a user runs them. A bundle that expects what its network doesn't
    say stands for a device that computes wrongly: every line withholds, readiness and metrics say why. The same bundle
    with what it does say: guarding, ready. With one camera, and with two."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    assert run(app, ["lab", "golden", "--demo", "1", "--out", str(good)], "firewall") == 0
    assert "3 golden frames" in capsys.readouterr().out
    bundle = load_bundle(good, trust=Trust())
    scene, sign, attacked = bundle.manifest.golden or ()
    assert scene.regions == "signs" and scene.released and sign.released and attacked.withheld
    wrong = sign.model_copy(update={"released": ((sign.released[0] + 1) % 43,)})
    rewritten(bundle, bad, {}, golden=(scene, wrong, attacked))
    one, two = ["demo?fps=10"], ["demo?fps=10", "demo?fps=5"]
    for folder, passed, sources in ((good, True, one), (bad, False, one), (good, True, two), (bad, False, two)):
        process, page = serving(folder, *sources)
        with process:
            assert process.stdout is not None
            lines = [json.loads(process.stdout.readline()) for _ in range(8)]
            code, body = ask(f"{page}/v2/health/ready")
            ready = json.loads(body)
            metrics = ask(f"{page}/metrics")[1].decode()
            process.terminate()
        reasons = {line["reason"].split(":")[0] for line in lines}
        assert (code == 200) == ready["ready"] == passed and ready["golden"]["frames"] == 3
        assert f"firewall_golden_passed {float(passed)}" in metrics and "firewall_golden_frames 3.0" in metrics
        if passed:
            assert "self-test failed" not in reasons and ready["golden"]["fault"] == ""
        else:
            assert reasons == {"self-test failed"} and all(line["label"] is None for line in lines)
            assert ready["status"] == "not ready" and "golden-01.png should give class" in ready["detail"]
            assert "firewall_golden_failures_total 1.0" in metrics


def test_the_setting() -> None:
    """Minutes, 10 unless said otherwise; 0 is only at the start."""
    assert load_settings().golden_minutes == 10
    assert load_settings(golden_minutes=0).golden_minutes == 0
