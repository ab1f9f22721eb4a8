from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall.config import CaptureSettings
from firewall.errors import FirewallError, SourceError
from firewall.frame import Frame
from firewall.sources import Capture, End, Failure, Idle, parse
from firewall.sources.channel import Message
from firewall.sources.pattern import pattern

Taken = Frame | Failure | Idle | End
ReadUntil = Callable[[Capture, Callable[[Taken], bool]], list[Taken]]
WaitFor = Callable[[Callable[[], bool]], None]
IsGone = Callable[[int], bool]


def is_frame(item: Taken) -> bool:
    return isinstance(item, Frame)


def is_failure(item: Taken) -> bool:
    return isinstance(item, Failure)


def is_end(item: Taken) -> bool:
    return isinstance(item, End)


def accounted(taken: list[Taken], capture: Capture) -> bool:
    """Every captured frame was handed out or counted: the sequence numbers leave no other gap."""
    numbers = [item.sequence for item in taken if isinstance(item, (Frame, Failure))]
    return numbers == sorted(set(numbers)) and numbers[-1] + 1 == len(numbers) + capture.dropped


def test_a_slow_reader_of_a_live_source_gets_the_newest_frame(settings: CaptureSettings, read_until: ReadUntil) -> None:
    """While nobody asks, frames are dropped and counted; what comes next is fresh and says its own number."""
    with Capture(parse("test://pattern?fps=100&size=64x48"), settings) as capture:
        taken = read_until(capture, is_frame)
        paused = time.monotonic()
        time.sleep(1.0)
        taken += read_until(capture, is_frame)
        newest = taken[-1]
        assert isinstance(newest, Frame)
        assert newest.captured_at > paused + 0.3
        assert capture.dropped > 10
        assert accounted(taken, capture)
        np.testing.assert_array_equal(newest.pixels, pattern(newest.sequence, 64, 48))


def test_no_frame_comes_twice(settings: CaptureSettings, read_until: ReadUntil) -> None:
    """A reader much faster than a live source waits for the next frame instead of getting the last one again."""
    with Capture(parse("test://pattern?fps=40&size=64x48&frames=30"), settings) as capture:
        taken = read_until(capture, is_end)
        frames = [item for item in taken if isinstance(item, Frame)]
        assert accounted(taken, capture)
    assert len(frames) + capture.dropped == 30
    assert len({frame.captured_at for frame in frames}) == len(frames)
    assert all(
        (frame.pixels == pattern(frame.sequence, 64, 48)).all() and frame.source.startswith("test://")
        for frame in frames
    )


def test_a_source_that_is_not_live_waits(settings: CaptureSettings, read_until: ReadUntil) -> None:
    """Nothing is captured before it is asked for, nothing is dropped."""
    with Capture(parse("test://pattern?live=0&size=32x8&frames=5"), settings) as capture:
        taken = read_until(capture, is_frame)
        before = time.monotonic()
        time.sleep(0.1)
        taken += read_until(capture, is_end)
        frames = [item for item in taken if isinstance(item, Frame)]
        assert [frame.sequence for frame in frames] == [0, 1, 2, 3, 4] and capture.dropped == 0
        assert frames[0].captured_at < before < frames[1].captured_at


def test_a_killed_capture_of_a_live_source_is_started_again(
    settings: CaptureSettings, read_until: ReadUntil, is_gone: IsGone
) -> None:
    """kill -9, twice: a Failure each time, then nothing older than the kill; numbers rise, restarts are counted."""
    with Capture(parse("test://pattern?fps=50&size=64x48"), settings) as capture:
        taken = read_until(capture, is_frame)
        for restarts in (1, 2):
            pid = capture.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            killed_at = time.monotonic()
            after = read_until(capture, is_frame)
            frame = after[-1]
            assert [type(item) for item in after] == [Failure, Frame]
            assert isinstance(after[0], Failure) and "killed by SIGKILL" in after[0].detail
            assert isinstance(frame, Frame) and frame.captured_at > killed_at
            assert capture.restarts == restarts and capture.pid != pid and is_gone(pid)
            taken += after
        assert accounted(taken, capture)


