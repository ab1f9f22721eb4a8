"""V4L2 cameras. There is none where these tests run: a preloaded library (fake_v4l2.c, built with the kernel's own
header) answers the system calls on a file as a driver would; all above the kernel is real."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from firewall.config import CaptureSettings
from firewall.errors import ImageError
from firewall.frame import Frame, Pixels
from firewall.sources import Capture, Failure, parse
from firewall.sources.pixel_formats import FORMATS, JPEG, Layout, decode

#: Reads a camera to its end and prints what the capture process would answer, and the mean colour of each frame.
READ = """
import json, sys
from firewall.errors import FirewallError
from firewall.sources import parse
from firewall.sources.freshness import Freshness
from firewall.sources.process import _Frames, open_reader
spec = parse(sys.argv[1])
try:
    reader = open_reader(spec, open_timeout=20, read_timeout=float(sys.argv[2]))
except FirewallError as error:
    print(json.dumps({"kind": "refused", "detail": str(error)}))
    sys.exit()
rows = 0.125 if reader.sensor else 0
frames = _Frames(reader, str, Freshness(spec.name, frozen_after=float(sys.argv[3]), stale_rows=rows))
while True:
    reply = frames.next()
    told = {"kind": reply.header["kind"], "detail": reply.header.get("detail", "")}
    if reply.pixels is not None:
        told |= {"shape": reply.pixels.shape, "mean": reply.pixels.mean((0, 1)).tolist()}
    print(json.dumps(told))
    if reply.last:
        break
