"""The operations on a GPU. What needs none is tested everywhere; the results are compared where one can be used."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np
import pytest

from firewall import native
from firewall.errors import FirewallError, ImageError, UsageError
from firewall.transforms import cuda
from firewall.transforms.gaussian_blur import gaussian_blur
from firewall.transforms.jpeg import SUBSAMPLINGS, SWEEP_16, jpeg_sweep, jpeg_sweep_normalised
from firewall.transforms.residual import residual
from firewall.transforms.rotate import rotate
from firewall.transforms.scale import FILTERS, scale

_native = pytest.importorskip("firewall._native", reason="the native runtime is not compiled")

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def support() -> native.CudaSupport:
    return native.cuda()


needs_gpu = pytest.mark.skipif(not support().usable, reason=support().reason or "a GPU can be used")
needs_none = pytest.mark.skipif(support().usable, reason="a GPU can be used")


class Device:
    """Stands in for an array in device memory: it has only what __cuda_array_interface__ tells."""

    def __init__(self, shape: tuple[int, ...], typestr: str = "|u1", **more: Any) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": typestr,
            "data": (4096, False),
            "version": 3,
            "strides": None,
            **more,
        }


class Recorder:
    """Stands in for a plan of the runtime and keeps what it is asked to run."""

    calls: ClassVar[list[tuple[int, ...]]] = []

    def memory(self) -> int:
        return 7

    def bytes(self, count: int) -> int:
        return 1000 * count

    def run(self, *arguments: int) -> None:
        self.calls.append(arguments)


def plan() -> cuda.Plan:
    """Up to 4 images of 10 x 12, two copies of each."""
    Recorder.calls = []
    return cuda.Plan(Recorder(), 4, (10, 12, 3), (2, 10, 12, 3), "uint8")


def test_addresses_and_strides_reach_the_runtime() -> None:
    """A batch of packed images, and one that lies in larger frames, are passed on as they lie."""
    prepared = plan()
    prepared.run(Device((3, 10, 12, 3)), Device((3, 2, 10, 12, 3)), stream=99)
    prepared.run(
        Device((1, 10, 12, 3), strides=(5000, 100, 3, 1)), Device((1, 2, 10, 12, 3), strides=(1, 360, 36, 3, 1))
    )
    assert Recorder.calls == [
        (4096, 3000, 4096, 3, 10, 12, 360, 36, 99),
        (4096, 1000, 4096, 1, 10, 12, 1000, 100, 0),
    ]


@pytest.mark.parametrize(
    ("pixels", "out", "message"),
    [
        (Device((3, 10, 13, 3)), Device((3, 2, 10, 12, 3)), r"pixels must be uint8 \(N, 10, 12, 3\)"),
        (Device((10, 12, 3)), Device((3, 2, 10, 12, 3)), "pixels must be uint8"),
        (Device((3, 10, 12, 3), "<f4"), Device((3, 2, 10, 12, 3)), "got float32"),
        (Device((5, 10, 12, 3)), Device((5, 2, 10, 12, 3)), "up to 4 images, got 5"),
        (Device((3, 10, 12, 3)), Device((2, 2, 10, 12, 3)), r"out must be uint8 \(3, 2, 10, 12, 3\)"),
        (Device((3, 10, 12, 3)), Device((3, 2, 10, 12, 3), "<f2"), "got float16"),
        (Device((3, 10, 12, 3), strides=(360, 36, 1, 12)), Device((3, 2, 10, 12, 3)), "follow each other"),
        (Device((3, 10, 12, 3)), Device((3, 2, 10, 12, 3), strides=(999, 360, 36, 3, 1)), "C-contiguous"),
        (Device((3, 10, 12, 3)), Device((3, 2, 10, 12, 3), data=(4096, True)), "out can't be written to"),
        (
            np.zeros((3, 10, 12, 3), np.uint8),
            Device((3, 2, 10, 12, 3)),
            "pixels must be in the memory of a CUDA device",
        ),
        ([[0]], Device((3, 2, 10, 12, 3)), "pixels must be an array in device memory .* got list"),
    ],
)
def test_wrong_arrays_are_refused(pixels: Any, out: Any, message: str) -> None:
    """An array of another shape, type, layout or place is an ImageError that says what is wanted; nothing runs."""
    with pytest.raises(ImageError, match=message):
        plan().run(pixels, out)
    assert Recorder.calls == []


def test_arrays_that_speak_dlpack_are_read_where_they_lie() -> None:
    """DLPack gives address, shape, strides in bytes and type; read-only arrays can't receive results."""
    array = np.zeros((4, 6), np.float16)[:, ::2]
    address, shape, strides, dtype, on_device = _native.device_array(array)
    assert (address, shape, strides, dtype, on_device) == (array.ctypes.data, (4, 3), (12, 4), "float16", False)
    array.flags.writeable = False
    with pytest.raises(TypeError):
        _native.writable_device_array(array)


