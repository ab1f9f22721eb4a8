from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall import Firewall, Frame
from firewall.bundle import load_bundle
from firewall.config import CaptureSettings, load_settings
from firewall.decision.drift import Drift, DriftSpec, DriftState, channel_spec
from firewall.decision.over_time import served
from firewall.decision.tracks import Track, Tracks, TracksSpec
from firewall.demo.scene import render
from firewall.demo.source import ENCOUNTERS
from firewall.errors import FirewallError, ImageError
from firewall.frame import Pixels, Region
from firewall.regions import build
from firewall.service import Service, stop_on_signals
from firewall.service.serving import serve
from firewall.sinks import FrameReport
from firewall.sources import Capture, End, Failure, Idle, parse
from firewall.verdict import Reason, Verdict
from tests.kept import Kept


class Script:
    """A capture of a live source, or as `uri` says, that gives what a test lists, then ends."""

    def __init__(self, *taken: object, uri: str = "test://pattern") -> None:
        self.spec = parse(uri)
        self.taken: Iterator[object] = iter(taken)
        self.dropped = 3
        self.restarts = 1

    def read(self) -> object:
        return next(self.taken, End())


def frames(*pictures: Pixels, age: float = 0.0) -> list[Frame]:
    return [Frame(pixels, "test", number, time.monotonic() - age) for number, pixels in enumerate(pictures)]


def service(guard: Firewall, capture: Script, sink: Kept, **options: object) -> Service:
    return Service(guard, capture, build("whole"), [sink], **options)  # type: ignore[arg-type]


def test_every_frame_and_failure_is_reported_in_order(guard: Firewall, benign_sign: Pixels) -> None:
    """Release, withhold and source failure each give a report; drops and restarts are passed on; sinks are closed."""
    blank = np.zeros((30, 30, 3), np.uint8)
    first, second = frames(benign_sign, blank)
    failure = Failure(source="test", sequence=2, at=time.monotonic(), detail="capture was killed")
    sink = Kept()

    summary = service(guard, Script(first, failure, second), sink).run()

    reasons = [report.verdicts[0].reason for report in sink.reports]
    assert reasons[0] is Reason.BENIGN and reasons[1] is Reason.SOURCE_ERROR and reasons[2] is Reason.SUSPICIOUS
    assert (summary.frames, summary.released, summary.dropped, summary.restarts) == (2, 1, 3, 1)
    assert sink.closed == 1
    assert "1 labels released" in summary.line() and "1 source error" in summary.line()


def test_late_frames_are_withheld(guard: Firewall, benign_sign: Pixels) -> None:
    """A frame older than the deadline when its turn comes is not released."""
    sink = Kept()

    service(guard, Script(*frames(benign_sign, age=1.0)), sink, deadline_ms=33.0).run()

    assert sink.reports[0].verdicts[0].reason is Reason.LATE


@pytest.mark.parametrize("error", [ImageError("no such box"), RuntimeError("broken finder")])
def test_a_failing_region_finder_withholds_and_the_loop_goes_on(
    guard: Firewall, benign_sign: Pixels, error: Exception
) -> None:
    """One frame whose regions can't be found is withheld with a reason; the next is judged as ever."""

    class Finder:
        calls = 0

        def find(self, pixels: Pixels) -> list[Region]:
            self.calls += 1
            if self.calls == 1:
                raise error
            return [(0, 0, pixels.shape[1], pixels.shape[0])]

    sink = Kept()
    Service(guard, Script(*frames(benign_sign, benign_sign)), Finder(), [sink]).run()  # type: ignore[arg-type]

    assert [report.verdicts[0].released for report in sink.reports] == [False, True]


def test_frames_of_another_form_are_bad_images(guard: Firewall, benign_sign: Pixels) -> None:
    """Grey and 16-bit frames that a source of one's own gives: withheld as bad images before the sign finder looks, and
    the frame after them is judged."""
    odd = [benign_sign[..., 0], benign_sign.astype(np.uint16) * 257, benign_sign / np.float32(255), benign_sign[:0]]
    sink = Kept()
    finder = build("signs", threads=1, bundle=load_bundle())
    Service(guard, Script(*frames(*odd, benign_sign)), finder, [sink]).run()  # type: ignore[arg-type]

    verdicts = [verdict for report in sink.reports for verdict in report.verdicts]
    assert [verdict.reason for verdict in verdicts[:4]] == [Reason.BAD_IMAGE] * 4
    assert not any(verdict.released for verdict in verdicts[:4]) and len(sink.reports) == 5
    assert sink.reports[4].verdicts[0].reason is not Reason.BAD_IMAGE


