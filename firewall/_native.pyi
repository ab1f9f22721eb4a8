"""The native runtime (runtime/python/module.cpp). Imported by firewall.native alone.

The operations take pixels (N, H, W, 3) uint8, packed along a row, and fill `out`, C-contiguous (N, P, H, W, 3), with P
copies of each image. Another type, shape or layout is a TypeError or ValueError, and `out` is as it was.
"""

import numpy as np
import numpy.typing as npt

#: Bits of a standing, see firewall/limits.h.
COMPLETE: int
SUSPICIOUS: int
#: Whether the runtime has CUDA code.
CUDA_BUILT: bool

class CudaPlan:
    """An operation prepared for a GPU; see runtime/include/firewall/cuda.h."""

    def bytes(self, count: int) -> int:
        """Bytes that a run with `count` images writes."""

    def memory(self) -> int:
        """Bytes of device memory that the plan holds."""

    def run(
        self,
        destination: int,
        destination_size: int,
        source: int,
        count: int,
        height: int,
        width: int,
        image_stride: int,
        row_stride: int,
        stream: int,
    ) -> None:
        """Queue the work; addresses are of device memory. ValueError for what doesn't fit, RuntimeError from CUDA."""

class Limits:
    """Limits by the size of a region; see runtime/include/firewall/limits.h. ValueError for what is not allowed."""

    def __init__(
        self,
        limits: npt.NDArray[np.float64],
        thresholds: npt.NDArray[np.float64],
        adds: npt.NDArray[np.uint8],
        power: float,
    ) -> None:
        """limits (G, D, 3): median, unit, limit; thresholds (G,); adds (D,): whether a detector's score adds to S."""

    def judge(
        self,
        scores: npt.NDArray[np.float64],
        groups: npt.NDArray[np.int32],
        excess: npt.NDArray[np.float64],
        standing: npt.NDArray[np.uint8],
    ) -> None:
        """What scores (N, D) come to; the others (N,). Fills excess and standing where standing was 0."""

def cuda_gaussian_blur_plan(count: int, height: int, width: int, radii: npt.NDArray[np.float32]) -> CudaPlan:
    """A plan of the Gaussian blur. Here and below ValueError for what is not allowed, RuntimeError from CUDA."""

def cuda_jpeg_sweep_plan(
    count: int,
    height: int,
    width: int,
    qualities: npt.NDArray[np.int32],
    sampling: int,
    result_format: int,
    mean: npt.NDArray[np.float64],
    std: npt.NDArray[np.float64],
) -> CudaPlan:
    """A plan of the JPEG sweep; sampling and result_format by the numbers of firewall/jpeg_sweep.h."""

def cuda_reason() -> str:
    """Why nothing can run on a GPU here; empty if it can."""

def cuda_residual_plan(
    count: int, height: int, width: int, shares: npt.NDArray[np.float64], down: int, up: int, coded: bool
) -> CudaPlan:
    """A plan of the residual image."""

def cuda_rotate_plan(count: int, height: int, width: int, angles: npt.NDArray[np.float64]) -> CudaPlan:
    """A plan of the rotation."""

def cuda_scale_plan(count: int, height: int, width: int, factors: npt.NDArray[np.float64], resampling: int) -> CudaPlan:
    """A plan of the scaling."""

def cuda_tensor_plan(
    count: int, height: int, width: int, mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64]
) -> CudaPlan:
    """A plan of the tensor."""

def device_array(array: object) -> tuple[int, tuple[int, ...], tuple[int, ...], str, bool]:
    """Address, shape, strides in bytes, type and whether it is on a CUDA device, of an array that speaks DLPack."""

def gaussian_blur(pixels: npt.NDArray[np.uint8], radii: npt.NDArray[np.float32], out: npt.NDArray[np.uint8]) -> None:
    """Gaussian blur at each radius, 0 to 1000 pixels."""

def jpeg_sweep(
    pixels: npt.NDArray[np.uint8],
    qualities: npt.NDArray[np.int32],
    subsampling: int,
    out: npt.NDArray[np.uint8],
    threads: int = 1,
    resampling: int | None = None,
) -> None:
    """JPEG at each quality 1..100: pixels (H, W, 3), out (Q, H, W, 3), both C-contiguous; subsampling by Pillow's
    number, 0 to 2. With a filter by Pillow's number each copy is resized to the height and width of `out`. Here and
    below another type, shape or layout is a TypeError or ValueError, and `out` is as it was.
    """

def jpeg_sweep_float16(
    pixels: npt.NDArray[np.uint8],
    qualities: npt.NDArray[np.int32],
    subsampling: int,
    mean: npt.NDArray[np.float64],
    std: npt.NDArray[np.float64],
    out: npt.NDArray[np.float16],
    threads: int = 1,
    resampling: int | None = None,
) -> None:
    """What `jpeg_sweep_float32` gives, rounded to half precision."""

def jpeg_sweep_float32(
    pixels: npt.NDArray[np.uint8],
    qualities: npt.NDArray[np.int32],
    subsampling: int,
    mean: npt.NDArray[np.float64],
    std: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
    threads: int = 1,
    resampling: int | None = None,
) -> None:
    """JPEG at each quality as (value / 255 - mean) / std of each channel: out (Q, 3, H, W), mean and std (3,)."""

def jpeg_sweep_grey(
    pixels: npt.NDArray[np.uint8],
    qualities: npt.NDArray[np.int32],
    out: npt.NDArray[np.uint8],
    threads: int = 1,
    resampling: int | None = None,
) -> None:
    """JPEG of a grey image at each quality: pixels (H, W), out (Q, H, W)."""

def residual(
    pixels: npt.NDArray[np.uint8], shares: npt.NDArray[np.float64], down: int, up: int, out: npt.NDArray[np.int16]
) -> None:
    """Residual images that keep each share (0 to 1, both excluded) of the sides; filters by Pillow's numbers."""

def residual_coded(
    pixels: npt.NDArray[np.uint8], shares: npt.NDArray[np.float64], down: int, up: int, out: npt.NDArray[np.uint8]
) -> None:
    """The same as 128 + residual, cut to 0..255."""

def rotate(pixels: npt.NDArray[np.uint8], angles: npt.NDArray[np.float64], out: npt.NDArray[np.uint8]) -> None:
    """Rotation by each angle in degrees, counter-clockwise."""

def scale(
    pixels: npt.NDArray[np.uint8], factors: npt.NDArray[np.float64], resampling: int, out: npt.NDArray[np.uint8]
) -> None:
    """Scaling by each factor, 0.1 to 10, with a filter by Pillow's number."""

def simd_level() -> str:
    """Vector instructions that this machine offers: 'avx512', 'avx2', 'sse2', 'neon' or 'scalar'."""

def tensor(
    pixels: npt.NDArray[np.uint8],
    mean: npt.NDArray[np.float64],
    std: npt.NDArray[np.float64],
    out: npt.NDArray[np.float32],
) -> None:
    """(value / 255 - mean) / std, colours apart: fills `out`, C-contiguous (N, 3, H, W)."""

def version() -> str:
    """Version of the runtime, 'major.minor.patch'."""

def writable_device_array(array: object) -> tuple[int, tuple[int, ...], tuple[int, ...], str, bool]:
    """What `device_array` gives, of an array that may be written to; TypeError for another."""