@needs_none
def test_without_a_gpu_the_error_says_what_to_do() -> None:
    """Where no GPU can be used, making a plan is one clear error, and `native.cuda` tells the same."""
    made = support()
    assert not made.usable
    assert ("FIREWALL_CUDA=ON" in made.reason) == (not made.built)
    with pytest.raises(FirewallError) as caught:
        cuda.rotate(count=1, height=8, width=8, angles=[1.0])
    assert str(caught.value) == made.reason


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"subsampling": "4:1:1"}, "subsampling is one of"),
        ({"dtype": "float64"}, "dtype of a sweep"),
        ({"mean": (1.0,)}, "three numbers each"),
        ({"qualities": ["high"]}, "qualities must be a list of numbers"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any], message: str) -> None:
    """What is no parameter at all is a UsageError, with or without a GPU."""
    with pytest.raises(UsageError, match=message):
        cuda.jpeg_sweep(**{"count": 1, "height": 8, "width": 8, "qualities": [75], **wrong})


# --- on a GPU ---------------------------------------------------------------------------------------------------------

SIZES = [(1, 1), (8, 8), (17, 33), (33, 225), (64, 64), (224, 224), (97, 640)]


def noise(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, (count, *shape), np.uint8)


def on_gpu(prepared: cuda.Plan, images: np.ndarray) -> np.ndarray:
    """Runs a plan on a stream of its own, by way of torch."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch was built without CUDA, and brings the arrays of these tests to the GPU")
    pixels = torch.from_numpy(images).cuda()
    out = torch.full((len(images), *prepared.result_shape), 7, dtype=getattr(torch, prepared.dtype), device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    prepared.run(pixels, out, stream=stream.cuda_stream)
    stream.synchronize()
    return np.asarray(out.cpu().numpy())


@needs_gpu
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("subsampling", list(SUBSAMPLINGS))
def test_sweep_equals_the_processor(height: int, width: int, subsampling: str) -> None:
    """Pixels, float32 and float16 of a batch are the same bytes as on the processor, at 16 qualities."""
    images = noise(3, height, width, 3)
    size = {"count": 3, "height": height, "width": width, "qualities": SWEEP_16, "subsampling": subsampling}
    expected = [jpeg_sweep(image, SWEEP_16, subsampling=subsampling) for image in images]
    assert np.array_equal(on_gpu(cuda.jpeg_sweep(**size), images), expected)
    for dtype in ("float32", "float16"):
        prepared = cuda.jpeg_sweep(**size, dtype=dtype, mean=MEAN, std=STD)
        for image, result in zip(images, on_gpu(prepared, images), strict=True):
            wanted = jpeg_sweep_normalised(image, SWEEP_16, MEAN, STD, dtype=dtype, subsampling=subsampling)
            assert result.tobytes() == wanted.tobytes()


@needs_gpu
def test_grey_sweep_equals_the_processor() -> None:
    """Grey images have no chroma, here as there."""
    images = noise(2, 65, 230)
    expected = np.empty((2, 3, 65, 230), np.uint8)
    for image, slot in zip(images, expected, strict=True):
        _native.jpeg_sweep_grey(image, np.array([90, 50, 10], np.int32), slot)
    prepared = cuda.jpeg_sweep(count=2, height=65, width=230, qualities=[90, 50, 10], subsampling=None)
    assert np.array_equal(on_gpu(prepared, images), expected)


@needs_gpu
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_operations_equal_the_processor(height: int, width: int) -> None:
    """Blur, rotation, scaling and residual of a batch are the same bytes as on the processor."""
    images = noise(2, height, width, 3)
    size = {"count": 2, "height": height, "width": width}
    radii, angles, factors, shares = [0.0, 0.7, 5.0, 300.0], [1.0, -10.0, 90.0], [0.1, 0.8, 1.3, 4.0], [0.3, 0.9]
    assert np.array_equal(on_gpu(cuda.gaussian_blur(**size, radii=radii), images), gaussian_blur(images, radii))
    assert np.array_equal(on_gpu(cuda.rotate(**size, angles=angles), images), rotate(images, angles))
    for resampling in FILTERS:
        prepared = cuda.scale(**size, factors=factors, resampling=resampling)
        assert np.array_equal(on_gpu(prepared, images), scale(images, factors, resampling=resampling))
    for coded, resampling in itertools.product((False, True), FILTERS):
        prepared = cuda.residual(**size, shares=shares, down=resampling, coded=coded)
        wanted = [residual(images, share**2, reading="kept", down=resampling, coded=coded) for share in shares]
        assert np.array_equal(on_gpu(prepared, images), np.stack(wanted, 1))