def test_a_failing_sink_stops_the_service_and_every_sink_is_closed(guard: Firewall, benign_sign: Pixels) -> None:
    """A verdict that can't be recorded is not passed over: the error comes out, sinks are closed once."""

    class Full(Kept):
        def report(self, report: FrameReport) -> None:
            raise FirewallError("disk full")

    full, other = Full(), Kept()
    broken = Service(guard, Script(*frames(benign_sign)), build("whole"), [full, other])  # type: ignore[arg-type]

    with pytest.raises(FirewallError, match="disk full"):
        broken.run()
    assert full.closed == other.closed == 1 and other.reports == []


def test_a_sink_that_can_not_be_closed_is_an_error_and_the_others_are_closed(guard: Firewall) -> None:
    """A disk that says only now that it is full: the run has failed, and the page is told that the guard has ended."""

    class Full(Kept):
        def close(self) -> None:
            super().close()
            raise FirewallError("disk full")

    full, other = Full(), Kept()
    with pytest.raises(FirewallError, match="disk full"):
        Service(guard, Script(), build("whole"), [full, other]).run()  # type: ignore[arg-type]
    assert full.closed == other.closed == 1


def test_max_frames_counts_failures_too(guard: Firewall) -> None:
    """A source that only fails still comes to an end."""
    failure = Failure(source="test", sequence=0, at=time.monotonic(), detail="stalled")
    sink = Kept()

    service(guard, Script(*[failure] * 50), sink, max_frames=4).run()

    assert len(sink.reports) == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_loop_after_the_frame_in_hand(guard: Firewall, benign_sign: Pixels, number: int) -> None:
    """A signal in the middle of an endless source: run returns, the summary is whole, handlers are put back."""

    class Endless(Script):
        def read(self) -> object:
            return Frame(benign_sign, "test", 0, time.monotonic())

    sink = Kept()
    endless = service(guard, Endless(), sink)
    before = signal.getsignal(number)
    timer = threading.Timer(0.3, os.kill, (os.getpid(), number))
    timer.start()
    with stop_on_signals(endless):
        summary = endless.run()

    assert summary.frames == len(sink.reports) > 0
    assert signal.getsignal(number) is before


def test_the_loop_has_a_heartbeat(guard: Firewall, benign_sign: Pixels) -> None:
    """Every turn beats, also while the source gives nothing: only a loop that hangs falls silent."""
    beats: list[float] = []

    service(
        guard, Script(Idle(), Idle(), *frames(benign_sign)), Kept(), heartbeat=lambda: beats.append(time.monotonic())
    ).run()

    assert len(beats) == 4


SPEC = TracksSpec(typical=-0.25, limit=1.0, false_alarm_rate=0.05, tracks=1)


def clip(attacked: int, demo_frames: list[Pixels]) -> list[Pixels]:
    """Ten frames on the way past a sign: the first six with the attack that the demo shows, the others without."""
    encounter = ENCOUNTERS[attacked]
    assert encounter.attack is not None
    start = sum(entry.steps for entry in ENCOUNTERS[:attacked])
    return demo_frames[start : start + 6] + [render(encounter, step)[0] for step in range(6, encounter.steps)]


def on_clip(guard: Firewall, pictures: list[Pixels], tracks: Tracks | None) -> list[list[Verdict]]:
    sink = Kept()
    Service(guard, Script(*frames(*pictures)), build("signs", bundle=load_bundle()), [sink], tracks=tracks).run()  # type: ignore[arg-type]
    return [list(report.verdicts) for report in sink.reports]


def test_what_a_sign_was_caught_at_withholds_its_later_frames(guard: Firewall, demo_frames: list[Pixels]) -> None:
    """A clip of a moving sign, found anew in each frame: after six attacked frames even clean ones, which are released
    without tracks, are withheld for a while; and no verdict is released that wasn't without tracks."""
    attacked = [number for number, encounter in enumerate(ENCOUNTERS) if encounter.attack is not None]
    clips = (
        (pictures, on_clip(guard, pictures, None)) for pictures in (clip(number, demo_frames) for number in attacked)
    )
    # One of which every attacked frame is withheld by itself; this bundle misses some frames of others.
    pictures, alone = next(
        pair for pair in clips if not any(verdict.released for verdicts in pair[1][:6] for verdict in verdicts)
    )
    together = on_clip(guard, pictures, Tracks(SPEC))

    pairs = [pair for one, other in zip(alone, together, strict=True) for pair in zip(one, other, strict=True)]
    turned = [other for one, other in pairs if one.released and not other.released]
    assert all(one.released or not other.released for one, other in pairs)
    assert turned and all(verdict.reason is Reason.SUSPICIOUS and verdict.label is None for verdict in turned)
    assert all(verdict.detail == "over time" and verdict.scores["track"] > 0 for verdict in turned)
    assert not any(verdict.released for verdicts in together[:8] for verdict in verdicts)


def test_a_benign_sign_is_released_throughout_with_tracks(guard: Firewall, demo_frames: list[Pixels]) -> None:
    """The first drive of the demo, which nobody attacks: in every frame some label is released, as without tracks."""
    released = [any(v.released for v in verdicts) for verdicts in on_clip(guard, demo_frames[:10], Tracks(SPEC))]

    assert released == [any(v.released for v in verdicts) for verdicts in on_clip(guard, demo_frames[:10], None)]
    assert all(released)