reader.close()
"""


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library to preload."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    library = tmp_path_factory.mktemp("v4l2") / "fake_v4l2.so"
    source = Path(__file__).with_name("fake_v4l2.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return str(library)


class Camera:
    """A camera and what it will show."""

    def __init__(
        self, folder: Path, name: str = "video0", form: str = "MJPG", size: tuple[int, int] = (64, 48)
    ) -> None:
        self.path = folder / f"{name}.camera"
        self.path.write_bytes(b"")
        self._lines = [f"format {form} {size[0]} {size[1]} 0"]
        self.uri = f"v4l2://{self.path}"
        self._write()

    def say(self, line: str) -> None:
        """A line of the script."""
        self._lines.append(line)
        self._write()

    def frame(self, data: bytes, *, flags: int = 0, used: int = -1, age: str = "0") -> None:
        """One buffer."""
        name = f"{self.path.stem}-{len(self._lines)}"
        self.path.with_name(name).write_bytes(data)
        self.say(f"frame {name} {flags:x} {used} {age}")

    def _write(self) -> None:
        self.path.with_name(self.path.name + ".script").write_text("\n".join(self._lines) + "\n")


@pytest.fixture
def read(fake_driver: str) -> Callable[..., list[dict[str, Any]]]:
    """Reads a camera to its end: what the capture process answers to each request."""

    def run(source: str, *, read_timeout: float = 20, frozen_after: float = 0) -> list[dict[str, Any]]:
        environment = {**os.environ, "LD_PRELOAD": fake_driver, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", READ, source, str(read_timeout), str(frozen_after)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def noise(seed: int, height: int = 48, width: int = 64) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(level: int, height: int = 48, width: int = 64) -> Pixels:
    ramp = np.linspace(0, 40, width) + np.linspace(0, 40, height)[:, None]
    return np.repeat((level + ramp).astype(np.uint8)[..., None], 3, 2)


def jpeg(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def yuyv(pixels: Pixels) -> bytes:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_YUY2).tobytes()


def kinds(taken: list[dict[str, Any]]) -> list[str]:
    return [item["kind"] for item in taken]


ReadAll = Callable[..., list[dict[str, Any]]]


def test_jpeg_frames_that_lack_data_are_refused(tmp_path: Path, read: ReadAll) -> None:
    """A JPEG that is cut, zeroed from its middle on, without an end, or of another kind is a bad frame, with none of
    the picture before; whole ones around them, also with padding behind them, are given."""
    camera = Camera(tmp_path)
    bright, dark = jpeg(smooth(170)), jpeg(smooth(10))
    camera.frame(bright)
    for damaged in (
        dark[: len(dark) * 4 // 10],
        dark[: len(dark) // 2] + bytes(len(dark) - len(dark) // 2),
        dark[:-2],
        b"",
        b"nothing",
        dark[100:],
    ):
        camera.frame(damaged)
    camera.frame(dark + bytes(500))

    taken = read(camera.uri)
    assert kinds(taken) == ["frame", *["bad"] * 6, "frame", "failed"]
    assert all("is not whole" in item["detail"] and "video0" in item["detail"] for item in taken[1:7])
    assert taken[0]["mean"][0] > 170 and taken[7]["mean"][0] < 90
    assert "gave no frame; is it still plugged in?" in taken[-1]["detail"]


def test_what_a_buffer_held_before_is_never_shown(tmp_path: Path, read: ReadAll) -> None:
    """A driver that says it filled a buffer although only the front was written: the rest is of an older frame. Raw or
    JPEG, it is refused."""
    raw = Camera(tmp_path, "raw", "YUYV", (320, 240))
    for seed in range(4):
        raw.frame(yuyv(noise(seed, 240, 320)))
    whole = yuyv(noise(9, 240, 320))
    for part in (0, len(whole) // 2, len(whole) * 9 // 10):
        raw.frame(whole[:part], used=len(whole))
    raw.frame(whole)
    packed = Camera(tmp_path, "packed", "MJPG", (320, 240))
    pictures = [jpeg(noise(seed, 240, 320)) for seed in range(5)]
    for picture in pictures[:4]:
        packed.frame(picture)
    packed.frame(pictures[4][: len(pictures[4]) // 2], used=len(pictures[0]))

    taken = read(raw.uri)
    assert kinds(taken) == [*["frame"] * 4, *["bad"] * 3, "frame", "failed"]
    assert all("a part of the picture was not written" in item["detail"] for item in taken[4:7])
    assert kinds(read(packed.uri)) == [*["frame"] * 4, "bad", "failed"]


def test_what_the_driver_says_of_a_buffer_counts(tmp_path: Path, read: ReadAll) -> None:
    """Its error flag, fewer bytes than a picture has, more than the buffer has: each refuses that frame alone."""
    camera = Camera(tmp_path, form="YUYV")
    data = yuyv(noise(0))
    camera.frame(data)
    camera.frame(yuyv(noise(1)), flags=0x40)
    camera.frame(yuyv(noise(2)), used=len(data) - 2)
    camera.frame(yuyv(noise(3)), used=0)
    camera.frame(yuyv(noise(4)), used=1 << 30)
    camera.frame(yuyv(noise(5)))

    taken = read(camera.uri)
    assert kinds(taken) == ["frame", *["bad"] * 4, "frame", "failed"]
    for item, said in zip(taken[1:5], ("calls the picture damaged", "6142 of 6144", "0 of 6144", "says"), strict=True):
        assert said in item["detail"]


def test_time_stamps_have_to_rise(tmp_path: Path, read: ReadAll) -> None:
    """One that stands still, goes back, lies ahead or is long past is stale; a driver without a clock is believed."""
    camera = Camera(tmp_path, form="YUYV")
    ages = ["90000", "0", "=", "500", "0", "-90000", "0", "0", "-"]
    for seed, age in enumerate(ages):
        camera.frame(yuyv(noise(seed)), age=age)

    taken = read(camera.uri)
    told = [item["detail"].rpartition("video0.camera ")[2] or item["kind"] for item in taken]
    assert told[0].startswith("gave a frame that was taken 90.")
    assert told[1:] == [
        *("frame", "stands still", "goes back", "frame", "lies ahead", "goes back", "frame", "frame"),
        "gave no frame; is it still plugged in?",
    ]
    assert {item["kind"] for item in taken if item["detail"]} == {"stale", "failed"}


@pytest.mark.parametrize("pictures", [1, 4])
def test_a_camera_that_shows_its_old_buffers_has_a_fault(pictures: int, tmp_path: Path, read: ReadAll) -> None:
    """One picture for ever, or those of four buffers by turns: a fault after the time set, gone with the next one."""
    camera = Camera(tmp_path)
    for seed in range(6):
        camera.frame(jpeg(noise(seed)))
    for turn in range(120):
        camera.frame(jpeg(noise(100 + turn % pictures)))
    for seed in range(200, 206):
        camera.frame(jpeg(noise(seed)))

    taken = read(camera.uri, frozen_after=0.2)
    told = kinds(taken)
    first, last = told.index("fault"), len(told) - 1 - told[::-1].index("fault")
    assert told[:first] == ["frame"] * first and first > 6
    assert set(told[first : last + 1]) == {"fault"} and last == 125
    assert told[last + 1 :] == [*["frame"] * 6, "failed"]
    said = ("frozen", "one picture") if pictures == 1 else ("repeating", "4 pictures by turns")
    assert taken[first]["detail"].startswith(f"{said[0]}: ")
    assert f"it repeats {said[1]}, nothing new for 0." in taken[first]["detail"]
    assert "fault" not in kinds(read(camera.uri)), "0 turns it off"


def test_rows_of_an_earlier_frame_are_stale(tmp_path: Path, read: ReadAll) -> None:
    """The lower half, the upper half, a band or every other row as it was, one or four frames ago: no sensor does that.
    A loopback device may, since anything may be behind it."""
    for driver, kind in (("uvcvideo", "stale"), ("v4l2 loopback", "frame")):
        camera = Camera(tmp_path, driver.replace(" ", "-"), "YUYV")
        camera.say(f"driver {driver}")
        history = [noise(seed) for seed in range(5)]
        rows = (slice(24, None), slice(0, 24), slice(16, 26), slice(0, None, 2))
        for number, part in enumerate(rows):
            for back in (1, 4):
                history.append(noise(50 + 2 * number + back))
                history[-1][part] = history[-1 - back][part]
        for pixels in history:
            camera.frame(yuyv(pixels))
        taken = read(camera.uri)
        assert kinds(taken) == [*["frame"] * 5, *[kind] * 8, "failed"], driver
        if kind == "stale":
            assert "24 of 48 rows" in taken[5]["detail"] and "are those of an earlier frame" in taken[5]["detail"]


def test_the_newest_of_waiting_buffers_is_taken(tmp_path: Path, fake_driver: str) -> None:
    """What lay there while we were busy is old: the newest comes, and with its driver's time, not with ours."""
    camera = Camera(tmp_path, form="GREY")
    for level in (1, 2, 3):
        camera.say("burst")
        camera.frame(bytes([level]) * 64 * 48, age="400")
    code = (
        "import sys, time; from firewall.sources.v4l2 import Stream\n"
        "stream = Stream(sys.argv[1]); stream.choose('GREY', 64, 48, 30.0); stream.start(); time.sleep(0.05)\n"
        "buffer = stream.read(10); now = time.monotonic()\n"
        "print(buffer.data[0], len(buffer.data), now - buffer.captured_at > 0.39, buffer.captured_at == buffer.stamp)\n"
        "stream.close()"
    )
    environment = {**os.environ, "LD_PRELOAD": fake_driver, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, str(camera.path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.split() == ["3", "3072", "True", "True"], done.stderr


def test_buffers_that_waited_are_not_taken_for_stale(tmp_path: Path, read: ReadAll) -> None:
    """A driver's time may be that of a frame's beginning, before the one before had come: it is still a new one."""
    camera = Camera(tmp_path, form="YUYV")
    for number in range(6):
        if number % 2:
            camera.say("burst")
        camera.frame(yuyv(noise(number)), age=str(1000 - 100 * number))

    assert kinds(read(camera.uri)) == [*["frame"] * 6, "failed"]


def test_a_camera_of_the_multi_planar_interface(tmp_path: Path, read: ReadAll) -> None:
    """As the image processors of boards have it."""
    camera = Camera(tmp_path, form="NV12")
    camera.say("planes")
    camera.frame(bytes([180]) * 64 * 48 + bytes([128]) * 64 * 24)
    camera.frame(bytes([180]) * 64 * 48)

    taken = read(camera.uri)
    assert kinds(taken) == ["frame", "bad", "failed"]
    assert taken[0]["shape"] == [48, 64, 3] and taken[0]["mean"] == pytest.approx([191] * 3, abs=2)
    assert "3072 of 4608 bytes came" in taken[1]["detail"]


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        (["metadata"], "", r"it gives no pictures; a camera's second device is for other data"),
        (["format H264 64 48 0"], "", r"it gives H264; we read YUYV, "),
        (["format YUYV 64 48 0"], "?format=MJPG", r"it gives YUYV, and not MJPG; we read YUYV, "),
        (["format YUYV 9000 48 0"], "", r"9000x48 is beyond 8192x8192"),
    ],
)
def test_cameras_that_are_refused(lines: list[str], options: str, said: str, tmp_path: Path, read: ReadAll) -> None:
    """A node for other data, a format that we don't read or it doesn't give, a picture too large: one line."""
    camera = Camera(tmp_path)
    script = camera.path.with_name(camera.path.name + ".script")
    script.write_text("\n".join(lines) + "\n")

    taken = read(camera.uri + options)
    assert kinds(taken) == ["refused"] and taken[0]["detail"].startswith(f"can't open camera {camera.path}: ")
    assert said in taken[0]["detail"]


