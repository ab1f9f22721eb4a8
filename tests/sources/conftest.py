"""What the tests of sources share: patience for a busy machine, reading until something happens, a numbered video."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from firewall.config import CaptureSettings
from firewall.frame import Frame, Pixels
from firewall.sources import Capture, End, Idle
from tests.sources.cameras import Taken, mjpeg, rtsp

__all__ = ["mjpeg", "rtsp"]

#: Seconds after which a test gives up. Long, since the machine may be busy; a test that passes never waits for it.
PATIENCE = 60.0


@pytest.fixture
def settings() -> CaptureSettings:
    """Patient with a busy machine, quick to start again; what tests draw need not show a scene."""
    return CaptureSettings(
        open_timeout=20, read_timeout=20, first_delay=0.05, longest_delay=0.2, camera_faults=False, good_frames=0
    )


@pytest.fixture
def read_until() -> Callable[[Capture, Callable[[Taken], bool]], list[Taken]]:
    """Reads, leaving out Idle, until something fits; gives all that was read. Fails if it takes too long."""

    def read(capture: Capture, fits: Callable[[Taken], bool]) -> list[Taken]:
        taken: list[Taken] = []
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            asked = time.monotonic()
            item = capture.read()
            assert time.monotonic() - asked < 5, "read must give its caller a chance to stop"
            if not isinstance(item, Idle):
                taken.append(item)
            if fits(item):
                return taken
            if isinstance(item, End):
                break
        pytest.fail(f"not seen in time; read {len(taken)}, the last {taken[-3:]}")

    return read


@pytest.fixture
def wait_for() -> Callable[[Callable[[], bool]], None]:
    """Waits until a condition holds; fails if it takes too long."""

    def wait(condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            time.sleep(0.02)

    return wait


@pytest.fixture
def is_gone() -> Callable[[int], bool]:
    """Whether a process is no more; a zombie that nobody has collected yet counts as gone."""

    def gone(pid: int) -> bool:
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        return status.rpartition(")")[2].split()[0] in "ZX"

    return gone


@pytest.fixture
def doomed() -> Iterator[list[int]]:
    """Process ids to be killed after the test, whatever happened in it."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def numbered() -> Callable[[int], Pixels]:
    """A picture (120, 160, 3) that shows a number, 0..63, in six black or white columns: lossy coding keeps it."""

    def picture(number: int) -> Pixels:
        pixels = np.full((120, 160, 3), (60, 90, 120), np.uint8)
        for bit in range(6):
            pixels[:, bit * 26 : bit * 26 + 26] = 255 if number >> bit & 1 else 0
        return pixels

    return picture


@pytest.fixture
def shown() -> Callable[[Frame], int]:
    """The number in a frame of `numbered`."""

    def number(frame: Frame) -> int:
        return sum(1 << bit for bit in range(6) if frame.pixels[10:110, bit * 26 + 8 : bit * 26 + 18].mean() > 127)

    return number


@pytest.fixture(params=["avi", "mp4"])
def video(request: pytest.FixtureRequest, tmp_path: Path, numbered: Callable[[int], Pixels]) -> Path:
    """A video of 40 frames of `numbered`: MJPEG in AVI, MPEG-4 in MP4."""
    path = tmp_path / f"drive.{request.param}"
    fourcc = cv2.VideoWriter.fourcc(*("MJPG" if request.param == "avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), fourcc, 25, (160, 120))
    assert writer.isOpened()
    for number in range(40):
        writer.write(cv2.cvtColor(numbered(number), cv2.COLOR_RGB2BGR))
    writer.release()
    return path
