"""How people name a V4L2 camera: its number, its device, a link to it, or as other programs write it."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

__all__ = ["is_camera", "named_camera", "respelled_camera"]

_DEVICE = re.compile(r"/+dev/(video[0-9]+|v4l/by-(?:id|path)/[^?/]+)", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,3}", re.ASCII)
# video=/dev/video0, v4l2:0, camera://0 and the like, as FFmpeg, GStreamer, Motion and VLC have it; video0, dev/video0.
_RESPELLED = re.compile(
    r"(?:(?:v4l2?|video4linux2?|video|camera|webcam|device|dev)(?:=|://|:))?"
    r"(?:(?P<number>[0-9]{1,3})|(?P<path>/+dev/[^?]+)|(?:dev/)?video(?P<device>[0-9]{1,3}))",
    re.ASCII | re.IGNORECASE,
)
_MAJOR = 81  # of V4L2 devices, on every Linux


def named_camera(text: str) -> str | None:
    """The device that a text names by its form alone; it need not be there now. None if it names none."""
    if _NUMBER.fullmatch(text):
        return f"/dev/video{int(text)}"
    device = _DEVICE.fullmatch(text)
    return None if device is None else f"/dev/{device[1]}"


def respelled_camera(text: str) -> str | None:
    """The device of a text that other programs would take for a camera; where no file is called so."""
    found = _RESPELLED.fullmatch(text)
    if found is None:
        return None
    number = found["number"] or found["device"]
    if number is not None:
        return f"/dev/video{int(number)}"
    path: str = found["path"]
    return path if named_camera(path) or is_camera(path) else None


def is_camera(path: str) -> bool:
    """Whether this is a V4L2 device, or a link to one. A link is kept as it is: what it leads to may change."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _MAJOR