def test_the_format_that_is_asked_for(tmp_path: Path, read: ReadAll) -> None:
    """By itself, what loses nothing in small pictures and JPEG in large ones; an option says which."""
    camera = Camera(tmp_path, form="MJPG")
    camera.say("format YUYV 64 48 0")
    camera.frame(yuyv(noise(0)))
    camera.frame(jpeg(noise(1)))

    assert kinds(read(camera.uri)) == ["frame", "bad", "failed"]
    assert kinds(read(camera.uri + "?size=1280x720&fps=30")) == ["bad", "frame", "failed"]
    assert kinds(read(camera.uri + "?format=MJPG")) == ["bad", "frame", "failed"]


def test_a_link_is_followed_again_when_the_camera_comes_back(
    tmp_path: Path,
    fake_driver: str,
    monkeypatch: pytest.MonkeyPatch,
    settings: CaptureSettings,
    read_until: Callable[..., Any],
) -> None:
    """Through the capture process: unplugged, the camera is a Failure; plugged in again under another number, with the
    link led there, its frames go on."""
    monkeypatch.setenv("LD_PRELOAD", fake_driver)
    first, second = Camera(tmp_path, "video0"), Camera(tmp_path, "video7")
    for seed in range(40):
        first.frame(jpeg(smooth(10 + seed % 3)))
    for seed in range(400):
        second.frame(jpeg(smooth(160 + seed % 7)))
    link = tmp_path / "usb-front.camera"
    link.symlink_to(first.path)

    with Capture(parse(f"v4l2://{link}"), settings) as capture:
        taken = read_until(capture, lambda item: isinstance(item, Frame))
        assert taken[-1].pixels.mean() < 90
        link.unlink()
        link.symlink_to(second.path)
        taken = read_until(capture, lambda item: isinstance(item, Frame) and item.pixels.mean() > 120)
    failures = [item for item in taken if isinstance(item, Failure)]
    assert failures and "gave no frame; is it still plugged in?" in failures[0].detail and failures[0].kind == "failed"


