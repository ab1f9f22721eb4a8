from __future__ import annotations

import http.server
import io
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall.config import CaptureSettings
from firewall.errors import SourceError
from firewall.frame import Frame, Pixels
from firewall.sources import Capture, End, Failure, Idle, parse

Taken = Frame | Failure | Idle | End
ReadUntil = Callable[[Capture, Callable[[Taken], bool]], list[Taken]]
Shown = Callable[[Frame], int]
Numbered = Callable[[int], Pixels]


def is_frame(item: Taken) -> bool:
    return isinstance(item, Frame)


def is_failure(item: Taken) -> bool:
    return isinstance(item, Failure)


class MjpegServer:
    """MJPEG over HTTP at 25 pictures a second, numbered 0..63 over and over; can go mute, go away and come back."""

    def __init__(self, numbered: Numbered) -> None:
        self.pictures = [self._jpeg(numbered(number)) for number in range(64)]
        self.port = 0
        self.mute = threading.Event()
        self.snapshots = False  # one picture for each request
        self.asked = 0
        self.user = ""  # and password, base64; empty: everybody may look
        self._stopping = threading.Event()
        self.start()

    @staticmethod
    def _jpeg(pixels: Pixels) -> bytes:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="JPEG")
        return file.getvalue()

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if outer.user and self.headers.get("Authorization") != f"Basic {outer.user}":
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                    return
                outer.asked += 1
                if outer.snapshots:
                    picture = outer.pictures[outer.asked % 64]
                    self.send_response(200)
                    self.send_header("Content-Type", "image/jpeg")
                    self.send_header("Content-Length", str(len(picture)))
                    self.end_headers()
                    self.wfile.write(picture)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
                self.end_headers()
                with suppress(OSError):
                    outer._serve(self.wfile)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        self._stopping.clear()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = False  # closing waits for them
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def _serve(self, file: io.BufferedIOBase) -> None:
        number = 0
        while not self._stopping.wait(0.04):
            if not self.mute.is_set():
                picture = self.pictures[number % 64]
                number += 1
                file.write(b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture))
                file.write(picture + b"\r\n")

    def stop(self) -> None:
        """Hang up on everybody and stop listening."""
        self._stopping.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def mjpeg(numbered: Numbered) -> Iterator[MjpegServer]:
    """A running MJPEG server."""
    server = MjpegServer(numbered)
    yield server
    server.stop()


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
        pytest.raises(SourceError, match=rf"can't open stream rtsp://127.0.0.1:{port}/front: refused, not found"),
    ):
        read_until(capture, is_frame)


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
    mjpeg.pictures[4:] = [mjpeg._jpeg(np.repeat(numbered(number), 2, 1)) for number in range(4, 64)]
    with Capture(parse(f"http://127.0.0.1:{mjpeg.port}/front"), settings) as capture:
        taken = read_until(capture, lambda item: isinstance(item, Frame) and item.pixels.shape == (120, 320, 3))
    assert all(isinstance(item, Frame) for item in taken)


