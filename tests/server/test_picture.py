"""The JPEG that a browser gets."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from firewall.frame import Frame
from firewall.server.picture import LONGEST_SIDE, Picture


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((1, 1), (1, 1)),
        ((64, 48), (64, 48)),
        ((LONGEST_SIDE * 2, 400), (LONGEST_SIDE, 200)),
        ((3, 8192), (1, LONGEST_SIDE)),
    ],
)
def test_a_frame_becomes_a_jpeg_that_fits(size: tuple[int, int], shown: tuple[int, int]) -> None:
    """Any size is encoded, a large one scaled down, and red stays red."""
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    pixels[..., 0] = 220
    with Image.open(io.BytesIO(Picture(Frame(pixels, "test://", 0, 0.0)).jpeg())) as image:
        assert (image.format, image.size) == ("JPEG", shown)
        red, green, blue = image.convert("RGB").getpixel((0, 0))
    assert red > 200
    assert max(green, blue) < 20


def test_a_view_of_other_memory_is_encoded() -> None:
    """Pixels that aren't contiguous, as after a flip, come out right."""
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 255
    with Image.open(io.BytesIO(Picture(Frame(pixels[:, ::-1], "test://", 0, 0.0)).jpeg())) as image:
        grey = image.convert("L")
        assert grey.getpixel((2, 8)) < 40 < 200 < grey.getpixel((29, 8))
