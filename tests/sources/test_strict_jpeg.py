from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firewall.errors import ImageError
from firewall.frame import Pixels
from firewall.sources.strict_jpeg import decode_jpeg


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Structure of every size, in odd numbers of pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (25, 33, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((263, 199), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def shown(data: bytes) -> Pixels:
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))


def scan(data: bytes) -> int:
    """Where the bytes of the first scan begin."""
    start = data.index(b"\xff\xda")
    return start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")


KINDS: list[dict[str, Any]] = [
    {"subsampling": 0},
    {"subsampling": 1},
    {"subsampling": 2},
    {"progressive": True},
    {"optimize": True},
    {"restart_marker_blocks": 5},
    {"quality": 100},
]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", KINDS, ids=str)
def test_whole_pictures_are_as_pillow_shows_them(mode: str, options: dict[str, Any], picture: Image.Image) -> None:
    """Every pixel, whatever the kind of JPEG, and with padding behind the end marker."""
    data = jpeg(picture.convert(mode), **options)

    for padding in (b"", bytes(4096), b"\xff" * 7, b"\r\n"):
        np.testing.assert_array_equal(decode_jpeg(data + padding), shown(data))


def test_huffman_tables_may_be_missing(picture: Image.Image) -> None:
    """Motion JPEG leaves out the standard's tables."""
    data = jpeg(picture)
    bare, position = bytearray(data[:2]), 2
    while data[position + 1] != 0xDA:
        after = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] != 0xC4:
            bare += data[position:after]
        position = after
    bare += data[position:]

    assert len(bare) < len(data)
    np.testing.assert_array_equal(decode_jpeg(bytes(bare)), shown(data))


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("ending", ["nothing", "end marker", "zeros", "zeros, end marker", "the next picture"])
def test_a_cut_picture_is_an_error(ending: str, options: dict[str, Any], picture: Image.Image) -> None:
    """Wherever it is cut, and whatever stands where the rest should be."""
    data = jpeg(picture, **options)
    places = [
        1,
        40,
        scan(data),
        *(scan(data) + (len(data) - scan(data)) * k // 10 for k in range(1, 10)),
        len(data) - 12,
    ]

    for place in places:
        rest = {
            "nothing": b"",
            "end marker": b"\xff\xd9",
            "zeros": bytes(len(data) - place),
            "zeros, end marker": bytes(len(data) - place - 2) + b"\xff\xd9",
            "the next picture": data,
        }[ending]
        with pytest.raises(ImageError, match="JPEG"):
            decode_jpeg(data[:place] + rest)


@pytest.mark.parametrize("size", [64, 512])
def test_zeros_in_the_middle_are_an_error(size: int, picture: Image.Image) -> None:
    """Zeros are valid codes, and the decoder finds its way again behind them: they are seen all the same."""
    data = jpeg(picture, quality=90)
    for place in range(scan(data), len(data) - size - 2, 997):
        with pytest.raises(ImageError, match="the JPEG is damaged"):
            decode_jpeg(data[:place] + bytes(size) + data[place + size :])


def test_a_flat_picture_may_be_nothing_but_zeros() -> None:
    """With tables of its own a flat picture is coded in zeros: no damage."""
    data = jpeg(Image.new("L", (640, 480), 128), optimize=True)
    assert bytes(64) in data
    np.testing.assert_array_equal(decode_jpeg(data), 128)


def test_progressive_without_its_last_scan(picture: Image.Image) -> None:
    """It would be shown, a little blurred, without a word."""
    data = jpeg(picture, progressive=True)
    with pytest.raises(ImageError, match="a scan is missing"):
        decode_jpeg(data[: data.rindex(b"\xff\xda")] + b"\xff\xd9")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda data: b"", "no JPEG"),
        (lambda data: b"<html>login</html>", "no JPEG"),
        (lambda data: data[:2] + data[-2:], "holds no picture"),
        (lambda data: data + data, "two JPEG pictures"),
        (lambda data: data.replace(b"\xff\xc0", b"\xff\xc9", 1), "arithmetic"),
        (lambda data: data[: scan(data) + 90] + data[scan(data) + 700 :], "damaged"),
        (lambda data: data[:-2] + b"\x12" * 40 + data[-2:], "damaged"),
    ],
)
def test_what_is_no_whole_picture(make: Any, message: str, picture: Image.Image) -> None:
    """One line that says why."""
    with pytest.raises(ImageError, match=message) as caught:
        decode_jpeg(make(jpeg(picture)))
    assert "\n" not in str(caught.value)


def test_what_is_not_allowed(picture: Image.Image) -> None:
    """CMYK, and a size that is refused before anything is decoded."""
    with pytest.raises(ImageError, match="CMYK"):
        decode_jpeg(jpeg(picture.convert("CMYK")))
    data = bytearray(jpeg(picture))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(ImageError, match="65535x65535"):
        decode_jpeg(bytes(data))
