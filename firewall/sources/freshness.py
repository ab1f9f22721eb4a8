"""Is a frame new? Cameras, drivers and decoders that fail often show earlier pictures again.

Three rules. Time stamps must rise (the reader of a camera checks the camera's own clock). A live source must show
another picture within some time: an old picture is not a new frame. And a frame of a sensor must not share rows with an
earlier one, since noise makes all rows differ. The last rule is not used for pictures that were drawn, or coded with
reference to the frame before: there equal rows are normal.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from firewall.errors import StaleError
from firewall.frame import Pixels

__all__ = ["REMEMBERED", "Freshness"]

#: Pictures that a new one is compared with. A camera whose sensor hangs shows the buffers of its driver by turns (V4L2
#: has 32 at most), one whose recorder hangs a loop of seconds.
REMEMBERED = 64
# Mean difference of neighbours in a row, in steps of 0..255: below it, a row is flat (clipped black or white, a margin)
# and may be equal in good health.
_TEXTURE = 1.5

_Words = npt.NDArray[np.uint64]


class Freshness:
    """Compares each frame of one source with those before it. About 0.4 ms for 1280x720."""

    def __init__(self, name: str, *, frozen_after: float, stale_rows: float) -> None:
        """Begin without earlier frames.

        Args:
            name: Name of the source, for messages.
            frozen_after: Seconds without a new picture after which frames are stale.
            stale_rows: Share of a frame's rows that may be those of an earlier one. 0 turns either off.
        """
        self._name, self._frozen_after, self._stale_rows = name, frozen_after, stale_rows
        self._at = self._changed = -math.inf
        self._recent: _Words = np.empty((REMEMBERED, 0), np.uint64)  # a ring: the hashed rows of each picture
        self._pictures = 0  # that were put there
        self._shape: tuple[int, ...] = ()
        self._weights: _Words = np.empty(0, np.uint64)

    def check(self, pixels: Pixels, captured_at: float) -> None:
        """Refuse a frame that is not new.

        Args:
            pixels: (H, W, 3) uint8.
            captured_at: `time.monotonic()` in seconds.

        Raises:
            StaleError: If this frame isn't new.
        """
        before, self._at = self._at, captured_at
        if not captured_at >= before:  # equal where several frames came in one packet
            raise StaleError(f"the time stamp of {self._name} goes back")
        if not self._frozen_after and not self._stale_rows:
            return
        if pixels.shape != self._shape:
            self._shape = pixels.shape
            self._recent, self._pictures = np.empty((REMEMBERED, pixels.shape[0]), np.uint64), 0
        rows = self._hashed(pixels)
        alike = self._recent[: self._pictures] == rows
        equal = np.count_nonzero(alike, axis=1)
        repeated = bool(np.any(equal == len(rows)))
        if not repeated:
            self._recent[self._pictures % REMEMBERED] = rows
            self._pictures += 1
            self._changed = captured_at
        elif self._frozen_after and captured_at - self._changed >= self._frozen_after:
            raise StaleError(f"{self._name} repeats one picture: nothing new for {captured_at - self._changed:.1f} s")
        if self._stale_rows and not repeated and len(alike):
            self._check_rows(pixels, alike[np.argmax(equal)])

    def _hashed(self, pixels: Pixels) -> _Words:
        """(H,) a hash of each row: equal rows have equal ones, others as good as never."""
        height = pixels.shape[0]
        row = np.ascontiguousarray(pixels).reshape(height, -1)
        if row.shape[1] % 8:
            row = np.pad(row, ((0, 0), (0, -row.shape[1] % 8)))
        words = row.view(np.uint64)
        if self._weights.size != words.shape[1]:
            self._weights = np.random.default_rng().integers(0, 1 << 64, words.shape[1], np.uint64) | np.uint64(1)
        hashed: _Words = np.einsum("ij,j->i", words, self._weights)
        return hashed

    def _check_rows(self, pixels: Pixels, most: npt.NDArray[np.bool_]) -> None:
        """most: (H,) the rows that are those of the earlier picture that has most of them."""
        allowed = self._stale_rows * len(most)
        if np.count_nonzero(most) <= allowed:
            return
        rows = pixels[most].astype(np.int16)
        texture = np.abs(rows[:, 1:] - rows[:, :-1]).mean(axis=(1, 2))
        stale = np.count_nonzero(texture > _TEXTURE)
        if stale > allowed:
            raise StaleError(f"{stale} of {len(most)} rows of {self._name} are those of an earlier frame")
