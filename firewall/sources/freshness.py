"""Is a frame new, and does it show a scene? Cameras, drivers and decoders that fail often show earlier pictures again.

Three rules on what is new. Time stamps must rise (the reader of a camera checks the camera's own clock). A live source
must show another picture within some time: an old picture is not a new frame. And a frame of a sensor must not share
rows with an earlier one, since noise makes all rows differ. The last rule is not used for pictures that were drawn, or
coded with reference to the frame before: there equal rows are normal.

A camera that shows nothing new, or whose pictures show no scene (firewall.sources.camera_faults), has a *fault*. It
lasts until there were some good frames in a row: one that comes and goes is not to be believed in between.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from firewall.errors import CameraFaultError, StaleError
from firewall.frame import Pixels
from firewall.sources.camera_faults import picture_fault

__all__ = ["REMEMBERED", "Freshness"]

#: Pictures that a new one is compared with. A camera whose sensor hangs shows the buffers of its driver by turns (V4L2
#: has 32 at most), one whose recorder hangs a loop of seconds.
REMEMBERED = 64
# Mean difference of neighbours in a row, in steps of 0..255: below it, a row is flat (clipped black or white, a margin)
# and may be equal in good health.
_TEXTURE = 1.5

_Words = npt.NDArray[np.uint64]


class Freshness:
    """Judges each frame of one source, and compares it with those before it. About 1 ms for 1280x720."""

    def __init__(
        self,
        name: str,
        *,
        frozen_after: float,
        stale_rows: float,
        picture_faults: bool = False,
        good_frames: int = 0,
    ) -> None:
        """Begin without earlier frames.

        Args:
            name: Name of the source, for messages.
            frozen_after: Seconds without a new picture after which the camera has a fault.
            stale_rows: Share of a frame's rows that may be those of an earlier one. 0 turns either off.
            picture_faults: A camera that is blank, blocked or over-exposed has a fault, too.
            good_frames: New pictures without fault in a row that are still refused after a fault.
        """
        self._picture_faults, self._good_frames = picture_faults, good_frames
        self._fault, self._good = "", 0  # the kind of the last fault, "" of none; good frames since
        self._by_turns: set[int] = set()  # places in the ring of what was shown since the last new picture
        self._name, self._frozen_after, self._stale_rows = name, frozen_after, stale_rows
        self._at = self._changed = -math.inf
        self._recent: _Words = np.empty((REMEMBERED, 0), np.uint64)  # a ring: the hashed rows of each picture
        self._pictures = 0  # that were put there
        self._shape: tuple[int, ...] = ()
        self._weights: _Words = np.empty(0, np.uint64)

    def check(self, pixels: Pixels, captured_at: float) -> None:
        """Refuse a frame that is not new, or of a camera that has a fault.

        Args:
            pixels: (H, W, 3) uint8.
            captured_at: `time.monotonic()` in seconds.

        Raises:
            StaleError: If this frame isn't new, for its time or for a part of its rows.
            CameraFaultError: If its camera is frozen, repeating, blank, blocked or over-exposed, or was so until a
                moment ago; the message begins with which.
        """
        new, fault = False, picture_fault(pixels) if self._picture_faults else None
        try:
            new = self._check_new(pixels, captured_at)
        except CameraFaultError as error:
            fault = fault or str(error)  # a blank camera says more than one that repeats its blank picture
        except StaleError:
            self._good = 0
            raise
        if fault is not None:
            kind, _, what = fault.partition(": ")
            self._fault, self._good = kind, 0
            raise CameraFaultError(f"{kind}: {self._name}: {what}")
        if self._fault and self._good >= self._good_frames:
            self._fault = ""
        if self._fault:
            self._good += new
            raise CameraFaultError(
                f"{self._fault}: {self._name}: it was so a moment ago; good frames since: {self._good}, and "
                f"{self._good_frames} have to pass"
            )

    def _check_new(self, pixels: Pixels, captured_at: float) -> bool:
        """Whether the picture is a new one, as far as that is looked at; an error if it may not be shown again."""
        before, self._at = self._at, captured_at
        if not captured_at >= before:  # equal where several frames came in one packet
            raise StaleError(f"the time stamp of {self._name} goes back")
        if not self._frozen_after and not self._stale_rows:
            return True
        if pixels.shape != self._shape:
            self._shape = pixels.shape
            self._recent, self._pictures = np.empty((REMEMBERED, pixels.shape[0]), np.uint64), 0
        rows = self._hashed(pixels)
        alike = self._recent[: self._pictures] == rows
        equal = np.count_nonzero(alike, axis=1)
        same = np.flatnonzero(equal == len(rows))
        repeated = bool(same.size)
        if not repeated:
            self._by_turns = {self._pictures % REMEMBERED}
            self._recent[self._pictures % REMEMBERED] = rows
            self._pictures += 1
            self._changed = captured_at
        elif self._frozen_after:
            self._by_turns.add(int(same[0]))
            since = captured_at - self._changed
            if since >= self._frozen_after:
                count = len(self._by_turns)
                kind, what = ("frozen", "one picture") if count == 1 else ("repeating", f"{count} pictures by turns")
                raise CameraFaultError(f"{kind}: it repeats {what}, nothing new for {since:.1f} s")
        if self._stale_rows and not repeated and len(alike):
            self._check_rows(pixels, alike[np.argmax(equal)])
        return not (repeated and self._frozen_after)

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
