"""Notices probing: somebody who sends many images that are nearly the same, to learn where the label changes.

After Li, Shan, Wenger, Zhang, Zheng and Zhao, "Blacklight: Scalable Defense for Neural Networks against Query-Based
Black-Box Attacks", USENIX Security 2022: the pixels are rounded coarsely, every window of neighbouring values is hashed
with a secret, and the 50 largest hashes are the image's fingerprint. Two images whose fingerprints share more than half
are nearly the same. Nobody who doesn't know the secret can say which windows count.

What differs here. The windows are hashed by a secret random linear map over 64 bits, mixed afterwards, instead of
SHA-256: the same use, in a few array operations. One match is no alarm, since a camera that stands still sends images
that are nearly the same too: a *series* of them is, of all clients together, so that many accounts don't help. An image
that is exactly one that was sent before tells its sender nothing new (it gets the same verdict), and doesn't count.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from firewall.frame import Pixels
from firewall.transforms import resize
from firewall.verdict import Reason, Verdict

__all__ = ["HASHES", "History", "fingerprint"]

#: Hashes in a fingerprint, and how many two images have in common if they are nearly the same (the paper's).
HASHES = 50
_COMMON = 25
_WINDOW = 20  # values in a window, the paper's for small images
_STEP = 50  # brightness levels that become one, the paper's
_LONGEST = 600.0  # seconds that an image is remembered
_MOST_NAMED = 5

Hashes = npt.NDArray[np.uint64]


def fingerprint(pixels: Pixels, secret: Hashes) -> Hashes:
    """An image's fingerprint.

    Args:
        pixels: (H, W, 3) uint8.
        secret: _WINDOW + 2 random numbers, odd the last two.

    Returns:
        At most HASHES different hashes; fewer if the image has fewer different windows.
    """
    values = (pixels.reshape(-1) // _STEP).astype(np.uint64) + np.uint64(1)
    count = len(values) - _WINDOW + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    hashes = np.zeros(count, np.uint64)
    for place in range(_WINDOW):
        hashes += values[place : place + count] * secret[place]
    # The low bits of a linear map depend on few bits: mix before the largest are taken.
    for factor in secret[_WINDOW:]:
        hashes ^= hashes >> np.uint64(32)
        hashes *= factor
    hashes ^= hashes >> np.uint64(32)
    return np.unique(hashes)[-HASHES:]


@dataclass(slots=True)
class _Series:
    """Images that are nearly the same, one after the other.

    Attributes:
        times: When each came, `time.monotonic()`.
        clients: Who sent how many.
        reported: Whether it was reported.
    """

    times: deque[float] = field(default_factory=deque)
    clients: Counter[str] = field(default_factory=Counter)
    reported: bool = False


@dataclass(slots=True)
class _Image:
    number: int
    came: float
    digest: bytes
    hashes: Hashes
    series: _Series


class History:
    """The newest images of all clients. Used by one thread."""

    def __init__(
        self,
        size: tuple[int, int],
        *,
        after: int,
        withhold: bool = False,
        most: int = 4096,
        near: Callable[[], None] = lambda: None,
        report: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without memory, with a new secret.

        Args:
            size: (width, height) that images are compared at: the classifier's.
            after: A series of so many near-identical images within ten minutes is reported.
            withhold: Whether the images of a reported series are withheld, as `suspicious`: the one who probes doesn't
                learn that it was noticed.
            most: How many images are remembered.
            near: Called for each near-identical image.
            report: Called for each series that is reported, beside the line in the log.
            clock: Seconds.
        """
        self._size, self._after, self._withhold = size, after, withhold
        self._most, self._near, self._report, self._clock = most, near, report, clock
        self._secret: Hashes = np.frombuffer(secrets.token_bytes(8 * (_WINDOW + 2)), np.uint64) | np.uint64(1)
        self._digest_key = secrets.token_bytes(16)
        self._images: deque[_Image] = deque()
        self._by_number: dict[int, _Image] = {}
        self._newest: dict[int, int] = {}  # hash -> number of the newest image that has it
        self._digests: Counter[bytes] = Counter()
        self._count = 0

    def seen(self, pixels: Pixels, client: str, verdict: Verdict) -> Verdict:
        """Remember an image.

        Args:
            pixels: (H, W, 3) uint8.
            client: Who sent it.
            verdict: On it.

        Returns:
            The verdict; one that withholds, if the image belongs to a series that is to be withheld. Whatever goes
            wrong here withholds too.
        """
        try:
            probing = self._noticed(pixels, client)
        except Exception as error:
            logging.getLogger(__name__).error("the history failed: %s: %s", type(error).__name__, error)
            return _withheld(verdict, Reason.UNKNOWN)
        return _withheld(verdict, Reason.SUSPICIOUS) if probing and self._withhold and verdict.released else verdict

    def _noticed(self, pixels: Pixels, client: str) -> bool:
        """Whether the image belongs to a series that was reported."""
        now = self._clock()
        self._forget(now)
        image = resize(pixels, *self._size)
        digest = blake2b(image.tobytes(), key=self._digest_key, digest_size=16).digest()
        hashes = fingerprint(image, self._secret)
        before = self._nearest(hashes)
        series = before or _Series()
        if before is not None and not self._digests[digest]:
            self._near()
            series.times.append(now)
            series.clients[client] += 1
            while series.times and now - series.times[0] > _LONGEST:
                series.times.popleft()
            if len(series.times) >= self._after and not series.reported:
                series.reported = True
                self._report()
                named = ", ".join(f"{name} ({count})" for name, count in series.clients.most_common(_MOST_NAMED))
                logging.getLogger(__name__).warning(
                    "probing: %d images that are nearly the same within %.0f s, from %s",
                    len(series.times),
                    now - series.times[0],
                    named,
                )
        self._remember(_Image(self._count, now, digest, hashes, series))
        return series.reported

    def _nearest(self, hashes: Hashes) -> _Series | None:
        """The series that shares most with the image, if it shares enough.

        A series is asked and not each of its images: what the first and the tenth have in common is noted for the tenth
        alone.
        """
        numbers = [number for each in hashes.tolist() if (number := self._newest.get(each)) is not None]
        shared = Counter(id(self._by_number[number].series) for number in numbers)
        if not shared:
            return None
        ((_, common),) = shared.most_common(1)
        # A plain image has few different windows: then half of those it has.
        if common <= min(_COMMON, len(hashes) // 2):
            return None
        found = (self._by_number[number].series for number in numbers)
        return max(found, key=lambda series: shared[id(series)])

    def _remember(self, image: _Image) -> None:
        self._count += 1
        self._images.append(image)
        self._by_number[image.number] = image
        self._digests[image.digest] += 1
        for each in image.hashes.tolist():
            self._newest[each] = image.number
        if len(self._images) > self._most:
            self._drop()

    def _forget(self, now: float) -> None:
        while self._images and now - self._images[0].came > _LONGEST:
            self._drop()

    def _drop(self) -> None:
        image = self._images.popleft()
        del self._by_number[image.number]
        self._digests[image.digest] -= 1
        if not self._digests[image.digest]:
            del self._digests[image.digest]
        for each in image.hashes.tolist():
            if self._newest.get(each) == image.number:
                del self._newest[each]


def _withheld(verdict: Verdict, reason: Reason) -> Verdict:
    return replace(verdict, released=False, label=None, label_name=None, reason=reason)
