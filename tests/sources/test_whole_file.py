"""Picture files that lack data are refused, whatever their decoder would show; whole ones of every kind are taken."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from firewall.errors import ImageError
from firewall.frame import Pixels
from firewall.sources.image import decode_image, read_image

KINDS = {
    "jpeg": {"format": "JPEG", "quality": 90},
    "progressive": {"format": "JPEG", "quality": 85, "progressive": True},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP", "quality": 85},
    "webp-lossless": {"format": "WEBP", "lossless": True},
}


@pytest.fixture
def frame(demo_frames: list[Pixels]) -> Pixels:
    """A drawn road with the noise of a sensor."""
    return demo_frames[5]


def stored(pixels: Pixels, kind: str) -> bytes:
    """The file of an image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **KINDS[kind])
    return file.getvalue()


def blanked(data: bytes) -> bytes:
    """The last 30 % zero but for the two bytes of an end marker."""
    start = len(data) * 7 // 10
    return data[:start] + bytes(len(data) - start - 2) + data[-2:]


def holed(data: bytes) -> bytes:
    """512 zeros in the middle."""
    return data[: len(data) // 2] + bytes(512) + data[len(data) // 2 + 512 :]


def ended(data: bytes) -> bytes:
    """Cut, with an end marker of a JPEG put behind."""
    return data[: len(data) * 8 // 10] + b"\xff\xd9"


@pytest.mark.parametrize("damage", [blanked, holed, ended])
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused(kind: str, damage: Callable[[bytes], bytes], frame: Pixels, tmp_path: Path) -> None:
    """A sector of zeros, a lost tail: one line that names the file; nothing is filled in."""
    (tmp_path / "sign").write_bytes(damage(stored(frame, kind)))
    with pytest.raises(ImageError, match="sign is truncated or damaged") as caught:
        read_image(tmp_path / "sign")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_file_is_what_pillow_shows(kind: str, frame: Pixels) -> None:
    """Also pictures of one colour, half black ones and pure noise."""
    rng = np.random.default_rng(0)
    half = frame.copy()
    half[: len(half) // 2] = 0
    flat = np.full((900, 1200, 3), (12, 200, 31), np.uint8)
    for pixels in (frame, half, flat, rng.integers(0, 256, (64, 80, 3), np.uint8)):
        data = stored(pixels, kind)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.array_equal(decode_image(io.BytesIO(data), "x"), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_interlaced_and_narrow_png(mode: str, frame: Pixels) -> None:
    """Rows of all depths, and of the seven passes of an interlaced file, are counted as PNG counts them."""
    for width, height in ((1, 1), (3, 5), (9, 2), (64, 48)):
        image = Image.fromarray(frame).resize((width, height)).convert(mode)
        file = io.BytesIO()
        image.save(file, "PNG")
        assert decode_image(file, "x").shape == (height, width, 3)
    # Pillow writes no interlaced file: 5 x 3 pixels, 8 bits, grey, in seven passes.
    rows = bytes(1 + 1) * 1 + bytes(1 + 1) * 1 + bytes(0) + bytes(1 + 2) * 1 + bytes(1 + 3) * 1 + bytes(1 + 2) * 2
    rows += bytes(1 + 5) * 1

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 3, 8, 0, 0, 0, 1))
    good = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert decode_image(io.BytesIO(good), "x").shape == (3, 5, 3)
    short = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows[:-7])) + chunk(b"IEND", b"")
    with pytest.raises(ImageError, match="truncated or damaged"):
        decode_image(io.BytesIO(short), "x")


def test_flipped_bits_of_a_png_are_seen(frame: Pixels) -> None:
    """Every one of them: PNG has checksums."""
    data, chance = stored(frame, "png"), random.Random(1)
    for _ in range(20):
        bad = bytearray(data)
        bad[chance.randrange(60, len(data) - 16)] ^= 1 << chance.randrange(8)
        with pytest.raises(ImageError):
            decode_image(io.BytesIO(bytes(bad)), "x")


def test_what_stands_behind_a_jpeg_is_let_be(frame: Pixels) -> None:
    """A preview, an MPO's second picture, a phone's trailer."""
    ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 1 << 22)
    data = stored(frame, "jpeg")
    whole = decode_image(io.BytesIO(data), "x")
    for tail in (data, b"trailer", bytes(1000)):
        assert np.array_equal(decode_image(io.BytesIO(data + tail), "x"), whole)
