"""A frame laid into the rectangle that a detector reads, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from firewall.frame import Pixels
from firewall.regions.boxes import Floats

__all__ = ["GREY", "Placement", "place"]

#: What Ultralytics fills with.
GREY = 114


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the frame lies in the network's input, all in pixels of the input: it starts at (left, top) and is
    `across` times as wide and `down` times as high as it was."""

    left: int
    top: int
    across: float
    down: float

    def to_frame(self, corners: Floats) -> Floats:
        """x0, y0, x1, y1 (N, 4) in pixels of the input -> in pixels of the frame, not cut off at its edges."""
        start = np.array([self.left, self.top] * 2, np.float64)
        return np.asarray((corners - start) / np.array([self.across, self.down] * 2), np.float64)


def place(pixels: Pixels, height: int, width: int, *, letterbox: bool) -> tuple[Pixels, Placement]:
    """The frame at height x width, and where in it the frame lies.

    Args:
        pixels: (H, W, 3) uint8.
        height: Height of the network's input in pixels.
        width: Width of the network's input in pixels.
        letterbox: Keep the aspect, centred, the rest grey, as Ultralytics does it to the pixel; otherwise the frame is
            stretched.

    Returns:
        uint8 (height, width, 3).
    """
    high, wide = pixels.shape[:2]
    if not letterbox:
        return _resized(pixels, height, width), Placement(0, 0, width / wide, height / high)
    ratio = min(height / high, width / wide)
    inner_high, inner_wide = (max(1, min(side, round(old * ratio))) for side, old in ((height, high), (width, wide)))
    # Halves go to the right and bottom, as the exporter's own letterbox rounds them.
    top, left = round((height - inner_high) / 2 - 0.1), round((width - inner_wide) / 2 - 0.1)
    canvas = np.full((height, width, 3), GREY, np.uint8)
    canvas[top : top + inner_high, left : left + inner_wide] = _resized(pixels, inner_high, inner_wide)
    return canvas, Placement(left, top, inner_wide / wide, inner_high / high)


def _resized(pixels: Pixels, height: int, width: int) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(
        cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=cv2.INTER_LINEAR), np.uint8
    )
