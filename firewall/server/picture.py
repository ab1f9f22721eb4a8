"""One frame as a JPEG for the page, encoded when first asked for and never again."""

from __future__ import annotations

import threading

import cv2
import numpy as np

from firewall.errors import ImageError
from firewall.frame import Frame, Pixels

__all__ = ["LONGEST_SIDE", "SMALL_SIDE", "Picture"]

#: A page shows no more than this many pixels along the longer side; the boxes are in pixels of the frame.
LONGEST_SIDE = 1280
#: The same of one of several cameras that are shown side by side.
SMALL_SIDE = 320
_QUALITY = 82


class Picture:
    """Thread-safe: two browsers that ask at once wait for one encoding."""

    def __init__(self, frame: Frame) -> None:
        self.sequence = frame.sequence
        self.height, self.width = frame.pixels.shape[:2]
        self._pixels: Pixels | None = frame.pixels
        self._jpeg = self._small = b""
        self._lock = threading.Lock()

    def jpeg(self) -> bytes:
        """The frame as JPEG, scaled down to LONGEST_SIDE; raises ImageError if the encoder refuses."""
        with self._lock:
            if self._pixels is not None:
                self._jpeg = _encode(self._pixels, LONGEST_SIDE)
                self._pixels = None  # what is kept for a slow browser should be small
            return self._jpeg

    def small(self) -> bytes:
        """The same, scaled down to SMALL_SIDE."""
        with self._lock:
            if not self._small:
                pixels = self._pixels
                if pixels is None:
                    seen = np.asarray(cv2.imdecode(np.frombuffer(self._jpeg, np.uint8), cv2.IMREAD_COLOR), np.uint8)
                    pixels = seen[..., ::-1]
                self._small = _encode(pixels, SMALL_SIDE)
            return self._small


def _encode(pixels: Pixels, longest: int) -> bytes:
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    # OpenCV, not Pillow: it lets the frame loop run while it works.
    image = np.ascontiguousarray(pixels)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise ImageError(f"can't encode a frame of {width}x{height} as JPEG for the page")
    return data.tobytes()