def test_a_camera_that_stops_is_a_failure(tmp_path: Path, read: ReadAll) -> None:
    """No buffer comes any more: the reader says so after `read_timeout`, and need not be killed."""
    camera = Camera(tmp_path)
    camera.frame(jpeg(smooth(100)))
    camera.say("hang")

    taken = read(camera.uri, read_timeout=1)
    assert kinds(taken) == ["frame", "failed"] and "gave no frame" in taken[-1]["detail"]


def test_a_fault_reaches_the_caller_as_such(
    tmp_path: Path,
    fake_driver: str,
    monkeypatch: pytest.MonkeyPatch,
    settings: CaptureSettings,
    read_until: Callable[..., Any],
) -> None:
    """Through the capture process: a Failure that says fault, and no restart."""
    monkeypatch.setenv("LD_PRELOAD", fake_driver)
    camera = Camera(tmp_path)
    for _ in range(300):
        camera.frame(jpeg(noise(1)))

    with Capture(parse(camera.uri), settings.model_copy(update={"frozen_after": 0.1})) as capture:
        taken = read_until(capture, lambda item: isinstance(item, Failure))
        assert taken[-1].kind == "fault" and "repeats one picture" in taken[-1].detail and capture.restarts == 0


def blocks() -> Pixels:
    """Eight colours, 16x16 pixels each: colour at half the size keeps them."""
    colours = [(r, g, b) for r in (40, 220) for g in (40, 220) for b in (40, 220)]
    return np.array(colours, np.uint8).reshape(2, 4, 3).repeat(16, 0).repeat(16, 1)


