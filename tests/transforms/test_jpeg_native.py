from __future__ import annotations

import io
import itertools
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from firewall.errors import UsageError
from firewall.transforms import SUBSAMPLINGS, SWEEP_16, jpeg_sweep, jpeg_sweep_normalised, runtime
from firewall.transforms.jpeg import jpeg_sweep_reference
from tests.transforms.native_image import native_image

_native = pytest.importorskip("firewall._native", reason="the native runtime is not compiled")

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """What no entropy coder likes."""
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def black_and_white(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Every channel of every pixel 0 or 255: what rings and saturates most."""
    return (rng.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)


def photograph(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise of falling power with frequency, coloured: what cameras see, as far as a DCT can tell."""
    power = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    spectrum = np.fft.fft2(rng.normal(size=(3, height, width))) / (power + 0.02)
    image = np.real(np.fft.ifft2(spectrum)).transpose(1, 2, 0)
    image = image @ np.array([[1, 0.8, 0.7], [0.2, 0.3, -0.4], [0.1, -0.3, 0.2]])
    spread = float(np.ptp(image)) or 1.0
    return np.round((image - image.min()) / spread * 255).astype(np.uint8)


def stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Saturated colours that change with every column and row: the largest coefficients there are."""
    colours = rng.integers(0, 2, (2, 2, 3)) * 255
    return np.tile(colours, (height // 2 + 1, width // 2 + 1, 1))[:height, :width].astype(np.uint8)


def one_colour(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """No coefficient but the mean."""
    return np.broadcast_to(rng.integers(0, 256, 3, np.uint8), (height, width, 3)).copy()


KINDS: list[Callable[[np.random.Generator, int, int], np.ndarray]] = [
    noise,
    black_and_white,
    photograph,
    stripes,
    one_colour,
]


def native_sweep(pixels: np.ndarray, qualities: list[int] | tuple[int, ...], subsampling: str) -> np.ndarray:
    """The extension itself, into a buffer that holds something else."""
    out = np.full((len(qualities), *pixels.shape), 99, np.uint8)
    _native.jpeg_sweep(pixels, np.array(qualities, np.int32), SUBSAMPLINGS[subsampling], out)
    return out


def test_the_runtime_is_the_one_in_use() -> None:
    """jpeg_sweep is computed by the native runtime where it is compiled, or the tests below would prove nothing."""
    assert runtime.runtime(PIXELS[None]) is _native


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("subsampling", sorted(SUBSAMPLINGS))
def test_all_qualities_are_pillows(
    subsampling: str, kind: Callable[[np.random.Generator, int, int], np.ndarray]
) -> None:
    """Byte for byte Pillow's copies at each of the qualities 1 to 100."""
    pixels = kind(np.random.default_rng(7), 45, 67)
    qualities = list(range(1, 101))

    np.testing.assert_array_equal(
        native_sweep(pixels, qualities, subsampling), jpeg_sweep_reference(pixels, qualities, subsampling=subsampling)
    )


@pytest.mark.parametrize("subsampling", sorted(SUBSAMPLINGS))
def test_all_small_sizes_are_pillows(subsampling: str) -> None:
    """Every size from 1x1 to 18x18: fewer than a block, one more than a block, chroma of one, two and three columns."""
    rng = np.random.default_rng(11)
    for height in range(1, 19):
        for width in range(1, 19):
            pixels = KINDS[(height + width) % 3](rng, height, width)
            qualities = [int(rng.integers(1, 101)), 90]
            np.testing.assert_array_equal(
                native_sweep(pixels, qualities, subsampling),
                jpeg_sweep_reference(pixels, qualities, subsampling=subsampling),
                err_msg=f"{height}x{width} at {qualities}",
            )


@pytest.mark.parametrize(
    ("height", "width"), [(224, 224), (64, 64), (48, 48), (127, 255), (33, 513), (300, 1), (1, 300)]
)
def test_sizes_of_use_are_pillows(height: int, width: int) -> None:
    """Crops of the usual sizes, long rows and single columns, at the 16 qualities of the papers."""
    pixels = photograph(np.random.default_rng(height), height, width)

    np.testing.assert_array_equal(native_sweep(pixels, SWEEP_16, "4:2:0"), jpeg_sweep_reference(pixels, SWEEP_16))


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from(KINDS),
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(1, 100), max_size=4),
    st.sampled_from(sorted(SUBSAMPLINGS)),
    st.integers(1, 3),
)
def test_any_sweep_is_pillows(
    height: int,
    width: int,
    kind: Callable[[np.random.Generator, int, int], np.ndarray],
    seed: int,
    qualities: list[int],
    subsampling: str,
    threads: int,
) -> None:
    """Any size, picture, qualities, subsampling and number of threads gives Pillow's bytes."""
    pixels = kind(np.random.default_rng(seed), height, width)

    np.testing.assert_array_equal(
        jpeg_sweep(pixels, qualities, subsampling=subsampling, threads=threads),
        jpeg_sweep_reference(pixels, qualities, subsampling=subsampling),
    )


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 9), (16, 16), (61, 83)])
def test_grey_images_are_pillows(height: int, width: int) -> None:
    """A grey image is swept as Pillow saves and opens images of mode L, at every quality."""
    qualities = np.arange(1, 101, dtype=np.int32)
    for kind in KINDS:
        pixels = np.ascontiguousarray(kind(np.random.default_rng(3), height, width)[:, :, 0])
        out = np.zeros((100, height, width), np.uint8)
        _native.jpeg_sweep_grey(pixels, qualities, out)
        for quality, copy in zip(qualities, out, strict=True):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
            np.testing.assert_array_equal(copy, np.asarray(Image.open(file)))


