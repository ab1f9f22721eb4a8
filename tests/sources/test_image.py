from __future__ import annotations

import io
import os
import struct
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from firewall.errors import ImageError
from firewall.frame import Pixels
from firewall.sources import read_image
from firewall.sources.image import ImageReader

Writer = Callable[[Path], object]


def noise(height: int = 40, width: int = 60) -> Pixels:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def saved(picture: Image.Image, **options: object) -> Writer:
    return lambda path: picture.save(path, **options)  # type: ignore[arg-type]


def written(data: bytes) -> Writer:
    return lambda path: path.write_bytes(data)


def pages(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (20, 10), (80 * number, 0, 0)) for number in range(count)]


RGB = Image.fromarray(noise())
PALETTE = RGB.quantize(16)
BAD: dict[str, tuple[str, Writer, str]] = {
    "text": ("x.png", written(b"this is not a picture\n"), "not an image"),
    "empty": ("x.png", written(b""), "0 bytes"),
    "16-bit RGB PNG": ("x.png", written(png(2, 1, 16, 2, b"\0" + bytes(12))), "8 bits"),
    "16-bit grey PNG": ("x.png", saved(Image.fromarray(np.zeros((4, 4), np.uint16))), "8 bits"),
    "16-bit grey TIFF": ("x.tif", saved(Image.fromarray(np.zeros((4, 4), np.uint16))), "8 bits"),
    "16-bit RGB PPM": ("x.ppm", written(b"P6 # by hand\n2 1\n65535\n" + bytes(12)), "8 bits"),
    "float TIFF": ("x.tif", saved(Image.fromarray(np.zeros((4, 4), np.float32))), "8 bits"),
    "CMYK JPEG": ("x.jpg", saved(RGB.convert("CMYK")), "CMYK"),
    "CMYK TIFF": ("x.tif", saved(RGB.convert("CMYK")), "CMYK"),
    "alpha PNG": ("x.png", saved(RGB.convert("RGBA")), "transparent"),
    "alpha WebP": ("x.webp", saved(Image.new("RGBA", (9, 9), (1, 2, 3, 4)), lossless=True), "transparent"),
    "grey with alpha": ("x.png", saved(RGB.convert("LA")), "transparent"),
    "transparent palette colour PNG": ("x.png", saved(PALETTE, transparency=3), "transparent"),
    "transparent palette colour GIF": ("x.gif", saved(PALETTE, transparency=3), "transparent"),
    "transparent colour PNG": ("x.png", saved(RGB, transparency=(1, 2, 3)), "transparent"),
    "animated GIF": ("x.gif", saved(pages(3)[0], save_all=True, append_images=pages(3)[1:]), "animated"),
    "animated PNG": ("x.png", saved(pages(3)[0], save_all=True, append_images=pages(3)[1:]), "animated"),
    "animated WebP": ("x.webp", saved(pages(3)[0], save_all=True, append_images=pages(3)[1:]), "animated"),
    "TIFF of two pages": ("x.tif", saved(pages(2)[0], save_all=True, append_images=pages(2)[1:]), "several pages"),
    "PNG without pixels": ("x.png", written(png(30, 30, 8, 2, b"")[:41]), "truncated or damaged"),
    "8193 wide": ("x.png", written(png(8193, 1, 8, 2, b"\0")), "8193x1, larger than 8192x8192"),
    "a format we don't read": ("x.png", lambda path: RGB.save(path, format="TGA"), "not an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_refused_pictures(name: str, tmp_path: Path) -> None:
    """Each is an ImageError of one line that names the file and what is wrong with it."""
    file, write, message = BAD[name]
    path = tmp_path / file
    write(path)

    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("side", [9500, 12000, 20000, 100_000])
def test_huge_pictures_are_refused_by_their_header(side: int, tmp_path: Path) -> None:
    """Nothing is decoded: the file holds no pixels at all, and 1.2 GB are not asked for. No warning either."""
    path = tmp_path / "huge.png"
    path.write_bytes(png(side, side, 8, 2, b""))

    started = time.perf_counter()
    with pytest.raises(ImageError, match=r"huge.png is .*larger than 8192x8192"):
        read_image(path)
    assert time.perf_counter() - started < 5


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """Missing, a folder, a pipe that would never end, a name that can't be one."""
    os.mkfifo(tmp_path / "pipe.png")
    refused: list[tuple[Path | str, str]] = [
        (tmp_path / "missing.png", "No such file"),
        (tmp_path, "not a file"),
        (tmp_path / "pipe.png", "not a file"),
        ("a\0b.png", "not a file name"),
    ]
    for path, message in refused:
        with pytest.raises(ImageError, match=message):
            read_image(path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif", "webp", "ppm"])
def test_truncated_pictures_are_refused(suffix: str, tmp_path: Path) -> None:
    """Cut anywhere, a file is refused; only a cut through what comes after the pixels may pass, with every pixel."""
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    RGB.save(whole)
    data = whole.read_bytes()
    expected = read_image(whole)
    refused = 0
    for size in range(1, len(data), max(1, len(data) // 60)):
        cut.write_bytes(data[:size])
        try:
            pixels = read_image(cut)
        except ImageError:
            refused += 1
        else:
            assert size > 0.9 * len(data)
            np.testing.assert_array_equal(pixels, expected)
    assert refused > 50


@pytest.mark.parametrize(
    ("file", "picture", "expected"),
    [
        ("x.png", RGB, noise()),
        ("x.bmp", RGB, noise()),
        ("x.tif", RGB, noise()),
        ("x.ppm", RGB, noise()),
        ("x.png", RGB.convert("L"), np.asarray(RGB.convert("L").convert("RGB"))),
        ("x.png", RGB.convert("1"), np.asarray(RGB.convert("1").convert("RGB"))),
        ("x.pbm", RGB.convert("1"), np.asarray(RGB.convert("1").convert("RGB"))),
        ("x.png", PALETTE, np.asarray(PALETTE.convert("RGB"))),
        ("x.gif", PALETTE, np.asarray(PALETTE.convert("RGB"))),
        ("x.png", RGB.crop((0, 0, 1, 1)), noise()[:1, :1]),
    ],
)
def test_pictures_come_as_they_are(file: str, picture: Image.Image, expected: Pixels, tmp_path: Path) -> None:
    """RGB, grey, one bit and palette, down to a single pixel: uint8 RGB, pixel for pixel."""
    picture.save(tmp_path / file)

    pixels = read_image(str(tmp_path / file))

    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    """A phone held upright writes the picture lying and says so: it comes upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture = Image.new("RGB", (60, 40))
    picture.paste((255, 255, 255), (0, 0, 60, 20))
    picture.save(tmp_path / "phone.jpg", exif=exif)

    pixels = read_image(tmp_path / "phone.jpg")

    assert pixels.shape == (60, 40, 3)
    assert pixels[:, 30:].min() > 200 and pixels[:, :10].max() < 50


@hypothesis_settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(["png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"]),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_bytes_give_pixels_or_an_image_error(
    suffix: str, changes: list[tuple[float, int]], tmp_path: Path
) -> None:
    """Whatever a few flipped bytes make of a file, no other exception comes out of the decoders."""
    file = io.BytesIO()
    RGB.save(file, format=suffix)
    data = bytearray(file.getvalue())
    for place, value in changes:
        data[int(place * place * len(data))] = value  # most near the front, where the headers are
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(data)
    with suppress(ImageError):
        assert read_image(path).ndim == 3


def test_the_reader_goes_on_after_a_bad_picture(tmp_path: Path) -> None:
    """One unreadable file among many is an ImageError for that file alone; `start` leaves files out at the front."""
    for number in (0, 2):
        Image.new("RGB", (3, 3), (number, 0, 0)).save(tmp_path / f"{number}.png")
    (tmp_path / "1.png").write_text("nothing")
    files = [str(tmp_path / f"{number}.png") for number in range(3)]

    reader = ImageReader(files)
    assert next(reader)[0][0, 0, 0] == 0
    with pytest.raises(ImageError, match=r"1\.png"):
        next(reader)
    assert next(reader)[0][0, 0, 0] == 2
    assert list(reader) == []
    assert len(list(ImageReader(files, start=2))) == 1
