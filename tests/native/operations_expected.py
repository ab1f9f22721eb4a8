"""Prints operations_expected.inc: what Pillow gives for the images of test_operations.cpp, as hashes.

python tests/native/operations_expected.py > tests/native/operations_expected.inc
"""

from __future__ import annotations

import sys

import numpy as np
import PIL
from PIL import Image, ImageFilter

SIZES = (
    (1, 1),
    (1, 17),
    (17, 1),
    (2, 3),
    (15, 16),
    (16, 15),
    (31, 33),
    (48, 48),
    (64, 21),
    (21, 64),
    (100, 130),
    (224, 224),
)
NEAREST, BILINEAR, BICUBIC, BOX = 0, 2, 3, 4


def image(height: int, width: int) -> np.ndarray:
    """The bytes of a linear congruential generator, the same as in test_operations.cpp."""
    state = height * 1000 + width
    values = np.empty(height * width * 3, np.uint8)
    for i in range(values.size):
        state = (state * 1664525 + 1013904223) % 2**32
        values[i] = state >> 24
    return values.reshape(height, width, 3)


def fnv(values: np.ndarray) -> int:
    """FNV-1a, 64 bits."""
    state = 0xCBF29CE484222325
    for byte in values.tobytes():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return state


def resized(picture: Image.Image, height: int, width: int, number: int) -> Image.Image:
    """The rows first, then the columns, with every version of Pillow."""
    return picture.resize((width, picture.height), number).resize((width, height), number)


def scaled(picture: Image.Image, factor: float, number: int) -> np.ndarray:
    """Cut to the centre, or in the centre of a black image."""
    height, width = picture.height, picture.width
    grown = resized(picture, max(1, int(height * factor)), max(1, int(width * factor)), number)
    left, top = max(0, (grown.width - width) // 2), max(0, (grown.height - height) // 2)
    seen = grown.crop((left, top, min(grown.width, left + width), min(grown.height, top + height)))
    canvas = Image.new("RGB", (width, height))
    canvas.paste(seen, ((width - seen.width) // 2, (height - seen.height) // 2))
    return np.asarray(canvas)


def residual(picture: Image.Image, share: float, down: int, up: int) -> np.ndarray:
    """128 + residual, cut to a byte."""
    small = resized(picture, max(1, int(picture.height * share)), max(1, int(picture.width * share)), down)
    copy = np.asarray(resized(small, picture.height, picture.width, up)).astype(int)
    return np.clip(128 + np.asarray(picture).astype(int) - copy, 0, 255).astype(np.uint8)


def main() -> None:
    """Print the table."""
    lines = [
        f"// By operations_expected.py, Pillow {PIL.__version__}: height, width, operation, parameter, filters, hash."
    ]
    for height, width in SIZES:
        picture = Image.fromarray(image(height, width))

        def add(name: str, parameter: float, first: int, second: int, values: np.ndarray) -> None:
            size = f"{height}, {width}"  # noqa: B023
            lines.append(f"{{{size}, Operation::{name}, {parameter}, {first}, {second}, 0x{fnv(values):016x}ULL}},")

        for radius in (0.5, 2, 3, 4, 5, 70):
            add("blur", radius, 0, 0, np.asarray(picture.filter(ImageFilter.GaussianBlur(radius))))
        for angle in (1, 5, 8, -3.5, 13, -14.4, 45, 90, 180):
            add("rotate", angle, 0, 0, np.asarray(picture.rotate(angle)))
        for factor in (0.1, 0.75, 0.9, 0.95, 1, 1.05, 1.25, 2.5):
            for number in (NEAREST, BILINEAR, BICUBIC, BOX):
                add("scale", factor, number, 0, scaled(picture, factor, number))
        for share in (0.2, 0.75, 0.97):
            for down, up in ((BOX, BILINEAR), (BICUBIC, BICUBIC)):
                add("residual", share, down, up, residual(picture, share, down, up))
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
