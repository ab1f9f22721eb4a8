"""A moving picture made by numpy: for trying things out and for tests, without a camera."""

from __future__ import annotations

import time

import numpy as np

from firewall.frame import Pixels

__all__ = ["PatternReader", "pattern"]


def pattern(index: int, width: int, height: int) -> Pixels:
    """Frame `index` as (height, width, 3) uint8 RGB: a colour ramp with a bright square that moves 4 pixels a frame.

    The first 16 pixels of the top row hold the low 16 bits of `index`, white for 1, lowest bit first.
    """
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 200, width).astype(np.uint8)
    pixels[..., 1] = np.linspace(0, 200, height).astype(np.uint8)[:, None]
    pixels[..., 2] = index * 4 % 200
    side = max(1, min(width, height) // 6)
    x = index * 4 % max(1, width - side)
    pixels[height // 2 - side // 2 :, x : x + side][:side] = 255
    for bit in range(min(16, width)):
        pixels[0, bit] = 255 if index >> bit & 1 else 0
    return pixels


class PatternReader:
    """Frames of `pattern`, `fps` a second if `paced`, otherwise as fast as they are asked for."""

    def __init__(self, options: dict[str, str], *, paced: bool, start: int = 0) -> None:
        """Take the options.

        Args:
            options: Fps (30), size (640x480), frames (without end), freeze (never): from that frame on the picture
                stays as it is, as a camera's that hangs.
            paced: Give frames at their rate, not as fast as they are read.
            start: Index of the first frame.
        """
        width, height = options.get("size", "640x480").split("x")
        self._width, self._height = int(width), int(height)
        self._period = 1 / float(options.get("fps", "30"))
        self._freeze = int(options["freeze"]) if "freeze" in options else None
        self._frames = int(options["frames"]) if "frames" in options else None
        self._paced = paced
        self._index = start
        self._due = time.monotonic()

    def __iter__(self) -> PatternReader:
        return self

    def __next__(self) -> tuple[Pixels, float]:
        """(pixels (H, W, 3) uint8 RGB, time.monotonic() when it was made)."""
        if self._frames is not None and self._index >= self._frames:
            raise StopIteration
        if self._paced:
            now = time.monotonic()
            if self._due > now:
                time.sleep(self._due - now)
            # From the moment it is, not from the one it should have been: a machine that slept sends no burst.
            self._due = max(self._due, now) + self._period
        captured_at = time.monotonic()
        index = self._index if self._freeze is None else min(self._index, self._freeze)
        pixels = pattern(index, self._width, self._height)
        self._index += 1
        return pixels, captured_at

    def close(self) -> None:
        """Nothing is held open."""
