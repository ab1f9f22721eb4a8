"""Network cameras that keep less to the rules: parts of MJPEG that are called otherwise, no multipart at all, VP9 in
RTP, errors of the server."""

from __future__ import annotations

import http.server
import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.damaged_streams import HttpCamera, RtspCamera, multipart, rtp_packets
from firewall.errors import ImageError, SourceError
from firewall.frame import Pixels
from firewall.sources.stream import open_stream
from tests.sources.test_damaged_video import VPX, are_whole, make, pytestmark, read

__all__ = ["pytestmark"]


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """JPEG files, each with other noise."""
    found = []
    for number in range(40):
        file = io.BytesIO()
        noise = np.random.default_rng(number).integers(0, 255, (120, 160, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file, format="JPEG")
        found.append(file.getvalue())
    return found


def play(url: str) -> tuple[list[Pixels], list[str], list[float]]:
    """Frames, errors before the end, and when the frames were taken."""
    frames: list[Pixels] = []
    errors, times = [], []
    reader = open_stream(url, url, open_timeout=20, read_timeout=20)
    while True:
        try:
            frame, at = next(reader)
        except ImageError as error:  # noqa: PERF203
            errors.append(str(error))
        except SourceError:
            break
        else:
            frames.append(frame)
            times.append(at)
    reader.close()
    return frames, errors, times


PARTS: dict[str, Callable[[bytes], bytes]] = {
    "image/jpg": lambda body: body.replace(b"image/jpeg", b"image/jpg"),
    "no type": lambda body: body.replace(b"Content-Type: image/jpeg\r\n", b""),
    "lower case": lambda body: body.replace(b"Content-Type", b"content-type").replace(b"Content-L", b"content-l"),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_mjpeg_that_are_called_otherwise(name: str, pictures: list[bytes]) -> None:
    """Cheap cameras call them image/jpg, or nothing: their pictures are read all the same, a cut one is an error.
    Before, such a camera gave no frame for ever."""
    cut = [picture[: len(picture) // 2] if number == 30 else picture for number, picture in enumerate(pictures)]
    camera = HttpCamera(PARTS[name](multipart(cut)), "multipart/x-mixed-replace; boundary=picture")
    try:
        frames, errors, times = play(camera.url)
    finally:
        camera.close()
    expected = {np.asarray(Image.open(io.BytesIO(picture))).tobytes() for picture in pictures}
    assert len(frames) >= 20 and {frame.shape for frame in frames} == {(120, 160, 3)}
    assert sum(frame.tobytes() in expected for frame in frames) == len(frames)
    assert any("the JPEG is cut" in error for error in errors)
    assert times == sorted(times)


def test_pictures_one_behind_the_other_without_multipart(pictures: list[bytes]) -> None:
    """As `ffmpeg -f mjpeg` and small boards send them."""
    camera = HttpCamera(b"".join(pictures), "video/x-motion-jpeg")
    try:
        reader = open_stream(camera.url, camera.url, open_timeout=20, read_timeout=20)
        frames = [next(reader)[0] for _ in range(20)]
        reader.close()
    finally:
        camera.close()
    assert {frame.shape for frame in frames} == {(120, 160, 3)}


@pytest.mark.parametrize(
    ("code", "said"),
    [(404, r"the server has nothing at that path \(404 Not Found"), (500, r"not a video stream, .*\(.*5XX")],
)
def test_a_server_that_has_no_picture_is_quoted(code: int, said: str) -> None:
    """The reason names what the server answered."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/snapshot.jpg"
        with pytest.raises(SourceError, match=said):
            open_stream(url, "front", open_timeout=20, read_timeout=20)
        server.shutdown()


def test_vp9_over_rtsp(tmp_path: Path) -> None:
    """Its packets aren't marked as key frames, and its decoder takes no more after an error among its first ones:
    frames come all the same, whole ones. What was lost on the way is an error up to the next key frame."""
    source = ["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25:duration=3"]
    path = make(tmp_path / "drive.webm", *source, "-c:v", "libvpx-vp9", *VPX)
    whole, _ = read(path)
    description, packets = rtp_packets(path)
    lost = len(packets) * 7 // 10
    for sent, damaged in ((packets, False), (packets[:lost] + packets[lost + 3 :], True)):
        camera = RtspCamera(description, sent)
        try:
            frames, errors, _ = play(camera.url)
        finally:
            camera.close()
        assert len(frames) >= 15 and are_whole(frames, whole)
        assert bool(errors) is damaged
