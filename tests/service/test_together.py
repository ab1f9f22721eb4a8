"""Several cameras in one loop: whose turn it is, what one camera's trouble costs the others, and what all share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from firewall import Firewall, Frame
from firewall.decision.over_time import served
from firewall.decision.tracks import Tracks
from firewall.errors import FirewallError, SourceError
from firewall.frame import Pixels, Region
from firewall.regions import build
from firewall.service import Camera, Together
from firewall.service.feed import Feed
from firewall.sources import End, Failure, Idle, parse
from firewall.verdict import Reason
from tests.kept import Kept

PATIENT = 60.0  # seconds: the machine may be busy


class Script:
    """A capture that gives what a test lists; a callable is called for what it gives."""

    def __init__(self, *taken: object, uri: str = "test://pattern?live=0", opened: bool = True) -> None:
        self.spec = parse(uri)
        self.taken: Iterator[object] = iter(taken)
        self.dropped, self.restarts, self.opened, self.closed = 3, 1, opened, 0

    def read(self) -> object:
        one = next(self.taken, End())
        return one() if callable(one) else one

    def close(self) -> None:
        self.closed += 1


def frame(pixels: Pixels, number: int = 0, age: float = 0.0) -> Frame:
    return Frame(pixels, "test", number, time.monotonic() - age)


def camera(guard: Firewall, name: str, script: Script, **options: object) -> Camera:
    finder = options.pop("finder", build("whole"))
    return Camera(script, finder, guard.bundle, name=name, **options)  # type: ignore[arg-type]


def together(guard: Firewall, sink: Kept, *cameras: Camera, **options: object) -> Together:
    return Together(guard, cameras, [sink], **options)  # type: ignore[arg-type]


def test_every_camera_keeps_its_own_deadline_tracks_and_counts(guard: Firewall, benign_sign: Pixels) -> None:
    """Both see one sign. The frames of the first are too old for its deadline, those of the second go out once three
    agree, as if it were alone: tracks are counted in each camera. Summaries are of each and of all; frame numbers may
    be the same, frame_ids never."""
    old = Script(*[frame(benign_sign, number, age=1.0) for number in range(4)])
    new = Script(*[frame(benign_sign, number) for number in range(5)])
    sink = Kept()
    one = camera(guard, "one", old, deadline_ms=33.0, tracks=Tracks(served(None, confirm=3)))
    two = camera(guard, "two", new, tracks=Tracks(served(None, confirm=3)))
    summary = together(guard, sink, one, two).run()

    assert {report.verdicts[0].reason for report in sink.of("one")} == {Reason.LATE}
    assert [report.verdicts[0].released for report in sink.of("two")] == [False, False, True, True, True]
    assert {report.verdicts[0].track for report in sink.of("two")} == {1}
    assert (one.summary.frames, one.summary.released, two.summary.frames, two.summary.released) == (4, 0, 5, 3)
    assert (summary.frames, summary.released, summary.dropped, summary.restarts) == (9, 3, 6, 2)
    stamps = [report.verdicts[0].stamp for report in sink.reports]
    assert len({stamp.frame_id for stamp in stamps if stamp}) == 9
    assert sink.closed == old.closed == new.closed == 1


def test_frames_that_wait_are_classified_in_one_batch(guard: Firewall, benign_sign: Pixels) -> None:
    """Three cameras whose frames are there at once: the classifier is asked once about all signs; the verdicts are
    those that each camera alone would get. A deadline too near for all together parts them."""
    noisy = np.random.default_rng(0).integers(0, 256, benign_sign.shape, np.uint8)
    pictures = {"one": benign_sign, "two": noisy, "three": np.zeros((30, 30, 3), np.uint8)}
    alone = {name: guard.screen(pixels) for name, pixels in pictures.items()}
    batches: list[int] = []
    classify = guard.engine.classify

    class Counting:
        provider = guard.engine.provider

        def classify(self, images: np.ndarray) -> np.ndarray:
            batches.append(len(images))
            return classify(images)

    counting = Firewall(guard.bundle, Counting(), threads=1)  # type: ignore[arg-type]
    first: list[int] = []
    for cost in (0.0, 1000.0):
        batches.clear()
        sink = Kept()
        cameras = [
            camera(counting, name, Script(frame(pixels)), deadline_ms=60_000.0) for name, pixels in pictures.items()
        ]
        service = together(counting, sink, *cameras)
        for feed in service._feeds:
            feed.cost = cost
        with_all(service)
        service.run()
        first.append(batches[0])
        for name in pictures:
            (report,) = sink.of(name)
            assert report.verdicts[0].reason is alone[name].reason, name
            assert report.verdicts[0].label == alone[name].label
    assert first == [3, 1]


def with_all(service: Together, *, always: bool = False) -> None:
    """Let the first turn, or each, wait until every camera has something to take or has ended."""
    turn, feeds = service._turn, service._feeds

    def patient() -> bool:
        until(lambda: all(feed.waiting is not None or feed.ended for feed in feeds))
        if not always:
            service._turn = turn  # type: ignore[method-assign]
        return turn()

    service._turn = patient  # type: ignore[method-assign]


def test_one_frame_that_spoils_the_batch_does_not_cost_the_others(guard: Firewall, benign_sign: Pixels) -> None:
    """The classifier fails on one camera's picture: that one is withheld for it, the other's label goes out."""
    poison = np.full((48, 48, 3), 251, np.uint8)
    classify = guard.engine.classify

    class Delicate:
        provider = guard.engine.provider

        def classify(self, images: np.ndarray) -> np.ndarray:
            if (images == 251).all(axis=(1, 2, 3)).any():
                raise FirewallError("that picture again")
            return classify(images)

    delicate = Firewall(guard.bundle, Delicate(), threads=1)  # type: ignore[arg-type]
    sink = Kept()
    bad, good = camera(delicate, "bad", Script(frame(poison))), camera(delicate, "good", Script(frame(benign_sign)))
    service = together(delicate, sink, bad, good)
    with_all(service)
    service.run()
    assert sink.of("good")[0].verdicts[0].released
    assert sink.of("bad")[0].verdicts[0].reason is Reason.UNKNOWN


def test_a_finder_that_breaks_or_odd_pixels_withhold_their_own_frame_alone(
    guard: Firewall, benign_sign: Pixels
) -> None:
    """Of three cameras one has a finder that raises and one gives a grey picture; the third's label goes out."""

    class Broken:
        def find(self, pixels: Pixels) -> list[Region]:
            raise RuntimeError("broken finder")

    sink = Kept()
    cameras = [
        camera(guard, "broken", Script(frame(benign_sign)), finder=Broken()),
        camera(guard, "grey", Script(frame(benign_sign[..., 0]))),
        camera(guard, "good", Script(frame(benign_sign))),
    ]
    service = together(guard, sink, *cameras)
    with_all(service)
    service.run()
    reasons = {report.camera: report.verdicts[0].reason for report in sink.reports}
    assert reasons == {"broken": Reason.UNKNOWN, "grey": Reason.BAD_IMAGE, "good": Reason.BENIGN}