def test_snapshots_are_asked_for_again_and_again(
    mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil, shown: Shown
) -> None:
    """An address that answers with one JPEG is a live source: new pictures, at most some five a second; a cut one is a
    failure, a server that goes away too, and frames come again when it is back."""
    mjpeg.snapshots = True
    started = time.monotonic()
    with Capture(parse(f"http://127.0.0.1:{mjpeg.port}/snapshot.jpg"), settings) as capture:
        taken = [read_until(capture, is_frame)[-1] for _ in range(4)]
        numbers = [shown(item) for item in taken if isinstance(item, Frame)]
        assert len(set(numbers)) == 4 and numbers == sorted(numbers)
        whole, mjpeg.pictures = mjpeg.pictures, [picture[: len(picture) // 2] for picture in mjpeg.pictures]
        read_until(capture, is_failure)
        assert capture.restarts == 0
        mjpeg.pictures = whole
        read_until(capture, is_frame)
        assert mjpeg.asked <= 3 + 6 * (time.monotonic() - started)
        mjpeg.stop()
        read_until(capture, is_failure)
        mjpeg.start()
        read_until(capture, is_frame)


@pytest.mark.parametrize("lossless", [False, True])
def test_damaged_webp_snapshots(
    lossless: bool, mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil, numbered: Numbered
) -> None:
    """Whole ones are read; of those that are cut or end in zeros, none is handed out."""
    pictures = []
    for number in range(64):
        noise = np.random.default_rng(number).integers(0, 40, (120, 160, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(numbered(number) // 2 + noise).save(file, format="WEBP", lossless=lossless)
        pictures.append(file.getvalue())
    mjpeg.snapshots, mjpeg.pictures = True, pictures
    with Capture(parse(f"http://127.0.0.1:{mjpeg.port}/snapshot"), settings) as capture:
        taken = [read_until(capture, is_frame)[-1] for _ in range(2)]
        assert all(isinstance(item, Frame) and item.pixels.shape == (120, 160, 3) for item in taken)
        for fill in (False, True):
            bad = [data[: len(data) * 7 // 10] for data in pictures]
            mjpeg.pictures = [
                part + bytes(len(data) - len(part)) if fill else part for part, data in zip(bad, pictures, strict=True)
            ]
            read_until(capture, is_failure)  # what was under way may have been whole
            taken = [read_until(capture, lambda item: not isinstance(item, Idle))[-1] for _ in range(4)]
            assert all(isinstance(item, Failure) for item in taken)


def test_gif_snapshots_are_refused(mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """Its coder can't tell damage: an error at the start that says so."""
    file = io.BytesIO()
    Image.new("RGB", (160, 120), "red").save(file, format="GIF")
    mjpeg.snapshots, mjpeg.pictures = True, [file.getvalue()] * 64
    with (
        Capture(parse(f"http://127.0.0.1:{mjpeg.port}/snapshot"), settings) as capture,
        pytest.raises(SourceError, match="is coded as gif, which can't tell damaged pictures from whole ones"),
    ):
        read_until(capture, is_frame)


def test_a_page_that_is_no_picture(mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """A page to log in, say: an error at the start that tells what was expected."""
    mjpeg.snapshots = True
    mjpeg.pictures = [b"<html><body>log in</body></html>" * 20] * 64
    with (
        Capture(parse(f"http://127.0.0.1:{mjpeg.port}/"), settings) as capture,
        pytest.raises(SourceError, match="not a video stream"),
    ):
        read_until(capture, is_frame)


def test_a_password_that_is_wrong(mjpeg: MjpegServer, settings: CaptureSettings, read_until: ReadUntil) -> None:
    """The reason is named, the password is not."""
    mjpeg.user = b64encode(b"admin:hunter2").decode()
    with (
        Capture(parse(f"http://admin:hunter3@127.0.0.1:{mjpeg.port}/front"), settings) as capture,
        pytest.raises(SourceError, match="refuses the user or the password") as caught,
    ):
        read_until(capture, is_frame)
    assert "hunter3" not in str(caught.value)


class RtspServer:
    """The server of rtsp_server.py under the system's Python, on one port for all its lives."""

    def __init__(self, lost: str = "0") -> None:
        self.port, self.lost = "0", lost
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        """Skips the test if the GStreamer packages are not there."""
        script = str(Path(__file__).with_name("rtsp_server.py"))
        command = ["/usr/bin/python3", script, self.port, self.lost]
        try:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except FileNotFoundError:
            pytest.skip("no system Python")
        assert self.process.stdout is not None
        self.port = self.process.stdout.readline().strip()
        if not self.port:
            self.stop()
            pytest.skip(
                "needs Debian's gir1.2-gst-rtsp-server-1.0, python3-gi and gstreamer1.0-plugins-{base,good,ugly}"
            )

    def stop(self) -> None:
        """kill -9."""
        if self.process is not None:
            with self.process:
                self.process.kill()
            self.process = None


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    """A running RTSP server."""
    server = RtspServer()
    yield server
    server.stop()


def test_a_real_rtsp_camera_comes_goes_and_comes_back(
    rtsp: RtspServer, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """H.264 over TCP: frames, a Failure when the server is killed, frames again when it is back."""
    hasty = settings.model_copy(update={"read_timeout": 3.0})
    with Capture(parse(f"rtsp://127.0.0.1:{rtsp.port}/front"), hasty) as capture:
        frames = [read_until(capture, is_frame)[-1] for _ in range(5)]
        assert all(isinstance(frame, Frame) and frame.pixels.shape == (240, 320, 3) for frame in frames)
        rtsp.stop()
        read_until(capture, is_failure)
        rtsp.start()
        frame = read_until(capture, is_frame)[-1]
        assert isinstance(frame, Frame) and frame.pixels.max() > 200


def test_a_path_that_the_rtsp_server_does_not_have(
    rtsp: RtspServer, settings: CaptureSettings, read_until: ReadUntil
) -> None:
    """404 from a real server is an error at the start."""
    with (
        Capture(parse(f"rtsp://127.0.0.1:{rtsp.port}/rear"), settings) as capture,
        pytest.raises(SourceError, match="refused, not found, or not a video stream"),
    ):
        read_until(capture, is_frame)


def test_lost_packets_of_an_rtsp_camera(settings: CaptureSettings, read_until: ReadUntil) -> None:
    """One in fifty RTP packets is not sent: failures that say so, and whole frames after the next key frame. Noise
    makes every frame many packets long; a frame that was filled in would hold rows without any."""
    server = RtspServer("0.02")
    try:
        with Capture(parse(f"rtsp://127.0.0.1:{server.port}/noise"), settings) as capture:
            taken = read_until(capture, is_failure)
            taken += read_until(capture, is_frame)
            taken += read_until(capture, is_failure)
    finally:
        server.stop()
    assert any("the frame is damaged" in item.detail for item in taken if isinstance(item, Failure))
