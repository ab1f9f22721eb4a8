"""What the bytes of a coded frame tell before they are decoded: places that no encoder writes.

A decoder takes zeros, which stand where data was lost, for codes like any others. H.264 and HEVC keep three bytes of
zeros out of everything they write; coders that leave no redundancy write no long runs of any byte. A codec that writes
anything, and has no checksum, can't tell damage: its decoder makes a picture of whatever stands there.
"""

from __future__ import annotations

import re

import numpy as np

from firewall.sources.h264 import FrameNumbers

__all__ = ["Payload", "tells_damage"]

_FORBIDDEN = re.compile(rb"\0\0[\0-\2]")  # in a NAL unit; written as 00 00 03 ...
_GAP = re.compile(rb"\0{3,}(?!\0)")  # between NAL units: before a start code, or padding
_LONGEST_GAP = 16
_RUN = 64  # equal bytes. Measured on drawn, flat and black pictures up to 1280x720: VP8 has 15 at most, VP9 and AV1 13
_BLOCK = _RUN // 2
_ARITHMETIC = frozenset({"vp8", "vp9", "av1", "libdav1d", "libaom-av1"})
# Their ones may stand for blocks that stay, or fill up a frame: 500,000 bytes, measured. Theora's zeros may, too.
_VARIABLE_LENGTH = frozenset({"mpeg4", "h263", "flv", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "theora"})
_VP9_MARK = 2  # the first two bits of every frame
_FILLING = {"theora": b"\0\xff"}
# What is decoded at all: measured, none gave a visibly wrong picture without an error when packets were zeroed or
# overwritten in part. Raw video has nothing that could be coded wrongly, and no way to tell. FFV1: with its checksums.
_TELLING = (
    _ARITHMETIC
    | _VARIABLE_LENGTH
    | {"h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "h261", "prores", "dnxhd", "cfhd"}
    | {"png", "apng", "webp", "ffv1", "rawvideo", "wrapped_avframe"}
)


def tells_damage(codec: str) -> bool:
    """Whether damaged pictures of a codec are noticed. FFV1: if it has checksums.

    Args:
        codec: FFmpeg's name of the decoder.
    """
    return codec in _TELLING


class Payload:
    """Checks the packets of one stream, in their order."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        """Take a stream.

        Args:
            codec: FFmpeg's name of the decoder.
            extradata: What the container says about the stream once.
        """
        self._compact = codec in _ARITHMETIC | _VARIABLE_LENGTH
        self._filling = _FILLING.get(codec, b"\xff") if codec in _VARIABLE_LENGTH else b""
        self._marks_key = codec == "vp9"
        self._nal = codec in ("h264", "hevc")
        self._numbers = FrameNumbers() if codec == "h264" else None
        self._length = 0  # bytes of a length before each NAL unit; 0: start codes
        extradata = extradata or b""
        if self._nal and extradata[:1] == b"\1":
            place = 4 if codec == "h264" else 21
            self._length = (extradata[place] & 3) + 1 if len(extradata) > place else 4
        if self._numbers:
            self._numbers.gap(_parameters(extradata) if self._length else _split(extradata))

    def is_key(self, data: bytes) -> bool:
        """Whether a packet of VP9 is a key frame. That is said of none that came over RTP; of other codecs it is."""
        if not self._marks_key or not data or data[0] >> 6 != _VP9_MARK:
            return False
        kind = data[0] << (1 if data[0] & 0x30 == 0x30 else 0)  # the fourth profile has a bit more before it
        return kind & 0x0C == 0  # neither a frame that was there already nor one that is predicted

    def damage(self, data: bytes) -> str:
        """Why a packet can't be as it was written, or what was lost before it, or nothing."""
        if self._compact:
            return f"{_RUN} bytes of a frame are the same" if _runs(data, self._filling) else ""
        if not self._nal:
            return ""
        if self._length:
            units = self._measured(data)
            wrong = units is None or any(unit[0] & 0x80 or _FORBIDDEN.search(unit) for unit in units)
        else:
            units = _split(data)
            wrong = _blank_between(data)
        lost = self._numbers is not None and self._numbers.gap(units or ())
        if wrong:
            return "a part of it holds bytes that no encoder writes"
        return "frames before it were lost" if lost else ""

    def _measured(self, data: bytes) -> list[bytes] | None:
        """The NAL units of a packet that states their lengths, or None if these can't be."""
        units, position = [], 0
        while position < len(data):
            start = position + self._length
            position = start + int.from_bytes(data[position:start], "big")
            if position > len(data) or position == start:
                return None
            units.append(data[start:position])
        return units


def _runs(data: bytes, filling: bytes) -> bool:
    """Whether _RUN bytes are the same, and not one of `filling`. Such a run fills a block of half its length."""
    blocks = np.frombuffer(data, np.uint8, len(data) // _BLOCK * _BLOCK).reshape(-1, _BLOCK)
    filled = blocks[(blocks == blocks[:, :1]).all(axis=1), 0].tobytes()
    return any(bytes([byte]) * _RUN in data for byte in set(filled) - set(filling))


def _split(data: bytes) -> list[bytes]:
    """The NAL units between start codes."""
    return [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]


def _parameters(extradata: bytes) -> list[bytes]:
    """The sets of sequence parameters in H.264's avcC."""
    units, position = [], 6
    for _ in range(extradata[5] & 31 if len(extradata) > 5 else 0):
        length = int.from_bytes(extradata[position : position + 2], "big")
        units.append(extradata[position + 2 : position + 2 + length])
        position += 2 + length
    return units


def _blank_between(data: bytes) -> bool:
    for gap in _GAP.finditer(data):
        follows = data[gap.end() : gap.end() + 1]
        if gap.end() - gap.start() > _LONGEST_GAP or follows not in (b"\1", b""):
            return True
    return False
