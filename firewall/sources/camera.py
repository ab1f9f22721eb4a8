"""Cameras: V4L2 (USB and most others) and, on a Jetson, CSI cameras through GStreamer."""

from __future__ import annotations

import errno
import math
import re
import time
from pathlib import Path
from typing import Any

from firewall.errors import ImageError, SourceError, StaleError
from firewall.frame import MAX_SIDE, Pixels
from firewall.sources.pixel_formats import FORMATS, JPEG, Layout, decode
from firewall.sources.v4l2 import ALTERNATE, Stream
from firewall.sources.video import opencv, rgb

__all__ = ["CameraReader", "V4l2Reader", "csi_pipeline", "has_gstreamer", "open_camera", "open_csi_camera"]


def open_camera(device: str, options: dict[str, str], *, read_timeout: float) -> V4l2Reader:
    """The V4L2 camera at `device`: /dev/videoN or a link to it, which is followed each time.

    Args:
        device: /dev/videoN, or a link to it.
        options: Size, fps, format.
        read_timeout: Longest wait for a frame, in seconds.

    Raises:
        SourceError: If it can't be opened.
    """
    opencv()  # now, so that the first frame need not wait for it
    try:
        stream = Stream(device)
    except OSError as error:
        raise SourceError(f"can't open camera {device}: {_reason(error)}") from error
    try:
        if not stream.gives_pictures:
            raise SourceError(
                f"can't open camera {device}: it gives no pictures; a camera's second device is for other data, "
                f"use its first (video-index0 of /dev/v4l); {_found()}"
            )
        layout = _choose(stream, device, options)
        stream.start()
    except OSError as error:
        stream.close()
        raise SourceError(f"can't open camera {device}: {_reason(error)}") from error
    except SourceError:
        stream.close()
        raise
    return V4l2Reader(stream, layout, device, read_timeout=read_timeout)


def _choose(stream: Stream, device: str, options: dict[str, str]) -> Layout:
    width, height = map(int, options.get("size", "640x480").split("x"))
    rate = float(options["fps"]) if "fps" in options else None
    offered = stream.formats()
    known = [name for name in _preferred(width * height) if name in offered]
    wanted = options.get("format", known[0] if known else "")
    if wanted not in known:
        raise SourceError(
            f"can't open camera {device}: it gives {', '.join(offered) or 'nothing'}"
            + (f", and not {wanted}" if wanted else "")
            + f"; we read {', '.join(FORMATS)}"
        )
    layout, field = stream.choose(wanted, width, height, rate)
    if layout.fourcc != wanted:
        raise SourceError(f"can't open camera {device}: it gives {layout.fourcc} instead of {wanted}")
    if field == ALTERNATE:
        raise SourceError(
            f"can't open camera {device}: it gives half pictures by turns (interlaced); ask for another size"
        )
    if not (1 <= layout.width <= MAX_SIDE and 1 <= layout.height <= MAX_SIDE):
        raise SourceError(f"can't open camera {device}: {layout.width}x{layout.height} is beyond {MAX_SIDE}x{MAX_SIDE}")
    return layout


def _preferred(pixels: int) -> list[str]:
    """Formats by preference: what loses nothing first, but where USB 2 can't carry that 30 times a second."""
    return list(FORMATS) if pixels <= 640 * 480 else sorted(FORMATS, key=lambda name: name not in JPEG)


def open_csi_camera(number: str, options: dict[str, str]) -> CameraReader:
    """CSI camera `number` of a Jetson.

    Args:
        number: Number of the camera.
        options: Size, fps.

    Raises:
        SourceError: If it can't be opened.
    """
    cv2 = opencv()
    if not has_gstreamer(cv2.getBuildInformation()):
        raise SourceError(
            f"csi://{number} needs an OpenCV built with GStreamer, and this OpenCV {cv2.__version__} has none; use the "
            "OpenCV of JetPack (a venv made with --system-site-packages, without opencv from pip) or a V4L2 camera"
        )
    video = cv2.VideoCapture(csi_pipeline(number, options), cv2.CAP_GSTREAMER)
    if not video.isOpened():
        raise SourceError(f"can't open camera csi://{number}: not connected, or nvarguscamerasrc is missing or in use")
    return CameraReader(cv2, video, f"csi://{number}")


