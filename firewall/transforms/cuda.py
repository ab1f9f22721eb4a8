"""The operations on an NVIDIA GPU, from and to device memory, the same bytes as on the processor.

A plan is made once for an operation, its parameters, a size of image and a largest number of images; it holds all the
device memory that it will ever need. `Plan.run` then queues one batch on the caller's stream and returns: no copy, no
allocation, no waiting. Arrays are those of any library that speaks `__cuda_array_interface__` or DLPack (PyTorch, CuPy,
JAX, ...), read and written where they lie. runtime/include/firewall/cuda.h is the whole contract, and
says how far it has been checked.

    plan = cuda.jpeg_sweep(count=64, height=224, width=224, qualities=SWEEP_16)
    out = torch.empty((64, *plan.result_shape), dtype=torch.uint8, device="cuda")
    plan.run(pixels, out, stream=torch.cuda.current_stream().cuda_stream)

Every function here raises FirewallError where no GPU can be used (the message says why, and so does
`firewall.native.cuda`), and UsageError for parameters that are not allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from firewall import native
from firewall.errors import FirewallError, ImageError, UsageError
from firewall.transforms.arrays import normalisation
from firewall.transforms.jpeg import SUBSAMPLINGS
from firewall.transforms.scale import filter_number

__all__ = ["Plan", "gaussian_blur", "jpeg_sweep", "residual", "rotate", "scale", "tensor"]

#: What a plan can write, and the numbers of firewall/jpeg_sweep.h.
FORMATS: dict[str, int] = {"uint8": 0, "float32": 1, "float16": 2}


class DeviceArray(NamedTuple):
    """An array in device memory: strides in bytes, dtype by numpy's name."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str


class Plan:
    """An operation that is ready to run on the GPU it was made on.

    Args:
        handle: The native plan.
        count: The most images of one run. memory: bytes of device memory that the plan holds.
        shape: (H, W, 3) of an image, or (H, W) if grey.
        result_shape: Shape of all copies of one image.
        dtype: Type of the result.
    """

    def __init__(
        self, handle: Any, count: int, shape: tuple[int, ...], result_shape: tuple[int, ...], dtype: str
    ) -> None:
        self.count = count
        self.shape = shape
        self.result_shape = result_shape
        self.dtype = dtype
        self.memory = int(handle.memory())
        self._handle = handle

    def run(self, pixels: Any, out: Any, *, stream: int = 0) -> None:
        """Queue one batch on a stream.

        Args:
            pixels: uint8 (N, *shape) in device memory, N at most `count`; the pixels of a row follow each other, rows
                and images may lie apart.
            out: C-contiguous (N, *result_shape) of type `dtype`.
            stream: The address of a cudaStream_t, as an integer; 0 is the default stream. Other streams that made
                `pixels` or will read `out` are the caller's to order, and both arrays must stay alive until the stream
                has done the work. Two runs of one plan must not overlap in time: queue them on one stream.

        Raises:
            ImageError: For arrays of another shape, type, place or layout.
            FirewallError: If CUDA refuses.
        """
        source = device_array(pixels, "pixels")
        target = device_array(out, "out", writable=True)
        count, image_stride, row_stride = self._check(source, target)
        size = int(self._handle.bytes(count))
        height, width = self.shape[:2]
        place = (source.address, count, height, width, image_stride, row_stride)
        try:
            self._handle.run(target.address, size, *place, stream)
        except ValueError as error:
            raise ImageError(f"the GPU can't run this batch: {error}") from error
        except RuntimeError as error:
            raise FirewallError(f"CUDA refused the batch: {error}") from error

    def _check(self, source: DeviceArray, target: DeviceArray) -> tuple[int, int, int]:
        """Images, and how far they and their rows lie apart in bytes."""
        if source.dtype != "uint8" or len(source.shape) != len(self.shape) + 1 or source.shape[1:] != self.shape:
            wanted = ", ".join(map(str, self.shape))
            raise ImageError(f"pixels must be uint8 (N, {wanted}), got {source.dtype} {source.shape}")
        count = source.shape[0]
        if count > self.count:
            raise ImageError(
                f"the plan is for up to {self.count} images, got {count}: make a plan for more, or run twice"
            )
        if target.dtype != self.dtype or target.shape != (count, *self.result_shape):
            wanted_shape = (count, *self.result_shape)
            raise ImageError(f"out must be {self.dtype} {wanted_shape}, got {target.dtype} {target.shape}")
        height, width = self.shape[:2]
        channels = self.shape[2] if len(self.shape) == 3 else 1
        packed = (channels == 1 or source.strides[3] == 1) and (width == 1 or source.strides[2] == channels)
        if count > 0 and not packed:
            raise ImageError("the pixels of a row must follow each other; make a contiguous copy")
        if count > 0 and _contiguous(target.shape, np.dtype(target.dtype).itemsize) != _meant(target):
            raise ImageError("out must be C-contiguous")
        # A stride along a side of one means nothing, and may be any number.
        row_stride = source.strides[1] if height > 1 else channels * width
        image_stride = source.strides[0] if count > 1 else row_stride * height
        return count, image_stride, row_stride


