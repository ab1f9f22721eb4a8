"""Whether a video file was read to its end, judged by what its container states and by times, never by a frame count.

A count is an estimate in many a format, and wrong wherever the frame rate varies. What is not stated can't be missed: a
raw stream, or a recording that was never closed, ends where it ends.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from firewall.sources.decoder import Heard

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

__all__ = ["Extent"]

_MICROSECONDS = 1e6  # a container's duration
_SLACK = 0.1  # seconds; durations are rounded, and the last frame's is a guess
_FRAME_LINE = 6  # bytes before each frame of Y4M, where its position is
_TS_PACKETS = {188: 0, 192: 4}  # length: where the sync byte stands
_SYNC = 0x47
# What AVI holds for a count where its writer couldn't go back, as in a pipe: FFmpeg 2^30 frames, others 2^31 - 1.
_UNKNOWN_FRAMES = 1 << 30
_UNKNOWN_BYTES = 0x7FFF0000
_OGG_END = 4  # flag of a page
_HEAD, _BLOCK = 1 << 14, 1 << 20  # bytes that are looked at for headers; that are read at once
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_BOX = re.compile(rb"[ -~\xa9]{4}")  # the kind of a box of MP4
_SHORTEST_BOX = 8  # bytes


class Extent:
    """How far a video should go and how far it went, in seconds."""

    def __init__(self, container: InputContainer, stream: VideoStream, path: Path, words: Heard) -> None:
        """Note what the container says.

        Args:
            container: The open container.
            stream: Its video stream.
            path: The file.
            words: What FFmpeg said when the file was opened.
        """
        self._video = stream
        self._own = "mov" in container.format.name.split(",")  # each track states its own end there
        self._ends: dict[int, float] = {}  # of what was read, for each stream
        self._last = self._longest = 0.0
        self.stated = 0.0 if words.has("Estimating duration") else self._states(container)
        self._size = path.stat().st_size
        self._raw = container.format.name == "yuv4mpegpipe"
        self._after = 0  # where the last packet ended, in bytes
        self.cut = _fragments_cut(path) if self._own else _cut(container.format.name, path)

    def _states(self, container: InputContainer) -> float:
        if self._own:
            return _seconds(self._video, (self._video.start_time or 0) + (self._video.duration or 0))
        if container.format.name == "avi":
            if not 0 < self._video.frames < _UNKNOWN_FRAMES:
                return 0.0
            # without its index FFmpeg forgets the length, but not how many frames are due
            return _seconds(self._video, max(self._video.duration or 0, self._video.frames))
        if {"matroska", "flv", "asf", "mxf"} & set(container.format.name.split(",")):
            return (container.duration or 0) / _MICROSECONDS
        return 0.0  # elsewhere FFmpeg reckons it from the end of the file itself or from its size

    @property
    def reached(self) -> float:
        """Where the video ended."""
        return self._ends.get(self._video.index, 0.0)

    def saw(self, packet: Packet[Stream]) -> None:
        """Notes the times of a packet of any stream."""
        if packet.pts is None:
            return
        self._after = max(self._after, (packet.pos or 0) + packet.size + _FRAME_LINE)
        stream = packet.stream
        at = _seconds(stream, packet.pts)
        if stream.index == self._video.index:
            self._longest = max(self._longest, at - self._last)
            self._last = max(self._last, at)
        self._ends[stream.index] = max(self._ends.get(stream.index, 0.0), at + _seconds(stream, packet.duration or 0))

    def missing(self) -> bool:
        """Whether the file ends before what it states: its video where each track has its own end, any stream else."""
        if self._raw and self._after:
            return self._size > self._after
        end = self.reached if self._own else max(self._ends.values(), default=0.0)
        return self.stated - end > max(_SLACK, 2 * self._longest)


def _seconds(stream: object, ticks: int) -> float:
    base = getattr(stream, "time_base", None)
    return float(ticks * base) if base else 0.0


def _cut(format_name: str, path: Path) -> bool:
    """Whether the bytes themselves tell that the file was cut."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        size = file.seek(0, 2)
        file.seek(max(0, size - (1 << 17)))
        tail = file.read()
    if format_name == "avi" and head[:4] == b"RIFF":
        stated = int.from_bytes(head[4:8], "little")
        return 0 < stated < _UNKNOWN_BYTES and stated + 8 > size
    if format_name == "asf":  # FFmpeg takes the stated length only where the size is about as stated, too
        return _asf_size(head) > size
    if format_name == "mpegts":
        for length, sync in _TS_PACKETS.items():
            if len(head) > sync + length and head[sync] == head[sync + length] == _SYNC:
                return size % length != 0
    if format_name == "ogg":
        page = tail.rfind(b"OggS")
        return page >= 0 and not (tail[page + 5] & _OGG_END if page + 5 < len(tail) else 0)
    return False


def _fragments_cut(path: Path) -> bool:
    """Whether the boxes of a file in fragments, which states no length, don't reach its end. Zeros behind them are
    padding."""
    size, position, fragments = path.stat().st_size, 0, False
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            head = file.read(16)
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            fragments |= kind == b"moof"
            if length == 1:  # it stands behind the kind
                length = int.from_bytes(head[8:], "big")
            elif length == 0:  # up to the end; or padding
                return fragments and not _BOX.fullmatch(kind) and _more_than_zeros(file, position)
            if length < _SHORTEST_BOX or not _BOX.fullmatch(kind):
                return fragments
            position += length
    return fragments and position > size


def _more_than_zeros(file: BinaryIO, position: int) -> bool:
    file.seek(position)
    return any(block.strip(b"\0") for block in iter(lambda: file.read(_BLOCK), b""))


def _asf_size(head: bytes) -> int:
    """The size of an ASF or WMV file as its header has it; 0 where it wasn't known."""
    found = head.find(_ASF_PROPERTIES)
    if found < 0 or len(head) < found + 92 or head[found + 88] & 1:
        return 0
    return int.from_bytes(head[found + 40 : found + 48], "little")