@pytest.mark.parametrize("cost", [0.0, 1000.0])
def test_a_camera_that_floods_takes_turns(guard: Firewall, benign_sign: Pixels, cost: float) -> None:
    """One camera always has a frame. In each turn it comes once, with all others whose frames wait; and where there is
    time for one frame only, it is at the end of the row each time."""
    scripts = {"flood": Script(*[frame(benign_sign, number) for number in range(8)])}
    scripts |= {f"quiet{place}": Script(*[frame(benign_sign, number) for number in range(3)]) for place in range(3)}
    sink = Kept()
    cameras = [camera(guard, name, script, deadline_ms=60_000.0) for name, script in scripts.items()]
    service = together(guard, sink, *cameras)
    for feed in service._feeds:
        feed.cost = cost
    with_all(service, always=True)
    service.run()
    order = [report.camera for report in sink.reports]
    for turn in range(3):
        assert sorted(map(str, order[4 * turn : 4 * turn + 4])) == ["flood", "quiet0", "quiet1", "quiet2"]
    assert order[12:] == ["flood"] * 5


class Endless(Script):
    """A live camera at full speed, until `enough` is set."""

    def __init__(self, pixels: Pixels, enough: threading.Event) -> None:
        super().__init__(uri="test://pattern")
        self.pixels, self.enough, self.number = pixels, enough, 0

    def read(self) -> object:
        if self.enough.is_set():
            return End()
        self.number += 1
        return frame(self.pixels, self.number)


def test_a_live_frame_that_waits_is_replaced_by_a_newer_one(guard: Firewall, benign_sign: Pixels) -> None:
    """Nobody takes it: newer ones take its place and the old ones count as dropped; a file's frame waits; a failure is
    never replaced."""
    enough, arrived = threading.Event(), threading.Event()
    live = camera(guard, "live", Endless(benign_sign, enough), deadline_ms=10.0)
    file = camera(guard, "file", Script(frame(benign_sign, 7), frame(benign_sign, 8)))
    lost = camera(guard, "lost", Script(failure(4), frame(benign_sign, 5), uri="test://pattern"), deadline_ms=10.0)
    with Feed(live, arrived) as moving, Feed(file, arrived) as waits, Feed(lost, arrived) as failing:
        until(lambda: live.overtaken >= 3)
        newest = moving.take()
        assert isinstance(newest, Frame) and newest.sequence > 3
        first, gone = waits.take(), failing.take()
        assert isinstance(first, Frame) and first.sequence == 7 and file.overtaken == lost.overtaken == 0
        assert isinstance(gone, Failure) and gone.sequence == 4
        enough.set()
    assert live.overtaken >= 3


def failure(number: int = 0, kind: str = "failed") -> Failure:
    return Failure("test", number, time.monotonic(), f"failure {number}", kind)  # type: ignore[arg-type]