def test_a_stalled_capture_is_killed_and_started_again(
    settings: CaptureSettings, read_until: ReadUntil, is_gone: IsGone
) -> None:
    """A process that is there but gives nothing (here: stopped) fails after read_timeout, and not before."""
    patient = settings.model_copy(update={"read_timeout": 1.0})
    with Capture(parse("test://pattern?fps=50&size=64x48"), patient) as capture:
        taken = read_until(capture, is_frame)
        pid = capture.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        taken += read_until(capture, is_failure)
        assert 0.9 < time.monotonic() - stopped < 10
        assert isinstance(taken[-1], Failure) and "no frame from test://pattern" in taken[-1].detail
        assert "within 1 s" in taken[-1].detail
        assert is_gone(pid)
        taken += read_until(capture, is_frame)
        assert accounted(taken, capture)


def test_the_delay_doubles_up_to_the_longest_and_falls_back_after_a_good_frame(
    settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """Restarts of a capture that dies each time come later and later; a frame makes them quick again."""
    patient = settings.model_copy(update={"first_delay": 0.2, "longest_delay": 1.5})

    def die(capture: Capture) -> float:
        while capture.pid is None:
            assert isinstance(capture.read(), Idle)
        os.kill(capture.pid, signal.SIGKILL)
        read_until(capture, is_failure)
        died = time.monotonic()
        while capture.pid is None:
            assert isinstance(capture.read(), Idle)
        return time.monotonic() - died

    with Capture(parse("test://pattern?size=64x48"), patient) as capture:
        read_until(capture, is_frame)
        waits = [die(capture) for _ in range(4)]
        again = []
        while len(again) < 5 and not any(wait < 1.4 for wait in again):
            read_until(capture, is_frame)
            again.append(die(capture))
    # A busy machine may take longer, hence lower bounds. That the delay fell back needs an upper one, for the quickest.
    assert all(wait >= least - 0.02 for wait, least in zip(waits, (0.2, 0.4, 0.8, 1.5), strict=True))
    assert 0.18 <= min(again) < 1.4


def test_a_folder_goes_on_after_bad_pictures(tmp_path: Path, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """Each file is a frame or a Failure under its own name, in order; a bad one costs no restart."""
    for number in (1, 2, 10):
        Image.new("RGB", (4, 3), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_text("no picture")
    Image.new("RGBA", (4, 3)).save(tmp_path / "11.png")

    with Capture(parse(str(tmp_path)), settings) as capture:
        taken = read_until(capture, is_end)
        assert capture.restarts == 0 and accounted(taken[:-1], capture)
    names = [Path(item.source).name for item in taken if isinstance(item, (Frame, Failure))]
    assert names == ["1.png", "2.png", "3.png", "10.png", "11.png"]
    assert [type(item) for item in taken] == [Frame, Frame, Failure, Frame, Failure, End]
    assert isinstance(taken[2], Failure) and "not an image" in taken[2].detail


def test_a_picture_that_kills_its_reader_is_passed_over(
    tmp_path: Path, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """After three tries the folder goes on with the next file; all three are Failures of the file in question."""
    for number in range(3):
        Image.new("RGB", (4, 3), (number, 0, 0)).save(tmp_path / f"{number}.png")

    with Capture(parse(str(tmp_path)), settings) as capture:
        taken = read_until(capture, is_frame)
        for _ in range(3):
            while capture.pid is None:
                assert isinstance(capture.read(), Idle)
            os.kill(capture.pid, signal.SIGKILL)
            taken += read_until(capture, is_failure)
        taken += read_until(capture, is_end)
    assert [(type(item), Path(item.source).name) for item in taken if isinstance(item, (Frame, Failure))] == [
        (Frame, "0.png"),
        *[(Failure, "1.png")] * 3,
        (Frame, "2.png"),
    ]


def test_one_bad_picture_by_itself(tmp_path: Path, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """A Failure, then End."""
    (tmp_path / "x.png").write_text("no picture")

    with Capture(parse(str(tmp_path / "x.png")), settings) as capture:
        taken = read_until(capture, is_end)
    assert [type(item) for item in taken] == [Failure, End]


def test_a_capture_that_dies_while_it_opens_for_the_first_time(
    settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """Nothing worked yet, so there is nothing to recover: an error, then End."""
    with Capture(parse("test://pattern"), settings) as capture:
        assert capture.pid is not None
        os.kill(capture.pid, signal.SIGKILL)
        with pytest.raises(SourceError, match="killed by SIGKILL"):
            read_until(capture, is_frame)
        assert isinstance(capture.read(), End)


def test_what_a_taken_over_capture_process_says_is_not_believed(
    settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """Frames out of order, from the future, of another shape than their bytes, or repeated are a Failure, not a frame;
    the process is replaced."""
    good = {"kind": "frame", "index": 1, "shape": [2, 2, 3], "captured_at": None}
    lies: list[tuple[dict[str, object], int]] = [
        ({"index": 0}, 12),
        ({"index": -1}, 12),
        ({"index": "1"}, 12),
        ({"shape": [2, 2, 4]}, 16),
        ({"shape": [3, 2, 3]}, 12),
        ({"shape": [0, 2, 3]}, 0),
        ({"shape": [12]}, 12),
        ({"captured_at": time.monotonic() + 1000}, 12),
        ({"captured_at": 0.0}, 12),
        ({"captured_at": float("nan")}, 12),
        ({"captured_at": "now"}, 12),
        ({"kind": "verdict"}, 12),
        ({"kind": None}, 12),
    ]
    with Capture(parse("test://pattern?fps=5&size=64x48"), settings) as capture:
        for lie, size in lies:
            read_until(capture, is_frame)
            child = capture._child
            assert child is not None
            due = capture._sequence - capture._first_sequence
            header = {**good, "index": due, "captured_at": time.monotonic(), **lie}
            if lie.get("index") == 0:
                header["index"] = due - 1
            child.channel.receive = lambda _, header=header, size=size: Message(header, bytearray(size))  # type: ignore[method-assign, misc]
            taken = capture.read()
            assert isinstance(taken, Failure), (lie, taken)
            assert "sent nonsense" in taken.detail and taken.detail.isprintable()
            assert capture.pid is None


def test_a_spec_that_the_capture_process_does_not_understand(settings: CaptureSettings, read_until: ReadUntil) -> None:
    """Whatever goes wrong in there, also a mistake of ours, comes out as one line."""
    broken = replace(parse("test://pattern"), options={"size": "big"})

    with Capture(broken, settings) as capture, pytest.raises(FirewallError) as caught:
        read_until(capture, is_frame)
    assert str(caught.value).isprintable()


def test_close_ends_the_process_and_every_read_after_it_is_the_end(
    settings: CaptureSettings, read_until: ReadUntil, is_gone: IsGone
) -> None:
    """Also when the process is stopped and can't end by itself; closing twice does no harm."""
    capture = Capture(parse("test://pattern?size=64x48"), settings)
    with capture:
        read_until(capture, is_frame)
        pid = capture.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
    assert is_gone(pid)
    assert isinstance(capture.read(), End) and capture.pid is None
    capture.close()


@pytest.mark.parametrize("source", ["test://pattern?fps=50&size=64x48", "test://pattern?live=0&size=64x48"])
def test_close_lets_the_reader_close(source: str, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """The process ends by itself, after it gave its source back: some cameras can't be opened again otherwise."""
    with Capture(parse(source), settings) as capture:
        read_until(capture, is_frame)
        child = capture._child
    assert child is not None and child.process.returncode == 0


def test_a_sleeping_live_source_does_not_hold_up_its_end(settings: CaptureSettings, is_gone: IsGone) -> None:
    """A reader that waits minutes for its next frame is not waited for."""
    with Capture(parse("test://pattern?fps=0.01&size=64x48"), settings) as capture:
        while not isinstance(capture.read(), Frame):
            pass
        pid = capture.pid
        started = time.monotonic()
    assert pid is not None and is_gone(pid)
    assert time.monotonic() - started < 10


PARENT = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it's ignored
from firewall.config import CaptureSettings
from firewall.frame import Frame
from firewall.sources import Capture, parse

source, mood = sys.argv[1:]
try:
    with Capture(parse(source), CaptureSettings(open_timeout=60, read_timeout=60)) as capture:
        while not isinstance(capture.read(), Frame):
            pass
        fork = os.fork() if mood == "forked" else 0
        if mood == "forked" and fork == 0:
            time.sleep(300)
        print(capture.pid, fork, flush=True)
        while True:
            if mood == "resting":
                time.sleep(300)
            capture.read()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def start_parent(doomed: list[int]) -> Callable[[str, str], tuple[subprocess.Popen[str], int]]:
    """Starts a process, leader of its own group, that captures; gives it and the pid of its capture process."""

    def start(source: str, mood: str) -> tuple[subprocess.Popen[str], int]:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, source, mood],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        doomed.append(parent.pid)
        assert parent.stdout is not None
        child, fork = map(int, parent.stdout.readline().split())
        doomed.extend(pid for pid in (child, fork) if pid)
        return parent, child

    return start


@pytest.mark.parametrize(
    ("source", "mood"),
    [
        ("test://pattern?fps=20&size=64x48", "reading"),
        ("test://pattern?fps=0.01&size=64x48", "reading"),
        ("test://pattern?fps=20&size=64x48", "resting"),
        ("test://pattern?live=0&size=64x48", "resting"),
        ("test://pattern?fps=20&size=64x48", "forked"),
    ],
)
def test_the_capture_process_ends_when_its_parent_is_killed(
    source: str,
    mood: str,
    start_parent: Callable[[str, str], tuple[subprocess.Popen[str], int]],
    wait_for: WaitFor,
    is_gone: IsGone,
) -> None:
    """kill -9 of the parent leaves nothing behind: whether its child was busy, waited for a frame or to be asked, and
    even if a fork of the parent keeps the socket open."""
    parent, child = start_parent(source, mood)
    parent.kill()
    parent.wait()
    wait_for(lambda: is_gone(child))
    for pipe in (parent.stdout, parent.stderr):
        assert pipe is not None
        pipe.close()


def test_signals_meant_for_us_do_not_stop_the_capture_process(settings: CaptureSettings, read_until: ReadUntil) -> None:
    """Ctrl-C and a supervisor's SIGTERM reach it, if at all, without effect: we end it, after our last verdict."""
    with Capture(parse("test://pattern?fps=50&size=64x48"), settings) as capture:
        read_until(capture, is_frame)
        pid = capture.pid
        assert pid is not None
        assert os.getpgid(pid) != os.getpgid(0)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
            for _ in range(3):
                assert read_until(capture, is_frame)
        assert capture.pid == pid and capture.restarts == 0


def test_ctrl_c_leaves_no_process_and_no_traceback(
    start_parent: Callable[[str, str], tuple[subprocess.Popen[str], int]], wait_for: WaitFor, is_gone: IsGone
) -> None:
    """SIGINT to the group, as a terminal sends it, and to the child: the parent ends, the child quietly with it."""
    parent, child = start_parent("test://pattern?fps=20&size=64x48", "reading")
    os.killpg(parent.pid, signal.SIGINT)
    os.kill(child, signal.SIGINT)
    output, errors = parent.communicate(timeout=60)
    wait_for(lambda: is_gone(child))
    assert output == "interrupted\n" and errors == "" and parent.returncode == 0


def test_modules_in_the_current_folder_stay_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """A json.py beside the pictures is not run by the capture process."""
    (tmp_path / "json.py").write_text("raise SystemExit('hijacked')")
    (tmp_path / "socket.py").write_text("raise SystemExit('hijacked')")
    Image.new("RGB", (4, 3)).save(tmp_path / "x.png")
    monkeypatch.chdir(tmp_path)

    with Capture(parse("x.png"), settings) as capture:
        assert [type(item) for item in read_until(capture, is_end)] == [Frame, End]


def test_the_capture_process_imports_little(settings: CaptureSettings) -> None:
    """It has to start in a blink: for a test pattern neither OpenCV nor Pillow, never pydantic or onnxruntime."""
    code = (
        "import sys, firewall.sources.process as process; from firewall.sources import parse;"
        "process.open_reader(parse('test://pattern'), open_timeout=1, read_timeout=1);"
        "print(sorted({'cv2', 'PIL', 'pydantic', 'onnxruntime', 'torch', 'yaml'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)

    assert output.stdout == "[]\n"
