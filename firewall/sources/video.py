"""Video files, frame by frame; and what OpenCV is for: cameras."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from firewall.errors import ImageError, SourceError
from firewall.frame import MAX_SIDE, Pixels
from firewall.sources.decoder import Decoded, Decoder, Heard, ffmpeg, heard
from firewall.sources.extent import Extent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.packet import Packet

__all__ = ["VideoReader", "opencv", "rgb"]

_OPTIONS = {"protocol_whitelist": "file"}
_PLAYLISTS = frozenset({"concat", "dash", "hls", "imf", "sdp"})  # formats that lead to other files
_HASTY = {"analyzeduration": "1", "fpsprobesize": "0"}  # reads hardly more than the first frame when opening
_FIRST_PACKETS = 16  # that are read then, at most
_MOST_ERRORS = 16  # of the container, one after the other: it is then given up
# Of formats that FFmpeg tells by the name of the file.
_FORMATS = {
    **dict.fromkeys((".264", ".h264"), "h264"),
    **dict.fromkeys((".265", ".h265", ".hevc"), "hevc"),
    **dict.fromkeys((".mjpeg", ".mjpg"), "mjpeg"),
}


def opencv() -> Any:
    """The cv2 module, silent (FFmpeg's messages repeat URLs with their passwords) and on one thread."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.setNumThreads(1)  # the cores belong to the classifier
    return cv2


def rgb(cv2: Any, pixels: Any) -> Pixels:
    """(H, W, 3) uint8 RGB from what VideoCapture retrieved: BGR, or grey from some cameras."""
    code = cv2.COLOR_BGR2RGB if pixels.ndim == 3 and pixels.shape[2] == 3 else cv2.COLOR_GRAY2RGB
    converted: Pixels = cv2.cvtColor(pixels, code)
    return converted


class VideoReader:
    """The frames of a video file in order. A frame that lacks data is an ImageError; the next call goes on. A file that
    ends before it states is a SourceError at its end."""

    def __init__(self, path: str, name: str, *, timeout: float) -> None:
        """Open a video file.

        Args:
            path: The file.
            name: Name of the source, for messages.
            timeout: Seconds that opening or one frame may take.

        Raises:
            SourceError: If it isn't a video we can decode.
        """
        self._name = name
        if Path(path).stat().st_size == 0:
            raise SourceError(f"video {name} is empty (0 bytes)")
        av = ffmpeg()
        self._av = av
        self._descriptor = os.open(path, os.O_RDONLY)
        target, hint = path, None
        try:
            path.encode()
        except UnicodeEncodeError:  # FFmpeg takes UTF-8 only
            target, hint = f"/proc/self/fd/{self._descriptor}", _FORMATS.get(Path(path).suffix.lower())
        try:
            words = self._open(target, hint, timeout, {})
            if self._lost(words):
                # What the first seconds lack was said while they were looked through, not when they are read.
                self._container.close()
                words = self._open(target, hint, timeout, _HASTY)
        except (av.error.FFmpegError, ValueError) as error:
            os.close(self._descriptor)
            raise SourceError(
                f"can't decode video {name}: damaged, truncated, or of a format this FFmpeg doesn't know"
            ) from error
        try:
            stream = self._container.streams.best("video")
            if stream is None or self._container.format.name in _PLAYLISTS:
                raise SourceError(f"can't decode video {name}: there is no picture in it")
            self._decoder = Decoder(stream, f"video {name}")
            width, height = stream.codec_context.width, stream.codec_context.height
            if width > MAX_SIDE or height > MAX_SIDE:
                raise SourceError(f"video {name} is {width}x{height}, larger than {MAX_SIDE}x{MAX_SIDE}; scale it down")
            self._extent = Extent(self._container, stream, Path(path), words)
        except BaseException:
            self.close()
            raise
        self._stream = stream
        lost = self._lost(words)
        if lost:
            self._decoder.lose(lost[0], _FIRST_PACKETS)
        self._packets = self._demuxed()
        self._ready: deque[Decoded | ImageError] = deque()
        self._read = 0
        self._trouble = lost[0] if lost else ""  # the last error of the container

    def _open(self, target: str, kind: str | None, timeout: float, options: dict[str, str]) -> Heard:
        with heard() as words:
            self._container = self._av.open(
                target, format=kind, options=_OPTIONS | options, timeout=timeout, metadata_errors="replace"
            )
        return words

    def _lost(self, words: Heard) -> list[str]:
        """What the container lacks. Decoders complain of every video that begins in the middle."""
        return words.lost_by(self._container.format.name)

    def __iter__(self) -> VideoReader:
        return self

    def __next__(self) -> tuple[Pixels, float]:
        """(pixels (H, W, 3) uint8 RGB, time.monotonic() when it was decoded). Raises ImageError for a damaged frame,
        SourceError at an early end."""
        result = self._next()
        at = time.monotonic()
        if isinstance(result, ImageError):
            raise result
        return result.pixels(), at

    def skip(self) -> None:
        """Pass over one frame, damaged or not. Raises StopIteration and SourceError as `__next__` does."""
        self._next()

    def _next(self) -> Decoded | ImageError:
        while not self._ready:
            packet = next(self._packets, None)
            if packet is None:
                self._end()
            self._ready.extend(self._decoder.decode(packet))
        self._read += 1
        return self._ready.popleft()

    def _demuxed(self) -> Iterator[Packet[Any]]:
        """The video's packets, each held until the one behind it was read: what is wrong with one is often heard then.
        An empty one at the end lets out what the decoder holds back."""
        held: Packet[Any] | None = None
        # A transport stream is read ahead: what is missing may be in the packet at hand or in the one behind it.
        suspects = 3 if self._container.format.name == "mpegts" else 1
        errors, packets, done = 0, self._container.demux(), False
        while not done:
            packet, failure = None, ""
            with heard() as words:
                try:
                    packet = next(packets)
                except StopIteration:
                    done = True
                except self._av.error.FFmpegError as error:
                    failure = error.strerror or type(error).__name__
            lost = next(iter(words.lost), failure)
            if lost:
                self._trouble = lost
                self._decoder.lose(lost, suspects)
            if failure:
                errors += 1
                packets, done = self._container.demux(), errors > _MOST_ERRORS
                packet = self._av.Packet() if done else None
            if packet is not None:
                self._extent.saw(packet)
            if packet is not None and (done or packet.stream_index == self._stream.index):
                if held is not None:
                    yield held
                held = packet
        if held is not None:
            yield held

    def _end(self) -> NoReturn:
        extent = self._extent
        if extent.missing() or extent.cut or self._trouble:
            where = f"at {extent.reached:.2f}"
            where += f" of {extent.stated:.2f} s" if extent.stated > extent.reached else " s"
            raise SourceError(
                f"video {self._name} ended {where}, after {self._read} frames; it is truncated or damaged"
            )
        if self._read == 0:
            raise SourceError(f"video {self._name} holds no frame that can be decoded")
        raise StopIteration

    def close(self) -> None:
        """Closes the file."""
        self._container.close()
        os.close(self._descriptor)
