"""The JPEG quality-factor (QF) sweep: save and reopen an image at many qualities.

`jpeg_sweep_reference`, by Pillow, *is* the operation. `jpeg_sweep` gives the same bytes by the native runtime, which
does the work that is common to all qualities once and leaves out the entropy coding; without the runtime it is the
reference.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall import native
from firewall.errors import FirewallError, ImageError, UsageError

__all__ = ["SUBSAMPLINGS", "SWEEP_16", "SWEEP_76", "jpeg_sweep", "jpeg_sweep_reference"]

#: The 76 quality factors of Higashi, Kuribayashi et al., section 4.1: 25..100.
SWEEP_76: tuple[int, ...] = tuple(range(25, 101))
#: The 16 quality factors of Nguyen, Kuribayashi et al., table 2: 100, 95, ..., 25.
SWEEP_16: tuple[int, ...] = tuple(range(100, 24, -5))

#: Chroma subsampling names and Pillow's numbers for them.
SUBSAMPLINGS: dict[str, int] = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}

#: Longest side that the native runtime takes; Pillow's limit is about twice that.
_MAX_SIDE = 32767


def jpeg_sweep(
    pixels: npt.NDArray[np.uint8],
    qualities: Sequence[int],
    *,
    subsampling: str = "4:2:0",
    out: npt.NDArray[np.uint8] | None = None,
    threads: int = 1,
) -> npt.NDArray[np.uint8]:
    """Compress and decompress one image at each quality.

    Byte for byte what Pillow gives for `save(format="JPEG", quality=q, subsampling=s)` and `open`, at any
    height and width of at least 1 pixel.

    pixels: (H, W, 3) uint8 RGB. qualities: integers 1..100, any number, any order, repeats allowed.
    subsampling: "4:2:0" (default), "4:2:2" or "4:4:4". out: optional C-contiguous (Q, H, W, 3) uint8 buffer
    that receives the result and is returned; it must not share memory with `pixels`. threads: 1..64 for the native
    runtime, which shares the qualities among them; more than one pays from about a millisecond of work.

    Returns uint8 (Q, H, W, 3). Raises ImageError for pixels or a buffer of another shape or type, UsageError
    for a quality, subsampling or number of threads that is not allowed.
    """
    out = _checked(pixels, qualities, subsampling, out)
    if not 1 <= threads <= 64:
        raise UsageError(f"threads must be 1 to 64, got {threads}")
    runtime = _runtime()
    if runtime is None or max(pixels.shape) > _MAX_SIDE:
        return _by_pillow(pixels, qualities, subsampling, out)
    numbers = np.array(qualities, np.int32)
    runtime.jpeg_sweep(np.ascontiguousarray(pixels), numbers, SUBSAMPLINGS[subsampling], out, threads)
    return out


def jpeg_sweep_reference(
    pixels: npt.NDArray[np.uint8],
    qualities: Sequence[int],
    *,
    subsampling: str = "4:2:0",
    out: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """The definition of `jpeg_sweep`: the same arguments, the same result, by Pillow. For tests and measurements."""
    return _by_pillow(pixels, qualities, subsampling, _checked(pixels, qualities, subsampling, out))


@cache
def _runtime() -> ModuleType | None:
    try:
        return native.load()
    except FirewallError:  # not compiled; `firewall doctor` says so
        return None


def _by_pillow(
    pixels: npt.NDArray[np.uint8], qualities: Sequence[int], subsampling: str, out: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    for slot, quality in zip(out, qualities, strict=True):
        file = io.BytesIO()
        image.save(file, format="JPEG", quality=int(quality), subsampling=SUBSAMPLINGS[subsampling])
        slot[...] = np.asarray(Image.open(file))
    return out


def _checked(
    pixels: npt.NDArray[np.uint8], qualities: Sequence[int], subsampling: str, out: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.uint8]:
    """The buffer for the result, once everything is known to be allowed."""
    _check(pixels, qualities, subsampling)
    shape = (len(qualities), *pixels.shape)
    if out is None:
        return np.empty(shape, np.uint8)
    if out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous or not out.flags.writeable:
        raise ImageError(
            f"out must be a writeable C-contiguous uint8 array of shape {shape}, got {out.dtype} {out.shape}"
        )
    if np.may_share_memory(out, pixels):
        raise ImageError("out shares memory with pixels; give it a buffer of its own")
    return out


def _check(pixels: npt.NDArray[np.uint8], qualities: Sequence[int], subsampling: str) -> None:
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        got = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ImageError(f"pixels must be a uint8 array of shape (H, W, 3) in RGB order, got {got}")
    if 0 in pixels.shape:
        raise ImageError(f"pixels must be at least 1x1, got {pixels.shape[1]}x{pixels.shape[0]}")
    for quality in qualities:
        if isinstance(quality, bool) or not isinstance(quality, (int, np.integer)) or not 1 <= quality <= 100:
            raise UsageError(f"a JPEG quality must be an integer from 1 to 100, got {quality!r}")
    if subsampling not in SUBSAMPLINGS:
        raise UsageError(f"subsampling must be one of {', '.join(SUBSAMPLINGS)}, got {subsampling!r}")