def until(true: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENT
    while not true():
        assert time.monotonic() < limit, "that never came"
        time.sleep(0.005)


def test_a_camera_that_breaks_its_reader_is_withheld_and_read_again(guard: Firewall, benign_sign: Pixels) -> None:
    """An error that nobody expected, such as no descriptors being left: a source error of this camera with a number
    that goes on, then its next frame; the other camera knows nothing of it."""

    def broken() -> object:
        raise OSError(24, "Too many open files")

    sink = Kept()
    one = camera(guard, "one", Script(frame(benign_sign, 0), broken, frame(benign_sign, 2)))
    two = camera(guard, "two", Script(frame(benign_sign, 0)))
    together(guard, sink, one, two).run()
    told = [(report.verdicts[0].reason, report.verdicts[0].sequence) for report in sink.of("one")]
    assert told == [(Reason.BENIGN, 0), (Reason.SOURCE_ERROR, 1), (Reason.BENIGN, 2)]
    assert "Too many open files" in sink.of("one")[1].verdicts[0].detail
    assert [report.verdicts[0].reason for report in sink.of("two")] == [Reason.BENIGN]


def test_a_camera_that_can_not_be_opened_is_told_once_and_again_when_it_is_there(
    guard: Firewall, benign_sign: Pixels
) -> None:
    """Withheld until it is there; the other is guarded from the start. None of them there is an error in one line that
    names both; a camera with a fault has been opened, and is no such error."""
    late, said, ended, sink = Script(opened=False), list[str](), list[str | None](), Kept()

    def opens() -> object:
        late.opened = True
        return frame(benign_sign, 2)

    late.taken = iter([failure(0), failure(1), opens])
    good = Script(*[lambda n=number: time.sleep(0.01) or frame(benign_sign, n) for number in range(3)])
    together(
        guard, sink, camera(guard, "late", late), camera(guard, "good", good), say=said.append, ended=ended.append
    ).run()
    assert [report.verdicts[0].reason for report in sink.of("late")] == [Reason.SOURCE_ERROR] * 2 + [Reason.BENIGN]
    assert len(sink.of("good")) == 3 and sorted(map(str, ended)) == ["good", "late"]
    assert [line for line in said if "can't be opened" in line] == [
        "camera late can't be opened: failure 0; it is withheld, the others are guarded"
    ]
    assert said[-1] == "camera late is there"

    shut = [camera(guard, name, Script(failure(0), failure(1), opened=False)) for name in ("one", "two")]
    sink = Kept()
    with pytest.raises(SourceError, match=r"none of the 2 cameras .*: (one|two): failure 0; (one|two): failure 0"):
        together(guard, sink, *shut).run()
    assert sink.closed == 1
    dim = Script(failure(0), opened=False)  # opened later, and then its lens is covered: no reason to end

    def covered() -> object:
        dim.opened = True
        return failure(1, "fault")

    dim.taken = iter([failure(0), covered])
    slow = Script(lambda: time.sleep(0.5) or failure(0), frame(benign_sign, 1), opened=False)
    sink = Kept()
    together(guard, sink, camera(guard, "dim", dim), camera(guard, "slow", slow)).run()
    reasons = [report.verdicts[0].reason for report in sink.of("dim")]
    assert reasons == [Reason.SOURCE_ERROR, Reason.CAMERA_FAULT] and len(sink.of("slow")) == 2
    dark = [camera(guard, name, Script(failure(0, "fault"), opened=True)) for name in ("one", "two")]
    sink = Kept()
    together(guard, sink, *dark).run()
    assert [report.verdicts[0].reason for report in sink.reports] == [Reason.CAMERA_FAULT] * 2


def test_max_frames_counts_all_cameras_and_a_signal_ends_all(guard: Firewall, benign_sign: Pixels) -> None:
    """Exactly so many reports, also if more frames wait; `stop` ends endless cameras, and their captures are closed."""
    sink = Kept()
    scripts = [Script(*[frame(benign_sign, number) for number in range(9)]) for _ in range(3)]
    cameras = [camera(guard, str(place), script) for place, script in enumerate(scripts)]
    together(guard, sink, *cameras, max_frames=7).run()
    assert len(sink.reports) == 7 and [script.closed for script in scripts] == [1, 1, 1]

    never, sink = threading.Event(), Kept()
    endless = [Endless(benign_sign, never) for _ in range(2)]
    service = together(guard, sink, *[camera(guard, str(place), each) for place, each in enumerate(endless)])
    threading.Timer(0.3, service.stop).start()
    service.run()
    assert [each.closed for each in endless] == [1, 1] and sink.closed == 1


def test_a_quiet_service_has_a_heartbeat(guard: Firewall, benign_sign: Pixels) -> None:
    """While no camera gives anything the loop still says that it lives."""
    beats: list[float] = []

    def quiet() -> object:
        time.sleep(0.1)
        return Idle()

    cameras = [camera(guard, name, Script(*[quiet] * 12, frame(benign_sign))) for name in ("one", "two")]
    together(guard, Kept(), *cameras, heartbeat=lambda: beats.append(time.monotonic())).run()
    assert len(beats) >= 3
