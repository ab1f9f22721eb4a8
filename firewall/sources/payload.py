"""What the bytes of a coded frame tell before they are decoded: places that no encoder writes.

A decoder takes zeros, which stand where data was lost, for codes like any others. H.264 and HEVC keep three bytes of
zeros out of everything they write; an arithmetic coder writes long runs of them for nothing that moves.
"""

from __future__ import annotations

import re

from firewall.sources.h264 import FrameNumbers

__all__ = ["Payload"]

_FORBIDDEN = re.compile(rb"\0\0[\0-\2]")  # in a NAL unit; written as 00 00 03 ...
_GAP = re.compile(rb"\0{3,}(?!\0)")  # between NAL units: before a start code, or padding
_LONGEST_GAP = 16
_BLANK = bytes(128)
_ARITHMETIC = frozenset({"vp8", "vp9", "av1", "libdav1d"})


class Payload:
    """Checks the packets of one stream, in their order."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        """Take a stream.

        Args:
            codec: FFmpeg's name of the decoder.
            extradata: What the container says about the stream once.
        """
        self._arithmetic = codec in _ARITHMETIC
        self._nal = codec in ("h264", "hevc")
        self._numbers = FrameNumbers() if codec == "h264" else None
        self._length = 0  # bytes of a length before each NAL unit; 0: start codes
        extradata = extradata or b""
        if self._nal and extradata[:1] == b"\1":
            place = 4 if codec == "h264" else 21
            self._length = (extradata[place] & 3) + 1 if len(extradata) > place else 4
        if self._numbers:
            self._numbers.gap(_parameters(extradata) if self._length else _split(extradata))

    def damage(self, data: bytes) -> str:
        """Why a packet can't be as it was written, or what was lost before it, or nothing."""
        if self._arithmetic:
            return f"{len(_BLANK)} bytes of a frame are blank" if _BLANK in data else ""
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
