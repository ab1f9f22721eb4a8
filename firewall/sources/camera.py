"""Cameras: V4L2 (USB and most others) and, on a Jetson, CSI cameras through GStreamer."""

from __future__ import annotations

import errno
import math
import os
import re
import time
from pathlib import Path
from typing import Any

from firewall.errors import SourceError
from firewall.frame import Pixels
from firewall.sources.video import opencv, rgb

__all__ = ["CameraReader", "csi_pipeline", "has_gstreamer", "open_camera", "open_csi_camera"]


def open_camera(device: str, options: dict[str, str], *, read_timeout: float) -> CameraReader:
    """The V4L2 camera at `device` (/dev/videoN). options: size, fps. Raises SourceError if it can't be had."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        raise SourceError(f"can't open camera {device}: {_reason(error)}") from error
    # OpenCV waits 10 s for a frame by itself; whole seconds only.
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(max(1, math.ceil(read_timeout))))
    cv2 = opencv()
    video = cv2.VideoCapture(device, cv2.CAP_V4L2)
    if not video.isOpened():
        raise SourceError(f"can't open camera {device}: not a camera, or another program holds it; {_found()}")
    if "size" in options:
        width, height = options["size"].split("x")
        video.set(cv2.CAP_PROP_FRAME_WIDTH, int(width))
        video.set(cv2.CAP_PROP_FRAME_HEIGHT, int(height))
    if "fps" in options:
        video.set(cv2.CAP_PROP_FPS, float(options["fps"]))
    return CameraReader(cv2, video, device)


def open_csi_camera(number: str, options: dict[str, str]) -> CameraReader:
    """CSI camera `number` of a Jetson. options: size, fps. Raises SourceError if it can't be had."""
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


class CameraReader:
    """The frames of a camera, without end: when none comes, that is a SourceError."""

    def __init__(self, cv2: Any, video: Any, name: str) -> None:
        """video: an open cv2.VideoCapture."""
        self._cv2, self._video, self._name = cv2, video, name

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
    return error.strerror or type(error).__name__


def _found() -> str:
    cameras = sorted(map(str, Path("/dev").glob("video*")))
    return f"cameras here: {', '.join(cameras) or 'none'}"
