"""A network camera that streams MJPEG: it goes away, goes mute, sends damage, asks for a password."""

from __future__ import annotations

import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from firewall.config import CaptureSettings
from firewall.errors import SourceError
from firewall.frame import Frame
from firewall.sources import Capture, Failure, parse
from firewall.sources.stream import open_stream
from tests.sources.cameras import MjpegServer, Numbered, ReadUntil, Shown, Taken, is_failure, is_frame


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_frames_of_an_mjpeg_stream_are_live_and_in_order(
    mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil, shown: Shown
) -> None:
    """The numbers that the pictures show advance exactly as the sequence numbers do, drops included."""
    with Capture(parse(f"http://127.0.0.1:{mjpeg.port}/front"), settings) as capture:
        taken = read_until(capture, is_frame)
        time.sleep(0.5)
        while len(taken) < 12:
            taken += read_until(capture, is_frame)
        assert capture.dropped >= 5
    frames = [item for item in taken if isinstance(item, Frame)]
    assert len(frames) == len(taken)
    first = frames[0]
    assert [shown(frame) for frame in frames] == [
        (shown(first) + frame.sequence - first.sequence) % 64 for frame in frames
    ]


def test_a_stream_that_goes_away_and_comes_back(
    mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """Failures while it is gone, one for each attempt, and frames again when it is back."""
    with Capture(parse(f"http://127.0.0.1:{mjpeg.port}/front"), settings) as capture:
        taken = read_until(capture, is_frame)
        mjpeg.stop()
        for _ in range(3):
            taken += read_until(capture, is_failure)
        restarts = capture.restarts
        assert restarts >= 2
        mjpeg.start()
        taken += read_until(capture, is_frame)
        assert capture.restarts > restarts
    details = [item.detail for item in taken if isinstance(item, Failure)]
    assert any("ended or gave no frame" in detail for detail in details)
    assert any("can't open stream" in detail for detail in details)


def test_a_stream_that_goes_mute(mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """The connection stands but no picture comes: a Failure after read_timeout, frames again when there are some."""
    hasty = settings.model_copy(update={"read_timeout": 1.0})
    with Capture(parse(f"http://127.0.0.1:{mjpeg.port}/front"), hasty) as capture:
        read_until(capture, is_frame)
        mjpeg.mute.set()
        muted = time.monotonic()
        read_until(capture, is_failure)
        assert time.monotonic() - muted < 15
        mjpeg.mute.clear()
        read_until(capture, is_frame)


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_never_answers(
    scheme: str, mute_port: int, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """Opening fails after open_timeout, not after OpenCV's 30 s."""
    hasty = settings.model_copy(update={"open_timeout": 1.0})
    started = time.monotonic()

    with (
        Capture(parse(f"{scheme}://127.0.0.1:{mute_port}/front"), hasty) as capture,
        pytest.raises(SourceError, match=r"no answer within 1 s|did not open within 1 s"),
    ):
        read_until(capture, is_frame)

    assert time.monotonic() - started < 15


def test_nobody_listens(settings: CaptureSettings, read_until: ReadUntil) -> None:
    """A refused connection is told at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with (
        Capture(parse(f"rtsp://127.0.0.1:{port}/front"), settings) as capture,
        pytest.raises(
            SourceError, match=rf"can't open stream rtsp://127.0.0.1:{port}/front: the connection is refused"
        ),
    ):
        read_until(capture, is_frame)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("404", r"nothing at that path \(404"),
        ("401", "user or the password"),
        ("503", r"not a video stream, or the connection broke \(Server returned 5XX"),
        ("200", "not a video stream|what comes is not"),
    ],
)
def test_why_a_stream_does_not_open(path: str, words: str) -> None:
    """The error says what the server answered, not a choice of causes; a page is no stream."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(int(self.path[1:]))
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>hello</html>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{path}"
        with pytest.raises(SourceError, match=words) as caught:
            open_stream(url, url, open_timeout=30, read_timeout=30)
        server.shutdown()
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"can't open stream {url}: ")


def test_a_host_that_nobody_knows() -> None:
    """The name doesn't resolve: said so."""
    url = "http://camera.invalid/stream"
    with pytest.raises(SourceError, match="no host of that name"):
        open_stream(url, url, open_timeout=30, read_timeout=30)


def test_passwords_reach_the_camera_and_nobody_else(
    mjpeg: MjpegServer,
    settings: CaptureSettings,
    read_until: ReadUntil,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It logs in, but its password is neither in frames or failures nor on stderr, nor on the command line of the
    capture process, which everybody on the machine can read."""
    mjpeg.user = b64encode(b"admin:hunter2").decode()
    spec = parse(f"http://admin:hunter2@127.0.0.1:{mjpeg.port}/front")
    with Capture(spec, settings) as capture:
        taken = read_until(capture, is_frame)
        command = Path(f"/proc/{capture.pid}/cmdline").read_bytes()
        environment = Path(f"/proc/{capture.pid}/environ").read_bytes()
        mjpeg.stop()
        for _ in range(2):
            taken += read_until(capture, is_failure)
        mjpeg.start()
    written = capfd.readouterr()
    assert b"process" in command and b"hunter2" not in command + environment
    assert written.err == "", "FFmpeg repeats URLs in its messages"
    assert "hunter2" not in written.out + "".join(str(item) for item in taken if not is_frame(item))
    assert {item.source for item in taken if isinstance(item, (Frame, Failure))} == {
        f"http://***@127.0.0.1:{mjpeg.port}/front"
    }


@pytest.mark.parametrize("filled", [False, True], ids=["plain", "zeros"])
def test_cut_pictures_of_a_stream(
    filled: bool, mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil, shown: Shown
) -> None:
    """Pictures that a camera sends cut are failures and show nothing of the picture before; whole ones between them
    are as they were."""
    for number in range(0, 64, 2):
        picture = mjpeg.pictures[number]
        mjpeg.pictures[number] = picture[: len(picture) // 2] + bytes(len(picture) // 2 if filled else 0)
    with Capture(parse(f"http://127.0.0.1:{mjpeg.port}/front"), settings) as capture:
        taken: list[Taken] = []
        while len(taken) < 20:
            taken += read_until(capture, lambda item: isinstance(item, (Frame, Failure)))
    failures = [item for item in taken if isinstance(item, Failure)]
    assert len(failures) >= 4 and all("the JPEG is cut" in failure.detail for failure in failures)
    numbers = [shown(item) for item in taken if isinstance(item, Frame)]
    assert numbers and all(number % 2 for number in numbers)


def test_a_size_that_changes_inside_a_stream(
    mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil, numbered: Numbered
) -> None:
    """Each frame has the size that was sent."""
    mjpeg.pictures[4:] = [mjpeg.jpeg(np.repeat(numbered(number), 2, 1)) for number in range(4, 64)]
    with Capture(parse(f"http://127.0.0.1:{mjpeg.port}/front"), settings) as capture:
        taken = read_until(capture, lambda item: isinstance(item, Frame) and item.pixels.shape == (120, 320, 3))
    assert all(isinstance(item, Frame) for item in taken)


def test_a_password_that_is_wrong(mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """The reason is named, the password is not."""
    mjpeg.user = b64encode(b"admin:hunter2").decode()
    with (
        Capture(parse(f"http://admin:hunter3@127.0.0.1:{mjpeg.port}/front"), settings) as capture,
        pytest.raises(SourceError, match="refuses the user or the password") as caught,
    ):
        read_until(capture, is_frame)
    assert "hunter3" not in str(caught.value)