def normalised(copies: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
    """Copies (Q, H, W, C) as the engines feed them to a network: (Q, C, H, W)."""
    channels = copies.shape[3]
    batch = copies.transpose(0, 3, 1, 2).astype(np.float32)
    batch *= (1.0 / (255.0 * STD)).astype(np.float32)[:channels, None, None]
    batch += (-MEAN / STD).astype(np.float32)[:channels, None, None]
    return batch.astype(dtype)


def test_the_checksum_of_the_native_tests_is_pillows() -> None:
    """tests/native holds every instruction set, aarch64 too, to one CRC-32: it is that of Pillow's bytes."""
    source = Path(__file__).parents[1].joinpath("native", "test_jpeg_sweep.cpp").read_text()
    expected = re.search(r"kExpected = 0x([0-9a-f]{8})u", source)
    assert expected is not None
    sides = [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 47, 64, 65, 97]
    crc = 0
    for number, (height, width, sampling) in enumerate(itertools.product(sides, sides, range(4)), 1):
        shape = (height, width) if sampling == 3 else (height, width, 3)
        image = Image.fromarray(native_image(number, shape))
        copies = []
        for quality in (1 + number % 100, 100, 1 + number * 37 % 100, 75):
            file = io.BytesIO()
            options = {} if sampling == 3 else {"subsampling": sampling}
            image.save(file, "JPEG", quality=quality, **options)
            copies.append(np.asarray(Image.open(file)).reshape(height, width, -1))
        result = np.stack(copies)
        if number % 3:
            result = normalised(result, (np.float32, np.float16)[number % 3 - 1])
        crc = zlib.crc32(np.ascontiguousarray(result).tobytes(), crc)

    assert f"{crc:08x}" == expected[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("subsampling", sorted(SUBSAMPLINGS))
@pytest.mark.parametrize(("height", "width"), [(1, 1), (13, 31), (64, 48)])
def test_normalised_copies_are_numpys(height: int, width: int, subsampling: str, dtype: type[np.floating]) -> None:
    """(value / 255 - mean) / std, computed as the engines do it in float32: bit for bit, channels first."""
    pixels = photograph(np.random.default_rng(5), height, width)
    qualities = np.array([100, 75, 25], np.int32)
    expected = normalised(jpeg_sweep_reference(pixels, qualities.tolist(), subsampling=subsampling), dtype)
    out = np.zeros((3, 3, height, width), dtype)

    sweep = _native.jpeg_sweep_float32 if dtype is np.float32 else _native.jpeg_sweep_float16
    sweep(pixels, qualities, SUBSAMPLINGS[subsampling], MEAN, STD, out)

    np.testing.assert_array_equal(out, expected)


def read_only(array: np.ndarray) -> np.ndarray:
    """The array, which nobody may write any more."""
    array.flags.writeable = False
    return array


PIXELS = np.zeros((8, 12, 3), np.uint8)
QUALITIES = np.array([50, 60], np.int32)


@pytest.mark.parametrize(
    ("pixels", "qualities", "subsampling", "out"),
    [
        (PIXELS.astype(np.float32), QUALITIES, 2, np.zeros((2, 8, 12, 3), np.uint8)),
        (PIXELS[:, ::2], QUALITIES, 2, np.zeros((2, 8, 6, 3), np.uint8)),
        (PIXELS[:, :, :2], QUALITIES, 2, np.zeros((2, 8, 12, 2), np.uint8)),
        (PIXELS[..., 0], QUALITIES, 2, np.zeros((2, 8, 12, 3), np.uint8)),
        (PIXELS, QUALITIES.astype(np.int64), 2, np.zeros((2, 8, 12, 3), np.uint8)),
        (PIXELS, np.array([0, 50], np.int32), 2, np.zeros((2, 8, 12, 3), np.uint8)),
        (PIXELS, np.array([50, 101], np.int32), 2, np.zeros((2, 8, 12, 3), np.uint8)),
        (PIXELS, QUALITIES, 3, np.zeros((2, 8, 12, 3), np.uint8)),
        (PIXELS, QUALITIES, -1, np.zeros((2, 8, 12, 3), np.uint8)),
        (PIXELS, QUALITIES, 2, np.zeros((1, 8, 12, 3), np.uint8)),
        (PIXELS, QUALITIES, 2, np.zeros((2, 8, 11, 3), np.uint8)),
        (PIXELS, QUALITIES, 2, np.zeros((2, 8, 12, 3), np.int8)),
        (PIXELS, QUALITIES, 2, np.zeros((2, 8, 24, 3), np.uint8)[:, :, ::2]),
        (PIXELS, QUALITIES, 2, read_only(np.zeros((2, 8, 12, 3), np.uint8))),
        (np.zeros((0, 12, 3), np.uint8), QUALITIES, 2, np.zeros((2, 0, 12, 3), np.uint8)),
    ],
)
def test_wrong_arrays_are_refused(pixels: np.ndarray, qualities: np.ndarray, subsampling: int, out: np.ndarray) -> None:
    """Another type, shape, stride, quality or subsampling is an error, and nothing is converted or written."""
    before = out.copy()

    with pytest.raises((TypeError, ValueError)):
        _native.jpeg_sweep(pixels, qualities, subsampling, out)

    np.testing.assert_array_equal(out, before)


def test_overlapping_arrays_are_refused() -> None:
    """A result that would overwrite its own source is refused."""
    buffer = np.zeros((2, 8, 12, 3), np.uint8)

    with pytest.raises(ValueError, match="share memory"):
        _native.jpeg_sweep(buffer[1], QUALITIES, 2, buffer)


@pytest.mark.parametrize("threads", [0, -1, 65])
def test_a_number_of_threads_that_makes_no_sense_is_refused(threads: int) -> None:
    """1 to 64 threads; the error says so."""
    with pytest.raises(UsageError, match="1 to 64"):
        jpeg_sweep(PIXELS, [50], threads=threads)


def test_read_only_pixels_are_fine() -> None:
    """A frame that nobody may write to can be swept."""
    pixels = read_only(noise(np.random.default_rng(2), 9, 10))

    np.testing.assert_array_equal(jpeg_sweep(pixels, [40]), jpeg_sweep_reference(pixels, [40]))


@pytest.mark.parametrize("size", [None, (13, 7)])
def test_without_the_runtime_pillow_does_it(size: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing was compiled the sweep is the reference, with the same result in bytes and in numbers."""
    pixels = noise(np.random.default_rng(2), 9, 10)

    def both() -> list[np.ndarray]:
        numbers = jpeg_sweep_normalised(pixels, [40, 80], MEAN, STD, dtype=np.float16, size=size)
        return [jpeg_sweep(pixels, [40, 80], size=size), numbers]

    expected = both()
    monkeypatch.setattr(runtime, "_loaded", lambda: None)
    for ours, theirs in zip(both(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(1, runtime.MAX_SIDE + 1, 3), (runtime.MAX_SIDE + 1, 1, 3)])
def test_pillow_does_what_is_too_large_for_the_runtime(shape: tuple[int, int, int]) -> None:
    """A side longer than the runtime takes is swept all the same."""
    pixels = np.random.default_rng(4).integers(0, 256, shape, np.uint8)

    np.testing.assert_array_equal(jpeg_sweep(pixels, [60]), jpeg_sweep_reference(pixels, [60]))