def has_gstreamer(build_information: str) -> bool:
    """Whether `cv2.getBuildInformation()` says that GStreamer is in."""
    return re.search(r"GStreamer:\s*YES", build_information) is not None


def csi_pipeline(number: str, options: dict[str, str]) -> str:
    """The GStreamer pipeline of a Jetson's camera: it drops frames rather than queue them."""
    width, height = options.get("size", "1280x720").split("x")
    rate = round(float(options.get("fps", "30")))
    return (
        f"nvarguscamerasrc sensor-id={number} ! "
        f"video/x-raw(memory:NVMM), width={width}, height={height}, framerate={max(1, rate)}/1 ! "
        "nvvidconv ! video/x-raw, format=BGRx ! videoconvert ! video/x-raw, format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )


class V4l2Reader:
    """The frames of a V4L2 camera, without end: when none comes, that is a SourceError.

    A frame of which a part is missing is an ImageError, one that is old a StaleError; the next call goes on.
    """

    def __init__(self, stream: Stream, layout: Layout, name: str, *, read_timeout: float) -> None:
        """Take a camera that is open.

        Args:
            stream: A stream that has been started.
            layout: How its pictures lie in memory.
            name: Name of the camera, for messages.
            read_timeout: Longest wait for a frame, in seconds.
        """
        self._stream, self._layout, self._name, self._timeout = stream, layout, name, read_timeout
        self._stamp = -math.inf
        #: Whether there is a sensor behind it, with noise in each frame. Of a loopback nobody knows.
        self.sensor = "loopback" not in stream.driver

    def __iter__(self) -> V4l2Reader:
        return self

    def __next__(self) -> tuple[Pixels, float]:
        """(pixels (H, W, 3) uint8 RGB, time.monotonic() when it came). Raises SourceError when none comes."""
        try:
            buffer = self._stream.read(self._timeout)
        except OSError:
            buffer = None
        if buffer is None:
            raise SourceError(f"camera {self._name} gave no frame; is it still plugged in?")
        if buffer.damage:
            raise ImageError(f"a frame of camera {self._name} is not whole: {buffer.damage}")
        if buffer.stamp is not None:
            self._check_stamp(buffer.stamp)
        try:
            pixels = decode(buffer.data, self._layout)
        except ImageError as error:
            raise ImageError(f"a frame of camera {self._name} is not whole: {error}") from error
        return pixels, buffer.captured_at

    def _check_stamp(self, stamp: float) -> None:
        before, self._stamp = self._stamp, stamp
        age = time.monotonic() - stamp
        if age < 0 or stamp <= before:
            kind = "lies ahead" if age < 0 else "stands still" if stamp == before else "goes back"
            raise StaleError(f"the time stamp of camera {self._name} {kind}")
        if age > self._timeout:
            raise StaleError(f"camera {self._name} gave a frame that was taken {age:.1f} s ago")

    def close(self) -> None:
        """Gives the camera back."""
        self._stream.close()


class CameraReader:
    """The frames of a CSI camera, without end: when none comes, that is a SourceError."""

    def __init__(self, cv2: Any, video: Any, name: str) -> None:
        """Take a camera that is open.

        Args:
            cv2: The package cv2.
            video: An open cv2.VideoCapture.
            name: Name of the camera, for messages.
        """
        self._cv2, self._video, self._name = cv2, video, name
        self.sensor = True

    def __iter__(self) -> CameraReader:
        return self

    def __next__(self) -> tuple[Pixels, float]:
        """(pixels (H, W, 3) uint8 RGB, time.monotonic() when it was taken). Raises SourceError when none comes."""
        good = self._video.grab()
        captured_at = time.monotonic()
        pixels = self._video.retrieve()[1] if good else None
        if pixels is None:
            raise SourceError(f"camera {self._name} gave no frame; is it still plugged in?")
        return rgb(self._cv2, pixels), captured_at

    def close(self) -> None:
        """Gives the camera back."""
        self._video.release()


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.ENOTDIR):
        return f"there is no such camera; {_found()}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission; add the user to the group 'video' and log in again"
    if error.errno == errno.EBUSY:
        return "another program holds it"
    if error.errno in (errno.ENOTTY, errno.EISDIR):
        return f"not a camera; {_found()}"
    return error.strerror or type(error).__name__


def _found() -> str:
    cameras = sorted(map(str, Path("/dev").glob("video*")))
    return f"cameras here: {', '.join(cameras) or 'none'}"
