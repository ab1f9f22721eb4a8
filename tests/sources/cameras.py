"""Network cameras for the tests of sources: real servers of MJPEG and RTSP, and the fixtures that start them."""

from __future__ import annotations

import http.server
import io
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from firewall.frame import Frame, Pixels
from firewall.sources import Capture, End, Failure, Idle

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
        self.pictures = [self.jpeg(numbered(number)) for number in range(64)]
        self.port = 0
        self.mute = threading.Event()
        self.snapshots = False  # one picture for each request
        self.asked = 0
        self.user = ""  # and password, base64; empty: everybody may look
        self._stopping = threading.Event()
        self.start()

    @staticmethod
    def jpeg(pixels: Pixels) -> bytes:
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
def mjpeg(numbered: Numbered) -> Iterator[MjpegServer]:
    """A running MJPEG server."""
    server = MjpegServer(numbered)
    yield server
    server.stop()


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    """A running RTSP server."""
    server = RtspServer()
    yield server
    server.stop()
