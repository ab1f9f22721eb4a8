from __future__ import annotations

import io
import itertools
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from firewall.errors import ImageError, UsageError
from firewall.transforms import SUBSAMPLINGS, SWEEP_16, jpeg_sweep, jpeg_sweep_normalised, resize
from firewall.transforms.jpeg import jpeg_sweep_normalised_reference, jpeg_sweep_reference
from firewall.transforms.scale import FILTERS
from tests.transforms.native_image import native_image

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def picture(seed: int, height: int, width: int, *, flat: bool = False) -> np.ndarray:
    """Noise, or slopes of colour with a little noise: what rings and what is smooth."""
    rng = np.random.default_rng(seed)
    if not flat:
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    slope = np.add.outer(np.arange(height) * 3, np.arange(width) * 2)[..., None] + rng.integers(
        0, 40, (height, width, 3)
    )
    return (slope % 256).astype(np.uint8)


def by_pillow(
    pixels: np.ndarray, quality: int, subsampling: str | None, size: tuple[int, int], resampling: str
) -> np.ndarray:
    """Saved, opened and resized; in two steps, so that every version of Pillow does the rows first."""
    file = io.BytesIO()
    options = {"subsampling": subsampling} if subsampling else {}  # a grey image has no chroma
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, **options)
    copy = Image.open(file)
    return np.asarray(copy.resize((size[0], copy.height), FILTERS[resampling]).resize(size, FILTERS[resampling]))


@pytest.mark.parametrize("resampling", sorted(FILTERS))
@pytest.mark.parametrize("subsampling", sorted(SUBSAMPLINGS))
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (1, 1, (1, 1)),
        (1, 1, (5, 3)),
        (3, 2, (1, 1)),
        (17, 33, (48, 48)),  # a small sign, enlarged for a network
        (48, 48, (48, 48)),
        (48, 48, (48, 31)),  # one side stays
        (48, 48, (31, 48)),
        (97, 64, (48, 48)),  # more than three strips, the last one of one row
        (131, 203, (64, 64)),
        (31, 32, (33, 97)),
        (32, 31, (224, 224)),
        (200, 3, (1, 200)),  # every source pixel of a row, and then some
        (3, 200, (200, 1)),
        (300, 20, (7, 2)),  # a row of the result needs more rows than a strip has
    ],
)
def test_resized_copies_are_pillows(
    height: int, width: int, size: tuple[int, int], subsampling: str, resampling: str
) -> None:
    """Enlarged, shrunk, stretched and left as they are: byte for byte Pillow's copies, by each filter."""
    for flat in (False, True):
        pixels = picture(height * width, height, width, flat=flat)
        swept = jpeg_sweep(pixels, [95, 30], subsampling=subsampling, size=size, resampling=resampling)
        for copy, quality in zip(swept, [95, 30], strict=True):
            np.testing.assert_array_equal(copy, by_pillow(pixels, quality, subsampling, size, resampling))


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(1, 120),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 100), max_size=3),
    st.sampled_from(sorted(SUBSAMPLINGS)),
    st.sampled_from(sorted(FILTERS)),
    st.integers(1, 3),
)
def test_any_resized_sweep_is_pillows(
    height: int,
    width: int,
    to_height: int,
    to_width: int,
    seed: int,
    qualities: list[int],
    subsampling: str,
    resampling: str,
    threads: int,
) -> None:
    """Any size to any size, with any qualities, subsampling, filter and number of threads."""
    pixels = picture(seed, height, width, flat=seed % 2 == 0)
    size = (to_width, to_height)

    swept = jpeg_sweep(pixels, qualities, subsampling=subsampling, size=size, resampling=resampling, threads=threads)

    assert swept.shape == (len(qualities), to_height, to_width, 3)
    for copy, quality in zip(swept, qualities, strict=True):
        np.testing.assert_array_equal(copy, by_pillow(pixels, quality, subsampling, size, resampling))


