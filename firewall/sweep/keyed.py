"""Copies of an image that are drawn by a secret of the device, so that nobody else knows which they are.

    nonce = BLAKE2b-128(height, width, pixels at the classifier's size)
    numbers of copy k = BLAKE2b(k; key = BLAKE2b-256(secret), salt = nonce)

The same secret and nonce always give the same copies, so those of a past verdict can be made again: `copies` says which
they were, from the nonce in the operator's verdict lines.

The nonce is a digest of the pixels, no counter and no random number. So an image that is shown again is judged again in
the same way: asking a hundred times is asking once. An image that differs in one bit has other copies, and what was
seen of other images says nothing about them (BLAKE2b with a key is a pseudo-random function). So whoever sees verdicts
learns one bit for each *different* image. If a share p of the draws would release it, about 1/p variants of it have to
be tried, and the one that passed keeps passing on this device until its key is changed. On another device it passes
with probability p.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from firewall.config.sweep_key import check_sweep_key
from firewall.detectors.draws import Drawn, DrawSpec
from firewall.engines import Engine
from firewall.errors import UsageError
from firewall.sweep.device_copies import Timed
from firewall.transforms import apply_operations

__all__ = [
    "GREY",
    "NONCE_BYTES",
    "Copy",
    "KeyedSweep",
    "copies",
    "key_of",
    "made",
    "nonce_of",
    "places",
    "sweep_notice",
]

NONCE_BYTES = 16
#: Of a mask.
GREY = 128

Pixels = npt.NDArray[np.uint8]
#: First and last pixel (y, y, x, x) of a mask.
_Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Copy:
    """One drawn copy.

    Attributes:
        operation: Its name, such as `jpeg:75`.
        right: Then everything moves right by this share of the width,
        down: and down by this share of the height; the border's pixels repeat.
        mask: Then a rectangle becomes grey: left, top, width, height, as shares. None: no mask.
    """

    operation: str
    right: float = 0.0
    down: float = 0.0
    mask: tuple[float, float, float, float] | None = None


def nonce_of(image: Pixels) -> bytes:
    """What the copies of an image are drawn from, beside the key.

    Args:
        image: (H, W, 3) uint8, at the classifier's size.

    Returns:
        16 bytes.
    """
    digest = blake2b(repr(image.shape).encode(), digest_size=NONCE_BYTES, person=b"sweep nonce")
    digest.update(np.ascontiguousarray(image).data)
    return digest.digest()


def key_of(seed: int) -> bytes:
    """A key for experiments that can be repeated. It is no secret: never use it on a device."""
    return blake2b(str(seed).encode(), digest_size=32, person=b"sweep of the lab").digest()


def copies(key: bytes, nonce: bytes, draw: DrawSpec) -> tuple[Copy, ...]:
    """The copies of a verdict, from the device's key and the nonce in the operator's verdict line.

    Args:
        key: The device's secret, 16 bytes at least.
        nonce: 16 bytes: `bytes.fromhex` of the line's `nonce`.
        draw: The parameter `draw` of the bundle's detector `keyed`.

    Returns:
        As many as `draw.copies`.

    Raises:
        UsageError: If the key is too short, or the nonce is none.
    """
    if len(nonce) != NONCE_BYTES:
        raise UsageError(f"a nonce has {NONCE_BYTES} bytes, got {len(nonce)}; take it from an operator's verdict line")
    return _copies(_hashed(key), nonce, draw)


def _hashed(key: bytes) -> bytes:
    return blake2b(check_sweep_key(key), digest_size=32, person=b"sweep key").digest()


def _copies(hashed: bytes, nonce: bytes, draw: DrawSpec) -> tuple[Copy, ...]:
    return tuple(_copy(_numbers(hashed, nonce, place), draw) for place in range(draw.copies))


def _numbers(hashed: bytes, nonce: bytes, place: int) -> list[float]:
    """Eight numbers of 0 to below 1."""
    block = blake2b(place.to_bytes(4, "big"), key=hashed, salt=nonce, person=b"sweep copy").digest()
    return [(int.from_bytes(block[start : start + 8], "big") >> 11) * 2.0**-53 for start in range(0, 64, 8)]


def _copy(numbers: Sequence[float], draw: DrawSpec) -> Copy:
    which, how, right, down, area, shape, left, top = numbers
    mask = None
    if draw.mask > 0:
        size, ratio = area * draw.mask, 2 ** (shape - 0.5)
        width, height = math.sqrt(size * ratio), math.sqrt(size / ratio)
        mask = (left * (1 - width), top * (1 - height), width, height)
    return Copy(_operation(which, how, draw), (2 * right - 1) * draw.shift, (2 * down - 1) * draw.shift, mask)


def _operation(which: float, how: float, draw: DrawSpec) -> str:
    families = [
        name
        for name, there in (("jpeg", draw.quality), ("rotate", draw.angle > 0 or None), ("scale", draw.factor))
        if there is not None
    ]
    family = families[int(which * len(families))]
    if draw.quality is not None and family == "jpeg":
        low, high = draw.quality
        return f"jpeg:{low + int(how * (high - low + 1))}"
    if draw.factor is not None and family == "scale":
        return f"scale:{draw.factor[0] + how * (draw.factor[1] - draw.factor[0]):.3f}"
    return f"rotate:{(2 * how - 1) * draw.angle:.2f}"


def places(copy: Copy, width: int, height: int) -> tuple[int, int, _Box | None]:
    """A copy's shift and mask in pixels.

    Args:
        copy: The copy.
        width: Of the image, pixels.
        height: Of the image, pixels.

    Returns:
        How far right and down, and rows and columns of the mask: from, to, from, to. None: there is no mask.
    """
    box = None
    if copy.mask is not None:
        left, top, wide, high = copy.mask
        box = (round(top * height), round((top + high) * height), round(left * width), round((left + wide) * width))
    return round(copy.right * width), round(copy.down * height), box


def made(image: Pixels, drawn: Sequence[Copy]) -> Pixels:
    """Make copies.

    Args:
        image: (H, W, 3) uint8 RGB.
        drawn: What `copies` gave.

    Returns:
        uint8 (len(drawn), H, W, 3).
    """
    height, width = image.shape[:2]
    found = apply_operations(image, [copy.operation for copy in drawn])
    for place, copy in enumerate(drawn):
        right, down, box = places(copy, width, height)
        if right or down:
            rows = np.clip(np.arange(height) - down, 0, height - 1)
            columns = np.clip(np.arange(width) - right, 0, width - 1)
            found[place] = found[place][rows[:, None], columns]
        if box is not None:
            found[place, box[0] : box[1], box[2] : box[3]] = GREY
    return found


def sweep_notice(sweep: KeyedSweep | None, *, named: bool) -> str:
    """What the operator has to know about keys, in one line; empty if nothing.

    Args:
        sweep: The firewall's `keyed`.
        named: Whether a key was given.
    """
    if sweep is None:
        return "this bundle has no keyed sweep: the sweep key is not used" if named else ""
    if sweep.own_key:
        return ""
    return (
        "keyed sweep: its key is drawn for this run, so nobody can make the copies of its verdicts again; name a key "
        "with --sweep-key FILE"
    )


class KeyedSweep:
    """Draws, makes and classifies copies.

    Args:
        engine: The classifier on its device. The copies are made on the processor.
        key: The device's secret, 16 bytes at least. None: one is drawn for this run, and nobody can repeat its draws.

    Attributes:
        own_key: Whether a key was given.

    Raises:
        UsageError: If the key is too short.
    """

    def __init__(self, engine: Engine, key: bytes | None = None) -> None:
        self.own_key = key is not None
        self._engine = engine
        self._hashed = _hashed(secrets.token_bytes(32) if key is None else key)

    def of(self, image: Pixels, draw: DrawSpec, timed: Timed) -> Drawn:
        """The copies of an image.

        Args:
            image: (H, W, 3) uint8 RGB at the classifier's size.
            draw: What may be drawn.
            timed: Measures a named stage.

        Returns:
            The copies, classified in one batch.

        Raises:
            EngineError: If the network fails.
        """
        with timed("sweep"):
            nonce = nonce_of(image)
            pixels = made(image, _copies(self._hashed, nonce, draw))
        with timed("classify"):
            return Drawn(nonce, pixels, self._engine.classify(pixels))
