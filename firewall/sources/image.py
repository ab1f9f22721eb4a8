"""Image files: what is refused at the door, and a reader of many files one after the other.

Refused are pictures whose pixels a classifier would not see as the file has them: more than 8 bits, CMYK, transparent,
animated. They would have to be converted, and each program converts in its own way.
"""

from __future__ import annotations

import io
import os
import stat
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from firewall.errors import ImageError
from firewall.frame import MAX_SIDE, Pixels, check_pixels
from firewall.sources import pipe
from firewall.sources.strict_jpeg import decode_jpeg
from firewall.sources.uri import printable
from firewall.sources.whole_file import check_png, check_webp

__all__ = ["ImageReader", "decode_image", "read_image", "read_input"]

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_MODES = ("RGB", "L", "1", "P")
_ALLOWED = "allowed are still images of 8 bits in RGB, grey or palette colours without transparency"
_BITS_PER_SAMPLE = 258
_ORIENTATION = 0x0112
#: What EXIF's orientation asks for, as Pillow's exif_transpose does it.
_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}
#: Rows that are copied at a time.
_STRIP = 256


def read_image(path: str | os.PathLike[str]) -> Pixels:
    """The picture in a file as (H, W, 3) uint8 RGB, EXIF orientation applied; PNG, JPEG, BMP, GIF, TIFF, WebP or PPM.

    Raises:
        ImageError: If it is not an image, truncated, of more than 8 bits, CMYK,
            transparent, animated or larger than MAX_SIDE (then nothing but the header is decoded).
    """
    name = printable(os.fspath(path))
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{name} is {pipe.kind_of(status.st_mode)}, not a file; name an image file")
        if status.st_size == 0:
            raise ImageError(f"{name} is empty (0 bytes); {_ALLOWED}")
        with Path(path).open("rb") as file:
            return decode_image(file, name)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file name"
        raise ImageError(f"can't read {name}: {reason}") from error


def read_input(path: str | os.PathLike[str]) -> Pixels:
    """As `read_image`, but also from `-` (standard input), a FIFO or the shell's <(...), each of which is read once."""
    text = os.fspath(path)
    name = "standard input" if text in (pipe.STDIN, "/dev/stdin") else printable(text)
    try:
        if not pipe.is_pipe(text):
            return read_image(path)
        data = pipe.read_pipe(text, name)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a file name"
        raise ImageError(f"can't read {name}: {reason}") from error
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); {_ALLOWED}")
    return decode_image(io.BytesIO(data), name)


def decode_image(file: BinaryIO, name: str) -> Pixels:
    """The picture in an open file, under the same rules as `read_image`.

    Args:
        file: The open file.
        name: Its name, for messages.
    """
    try:
        return _decoded(file, name)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name} needs more memory than this machine has") from error
    except Exception as error:  # decoders answer bytes made to harm them with any exception there is
        raise ImageError(f"{name} is truncated or damaged; {_ALLOWED}") from error


def _decoded(file: BinaryIO, name: str) -> Pixels:
    try:
        with warnings.catch_warnings():
            # Pillow's limit is above our own; of a torn EXIF block, only the orientation would count.
            warnings.simplefilter("ignore")
            image = Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is larger than {MAX_SIDE}x{MAX_SIDE} pixels; scale it down") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name} is not an image we can read; {_ALLOWED}, as {', '.join(_FORMATS)}") from error
    with image:
        width, height = image.size
        if width > MAX_SIDE or height > MAX_SIDE:
            raise ImageError(f"{name} is {width}x{height}, larger than {MAX_SIDE}x{MAX_SIDE} pixels; scale it down")
        if _bits(image, file) > 8 or image.mode.startswith(("I", "F")):
            raise ImageError(f"{name} has more than 8 bits a channel; {_ALLOWED}")
        # An MPO is a JPEG with a preview or depth map behind it: every decoder shows its first picture.
        if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
            raise ImageError(f"{name} is animated or has several pages; {_ALLOWED}")
        if image.format in ("JPEG", "MPO"):
            return _jpeg(image, file, name)
        image.load()
        _check_whole(image, file, name)
        if image.has_transparency_data:
            raise ImageError(f"{name} is transparent (has an alpha channel or a transparent colour); {_ALLOWED}")
        if image.mode not in _MODES:
            raise ImageError(f"{name} is {image.mode}; {_ALLOWED}")
        ImageOps.exif_transpose(image, in_place=True)
        return check_pixels(_pixels(image))


def _jpeg(image: Image.Image, file: BinaryIO, name: str) -> Pixels:
    """Decoded whole or not at all, as a camera's; Pillow fills in what a damaged file lacks."""
    if image.mode not in _MODES:
        raise ImageError(f"{name} is {image.mode}; {_ALLOWED}")
    file.seek(0)
    try:
        pixels = decode_jpeg(file.read(), alone=False)
    except ImageError as error:
        raise ImageError(f"{name} is truncated or damaged ({error}); {_ALLOWED}") from error
    return check_pixels(np.ascontiguousarray(_UPRIGHT[_orientation(image)](pixels)))


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1 where there is none that can be read."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow answers a torn EXIF block with any exception there is
        return 1
    return found if found in _UPRIGHT else 1


def _check_whole(image: Image.Image, file: BinaryIO, name: str) -> None:
    if image.format not in ("PNG", "WEBP"):
        return
    file.seek(0)
    data = file.read()
    try:
        if image.format == "PNG":
            check_png(data)
        else:
            check_webp(data, flat_pixels=_flat_pixels(image))
    except ImageError as error:
        raise ImageError(f"{name} is truncated or damaged ({error}); {_ALLOWED}") from error


def _flat_pixels(image: Image.Image) -> int:
    """About how many pixels have the brightness of their neighbour."""
    some = np.asarray(image.convert("L"))[::4].astype(np.int16)
    return int((np.diff(some, axis=1) == 0).sum()) * 4


def _pixels(image: Image.Image) -> Pixels:
    """(H, W, 3) RGB, strip by strip: of a photograph, each further copy would be 40 to 50 MB."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP):
        strip = image.crop((0, top, image.width, min(top + _STRIP, image.height)))
        pixels[top : top + _STRIP] = np.asarray(strip.convert("RGB"))
    return pixels


def _bits(image: Image.Image, file: BinaryIO) -> int:
    """Bits a channel in the file. Pillow gives a 16-bit RGB file as 8-bit RGB without a word."""
    position = file.tell()
    file.seek(0)
    head = file.read(1024)
    file.seek(position)
    if image.format == "PNG":
        return head[24]
    if image.format == "TIFF":
        depths = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (1,))
        return max(int(depth) for depth in depths)
    if image.format == "PPM" and head[1:2] in b"2356":  # magic, width, height, largest value
        words = b" ".join(line.partition(b"#")[0] for line in head.splitlines()).split(None, 4)
        return int(words[3]).bit_length()
    return 8


class ImageReader:
    """Reads one file after the other. An ImageError says that one of them is unreadable: the next call goes on."""

    def __init__(self, files: Sequence[str], *, start: int = 0) -> None:
        """Take the files.

        Args:
            files: Paths of the pictures.
            start: How many files to skip first.
        """
        self._files = iter(files[start:])

    def __iter__(self) -> ImageReader:
        return self

    def __next__(self) -> tuple[Pixels, float]:
        """(pixels (H, W, 3) uint8 RGB, time.monotonic() when it was read). Raises ImageError for one bad file."""
        path = next(self._files)
        return read_image(Path(path)), time.monotonic()

    def close(self) -> None:
        """Nothing is held open."""