def test_a_released_sign_that_turns_suspicious_is_taken_back(
    guard: Firewall, benign_sign: Pixels, tmp_path: Path
) -> None:
    """From a folder of pictures, by a real capture process: two frames wait, then the label goes out; noise on the sign
    revokes it, once; and the clean sign has to be confirmed again."""
    noisy = np.random.default_rng(0).integers(0, 256, benign_sign.shape, np.uint8)
    for number, pixels in enumerate([benign_sign] * 4 + [noisy] * 2 + [benign_sign] * 3):
        Image.fromarray(pixels).save(tmp_path / f"{number:02d}.png")
    sink = Kept()
    with Capture(parse(str(tmp_path)), CaptureSettings()) as capture:
        Service(guard, capture, build("whole"), [sink], tracks=Tracks(served(None))).run()
    verdicts = [report.verdicts[0] for report in sink.reports]

    assert [verdict.reason for verdict in verdicts] == [
        *(Reason.UNCONFIRMED, Reason.UNCONFIRMED, Reason.BENIGN, Reason.BENIGN),
        *(Reason.REVOKED, Reason.SUSPICIOUS),
        *(Reason.UNCONFIRMED, Reason.UNCONFIRMED, Reason.BENIGN),
    ]
    back = verdicts[4].line()
    assert back["decision"] == "withhold" and back["label"] is None
    assert back["reason"] == f"revoked: {verdicts[3].label_name}: suspicious"


@pytest.mark.parametrize(("confirm", "first"), [(None, 2), (1, 0)])
def test_serve_waits_until_frames_agree(tmp_path: Path, confirm: int | None, first: int) -> None:
    """The demo's first drive: nothing goes out before the third frame, unless the operator asks for less; screening one
    picture knows no frames to wait for."""
    lines = tmp_path / "verdicts.jsonl"
    settings = load_settings(
        source="demo?fps=0&loop=0", http="off", output=f"jsonl:{lines}", max_frames=6, threads=1, confirm=confirm
    )
    serve(settings, lambda line: None)

    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    out = [row["sequence"] for row in rows if row["decision"] == "release"]
    assert min(out) == first
    assert any(row["reason"].startswith("not confirmed yet") for row in rows) == (confirm is None)


def test_tracks_that_break_withhold(guard: Firewall, benign_sign: Pixels) -> None:
    """An exception while following tracks closes the frame, with a reason, and the loop goes on."""

    class Broken(Tracks):
        def judge(self, verdicts: object) -> list[Verdict]:
            raise ZeroDivisionError

    sink = Kept()
    service(guard, Script(*frames(benign_sign, benign_sign)), sink, tracks=Broken(SPEC)).run()

    assert [report.verdicts[0].reason for report in sink.reports] == [Reason.UNKNOWN] * 2
    assert "ZeroDivisionError while following tracks" in sink.reports[0].verdicts[0].detail


def drift(run_length: float = 10.0) -> Drift:
    """A monitor of suspicions that lie far below anything that is seen, so that it soon speaks."""
    channel = channel_spec("suspicion", [-100.0 - n for n in range(50)])
    return Drift(DriftSpec(channels=(channel,), run_length=run_length, tracks=50))


def test_drift_is_told_and_changes_no_verdict(guard: Firewall, benign_sign: Pixels) -> None:
    """Every second verdict is given to the monitor; what it says goes to whoever listens; labels go out as ever."""
    states: list[DriftState] = []
    sink = Kept()
    pictures = frames(*[benign_sign] * 20)

    service(guard, Script(*pictures), sink, drift=drift(), drift_told=states.append, drift_every=2).run()

    assert [state.values for state in states] == list(range(1, 11))
    assert states[-1].spoken and states[-1].property == "suspicion"
    assert all(report.verdicts[0].released for report in sink.reports)


def test_with_tracks_drift_sees_one_frame_of_each_sign(guard: Firewall, demo_frames: list[Pixels]) -> None:
    """A track is told of once, when it has ended; one that was seen in fewer than three frames isn't."""
    states: list[DriftState] = []
    tracks = Tracks(SPEC.model_copy(update={"max_age": 2}))
    ended: list[Track] = []
    collect = tracks.ended

    def remember() -> list[Track]:
        ended.extend(found := collect())
        return found

    tracks.ended = remember  # type: ignore[method-assign]
    capture = Script(*frames(*demo_frames[:60]))
    Service(
        guard,
        capture,  # type: ignore[arg-type]
        build("signs", bundle=load_bundle()),
        [Kept()],
        tracks=tracks,
        drift=drift(),
        drift_told=states.append,
    ).run()

    long = [track for track in ended if track.frames >= 3 and track.sample is not None]
    assert 3 <= len(states) == len(long) < len(ended)
