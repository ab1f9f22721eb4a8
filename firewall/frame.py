"""One picture on its way through the firewall, and the check at the door that every picture passes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.errors import ImageError

__all__ = ["MAX_SIDE", "Frame", "Pixels", "Region", "check_form", "check_pixels"]

#: (H, W, 3) uint8 RGB.
Pixels = npt.NDArray[np.uint8]
#: (x, y, width, height) in pixels of the frame, origin at the top left.
Region = tuple[int, int, int, int]

#: The longest side that is judged, in pixels. A larger picture would block the firewall.
MAX_SIDE = 8192


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a source.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        source: The URI it came from, without credentials.
        sequence: Counts up from 0 in each source; a gap is a dropped frame.
        captured_at: `time.monotonic()` in seconds when it was taken.
    """

    pixels: Pixels
    source: str
    sequence: int
    captured_at: float


def check_pixels(pixels: object) -> Pixels:
    """Check pixels once, where they enter (sources, `Firewall.screen`), and nowhere else.

    Args:
        pixels: What should be an image.

    Returns:
        The same array, (H, W, 3) uint8.

    Raises:
        ImageError: If it is anything else than uint8 RGB of 1x1 to MAX_SIDE x MAX_SIDE pixels.
    """
    checked = check_form(pixels)
    height, width = checked.shape[:2]
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ImageError(f"an image must be 1x1 to {MAX_SIDE}x{MAX_SIDE} pixels, got {width}x{height}; scale it down")
    return checked


def check_form(pixels: object) -> Pixels:
    """As `check_pixels`, of any size: for finders of regions, which are asked before a frame is judged.

    Raises:
        ImageError: If it is anything else than uint8 of shape (H, W, 3), such as grey, with 16 bits, with transparency;
            or has no pixels.
    """
    if not isinstance(pixels, np.ndarray):
        raise ImageError(f"pixels must be a numpy array (H, W, 3) of uint8 in RGB order, got {type(pixels).__name__}")
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ImageError(f"pixels must be uint8 of shape (H, W, 3) in RGB order, got {pixels.dtype} {pixels.shape}")
    if not pixels.size:
        raise ImageError(f"an image of 0 pixels, {pixels.shape[1]}x{pixels.shape[0]}, can't be judged")
    return pixels
