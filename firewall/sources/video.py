"""Video files and network streams, both decoded by the FFmpeg inside OpenCV."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NoReturn

from firewall.errors import SourceError
from firewall.frame import MAX_SIDE, Pixels

__all__ = ["StreamReader", "VideoReader", "opencv", "rgb"]

# discardcorrupt: a packet that was cut off gives no frame; otherwise its missing half would be grey.
_FILE = "protocol_whitelist;file|fflags;discardcorrupt"
_STREAM = "rtsp_transport;tcp|protocol_whitelist;rtsp,rtsps,rtp,srtp,http,https,httpproxy,tcp,tls,udp,crypto"
_STREAM += "|fflags;nobuffer+discardcorrupt"


def opencv(*, ffmpeg_options: str = "") -> Any:
    """The cv2 module, silent (FFmpeg's messages repeat URLs with their passwords) and on one thread.

    ffmpeg_options: `name;value|name;value`, unless OPENCV_FFMPEG_CAPTURE_OPTIONS is set by the user.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if ffmpeg_options:
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", ffmpeg_options)
    import cv2

    cv2.setNumThreads(1)  # the cores belong to the classifier
    return cv2


def rgb(cv2: Any, pixels: Any) -> Pixels:
    """(H, W, 3) uint8 RGB from what VideoCapture retrieved: BGR, or grey from some cameras."""
    code = cv2.COLOR_BGR2RGB if pixels.ndim == 3 and pixels.shape[2] == 3 else cv2.COLOR_GRAY2RGB
    converted: Pixels = cv2.cvtColor(pixels, code)
    return converted


class VideoReader:
    """The frames of a video file in order. Ends early with a SourceError if the file promised more frames."""

    def __init__(self, path: str, name: str, *, timeout: float) -> None:
        """timeout: seconds that opening or one frame may take. Raises SourceError if it isn't a video we can decode."""
        self._name = name
        if Path(path).stat().st_size == 0:
            raise SourceError(f"video {name} is empty (0 bytes)")
        self._cv2 = cv2 = opencv(ffmpeg_options=_FILE)
        limit = int(timeout * 1000)
        times = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit]
        self._video = cv2.VideoCapture(path, cv2.CAP_FFMPEG, times)
        if not self._video.isOpened():
            raise SourceError(f"can't decode video {name}: damaged, truncated, or of a format this FFmpeg doesn't know")
        width, height = (int(self._video.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width > MAX_SIDE or height > MAX_SIDE:
            raise SourceError(f"video {name} is {width}x{height}, larger than {MAX_SIDE}x{MAX_SIDE}; scale it down")
        self._promised = int(self._video.get(cv2.CAP_PROP_FRAME_COUNT))
        self._read = 0

    def __iter__(self) -> VideoReader:
        return self

    def __next__(self) -> tuple[Pixels, float]:
        """(pixels (H, W, 3) uint8 RGB, time.monotonic() when it was decoded). Raises SourceError at an early end."""
        good = self._video.grab()
        captured_at = time.monotonic()
        pixels = self._video.retrieve()[1] if good else None
        if pixels is None:
            self._end()
        self._read += 1
        return rgb(self._cv2, pixels), captured_at

    def skip(self) -> None:
        """Pass over one frame. Raises as `__next__` does."""
        if not self._video.grab():
            self._end()
        self._read += 1

    def _end(self) -> NoReturn:
        # Some formats tell only how long they are, and FFmpeg leaves out what an edit list cuts: one in a hundred.
        if self._promised > 0 and self._promised - self._read > 1 + self._promised // 100:
            raise SourceError(
                f"video {self._name} ended after {self._read} of {self._promised} frames; it is truncated or damaged"
            )
        if self._read == 0:
            raise SourceError(f"video {self._name} holds no frame that can be decoded")
        raise StopIteration

    def close(self) -> None:
        """Closes the file."""
        self._video.release()


class StreamReader:
    """The frames of an RTSP or MJPEG stream, without end: when it ends, that is a SourceError."""

    def __init__(self, url: str, name: str, *, open_timeout: float, read_timeout: float) -> None:
        """Time-outs in seconds. Raises SourceError if there is no answer or no video."""
        self._name = name
        self._cv2 = cv2 = opencv(ffmpeg_options=_STREAM)
        properties = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(open_timeout * 1000)),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(read_timeout * 1000)),
            *(cv2.CAP_PROP_N_THREADS, 1),  # each further decoder thread holds a frame back
        ]
        started = time.monotonic()
        self._video = cv2.VideoCapture(url, cv2.CAP_FFMPEG, properties)
        if not self._video.isOpened():
            waited = time.monotonic() - started >= 0.9 * open_timeout
            reason = f"no answer within {open_timeout:g} s" if waited else "refused, not found, or not a video stream"
            raise SourceError(f"can't open stream {name}: {reason}")

    def __iter__(self) -> StreamReader:
        return self

    def __next__(self) -> tuple[Pixels, float]:
        """(pixels (H, W, 3) uint8 RGB, time.monotonic() when it had come). Raises SourceError when none comes."""
        good = self._video.grab()
        captured_at = time.monotonic()
        pixels = self._video.retrieve()[1] if good else None
        if pixels is None:
            raise SourceError(f"stream {self._name} ended or gave no frame in time")
        return rgb(self._cv2, pixels), captured_at

    def close(self) -> None:
        """Hangs up."""
        self._video.release()
