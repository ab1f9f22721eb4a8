"""Frames of a network camera that waited on this machine are not taken for new ones: real servers, real stalls."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from benchmarks.damaged_streams import multipart
from firewall.config import CaptureSettings
from firewall.frame import Frame
from firewall.sources import Capture, parse
from firewall.sources.stream import open_stream
from tests.sources.cameras import MjpegServer

PERIOD = 0.04  # seconds between two pictures
STALL = 1.5
#: Seconds by which a frame may seem newer than it is; the machine may be busy, but this is far from the stall.
NEAR = 0.6
HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=picture\r\n\r\n"


class Camera:
    """An MJPEG server for one viewer that notes when it sends each picture; its pauses are the test's."""

    def __init__(self, period: float = PERIOD, pause_at: int = -1) -> None:
        rng = np.random.default_rng(0)
        self.parts = [multipart([MjpegServer.jpeg(rng.integers(0, 256, (48, 64, 3), np.uint8))]) for _ in range(64)]
        self.sent: list[float] = []
        self.period, self.pause_at = period, pause_at
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            connection, _ = self.listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(HEAD)
                while not self.closed.wait(STALL if len(self.sent) == self.pause_at else self.period):
                    self.sent.append(time.monotonic())
                    connection.sendall(self.parts[len(self.sent) % 64])


@contextmanager
def camera(period: float = PERIOD, pause_at: int = -1) -> Iterator[Camera]:
    made = Camera(period, pause_at)
    yield made
    made.closed.set()
    made.listener.close()
    made.thread.join(10)


def read(shown: Camera, count: int, before: Callable[[int], None] = lambda _: None) -> tuple[list[float], list[float]]:
    """Of each frame the seconds from sending to the stamp that it got, and to the moment it was read."""
    reader = open_stream(shown.url, shown.url, open_timeout=20, read_timeout=20)
    stamped, was_read = [], []
    for number in range(count):
        before(number)
        _, captured_at = next(reader)
        now = time.monotonic()
        assert captured_at <= now
        stamped.append(captured_at - shown.sent[number])
        was_read.append(now - shown.sent[number])
    reader.close()
    return stamped, was_read


def test_frames_that_waited_for_the_reader_are_old() -> None:
    """The reader is busy elsewhere for a while, as without processor time: what lay ready by then counts as come when
    it came, not when it was read; once it waits for frames again they are new."""
    with camera() as shown:
        stamped, was_read = read(shown, 120, lambda number: time.sleep(STALL if number == 40 else 0))
    assert max(was_read[40:50]) > STALL - NEAR  # it was a stall
    assert max(stamped) < NEAR and min(stamped[20:]) > -NEAR, (stamped, was_read)
    assert np.median(np.abs(np.subtract(stamped, was_read)[100:])) < NEAR / 2


def test_frames_of_a_capture_process_that_stood_still_are_old(settings: CaptureSettings) -> None:
    """SIGSTOP and SIGCONT of a real capture process, shorter than its time-out: no frame is said to be newer than it
    is by more than a moment."""
    with camera() as shown, Capture(parse(shown.url), settings.model_copy(update={"read_timeout": 20.0})) as capture:
        taken: list[Frame] = []

        def until(sequence: int) -> None:
            while not taken or taken[-1].sequence < sequence:
                frame = capture.read()
                if isinstance(frame, Frame):
                    taken.append(frame)

        until(40)
        pid = capture.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        time.sleep(STALL)
        os.kill(pid, signal.SIGCONT)
        until(110)
        assert capture.restarts == 0
    lags = [frame.captured_at - shown.sent[frame.sequence] for frame in taken]
    assert max(lags) < 2 * NEAR, lags  # a busy machine adds to it; without the mend it is STALL


def test_a_camera_that_makes_a_pause_is_soon_believed_again() -> None:
    """Nobody can tell its pause from a stall: a frame may seem older than it is by the pause, and those that follow at
    the usual pace do not."""
    with camera(pause_at=40) as shown:
        stamped, _ = read(shown, 100)
    assert max(stamped) < NEAR and min(stamped) > -STALL - NEAR
    assert np.median(np.abs(stamped[50:])) < NEAR / 2


@pytest.mark.parametrize("period", [0.0, 0.001])
def test_a_server_without_a_pace_is_read_as_it_comes(period: float) -> None:
    """A recording that is sent as fast as it is read has no usual gap: its frames are those of the moment."""
    with camera(period) as shown:
        reader = open_stream(shown.url, shown.url, open_timeout=20, read_timeout=20)
        ages = []
        for _ in range(200):
            _, captured_at = next(reader)
            ages.append(time.monotonic() - captured_at)
        reader.close()
    assert np.median(ages[50:]) < NEAR / 2