def planes(pixels: Pixels, form: str) -> bytes:
    """The picture as a camera would give it, rows without padding."""
    height, width = pixels.shape[:2]
    packed = {"YUYV": "RGB2YUV_YUY2", "UYVY": "RGB2YUV_UYVY", "YVYU": "RGB2YUV_YVYU", "XR24": "RGB2BGRA"}
    if form in packed:
        return cv2.cvtColor(pixels, getattr(cv2, f"COLOR_{packed[form]}")).tobytes()
    if form in ("RGB3", "BGR3", "GREY"):
        return {"RGB3": pixels, "BGR3": pixels[..., ::-1], "GREY": pixels[..., 1]}[form].tobytes()
    if form in ("NV12", "NV21", "YU12", "YV12"):
        data = cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420).reshape(-1)
        light, u, v = np.split(data, [width * height, width * height * 5 // 4])
        if form in ("YU12", "YV12"):
            return b"".join(part.tobytes() for part in (light, *((u, v) if form == "YU12" else (v, u))))
        return light.tobytes() + np.stack((u, v) if form == "NV12" else (v, u), 1).tobytes()
    first = {"RGGB": (0, 1, 1, 2), "BA81": (2, 1, 1, 0), "GRBG": (1, 0, 2, 1), "GBRG": (1, 2, 0, 1)}[form]
    mosaic = np.empty((height, width), np.uint8)
    for place, colour in enumerate(first):
        mosaic[place // 2 :: 2, place % 2 :: 2] = pixels[place // 2 :: 2, place % 2 :: 2, colour]
    return mosaic.tobytes()


@pytest.mark.parametrize("form", [name for name in FORMATS if name not in JPEG])
def test_every_pixel_format(form: str) -> None:
    """Colours come out as they went in, with rows padded too; a byte less than the picture has is an ImageError."""
    pixels = blocks()
    height, width = pixels.shape[:2]
    data = planes(pixels, form)
    expected = np.repeat(pixels[..., 1:2], 3, 2) if form == "GREY" else pixels
    layout = Layout(form, width, height, 0)

    got = decode(data, layout)
    middles = (slice(8, None, 16), slice(8, None, 16))
    assert got.shape == pixels.shape and got.dtype == np.uint8
    np.testing.assert_allclose(got[middles].astype(int), expected[middles], atol=4)
    with pytest.raises(ImageError, match=rf"{len(data) - 1} of {len(data)} bytes came"):
        decode(data[:-1], layout)
    if form not in ("NV12", "NV21", "YU12", "YV12"):
        row = len(data) // height
        padded = b"".join(data[start : start + row] + b"\xaa" * 6 for start in range(0, len(data), row))
        np.testing.assert_array_equal(decode(padded[:-6], Layout(form, width, height, row + 6)), got)