def test_the_checksum_of_the_native_tests_is_pillows() -> None:
    """tests/native holds every instruction set, aarch64 too, to one CRC-32: that of Pillow's resized copies."""
    source = Path(__file__).parents[1].joinpath("native", "test_jpeg_resized.cpp").read_text()
    expected = re.search(r"kResized = 0x([0-9a-f]{8})u", source)
    sides = re.findall(r"\{(\d+), (\d+), (\d+), (\d+)\}", source.split("kCases[] =")[1].split(";")[0])
    assert expected is not None and len(sides) == 10
    crc = 0
    cases = itertools.product(sides, range(4), ("bilinear", "nearest", "box", "bicubic"))
    for number, (case, sampling, resampling) in enumerate(cases, 1):
        height, width, to_height, to_width = map(int, case)
        shape = (height, width) if sampling == 3 else (height, width, 3)
        pixels = native_image(number, shape)
        size = (to_width, to_height)
        name = {number: name for name, number in SUBSAMPLINGS.items()}.get(sampling)
        copies = np.stack([by_pillow(pixels, q, name, size, resampling) for q in (1 + number * 7 % 100, 90)])
        copies = copies.reshape(2, to_height, to_width, -1)
        if number % 3:
            channels = copies.shape[3]
            scale = (1.0 / (255.0 * np.array(STD))).astype(np.float32)[:channels, None, None]
            shift = (-np.array(MEAN) / np.array(STD)).astype(np.float32)[:channels, None, None]
            batch = copies.transpose(0, 3, 1, 2).astype(np.float32) * scale + shift
            copies = batch.astype((np.float32, np.float16)[number % 3 - 1])
        crc = zlib.crc32(np.ascontiguousarray(copies).tobytes(), crc)

    assert f"{crc:08x}" == expected[1]


def test_the_default_filter_is_that_of_resize() -> None:
    """What a detector sees of a swept crop is what the classifier would see of it: `resize` of each copy."""
    pixels = picture(3, 61, 83)
    expected = [resize(copy, 48, 40) for copy in jpeg_sweep(pixels, SWEEP_16)]

    np.testing.assert_array_equal(jpeg_sweep(pixels, SWEEP_16, size=(48, 40)), expected)
    np.testing.assert_array_equal(jpeg_sweep_reference(pixels, SWEEP_16, size=(48, 40)), expected)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.one_of(st.none(), st.tuples(st.integers(1, 70), st.integers(1, 70))),
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(SUBSAMPLINGS)),
    st.sampled_from(["float32", "float16"]),
)
def test_numbers_are_numpys_of_pillows_bytes(
    height: int, width: int, size: tuple[int, int] | None, seed: int, subsampling: str, dtype: str
) -> None:
    """(value / 255 - mean) / std of each copy, resized or not, bit for bit as float32 arithmetic gives it."""
    pixels = picture(seed, height, width)
    copies = np.stack(
        [by_pillow(pixels, quality, subsampling, size or (width, height), "bilinear") for quality in (90, 40)]
    )
    scale = (1.0 / (255.0 * np.array(STD))).astype(np.float32)[:, None, None]
    shift = (-np.array(MEAN) / np.array(STD)).astype(np.float32)[:, None, None]
    expected = (copies.transpose(0, 3, 1, 2).astype(np.float32) * scale + shift).astype(dtype)

    arguments = {"dtype": dtype, "size": size, "subsampling": subsampling}
    np.testing.assert_array_equal(jpeg_sweep_normalised(pixels, [90, 40], MEAN, STD, **arguments), expected)
    np.testing.assert_array_equal(jpeg_sweep_normalised_reference(pixels, [90, 40], MEAN, STD, **arguments), expected)


def test_out_receives_the_result() -> None:
    """The caller's buffer, of the size of the result, is filled and returned."""
    pixels = picture(1, 20, 30)
    copies, numbers = np.zeros((2, 9, 8, 3), np.uint8), np.zeros((2, 3, 9, 8), np.float16)

    assert jpeg_sweep(pixels, [90, 30], size=(8, 9), out=copies) is copies
    np.testing.assert_array_equal(copies, jpeg_sweep(pixels, [90, 30], size=(8, 9)))
    assert (
        jpeg_sweep_normalised(pixels, [90, 30], MEAN, STD, dtype=np.float16, size=(8, 9), out=numbers, threads=2)
        is numbers
    )
    np.testing.assert_array_equal(
        numbers, jpeg_sweep_normalised(pixels, [90, 30], MEAN, STD, dtype=np.float16, size=(8, 9))
    )