def jpeg_sweep(
    *,
    count: int,
    height: int,
    width: int,
    qualities: Sequence[int],
    subsampling: str | None = "4:2:0",
    dtype: str = "uint8",
    mean: Sequence[float] = (0.0, 0.0, 0.0),
    std: Sequence[float] = (1.0, 1.0, 1.0),
) -> Plan:
    """Plan `firewall.transforms.jpeg_sweep` for batches.

    Args:
        count: The most images of one run.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        qualities: Q integers 1..100.
        subsampling: "4:2:0", "4:2:2" or "4:4:4"; None for grey images (H, W).
        dtype: "uint8" gives pixels (Q, H, W, 3), or (Q, H, W) if grey; "float32" and "float16" give (value / 255 -
            mean) / std for a network, (Q, 3, H, W), or (Q, 1, H, W) if grey, of which mean[0] and std[0] are used.
        mean: Subtracted from each channel, in units of 0..1.
        std: Divides each channel after that.
    """
    if subsampling is not None and subsampling not in SUBSAMPLINGS:
        raise UsageError(
            f"subsampling is one of {', '.join(SUBSAMPLINGS)}, or None for grey images, got {subsampling!r}"
        )
    if dtype not in FORMATS:
        raise UsageError(f"the dtype of a sweep is one of {', '.join(FORMATS)}, got {dtype!r}")
    if len(mean) != 3 or len(std) != 3:
        raise UsageError(f"mean and std are three numbers each, got {len(mean)} and {len(std)}")
    grey = subsampling is None
    sampling = 3 if subsampling is None else SUBSAMPLINGS[subsampling]
    shape = (height, width) if grey else (height, width, 3)
    planes = (1 if grey else 3, height, width)
    handle = _made(
        "cuda_jpeg_sweep_plan",
        *(count, height, width, _list(qualities, np.int32, "qualities"), sampling, FORMATS[dtype]),
        *(np.array(mean, np.float64), np.array(std, np.float64)),
    )
    return Plan(handle, count, shape, (len(qualities), *(shape if dtype == "uint8" else planes)), dtype)


def gaussian_blur(*, count: int, height: int, width: int, radii: Sequence[float]) -> Plan:
    """Plan `firewall.transforms.gaussian_blur`: radii 0 to 1000 pixels; each image gives (R, H, W, 3) uint8."""
    handle = _made("cuda_gaussian_blur_plan", count, height, width, _list(radii, np.float32, "radii"))
    return _copies(handle, count, height, width, len(radii))


def rotate(*, count: int, height: int, width: int, angles: Sequence[float]) -> Plan:
    """Plan `firewall.transforms.rotate`: angles in degrees, counter-clockwise; each image gives (A, H, W, 3) uint8."""
    handle = _made("cuda_rotate_plan", count, height, width, _list(angles, np.float64, "angles"))
    return _copies(handle, count, height, width, len(angles))


def scale(*, count: int, height: int, width: int, factors: Sequence[float], resampling: str = "bicubic") -> Plan:
    """Plan `firewall.transforms.scale`: factors 0.1 to 10; each image gives (F, H, W, 3) uint8."""
    numbers = _list(factors, np.float64, "factors")
    handle = _made("cuda_scale_plan", count, height, width, numbers, filter_number(resampling))
    return _copies(handle, count, height, width, len(factors))


