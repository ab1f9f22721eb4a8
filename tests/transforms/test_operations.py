from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageFilter

from firewall import native
from firewall.errors import FirewallError, ImageError, UsageError
from firewall.transforms import (
    OPERATIONS_38,
    apply_operations,
    gaussian_blur,
    jpeg_sweep,
    residual,
    rotate,
    runtime,
    scale,
)
from firewall.transforms.scale import FILTERS

images = arrays.arrays(np.uint8, st.tuples(st.integers(1, 70), st.integers(1, 70), st.just(3)))
filters = st.sampled_from(sorted(FILTERS))


def natural(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth areas and edges, as a photograph has them; noise alone hides errors of rounding."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 9 + 2, width // 9 + 2, 3), np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def resized(picture: Image.Image, width: int, height: int, number: int) -> Image.Image:
    return picture.resize((width, picture.height), number).resize((width, height), number)


def blurred_by_pillow(pixels: np.ndarray, radius: float) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def rotated_by_pillow(pixels: np.ndarray, angle: float) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).rotate(angle))


def scaled_by_pillow(pixels: np.ndarray, factor: float, resampling: str = "bicubic") -> np.ndarray:
    height, width = pixels.shape[:2]
    new_height, new_width = max(1, int(height * factor)), max(1, int(width * factor))
    scaled = resized(Image.fromarray(pixels), new_width, new_height, FILTERS[resampling])
    if factor >= 1:
        left, top = (new_width - width) // 2, (new_height - height) // 2
        return np.asarray(scaled.crop((left, top, left + width, top + height)))
    canvas = Image.new("RGB", (width, height))
    canvas.paste(scaled, ((width - new_width) // 2, (height - new_height) // 2))
    return np.asarray(canvas)


def residual_by_pillow(pixels: np.ndarray, share: float, down: str, up: str) -> np.ndarray:
    height, width = pixels.shape[:2]
    small = resized(Image.fromarray(pixels), max(1, int(width * share)), max(1, int(height * share)), FILTERS[down])
    return pixels.astype(np.int16) - np.asarray(resized(small, width, height, FILTERS[up])).astype(np.int16)


@pytest.fixture(scope="module")
def module() -> ModuleType:
    """The native runtime; the tests of its own refusals make no sense without it."""
    try:
        return native.load()
    except FirewallError as error:
        pytest.skip(str(error))


@pytest.fixture(params=["native", "pillow"], autouse=True)
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every test of this file runs with the native runtime and with the fallback."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "native":
            try:
                native.load()
            except FirewallError as error:
                pytest.skip(str(error))
        else:
            patch.setattr(runtime, "_loaded", lambda: None)
        yield request.param


property_test = settings(deadline=None, max_examples=60)


@property_test
@given(images, st.lists(st.floats(0, 40, width=32), max_size=3))
def test_a_blur_is_pillows(pixels: np.ndarray, radii: list[float]) -> None:
    """Byte for byte GaussianBlur at any size from 1x1 and any radius, whole or not."""
    for copy, radius in zip(gaussian_blur(pixels, radii), radii, strict=True):
        np.testing.assert_array_equal(copy, blurred_by_pillow(pixels, radius))


@property_test
@given(images, st.lists(st.floats(-360, 360), max_size=3))
def test_a_rotation_is_pillows(pixels: np.ndarray, angles: list[float]) -> None:
    """Byte for byte Image.rotate at any size from 1x1 and any angle."""
    for copy, angle in zip(rotate(pixels, angles), angles, strict=True):
        np.testing.assert_array_equal(copy, rotated_by_pillow(pixels, angle))


@property_test
@given(images, st.lists(st.floats(0.1, 3), max_size=3), filters)
def test_a_scaled_copy_is_pillows(pixels: np.ndarray, factors: list[float], resampling: str) -> None:
    """Byte for byte Image.resize, cut to the centre or put into the centre of a black image."""
    for copy, factor in zip(scale(pixels, factors, resampling=resampling), factors, strict=True):
        np.testing.assert_array_equal(copy, scaled_by_pillow(pixels, factor, resampling))


@property_test
@given(images, st.floats(0.01, 0.99), st.booleans(), filters, filters)
def test_a_residual_is_the_image_less_pillows_copy(
    pixels: np.ndarray, rate: float, kept: bool, down: str, up: str
) -> None:
    """I - up(down(I)) in integers, for both readings of the rate, and the same in coded bytes."""
    expected = residual_by_pillow(pixels, (rate if kept else 1 - rate) ** 0.5, down, up)
    reading = "kept" if kept else "removed"

    plain = residual(pixels, rate, reading=reading, down=down, up=up)
    assert plain.dtype == np.int16
    np.testing.assert_array_equal(plain, expected)
    coded = residual(pixels, rate, reading=reading, down=down, up=up, coded=True)
    np.testing.assert_array_equal(coded, np.clip(expected + 128, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("shape", [(48, 48), (224, 224), (33, 224), (224, 15), (1, 300), (300, 1), (97, 131)])
def test_the_38_operations_are_pillows(shape: tuple[int, int]) -> None:
    """The paper's list in its order, on a picture with smooth areas and on noise."""
    noise = np.random.default_rng(5).integers(0, 256, (*shape, 3), np.uint8)
    by_pillow = {"blur": blurred_by_pillow, "rotate": rotated_by_pillow, "scale": scaled_by_pillow}
    for pixels in (natural(*shape), noise):
        copies = apply_operations(pixels, OPERATIONS_38)
        np.testing.assert_array_equal(copies[:16], jpeg_sweep(pixels, range(100, 24, -5)))
        for copy, operation in zip(copies[16:], OPERATIONS_38[16:], strict=True):
            family, parameter = operation.split(":")
            np.testing.assert_array_equal(copy, by_pillow[family](pixels, float(parameter)), err_msg=operation)


def test_the_list_is_the_papers() -> None:
    """16 qualities, 4 radii, 8 angles and 10 factors, as section 3.1 lists them."""
    assert len(OPERATIONS_38) == len(set(OPERATIONS_38)) == 38
    assert OPERATIONS_38[15:17] == ("jpeg:25", "blur:2")
    assert OPERATIONS_38[19:21] == ("blur:5", "rotate:1")
    assert OPERATIONS_38[27:] == (
        *("rotate:8", "scale:0.75", "scale:0.8", "scale:0.85", "scale:0.9", "scale:0.95"),
        *("scale:1.05", "scale:1.1", "scale:1.15", "scale:1.2", "scale:1.25"),
    )


def test_operations_come_in_the_order_asked() -> None:
    """Families may be mixed and repeated; each copy is what its operation alone gives, and `out` receives them."""
    pixels = natural(40, 50)
    asked = ["rotate:3", "blur:2.5", "jpeg:40", "rotate:-3", "scale:1.1", "rotate:3", "blur:2"]
    out = np.empty((len(asked), 40, 50, 3), np.uint8)

    assert apply_operations(pixels, asked, out=out) is out
    for copy, operation in zip(out, asked, strict=True):
        np.testing.assert_array_equal(copy, apply_operations(pixels, [operation])[0])
    assert apply_operations(pixels, []).shape == (0, 40, 50, 3)


@pytest.mark.parametrize(
    "operation",
    ["blur", "blur:", "blur:x", "sharpen:2", "jpeg:7.5", "jpeg:-5", "Blur:2", "blur:2 ", "blur:inf", "scale:٢"],
)
def test_an_unknown_operation_is_refused(operation: str) -> None:
    """The error names the operation and the families there are."""
    with pytest.raises(UsageError, match=r"unknown operation .*jpeg:QUALITY, blur:RADIUS, rotate:DEGREES"):
        apply_operations(natural(4, 4), [operation])


@pytest.mark.parametrize("operation", [75, None, ["blur:2"], b"blur:2"])
def test_an_operation_is_a_name(operation: object) -> None:
    """Numbers, bytes and lists get an error that shows what a name looks like."""
    with pytest.raises(UsageError, match="an operation is a name such as jpeg:75"):
        apply_operations(natural(4, 4), [operation])  # type: ignore[list-item]


@pytest.mark.parametrize("operation", ["blur:-1", "blur:1001", "rotate:361", "scale:0.05", "scale:11", "jpeg:0"])
def test_a_parameter_out_of_range_is_refused(operation: str) -> None:
    """The error says which numbers are allowed."""
    with pytest.raises(UsageError, match="must be"):
        apply_operations(natural(4, 4), [operation])


def test_a_batch_is_its_images() -> None:
    """(N, H, W, 3) gives (N, P, H, W, 3), each image as if it were alone; residuals keep the shape."""
    batch = np.stack([natural(30, 41, seed) for seed in range(3)])
    for function, parameters in ((gaussian_blur, [2, 5]), (rotate, [4, -7.5]), (scale, [0.75, 1.25])):
        copies = function(batch, parameters)
        assert copies.shape == (3, 2, 30, 41, 3)
        for image, expected in zip(batch, copies, strict=True):
            np.testing.assert_array_equal(function(image, parameters), expected)
    np.testing.assert_array_equal(residual(batch, 0.05), np.stack([residual(image, 0.05) for image in batch]))
    assert gaussian_blur(batch[:0], [2]).shape == (0, 1, 30, 41, 3)


def test_views_are_read_as_what_they_show() -> None:
    """A region of a frame, a mirrored and a thinned view give the same bytes as their copies."""
    frame = natural(90, 120)
    for view in (frame[10:60, 20:75], frame[::-1], frame[:, ::-1], frame[::2, ::3], frame[:, :, ::-1]):
        copy = view.copy()
        for function, parameters in ((gaussian_blur, [3]), (rotate, [5]), (scale, [0.9])):
            np.testing.assert_array_equal(function(view, parameters), function(copy, parameters))
        np.testing.assert_array_equal(residual(view, 0.1), residual(copy, 0.1))


def test_large_boxes_and_wide_images() -> None:
    """Radii whose boxes are wider than the image or than the 16-bit sums of the vector code, and one-pixel images."""
    for pixels in (natural(20, 300), natural(1, 1), natural(3, 2)):
        for radius in (0, 1e-3, 63.0, 64.0, 65.5, 200.0, 1000.0):
            np.testing.assert_array_equal(gaussian_blur(pixels, [radius])[0], blurred_by_pillow(pixels, radius))


def test_residuals_of_a_flat_image_are_zero_and_of_a_checkerboard_are_not() -> None:
    """Nothing is lost where nothing changes; single pixels are lost. Coded, no difference is 128."""
    flat = np.full((48, 48, 3), 77, np.uint8)
    assert not residual(flat, 0.05).any()
    assert (residual(flat, 0.05, coded=True) == 128).all()
    board = np.indices((48, 48)).sum(0)[..., None].repeat(3, 2) % 2 * np.uint8(255)
    assert np.abs(residual(board.astype(np.uint8), 0.5)).mean() > 50


def test_out_receives_the_result() -> None:
    """The caller's buffer is filled and returned, so that the frame loop allocates nothing."""
    pixels = natural(17, 23)
    for function, parameters in ((gaussian_blur, [2, 3]), (rotate, [1, 2]), (scale, [0.8, 1.2])):
        out = np.empty((2, 17, 23, 3), np.uint8)
        assert function(pixels, parameters, out=out) is out
        np.testing.assert_array_equal(out, function(pixels, parameters))
    out = np.empty((17, 23, 3), np.int16)
    assert residual(pixels, 0.05, out=out) is out
    np.testing.assert_array_equal(out, residual(pixels, 0.05))


CALLS = [
    pytest.param(lambda pixels, **more: gaussian_blur(pixels, [2], **more), id="gaussian_blur"),
    pytest.param(lambda pixels, **more: rotate(pixels, [2], **more), id="rotate"),
    pytest.param(lambda pixels, **more: scale(pixels, [1.1], **more), id="scale"),
    pytest.param(lambda pixels, **more: residual(pixels, 0.05, coded=True, **more), id="residual"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 1, 4, 4, 3), np.uint8),
        [[[0, 0, 0]]],
    ],
)
def test_pixels_of_another_kind_are_refused(call, pixels: object) -> None:
    """Grey, alpha, float, empty and nested arrays get an error that says what is allowed."""
    with pytest.raises(ImageError, match="pixels must be"):
        call(pixels)


@pytest.mark.parametrize("call", CALLS)
def test_a_buffer_that_does_not_fit_is_refused(call) -> None:
    """Wrong shape, wrong type, gaps, read-only and overlapping buffers: nothing is written into them."""
    pixels = natural(6, 8)
    shape = call(pixels).shape
    read_only = np.zeros(shape, np.uint8)
    read_only.flags.writeable = False
    gaps = np.zeros((*shape[:-2], 2 * shape[-2], 3), np.uint8)[..., ::2, :]
    for out in (np.zeros((*shape, 1), np.uint8), np.zeros(shape, np.int8), read_only, gaps, bytearray(6 * 8 * 3)):
        with pytest.raises(ImageError, match="out must be a writeable C-contiguous uint8 array of shape"):
            call(pixels, out=out)
        assert not np.asarray(out).any()
    with pytest.raises(ImageError, match="shares memory"):
        call(pixels, out=pixels.reshape(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "2", None, True, -1e9])
def test_numbers_that_are_none_are_refused(value: object) -> None:
    """NaN, infinity, text, nothing and booleans are no parameters."""
    pixels = natural(6, 8)
    for function in (gaussian_blur, rotate, scale):
        with pytest.raises(UsageError, match="must be a number from"):
            function(pixels, [value])
    with pytest.raises(UsageError, match="more than 0 and less than 1"):
        residual(pixels, value)  # type: ignore[arg-type]


def test_unknown_filters_and_readings_are_refused() -> None:
    """The error names the value and what is allowed."""
    with pytest.raises(UsageError, match="nearest, bilinear, bicubic, box, got 'lanczos'"):
        scale(natural(4, 4), [1.1], resampling="lanczos")
    with pytest.raises(UsageError, match="removed, kept, got 'lost'"):
        residual(natural(4, 4), 0.05, reading="lost")
    with pytest.raises(UsageError, match="more than 0 and less than 1, got 1"):
        residual(natural(4, 4), 1)


def test_the_runtime_itself_refuses_what_it_cannot_read(module: ModuleType) -> None:
    """Behind the checks in Python there are the runtime's own: types and shapes, then layout, overlap and ranges."""
    pixels, radii, out = natural(6, 8)[None], np.array([2], np.float32), np.zeros((1, 1, 6, 8, 3), np.uint8)
    read_only = out.copy()
    read_only.flags.writeable = False
    wrong_types = (
        (pixels.astype(np.float32), radii, out),
        (pixels[0], radii, out),
        (pixels, radii.astype(np.float64), out),
        (pixels, radii, read_only),
        (pixels, radii, out.astype(np.int16)),
        (pixels, radii, np.zeros((1, 1, 6, 16, 3), np.uint8)[:, :, :, ::2]),
    )
    for arguments in wrong_types:
        with pytest.raises(TypeError):
            module.gaussian_blur(*arguments)
    wrong_values = (
        (pixels, radii, np.zeros((1, 2, 6, 8, 3), np.uint8), "out must be of shape"),
        (pixels[:, :, ::-1], radii, out, "must follow each other"),
        (pixels[:, ::-1], radii, out, "closer together"),
        (pixels, np.array([np.nan], np.float32), out, "parameter"),
        (out[0], radii, out, "share memory"),
        (np.zeros((1, 0, 8, 3), np.uint8), radii, np.zeros((1, 1, 0, 8, 3), np.uint8), "height, width or count"),
    )
    for *arguments, message in wrong_values:
        with pytest.raises(ValueError, match=message):
            module.gaussian_blur(*arguments)
    assert not out.any()
    with pytest.raises(ValueError, match="parameter"):
        module.scale(pixels, np.array([1.1]), 1, out)
    with pytest.raises(ValueError, match="parameter"):
        module.rotate(pixels, np.array([np.inf]), out)
    with pytest.raises(ValueError, match="parameter"):
        module.residual_coded(pixels, np.array([1.0]), 2, 2, out)
