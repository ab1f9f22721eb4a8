"""JPEG pictures of cameras and streams, decoded whole or not at all.

Decoders are made to show something: what a cut frame lacks they leave grey, or as it was in the frame before. Here the
picture is refused when a marker, a scan or a part of one is missing, and at any warning of libjpeg.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from firewall.errors import ImageError
from firewall.frame import MAX_SIDE, Pixels, check_pixels

__all__ = ["decode_jpeg"]

_START = b"\xff\xd8"
# What ends entropy-coded bytes: neither a stuffed FF 00, nor a restart, nor a fill byte FF.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the markers SOF0 to SOF15
_END, _SCAN = 0xD9, 0xDA
_TABLES = 0xC4
# Zeros are what stands where data was lost, and they are valid codes. Unless a table calls a block of nothing 0, as one
# made for a flat picture may, no encoder writes as many: in the standard's tables they would be 40 coefficients of -1.
_BLANK = bytes(16)
_STANDARD_ENDS_BLOCK = {0: False, **dict.fromkeys(range(1, 16), True)}
_MOST_SCANS = 256  # a picture of a few kilobytes may ask for thousands of passes over its pixels
_COEFFICIENTS = 64
_UNSEEN = -1


def decode_jpeg(data: bytes, *, alone: bool = True) -> Pixels:
    """(H, W, 3) uint8 RGB of one JPEG file or MJPEG frame: baseline or progressive, grey or colour, 8 bits.

    Huffman tables may be left out, as MJPEG does: the standard's are used. Bytes after the end marker are padding.

    Args:
        data: The whole file or frame.
        alone: Whether a second picture behind the first is refused: two fields in one frame. In a file it may be a
            preview.

    Raises:
        ImageError: For anything that is not one whole picture: no start or end marker, a scan that is
            missing, cut, or of another length than its picture, a second picture behind it, any warning of the decoder,
            CMYK, more than 8 bits, or larger than MAX_SIDE (nothing is decoded then).
    """
    import simplejpeg

    scan, end = _checked(data, alone)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data[:end], colorspace="RGB", strict=True)
    except ValueError as error:
        raise ImageError(f"the JPEG is damaged: {_reason(error)}") from error
    except MemoryError as error:
        raise ImageError("the JPEG needs more memory than this machine has") from error
    if data.endswith(b"\0\0", 0, scan) and _spare(data[: scan - 1] + data[scan:end]):
        raise ImageError("the JPEG is damaged: its scan ends in bytes that its picture has no use for")
    return check_pixels(pixels)


def _spare(data: bytes) -> bool:
    """Whether a picture whose scan was made shorter still has all it needs: up to 8 bytes too many escape libjpeg."""
    import simplejpeg

    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", fastdct=True, min_factor=8, strict=True)
    except ValueError:
        return False
    return True


def _reason(error: ValueError) -> str:
    """What libjpeg says, without the prefix that says it is damaged."""
    return str(error).rpartition("Corrupt JPEG data: ")[2] or "it can't be decoded"


@dataclass
class _Picture:
    """progressive: whether scans refine one another. precision: for each component, by its identifier, how many low
    bits each coefficient still lacks (_UNSEEN: nothing came yet)."""

    progressive: bool
    lacking: dict[int, list[int]] = field(default_factory=dict)

    def scan(self, segment: bytes) -> None:
        """Notes what a scan brings. segment: the bytes of its header after the length."""
        count = segment[0] if segment else 0
        if not 1 <= count <= 4 or len(segment) != 4 + 2 * count:
            raise ImageError("the JPEG is damaged: a scan's header is of the wrong length")
        first, last, bits = segment[-3], segment[-2], segment[-1] & 15
        if not self.progressive:
            first, last, bits = 0, _COEFFICIENTS - 1, 0  # as decoders take it, whatever stands there
        if not first <= last < _COEFFICIENTS:
            raise ImageError("the JPEG is damaged: a scan is of coefficients that don't exist")
        for component in segment[1:-3:2]:
            if component not in self.lacking:
                raise ImageError("the JPEG is damaged: a scan is of a component that doesn't exist")
            self.lacking[component][first : last + 1] = [bits] * (last + 1 - first)

    @property
    def complete(self) -> bool:
        """Whether every coefficient came with all its bits."""
        return all(not any(bits) for bits in self.lacking.values())


def _checked(data: bytes, alone: bool) -> tuple[int, int]:
    """Walks over the markers. (where the bytes of the last scan end, where the picture ends), or raises ImageError."""
    if not data.startswith(_START):
        raise ImageError("it is no JPEG: the start marker is missing")
    picture: _Picture | None = None
    position, scans, scan_end = 2, 0, 0
    ends_block = dict(_STANDARD_ENDS_BLOCK)
    while True:
        marker, position = _next_marker(data, position)
        if marker == _END:
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # these stand alone
            continue
        if marker == 0xD8:
            raise ImageError("the JPEG is cut: another picture begins inside it")
        segment = _segment(data, position)
        position += 2 + len(segment)
        if marker in _FRAMES:
            if picture is not None:
                raise ImageError("the JPEG is damaged: it has two frame headers")
            picture = _picture(marker, segment)
        elif marker == _TABLES:
            ends_block.update(_zeros_end_block(segment))
        elif marker == _SCAN:
            if picture is None:
                raise ImageError("the JPEG is damaged: a scan stands before the frame header")
            picture.scan(segment)
            scans += 1
            if scans > _MOST_SCANS:
                raise ImageError(f"the JPEG has more than {_MOST_SCANS} scans")
            found = _MARKER.search(data, position)
            if found is None:
                raise ImageError("the JPEG is cut: its scan has no end")
            start, position = position, found.start()
            scan_end = len(data[:position].rstrip(b"\xff"))
            flat = picture.progressive or all(ends_block[table & 15] for table in segment[2:-3:2])
            if not flat and data.find(_BLANK, start, position) >= 0:
                raise ImageError(f"the JPEG is damaged: {len(_BLANK)} bytes of its scan are blank")
    if picture is None or not scans:
        raise ImageError("the JPEG holds no picture")
    if not picture.complete:
        raise ImageError("the JPEG is cut: a scan is missing")
    if alone and data.find(b"\xff\xd8\xff", position) >= 0:
        raise ImageError("there are two JPEG pictures in one frame")
    return scan_end, position


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """The code of the marker that stands at a position, and the position after it; fill bytes may stand before it."""
    start = position
    while data[position : position + 1] == b"\xff":
        position += 1
    if position >= len(data):
        raise ImageError("the JPEG is cut: the end marker is missing")
    if position == start or data[position] == 0:
        raise ImageError(f"the JPEG is damaged: no marker where one is due, at byte {start}")
    return data[position], position + 1


def _segment(data: bytes, position: int) -> bytes:
    """The bytes of the segment whose length stands at a position, without the length."""
    length = int.from_bytes(data[position : position + 2], "big")
    if position + max(length, 2) > len(data):
        raise ImageError("the JPEG is cut: a header goes beyond its end")
    if length < 2:
        raise ImageError("the JPEG is damaged: a header has no length")
    return data[position + 2 : position + length]


def _zeros_end_block(segment: bytes) -> dict[int, bool]:
    """For each table of AC coefficients in a DHT segment, by its number: whether its code of zeros ends a block."""
    found, position = {}, 0
    while position + 17 <= len(segment):
        kind, number = segment[position] >> 4, segment[position] & 15
        symbols = sum(segment[position + 1 : position + 17])
        if kind == 1:
            found[number] = segment[position + 17 : position + 18] == b"\0"
        position += 17 + symbols
    return found


def _picture(marker: int, segment: bytes) -> _Picture:
    if marker not in (_BASELINE, _EXTENDED, _PROGRESSIVE):
        raise ImageError("the JPEG is lossless or arithmetic-coded; allowed are baseline and progressive")
    if len(segment) < 6 or len(segment) != 6 + 3 * segment[5]:
        raise ImageError("the JPEG is damaged: its frame header is of the wrong length")
    bits, height, width, components = struct.unpack(">BHHB", segment[:6])
    if bits != 8:
        raise ImageError(f"the JPEG has {bits} bits a channel; allowed are 8")
    if not 1 <= width <= MAX_SIDE or not 1 <= height <= MAX_SIDE:
        raise ImageError(f"the JPEG is {width}x{height}; allowed are 1x1 to {MAX_SIDE}x{MAX_SIDE}, scale it down")
    if components not in (1, 3):
        raise ImageError(f"the JPEG has {components} components, as CMYK has; allowed are grey and colour")
    lacking = {component: [_UNSEEN] * _COEFFICIENTS for component in segment[6::3]}
    if len(lacking) != components:
        raise ImageError("the JPEG is damaged: two of its components have one name")
    return _Picture(marker == _PROGRESSIVE, lacking)
