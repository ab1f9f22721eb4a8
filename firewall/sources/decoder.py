"""From the packets of a video to its frames. A frame whose decoder lacked data is an error, not a picture.

FFmpeg's decoders conceal missing data: they fill it in from the frame before and go on. Everything that they say about
it is collected here: exceptions, flags of frames and packets, messages. From the first such sign until a clean key
frame every frame counts as damaged, since each is predicted from those before it. MJPEG is decoded by `strict_jpeg`.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from firewall.errors import ImageError, SourceError
from firewall.frame import MAX_SIDE, Pixels
from firewall.sources.image import decode_image
from firewall.sources.payload import Payload, tells_damage
from firewall.sources.strict_jpeg import decode_jpeg

if TYPE_CHECKING:
    import av

__all__ = ["Decoded", "Decoder", "Heard", "ffmpeg", "heard"]

# Milder words than an error that mean lost data all the same: concealment is no more than an information to FFmpeg,
# and what a network lost is a warning.
_LOST = re.compile(
    r"conceal|corrupt|damaged|missing|missed|invalid|incomplete|truncat|too late|max delay|error while|partial file"
    r"|prematurely",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\S+://\S+")  # it may hold a password
# Said to programmers only.
_QUIETLY_LOST = ("Frame num gap", "Continuity check failed")
# About what is beside the picture, or about times only. What an MMCO wants dropped and isn't there would be missed by
# other words if a frame needed it; in a video cut at an open group of pictures it isn't there from the start.
_HARMLESS = re.compile(
    r"\bSEI\b|mmco: unref short|timestamp|\bpts\b|\bdts\b|subtitle|ICC|metadata|deprecated", re.IGNORECASE
)
# What a frame lacks only if it is decoded from others.
_MISSED = re.compile(r"could not find ref|missing reference|co located|frame num gap|were lost", re.IGNORECASE)
_EARLY = "it is decoded from frames before the first one"
_CORRUPT = "the decoder calls the frame corrupt"
_LONGEST_DELAY = 64  # packets between a frame's own and the one that lets it out
_PREDICTED = (2, 3, 4, 6)  # av.video.frame.PictureType: P, B, S, SP
_LIMITED_RANGE = b"CS=ITU601"  # FFmpeg's own mark of an MJPEG whose numbers don't use the full range


def ffmpeg() -> Any:
    """The av module with its messages kept for `heard`, and off the terminal: they repeat URLs with their passwords."""
    import av
    import av.logging

    if av.logging.get_level() is None:
        logger = logging.getLogger("libav")
        logger.propagate = False
        logger.addHandler(logging.NullHandler())
        av.logging.set_skip_repeated(False)
        av.logging.set_level(av.logging.DEBUG)
    return av


@dataclass
class Heard:
    """What FFmpeg said. lost: what means that data was lost, one line each, without addresses."""

    lines: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def lost(self) -> list[str]:
        """The messages that mean lost data."""
        return self._lost(None)

    def lost_by(self, speaker: str) -> list[str]:
        """Those of one part of FFmpeg: the name of a format or of a codec."""
        return self._lost(speaker)

    def _lost(self, speaker: str | None) -> list[str]:
        import av.logging

        found = []
        for level, name, message in self.lines:
            if speaker is not None and name != speaker:
                continue
            if level > av.logging.INFO:
                grave = message.startswith(_QUIETLY_LOST)
            else:
                grave = level <= av.logging.ERROR or _LOST.search(message) is not None
            if grave and not _HARMLESS.search(message):
                found.append(" ".join(_ADDRESS.sub("***", message).split()))
        return found

    def has(self, text: str) -> bool:
        """Whether a text was said."""
        return any(text in message for _, _, message in self.lines)


@contextmanager
def heard() -> Iterator[Heard]:
    """Collects what FFmpeg says inside the block, on any of its threads."""
    import av.logging

    words = Heard()
    with av.logging.Capture(local=False) as lines:
        words.lines = lines
        yield words


@dataclass(eq=False)
class _Ticket:
    """Goes into the decoder with a packet and comes out with its frame."""

    number: int


@dataclass
class _Pending:
    """A frame on its way. time: when it is shown, in ticks. why: it is damaged, or empty."""

    ticket: _Ticket
    time: int | None
    why: str


@dataclass
class _Key:
    """A key frame. before: why what came before it is damaged, or empty. heals: it ends that damage. shown: it was
    handed out, or never will be."""

    number: int
    time: int | None
    before: str
    heals: bool
    shown: bool = False


class Decoded:
    """A frame that came out whole. `pixels` converts it: only for frames that are looked at."""

    def __init__(self, decoder: Decoder, frame: av.VideoFrame | None, pixels: Pixels | None) -> None:
        """Either a frame of FFmpeg or pixels."""
        self._decoder, self._frame, self._pixels = decoder, frame, pixels

    def pixels(self) -> Pixels:
        """(H, W, 3) uint8 RGB, upright. Raises ImageError if the frame is larger than MAX_SIDE."""
        if self._frame is not None:
            return self._decoder.convert(self._frame)
        assert self._pixels is not None  # noqa: S101
        return self._pixels


class Decoder:
    """Decodes one video stream, packet by packet."""

    def __init__(self, stream: av.VideoStream, name: str) -> None:
        """Begin with the first packet.

        Args:
            stream: A video stream of an open container, before its first packet is decoded.
            name: Name of the source, for messages.

        Raises:
            SourceError: If its codec wasn't recognised, or can't tell damaged pictures.
        """
        av = ffmpeg()
        self._av = av
        self._context = context = stream.codec_context
        # FFmpeg has no decoder, or guessed a codec and found nothing of it.
        if context is None or not (context.width or tells_damage(context.name)):
            raise SourceError(f"no video that we can decode was recognised in {name}; remux or convert it first")
        context.thread_count = 1  # the cores belong to the classifier, and each further thread holds a frame back
        context.copy_opaque = True
        context.options = {"err_detect": "crccheck+bitstream+buffer", "max_pixels": str(MAX_SIDE * MAX_SIDE)}
        if not tells_damage(context.name) or (context.name == "ffv1" and not self._has_checksums()):
            codec = "FFV1 without checksums" if context.name == "ffv1" else context.name
            advice = "-c:v ffv1 -level 3 -slicecrc 1" if context.name == "ffv1" else "-c:v libx264 -crf 10"
            raise SourceError(
                f"{name} is coded as {codec}, which can't tell damaged pictures from whole ones; "
                f"convert it first: ffmpeg -i IN {advice} OUT.mkv"
            )
        self._jpeg, self._webp = context.name == "mjpeg", context.name == "webp"
        self._every_frame_is_key = bool(context.codec.intra_only)
        # FFmpeg holds back what H.264 shows before it has recovered, which needs no key frame.
        self._recovers = context.name == "h264"
        self._payload = Payload(context.name, context.extradata)
        self._converter = av.video.reformatter.VideoReformatter()
        self._turned: int | None = None
        self._number = 0
        self._pending: dict[int, _Pending] = {}  # by number of packet: not handed out yet
        self._damage = ""  # why what comes now is damaged; empty: it isn't
        self._key: _Key | None = None  # the newest one that came out whole
        self._harmed = (0, "")  # packets up to the newest damage, and its reason
        self._suspicion, self._suspects = "", 0  # why packets that come next are suspect, and how many
        self._untold = ""
        self.started = False  # whether a key frame was seen: what comes before it can't be decoded

    def lose(self, reason: str, suspects: int) -> None:
        """Data was lost before the next packet, or in one of so many that come next: those aren't trusted, not even as
        key frames."""
        self._suspicion, self._suspects = reason, suspects
        self._harm(reason)

    def decode(self, packet: av.Packet[av.VideoStream]) -> list[Decoded | ImageError]:
        """What comes out after a packet, which may be nothing or more than one. An empty packet ends the stream."""
        if self._webp:
            return self._decode_webp(packet) if packet.size else []
        if self._jpeg:
            return self._decode_jpeg(packet) if packet.size else []
        ending = packet.size == 0
        if ending and packet.dts is not None:
            return []  # a frame that AVI repeats; to a decoder nothing means the end
        number, frames, reason = self._number, [], ""
        self._number += 1
        # PyAV keeps what is given here by its identity: a number, which others may give too, would get lost.
        packet.opaque = ticket = _Ticket(number)
        data = bytes(packet)
        key = packet.is_keyframe or self._every_frame_is_key or self._payload.is_key(data)
        early = "" if self.started else _EARLY
        self.started = self.started or (key and not ending)
        with heard() as words:
            try:
                frames = self._decoded(None if ending else packet)
            except self._av.error.EOFError:
                pass
            except (self._av.error.FFmpegError, ValueError) as error:
                reason = f"the decoder gave up ({getattr(error, 'strerror', None) or type(error).__name__})"
        if packet.is_corrupt:
            reason = "a packet came incomplete"
        said = [*words.lost, *filter(None, [reason, self._payload.damage(data)])]
        if key:  # it is decoded from nothing but itself
            said = [reason for reason in said if not _MISSED.search(reason)]
        if self._suspects:
            self._suspects -= 1
            said.append(self._suspicion)
        reason = next(iter(said), "")
        leading = self._leading(packet.pts)
        if reason and not leading:
            self._harm(reason)
        elif key and not ending and not reason:
            self._renew(packet, number, early)
        if not ending:
            why = reason or self._damage or self._leading(packet.pts)
            lacks = "" if key or self._recovers else early
            self._pending[number] = _Pending(ticket, packet.pts, why or lacks)
        return self._judged(frames, ending)

    def _decoded(self, packet: av.Packet[av.VideoStream] | None) -> list[av.VideoFrame]:
        """What FFmpeg gives after a packet. VP9's decoder stays full after an error in a packet of two frames and takes
        no other: it is emptied."""
        try:
            return self._context.decode(packet)
        except self._av.error.BlockingIOError:
            self._harm("the decoder had to begin afresh")
            self._context.flush_buffers()
            return self._context.decode(packet)

    def convert(self, frame: av.VideoFrame) -> Pixels:
        """(H, W, 3) uint8 RGB of FFmpeg's frame, upright, in its own size, by the colour matrix and range it names
        (BT.601 and limited range if it names none)."""
        if frame.width > MAX_SIDE or frame.height > MAX_SIDE:
            raise ImageError(f"the frame is {frame.width}x{frame.height}, larger than {MAX_SIDE}x{MAX_SIDE}")
        turned = round(frame.rotation / 90) if frame.rotation else 0
        pixels: Pixels = self._converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, turned)) if turned else pixels

    def _has_checksums(self) -> bool:
        """Of FFV1: since level 3, if its encoder was told so. FFmpeg says it to programmers."""
        self._context.options = {**self._context.options, "debug": "pict"}
        with heard() as words:
            try:
                self._context.open(strict=False)
            except (self._av.error.FFmpegError, ValueError):
                return False
        return words.has(" ec:1 ")

    def _harm(self, reason: str) -> None:
        """What comes from now on is damaged, and what was not handed out yet may have been decoded from it."""
        if self.started:
            self._untold = self._damage = reason
            self._key = None
        self._harmed = (self._number, reason)
        for pending in self._pending.values():
            pending.why = pending.why or reason

    def _harm_before_key(self, key: _Key, reason: str) -> None:
        """A frame from before the key frame turns out damaged when that was decoded already."""
        key.before = key.before or reason
        for number, pending in self._pending.items():
            if number < key.number or self._leading(pending.time):
                pending.why = pending.why or reason

    def _renew(self, packet: av.Packet[av.VideoStream], number: int, early: str) -> None:
        """A key frame was decoded without a word: what is decoded after it doesn't depend on what came before."""
        before = self._damage or early
        # What an edit list cuts away is decoded and dropped: such a key frame never comes out.
        self._key = _Key(number, packet.pts, before, heals=bool(self._damage), shown=packet.is_discard)
        self._damage = ""

    def _leading(self, time: int | None) -> str:
        """Why a frame that is decoded after the newest key frame is damaged nonetheless: it is shown before that, so
        it may be decoded from what came earlier, and that was damaged. Nothing else is decoded from it."""
        key = self._key
        if key is None or key.time is None or time is None or time >= key.time:
            return ""
        return key.before

    def _recent(self) -> str:
        """Why a frame of which the packet isn't known may be damaged."""
        return self._damage or (self._harmed[1] if self._number - self._harmed[0] < _LONGEST_DELAY else "")

    def _judged(self, frames: list[av.VideoFrame], ending: bool) -> list[Decoded | ImageError]:
        results: list[Decoded | ImageError] = []
        for frame in frames:
            number = frame.opaque.number if isinstance(frame.opaque, _Ticket) else -1
            key = self._key
            if frame.is_corrupt and key and 0 <= number < key.number:
                self._harm_before_key(key, _CORRUPT)
            elif frame.is_corrupt:
                self._harm(_CORRUPT)
            elif key and key.heals and number == key.number and frame.pict_type in _PREDICTED:
                self._harm("a key frame is predicted from others")
            pending = self._pending.pop(number, None)
            why = pending.why if pending else self._recent()
            if key and number > key.number and not key.shown:  # before it: see _leading; raw streams tell no times
                why = why or key.before
            elif key and number == key.number:
                key.shown = True
            if frame.is_corrupt:
                why = why or _CORRUPT
            for older in [n for n in self._pending if n < number - _LONGEST_DELAY]:
                del self._pending[older]  # it gave no frame
            if not why and self._recovers:
                self.started = True
            if not self.started:
                continue
            results.append(ImageError(_sentence(why)) if why else Decoded(self, frame, None))
            if why:
                self._untold = ""
        if self._untold and self.started and (ending or not frames):
            results.append(ImageError(_sentence(self._untold)))
            self._untold = ""
        return results

    def _decode_webp(self, packet: av.Packet[av.VideoStream]) -> list[Decoded | ImageError]:
        """As an image file: each is one."""
        self.started, self._damage, self._untold = True, "", ""
        try:
            return [Decoded(self, None, decode_image(io.BytesIO(bytes(packet)), "the picture"))]
        except ImageError as error:
            return [ImageError(_sentence(str(error)))]

    def _decode_jpeg(self, packet: av.Packet[av.VideoStream]) -> list[Decoded | ImageError]:
        """Each stands by itself: what was lost before it does not matter."""
        self.started, self._damage, self._untold = True, "", ""
        data = bytes(packet)
        try:
            if packet.is_corrupt:
                raise ImageError("a packet came incomplete")
            pixels = decode_jpeg(data)
            if self._turned is None or _LIMITED_RANGE in data[:1024]:
                frame = self._context.decode(packet)[0]
                self._turned = round(frame.rotation / 90)
                if _LIMITED_RANGE in data[:1024]:
                    return [Decoded(self, frame, None)]
        except (ImageError, self._av.error.FFmpegError, IndexError) as error:
            return [ImageError(_sentence(str(error)))]
        return [Decoded(self, None, np.ascontiguousarray(np.rot90(pixels, self._turned)) if self._turned else pixels)]


def _sentence(reason: str) -> str:
    kind = "unsupported" if "allowed are" in reason and "damaged" not in reason else "damaged"
    return f"the frame is {kind}: {reason}"[:300]
