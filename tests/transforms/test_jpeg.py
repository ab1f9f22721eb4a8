from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from firewall.errors import ImageError, UsageError
from firewall.transforms import SUBSAMPLINGS, SWEEP_16, SWEEP_76, apply_operations, jpeg_sweep

images = arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


def by_pillow(pixels: np.ndarray, quality: int, subsampling: str) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file))


def test_the_sweeps_are_the_papers() -> None:
    """76 qualities 25..100, and the 16 of them from 100 down in steps of five."""
    assert sorted(SWEEP_76) == list(range(25, 101))
    assert list(SWEEP_16) == [100, 95, 90, 85, 80, 75, 70, 65, 60, 55, 50, 45, 40, 35, 30, 25]
    assert set(SWEEP_16) <= set(SWEEP_76)


@settings(deadline=None, max_examples=60)
@given(images, st.lists(st.integers(1, 100), max_size=4), st.sampled_from(sorted(SUBSAMPLINGS)))
def test_every_copy_is_what_pillow_saves_and_opens(pixels: np.ndarray, qualities: list[int], subsampling: str) -> None:
    """Byte for byte Pillow's save-then-open, at any size from 1x1, any qualities in any order."""
    swept = jpeg_sweep(pixels, qualities, subsampling=subsampling)

    assert swept.shape == (len(qualities), *pixels.shape) and swept.dtype == np.uint8
    for copy, quality in zip(swept, qualities, strict=True):
        np.testing.assert_array_equal(copy, by_pillow(pixels, quality, subsampling))


def test_out_receives_the_result() -> None:
    """The caller's buffer is filled and returned, so that the frame loop allocates nothing."""
    pixels = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    out = np.empty((2, 17, 23, 3), np.uint8)

    assert jpeg_sweep(pixels, [90, 30], out=out) is out
    np.testing.assert_array_equal(out, jpeg_sweep(pixels, [90, 30]))


def test_views_are_swept_as_what_they_show() -> None:
    """A strided view gives the same bytes as its copy."""
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)[::2, ::-3]

    np.testing.assert_array_equal(jpeg_sweep(pixels, [50]), jpeg_sweep(np.ascontiguousarray(pixels), [50]))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_pixels_of_another_kind_are_refused(pixels: np.ndarray) -> None:
    """Grey, alpha, float and empty arrays get an error that says what is allowed."""
    with pytest.raises(ImageError, match="pixels must be"):
        jpeg_sweep(pixels, [50])


@pytest.mark.parametrize("quality", [0, 101, -1, 50.0, "50", True, None])
def test_qualities_outside_1_to_100_are_refused(quality: object) -> None:
    """A quality is an integer from 1 to 100; the error names the value."""
    with pytest.raises(UsageError, match="1 to 100"):
        jpeg_sweep(np.zeros((4, 4, 3), np.uint8), [quality])  # type: ignore[list-item]


def test_unknown_subsampling_is_refused() -> None:
    """The error names the value and what is allowed."""
    with pytest.raises(UsageError, match=r"4:4:4, 4:2:2, 4:2:0, got '4:1:0'"):
        jpeg_sweep(np.zeros((4, 4, 3), np.uint8), [50], subsampling="4:1:0")


@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (1, 4, 4), (1, 4, 5, 3)])
def test_a_buffer_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """Nothing is written into a buffer that doesn't fit."""
    with pytest.raises(ImageError, match="out must be"):
        jpeg_sweep(np.zeros((4, 4, 3), np.uint8), [50], out=np.zeros(shape, np.uint8))


def test_an_overlapping_buffer_is_refused() -> None:
    """Writing over the input while it is read would change the later copies."""
    memory = np.zeros((1, 4, 4, 3), np.uint8)
    with pytest.raises(ImageError, match="shares memory"):
        jpeg_sweep(memory[0], [50], out=memory)


def test_operations_by_name() -> None:
    """`jpeg:40` is the sweep's copy at quality 40; anything else is refused."""
    pixels = np.random.default_rng(2).integers(0, 256, (9, 9, 3), np.uint8)

    np.testing.assert_array_equal(apply_operations(pixels, ["jpeg:40", "jpeg:90"]), jpeg_sweep(pixels, [40, 90]))
    with pytest.raises(UsageError, match="unknown operation 'sharpen:2'"):
        apply_operations(pixels, ["sharpen:2"])