def residual(
    *,
    count: int,
    height: int,
    width: int,
    shares: Sequence[float],
    down: str = "box",
    up: str = "bilinear",
    coded: bool = False,
) -> Plan:
    """Plan residual images at several compression rates.

    Args:
        count: The most images of one run.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
        shares: The share of each side that the small image keeps, between 0 and 1; a rate that removes the share r of
            the pixels is sqrt(1 - r).
        down: Filters as in `scale`. Each image gives (S, H, W, 3) int16, or uint8 if coded, as
            `firewall.transforms.residual`.
        up: The filter that enlarges.
        coded: Give 128 + residual in a byte.
    """
    numbers = _list(shares, np.float64, "shares")
    handle = _made("cuda_residual_plan", count, height, width, numbers, filter_number(down), filter_number(up), coded)
    return _copies(handle, count, height, width, len(shares), "uint8" if coded else "int16")


def tensor(*, count: int, height: int, width: int, mean: Sequence[float], std: Sequence[float]) -> Plan:
    """Plan what a network reads: each image gives (1, 3, H, W) float32, (value / 255 - mean) / std."""
    means, stds = normalisation(mean, std)
    handle = _made("cuda_tensor_plan", count, height, width, means, stds)
    return Plan(handle, count, (height, width, 3), (1, 3, height, width), "float32")


def device_array(array: Any, name: str, *, writable: bool = False) -> DeviceArray:
    """Where an array lies.

    Raises:
        ImageError: If it is not in the memory of a CUDA device, or can't be written to.
    """
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is not None:
        address, read_only = interface["data"]
        if writable and read_only:
            raise ImageError(f"{name} can't be written to")
        shape = tuple(int(side) for side in interface["shape"])
        dtype = np.dtype(interface["typestr"])
        strides = interface.get("strides") or _contiguous(shape, dtype.itemsize)
        return DeviceArray(int(address or 0), shape, tuple(int(step) for step in strides), dtype.name)
    if not hasattr(array, "__dlpack__"):
        raise ImageError(
            f"{name} must be an array in device memory (__cuda_array_interface__ or DLPack), got {type(array).__name__}"
        )
    module = native.load()
    read = module.writable_device_array if writable else module.device_array
    try:
        address, shape, strides, kind, on_device = read(array)
    except TypeError as error:
        raise ImageError(f"{name} can't be {'written to' if writable else 'read'} by DLPack") from error
    if not on_device:
        raise ImageError(f"{name} must be in the memory of a CUDA device; copy it there first")
    return DeviceArray(address, shape, strides, kind)


def _contiguous(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides of a C-contiguous array, 0 along sides of one."""
    strides, step = [], itemsize
    for side in reversed(shape):
        strides.append(step if side > 1 else 0)
        step *= side
    return tuple(reversed(strides))


def _meant(array: DeviceArray) -> tuple[int, ...]:
    return tuple(step if side > 1 else 0 for side, step in zip(array.shape, array.strides, strict=True))


def _list(values: Sequence[float], dtype: Any, name: str) -> Any:
    try:
        return np.array(values, dtype).reshape(len(values))
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{name} must be a list of numbers, got {values!r}") from error


def _made(function: str, *arguments: Any) -> Any:
    """Call one of the runtime's functions that make a plan."""
    support = native.cuda()
    if not support.usable:
        raise FirewallError(support.reason)
    make: Callable[..., Any] = getattr(native.load(), function)
    try:
        return make(*arguments)
    except (ValueError, TypeError) as error:
        raise UsageError(f"no plan for these sizes and parameters: {' '.join(str(error).split())}") from error
    except RuntimeError as error:
        raise FirewallError(f"CUDA could not make a plan: {error}") from error


def _copies(handle: Any, count: int, height: int, width: int, parameters: int, dtype: str = "uint8") -> Plan:
    shape = (height, width, 3)
    return Plan(handle, count, shape, (parameters, *shape), dtype)