@pytest.mark.parametrize("size", [(0, 5), (5, -1), (5,), (5, 5, 5), (5.0, 5), (True, 5), "5x5", 48, (5, 16385)])
def test_sizes_that_make_no_sense_are_refused(size: object) -> None:
    """Two integers from 1 on; the error names what was given."""
    with pytest.raises(UsageError, match=r"size must be \(width, height\), integers from 1 to 16384, got"):
        jpeg_sweep(picture(0, 8, 8), [50], size=size)  # type: ignore[arg-type]


def test_an_unknown_filter_is_refused() -> None:
    """The error names the value and what is allowed, resized or not."""
    with pytest.raises(UsageError, match="nearest, bilinear, bicubic, box, got 'lanczos'"):
        jpeg_sweep(picture(0, 8, 8), [50], resampling="lanczos")


@pytest.mark.parametrize(
    ("mean", "std", "dtype", "message"),
    [
        ((0.5, 0.5), STD, "float32", "mean must be three finite numbers"),
        ((0.5, 0.5, float("nan")), STD, "float32", "mean must be three finite numbers"),
        ("grey", STD, "float32", "mean must be three finite numbers"),
        (MEAN, (0.2, 0.2, float("inf")), "float32", "std must be three finite numbers"),
        (MEAN, (0.2, 0.0, 0.2), "float32", "std must be three numbers above 0"),
        (MEAN, (0.2, -1, 0.2), "float32", "std must be three numbers above 0"),
        (MEAN, STD, "float64", "dtype must be float32 or float16, got float64"),
    ],
)
def test_a_normalisation_that_makes_no_sense_is_refused(mean: object, std: object, dtype: str, message: str) -> None:
    """The error names the value and what is allowed."""
    with pytest.raises(UsageError, match=message):
        jpeg_sweep_normalised(picture(0, 8, 8), [50], mean, std, dtype=dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize("out", [np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 6, 5, 3), np.float32)])
def test_a_buffer_of_another_shape_is_refused(out: np.ndarray) -> None:
    """The buffer has the size of the result, not of the image."""
    with pytest.raises(ImageError, match=r"out must be .* of shape \(1, 6, 5, 3\)"):
        jpeg_sweep(picture(0, 8, 8), [50], size=(5, 6), out=out)


def test_a_buffer_of_another_type_is_refused() -> None:
    """Numbers are not converted behind the caller's back."""
    with pytest.raises(ImageError, match=r"float32 array of shape \(1, 3, 8, 8\), got float16"):
        jpeg_sweep_normalised(picture(0, 8, 8), [50], MEAN, STD, out=np.zeros((1, 3, 8, 8), np.float16))


def test_the_extension_resizes_only_when_asked() -> None:
    """A result of another size without a filter is a mistake; an unknown filter and an empty result are refused."""
    native = pytest.importorskip("firewall._native", reason="the native runtime is not compiled")
    pixels, qualities = picture(0, 8, 8), np.array([50], np.int32)
    out = np.full((1, 4, 4, 3), 7, np.uint8)

    with pytest.raises(ValueError, match="of the size of the image unless it is resized"):
        native.jpeg_sweep(pixels, qualities, 2, out)
    with pytest.raises(ValueError, match="parameter"):
        native.jpeg_sweep(pixels, qualities, 2, out, 1, 1)
    with pytest.raises(ValueError, match="height, width or count"):
        native.jpeg_sweep(pixels, qualities, 2, np.zeros((1, 0, 4, 3), np.uint8), 1, 2)
    with pytest.raises(ValueError, match="height, width or count"):
        native.jpeg_sweep(pixels, qualities, 2, np.zeros((1, 0, 0, 3), np.uint8), 1, 2)
    assert (out == 7).all()


def test_grey_copies_are_resized_too() -> None:
    """One byte a pixel: the extension gives Pillow's bytes in mode L, over several strips."""
    native = pytest.importorskip("firewall._native", reason="the native runtime is not compiled")
    for height, width, size in [(1, 1, (3, 2)), (250, 70, (48, 48)), (20, 30, (64, 50)), (97, 5, (5, 1))]:
        pixels = np.ascontiguousarray(picture(5, height, width)[..., 0])
        out = np.zeros((2, size[1], size[0]), np.uint8)
        native.jpeg_sweep_grey(pixels, np.array([80, 20], np.int32), out, 1, FILTERS["bicubic"])
        for copy, quality in zip(out, (80, 20), strict=True):
            np.testing.assert_array_equal(copy, by_pillow(pixels, quality, None, size, "bicubic"))
