"""Network streams (RTSP, MJPEG and other video over HTTP) and the snapshot pages of cameras, which are asked again."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from firewall.errors import ImageError, SourceError
from firewall.frame import Pixels
from firewall.sources.arrivals import Arrivals
from firewall.sources.decoder import Decoded, Decoder, Heard, ffmpeg, heard

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["SnapshotReader", "StreamReader", "open_stream"]

_OPTIONS = {
    "rtsp_transport": "tcp",
    "reorder_queue_size": "8",  # else FFmpeg does not look for gaps in what comes over TCP; cameras leave packets out
    "protocol_whitelist": "rtsp,rtsps,rtp,srtp,http,https,httpproxy,tcp,tls,udp,crypto",
}
# What was read to recognise the stream is old by then. Of MJPEG without an end, five seconds of it would be read.
_AT_ONCE = {"fflags": "nobuffer"}
_SOON, _FIRST = {"analyzeduration": "1000000"}, {"analyzeduration": "1"}
_SNAPSHOTS_A_SECOND = 5.0  # at most: each is a request of its own
_SUSPECTS = 3  # packets: what was lost may be in the one at hand or in one behind it
_HEALING = 5.0  # seconds without a key frame after which the stream is opened again: most cameras send one then


def open_stream(url: str, name: str, *, open_timeout: float, read_timeout: float) -> StreamReader | SnapshotReader:
    """The reader that fits what the server answers. Time-outs in seconds.

    Raises:
        SourceError: If there is no answer, or neither a video nor a picture.
    """
    server = _Server(url, name, open_timeout, read_timeout)
    container = server.open(_AT_ONCE | (_SOON if url.lower().startswith("http") else {}))
    kind, video = container.format.name, container.streams.best("video")
    if kind == "mpjpeg" and video is not None and not video.width:  # parts called image/jpg, or nothing
        container.close()
        return StreamReader(server, server.open(_AT_ONCE | _FIRST, "mjpeg"), waits_for_next=True)
    # FFmpeg's formats of still pictures are called jpeg_pipe, png_pipe, ...
    if not kind.endswith("_pipe"):
        return StreamReader(server, container)
    container.close()
    return SnapshotReader(server, server.open(_FIRST))


class _Server:
    """What is asked, and for how long."""

    def __init__(self, url: str, name: str, open_timeout: float, read_timeout: float) -> None:
        self.url, self.name = url, name
        self.open_timeout, self.read_timeout = open_timeout, read_timeout
        self.av = ffmpeg()

    def open(self, options: dict[str, str], kind: str | None = None) -> Any:
        """An open container. options: of FFmpeg, besides ours. kind: its format, where it is known. Raises
        SourceError."""
        started = time.monotonic()
        with heard() as words:
            try:
                return self.av.open(
                    self.url,
                    format=kind,
                    options=_OPTIONS | options,
                    timeout=(self.open_timeout, self.read_timeout),
                    metadata_errors="replace",
                )
            except (self.av.error.FFmpegError, ValueError) as error:
                raise SourceError(f"can't open stream {self.name}: {self._reason(error, started, words)}") from error

    def _reason(self, error: Exception, started: float, words: Heard) -> str:
        if isinstance(error, self.av.error.HTTPUnauthorizedError | self.av.error.HTTPForbiddenError):
            return "the server refuses the user or the password; write them as scheme://USER:PASSWORD@HOST/PATH"
        if isinstance(error, self.av.error.ExitError) or time.monotonic() - started >= 0.9 * self.open_timeout:
            return f"no answer within {self.open_timeout:g} s"
        if isinstance(error, self.av.error.ConnectionRefusedError):
            return "the connection is refused; is the camera on, and is it that port?"
        if isinstance(error, self.av.error.HTTPNotFoundError):
            return "the server has nothing at that path (404 Not Found)"
        if any("resolve hostname" in line[2] for line in words.lines):
            return "no host of that name is known here; give its address"
        if isinstance(error, self.av.error.InvalidDataError):
            return "what comes is not a video stream"
        cause = getattr(error, "strerror", None)
        return f"not a video stream, or the connection broke{f' ({cause})' if cause else ''}"


class StreamReader:
    """The frames of a stream, without end: when it ends, that is a SourceError. A frame that lacks data is an
    ImageError; the next call goes on."""

    def __init__(self, server: _Server, container: Any, *, waits_for_next: bool = False) -> None:
        """Take an open stream.

        Args:
            server: Where the stream comes from.
            container: The open stream.
            waits_for_next: A picture is let out once the next one begins: it had come when the one before was.

        Raises:
            SourceError: If there is no video in it.
        """
        self._server, self._container, self._waits_for_next = server, container, waits_for_next
        self._ready: deque[Decoded | ImageError] = deque()
        self._came_at = self._whole_at = time.monotonic()  # the newest packet; the newest packet of a whole frame
        self._arrivals, self._arrived_at = Arrivals(), self._came_at
        self._captured_at = self._came_at  # the newest packet's picture
        self._begin()

    def _begin(self) -> None:
        stream = self._container.streams.best("video")
        if stream is None:
            self._container.close()
            raise SourceError(f"can't open stream {self._server.name}: there is no video in it")
        try:
            self._decoder = Decoder(stream, f"stream {self._server.name}")
        except SourceError:
            self._container.close()
            raise
        self._packets = self._container.demux(stream)

    def __iter__(self) -> StreamReader:
        return self

    def __next__(self) -> tuple[Pixels, float]:
        """(pixels (H, W, 3) uint8 RGB, time.monotonic() when it had come). Raises ImageError for a damaged frame,
        SourceError when none comes."""
        patience = max(_HEALING, self._server.read_timeout)
        while not self._ready:
            before = self._arrived_at
            self._arrivals.asking()
            packet = self._packet()
            self._came_at, self._arrived_at = time.monotonic(), self._arrivals.came()
            self._captured_at = before if self._waits_for_next else self._arrived_at
            self._ready.extend(self._decoder.decode(packet))
            if not self._ready and self._came_at - self._whole_at > patience:
                self._ready.append(ImageError("no key frame has come yet"))
        result = self._ready.popleft()
        if isinstance(result, Decoded):
            self._whole_at = self._came_at
            return result.pixels(), self._captured_at
        if self._came_at - self._whole_at > patience:
            raise SourceError(f"stream {self._server.name} gave no whole frame for {patience:g} s: {result}")
        raise result

    def _packet(self) -> Packet[VideoStream]:
        """The next one. Raises SourceError at the end of the stream."""
        packet: Packet[VideoStream] | None = None
        with heard() as words, suppress(self._server.av.error.FFmpegError):
            packet = next(self._packets, None)
        if words.lost:
            self._decoder.lose(words.lost[0], _SUSPECTS)
        if packet is None or not packet.size:
            raise SourceError(f"stream {self._server.name} ended or gave no frame in time")
        return packet

    def close(self) -> None:
        """Hangs up."""
        self._container.close()


class SnapshotReader(StreamReader):
    """The pictures of an address that answers each request with one: it is asked again and again."""

    def __init__(self, server: _Server, container: Any) -> None:
        """Take an open stream.

        Args:
            server: Where the stream comes from.
            container: The open stream, with the first picture.
        """
        super().__init__(server, container)
        self._asked_at = time.monotonic()

    def _packet(self) -> Packet[VideoStream]:
        """The next one. Raises ImageError if the answer is no whole picture, SourceError if there is no answer."""
        with suppress(SourceError):
            return super()._packet()
        self._container.close()
        time.sleep(max(0.0, self._asked_at + 1 / _SNAPSHOTS_A_SECOND - time.monotonic()))
        self._asked_at = self._came_at = time.monotonic()
        try:
            self._container = self._server.open({})
        except SourceError as error:
            if isinstance(error.__cause__, self._server.av.error.InvalidDataError):
                raise ImageError("the server's answer is not a whole picture") from error
            raise
        self._begin()
        return super()._packet()
