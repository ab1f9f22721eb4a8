"""Whether a PNG or WebP file is whole. Decoders are made to show something, and show what is there of a damaged file.

PNG has checksums and a length of its own. WebP has neither: a file of another length than it states, and long runs of
one byte in its coded pixels, are all that can be seen. BMP, PPM and uncompressed TIFF can't tell damaged pixels at all.
"""

from __future__ import annotations

import re
import struct
import zlib

from firewall.errors import ImageError

__all__ = ["check_png", "check_webp"]

_PNG = b"\x89PNG\r\n\x1a\n"
_BLOCK = 1 << 20
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: First column and row, steps between columns and rows of Adam7's seven passes.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
#: No coder of WebP writes longer runs of one byte (measured on photographs, drawings and noise) ...
_LONGEST_RUN = 64
#: ... but a lossy one for a picture of one colour: a byte for as many pixels at the most.
_FLAT_PIXELS_A_BYTE = 2000
_RUNS = re.compile(rb"(.)\1{63,}", re.DOTALL)


def check_png(data: bytes) -> None:
    """Raise ImageError for a PNG whose critical chunks are cut, fail their checksum, or hold too few rows.

    Args:
        data: The whole file.
    """
    if not data.startswith(_PNG):
        raise ImageError("the PNG's signature is damaged")
    position, header, packed = len(_PNG), b"", []
    while True:
        kind, end = data[position + 4 : position + 8], position + 12
        if len(kind) < 4:
            raise ImageError("the PNG is cut: its end chunk is missing")
        end += int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            raise ImageError("the PNG is cut: a chunk goes beyond its end")
        if not kind[0] & 0x20 and zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(
            data[end - 4 : end], "big"
        ):
            raise ImageError("the PNG is damaged: a checksum is wrong")
        body = data[position + 8 : end - 4]
        position = end
        if kind == b"IEND":
            break
        if kind == b"IHDR":
            header = body
        elif kind == b"IDAT":
            packed.append(body)
    if len(header) != 13:
        raise ImageError("the PNG is damaged: its header is missing")
    _check_rows(b"".join(packed), _expected(header))


def _expected(header: bytes) -> int:
    """Bytes of all rows with the filter byte of each."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _CHANNELS.get(colour, 1)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * bits // 8))
    return total


def _check_rows(packed: bytes, expected: int) -> None:
    unpacker, found = zlib.decompressobj(), 0
    try:
        while not unpacker.eof and found <= expected:
            part = unpacker.decompress(packed, _BLOCK)
            packed = unpacker.unconsumed_tail
            found += len(part)
            if not part and not packed:
                break
    except zlib.error as error:
        raise ImageError("the PNG is damaged: its pixels can't be unpacked") from error
    if found < expected:
        raise ImageError("the PNG is cut: rows are missing")


def check_webp(data: bytes, *, flat_pixels: int) -> None:
    """Raise ImageError for a WebP of another length than it states, or with pixels that no coder writes.

    Args:
        data: The whole file.
        flat_pixels: How many pixels of the decoded picture have the very colour of their neighbour.
    """
    stated = int.from_bytes(data[4:8], "little") + 8
    if not stated <= len(data) <= stated + 1:
        raise ImageError(f"the WebP is cut or damaged: it states {stated} bytes and has {len(data)}")
    longest = {b"VP8L": _LONGEST_RUN, b"ALPH": _LONGEST_RUN, b"VP8 ": _LONGEST_RUN + flat_pixels // _FLAT_PIXELS_A_BYTE}
    position = 12
    while position + 8 <= stated:
        kind, length = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        if position + 8 + length > stated:
            raise ImageError("the WebP is cut: a chunk goes beyond its end")
        coded = data[position + 8 : position + 8 + length]
        if kind in longest and any(len(run[0]) > longest[kind] for run in _RUNS.finditer(coded)):
            raise ImageError("the WebP is damaged: its pixels hold bytes that no coder writes")
        position += 8 + length + (length & 1)
