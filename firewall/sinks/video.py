"""Annotated video: what the camera saw and what was said of it, as MP4 (H.264) that any player shows.

The file is written in fragments, so what was written before a crash can be played. Times are those of the capture, by
the monotonic clock. A file that is there when the guard starts is kept, as NAME.1.mp4.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from firewall.errors import FirewallError
from firewall.frame import Pixels
from firewall.sinks.drawing import draw
from firewall.sinks.report import FrameReport, Output
from firewall.sinks.rotation import rotate

__all__ = ["AnnotatedVideo"]

_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
_FAST = {"preset": "ultrafast", "tune": "zerolatency", "crf": "26"}
# What PyAV was built with; its own wheels have x264.
_CODEC = "libx264" if "libx264" in av.codecs_available else "mpeg4"
_KEY_EVERY = 30  # frames: at most so many are lost in a crash
_PER_SECOND = 1000  # time stamps are milliseconds


class AnnotatedVideo(Output):
    """Encodes each frame with its verdicts drawn on it.

    Args:
        path: The file.
        size: Bytes that it may have; then it becomes NAME.1.mp4, and a new one begins. None: it may grow.
        keep: How many such files are kept.

    Raises:
        FirewallError: If it can't be written.
    """

    def __init__(self, path: Path, *, size: int | None = None, keep: int = 10) -> None:
        self._path, self._size, self._keep = path, size, keep
        self._container: Any = None
        self._shape = (0, 0)
        self._first: float | None = None
        self._last, self._bytes = -1, 0
        try:
            with path.open("ab"):  # whether we may
                pass
        except OSError as error:
            raise FirewallError(f"can't write video to {path}: {error.strerror}") from error

    def report(self, report: FrameReport) -> None:
        """Encode the frame; where there was none, a black picture says why."""
        if report.frame is None:
            if self._container is None:
                return
            picture, now = draw(np.zeros((*self._shape, 3), np.uint8), report.verdicts), None
        else:
            picture = draw(report.frame.pixels, report.verdicts, report.looked_at)
            now = report.frame.captured_at
        try:
            if self._container is None:
                self._begin(picture)
            self._encode(picture, now)
            if self._size is not None and self._bytes > self._size:
                self._end()
        except (OSError, av.FFmpegError) as error:
            raise FirewallError(f"can't write video to {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Write what is left."""
        try:
            self._end()
        except (OSError, av.FFmpegError) as error:
            raise FirewallError(f"can't write video to {self._path}: {error.strerror}") from error

    def _begin(self, picture: Pixels) -> None:
        if self._path.is_file() and self._path.stat().st_size > 0:
            rotate(self._path, self._keep)
        self._file = _File(self._path)
        self._container = av.open(self._file, "w", format="mp4", options=_FRAGMENTS)
        stream = self._container.add_stream(_CODEC, rate=30, options=_FAST if _CODEC == "libx264" else {})
        self._shape = picture.shape[:2]
        stream.height, stream.width = self._shape
        stream.pix_fmt, stream.gop_size = "yuv420p", _KEY_EVERY
        stream.codec_context.thread_count = 1  # the cores belong to the classifier
        stream.codec_context.time_base = Fraction(1, _PER_SECOND)
        self._stream, self._first, self._last, self._bytes = stream, None, -1, 0

    def _encode(self, picture: Pixels, now: float | None) -> None:
        if picture.shape[:2] != self._shape:
            picture = _fitted(picture, self._shape)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        if now is not None:
            self._first = now if self._first is None else self._first
        elapsed = self._last + 1 if now is None or self._first is None else round((now - self._first) * _PER_SECOND)
        self._last = frame.pts = max(elapsed, self._last + 1)
        frame.time_base = Fraction(1, _PER_SECOND)
        packets = self._stream.encode(frame)
        self._bytes += sum(packet.size for packet in packets)
        self._container.mux(packets)

    def _end(self) -> None:
        container, self._container = self._container, None
        if container is None:
            return
        try:
            container.mux(self._stream.encode(None))
        finally:
            try:
                container.close()
            finally:
                self._file.close()


class _File:
    """What FFmpeg writes to. FFmpeg itself never closes a file whose end it could not write."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)  # FFmpeg has a buffer, and a crash may cost no second one
        self.seek, self.tell = self._file.seek, self._file.tell
        self._refused: tuple[int | None, str | None] | None = None

    def write(self, data: bytes) -> int:
        """Write all of it, or raise OSError, of which FFmpeg doesn't always tell."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._refused = error.errno, error.strerror  # the error itself would keep all that it came through
            raise
        return len(data)

    def close(self) -> None:
        """Close it; OSError if anything could not be written."""
        self._file.close()
        if self._refused is not None:
            raise OSError(*self._refused)


def _fitted(picture: Pixels, shape: tuple[int, int]) -> Pixels:
    """A picture of another size in the middle of a black one of the video's, cut off where it is larger."""
    fitted = np.zeros((*shape, 3), np.uint8)
    height, width = (min(have, want) for have, want in zip(picture.shape[:2], shape, strict=True))
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    fitted[top : top + height, left : left + width] = picture[:height, :width]
    return fitted
