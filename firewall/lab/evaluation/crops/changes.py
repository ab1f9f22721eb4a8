"""What happens to benign crops on their way to the firewall: weather, light, lenses, compression, another box.

The shifts of `firewall.lab.datasets.shifts` at a crop's own size, and more that no training draws from.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from firewall.errors import UsageError
from firewall.lab.datasets.shifts import KINDS, SHIFTS
from firewall.transforms import apply_operations, resize

__all__ = ["CHANGES", "changed"]

Pixels = npt.NDArray[np.uint8]
Change = Callable[[Pixels, np.random.Generator], Pixels]


def _shift(name: str) -> Change:
    kind, strength = SHIFTS[name]

    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        return KINDS[kind].physics(pixels, generator, **strength)

    return change


def _jpeg(quality: int) -> Change:
    def change(pixels: Pixels, _: np.random.Generator) -> Pixels:
        stored: Pixels = apply_operations(pixels, [f"jpeg:{quality}"])[0]
        return stored

    return change


def _box(share: float) -> Change:
    """Moved in both directions, and larger or smaller, each by up to `share` of the side; beyond the crop its edge goes
    on."""

    def change(pixels: Pixels, generator: np.random.Generator) -> Pixels:
        height, width = pixels.shape[:2]
        right, down, scale = generator.uniform(-share, share, 3)
        wide, high = max(1, round(width * (1 + scale))), max(1, round(height * (1 + scale)))
        left, top = round((width - wide) / 2 + right * width), round((height - high) / 2 + down * height)
        border = max(width, height)
        around = cv2.copyMakeBorder(pixels, border, border, border, border, cv2.BORDER_REPLICATE)
        return np.ascontiguousarray(around[border + top : border + top + high, border + left : border + left + wide])

    return change


def _warm(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """As under a low sun: more red, a quarter less blue."""
    return _bytes(pixels * np.array([1.1, 1.0, 0.75]))


def _motion(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Smeared along a line at a random angle, a tenth of the shorter side and at least three pixels long."""
    length = max(3, round(0.1 * min(pixels.shape[:2])))
    angle = generator.uniform(0, np.pi)
    half = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
    size = length + 2 + (length + 1) % 2  # odd, with room for the line's soft edge
    kernel = np.zeros((size, size), np.float32)
    start, end = (np.round((size // 2 + sign * half) * 16).astype(int).tolist() for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_AA, shift=4)
    smeared: Pixels = cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE).astype(np.uint8)
    return smeared


def _half(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """Seen by a camera of half the resolution."""
    height, width = pixels.shape[:2]
    return resize(pixels, max(1, width // 2), max(1, height // 2))


def _gamma(pixels: Pixels, _: np.random.Generator) -> Pixels:
    return _bytes(255 * (pixels / 255.0) ** 2)


def _bytes(values: npt.NDArray[np.floating]) -> Pixels:
    rounded: Pixels = (np.clip(values, 0, 255) + 0.5).astype(np.uint8)
    return rounded


#: By name. Never change what a name means: add one.
CHANGES: MappingProxyType[str, Change] = MappingProxyType(
    {
        **{name: _shift(name) for name in SHIFTS},
        **{f"jpeg-{quality}": _jpeg(quality) for quality in (90, 75, 50)},
        "box-5": _box(0.05),
        "box-10": _box(0.1),
        "warm": _warm,
        "motion": _motion,
        "half": _half,
        "gamma-2": _gamma,
    }
)


def changed(images: list[Pixels], name: str, seed: int = 0) -> list[Pixels]:
    """Crops under a change. What becomes of one doesn't depend on those before it.

    Args:
        images: Uint8 (h, w, 3) each.
        name: A key of CHANGES.
        seed: What is random depends on it.

    Returns:
        Uint8 (h, w, 3) each; the size may differ from before.

    Raises:
        UsageError: There is no such change.
    """
    if name not in CHANGES:
        raise UsageError(f"unknown change {name!r}; known: {', '.join(CHANGES)}")
    number = zlib.crc32(name.encode())
    return [CHANGES[name](image, np.random.default_rng([seed, number, i])) for i, image in enumerate(images)]
