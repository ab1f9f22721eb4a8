"""What may happen to a benign image on its way: JPEG, blur, darkness, noise, rain, fog ... One table, one physics.

Training, calibration, evaluation and drift share it. At a fixed strength (`shifted`) two bundles are measured on the
same images; at a random one (`augmented`) detectors are trained. An attacked image is shifted *before* the attack, as a
camera would: the shifted benign image plus the same change. So both classes have the same history, and no change is
blurred away under the label "adversarial".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from firewall.errors import UsageError
from firewall.transforms import apply_operations, resize

__all__ = ["AUGMENTATIONS", "JPEG", "KINDS", "SHIFTS", "augmented", "shifted"]

Pixels = npt.NDArray[np.uint8]

#: How training images are changed: not at all; by one or two random shifts in half of the cases; or so, with more noise
#: on benign images, and none that a change could hide in on attacked ones.
AUGMENTATIONS = ("none", "shifts", "sensor")

#: Grey levels, root mean square: a smaller change is not seen under the noise of `_noise`.
_HIDDEN = 3.0


def _jpeg(pixels: Pixels, _: np.random.Generator, quality: float) -> Pixels:
    """Stored once as JPEG."""
    return _operation(pixels, f"jpeg:{round(quality)}")


def _blur(pixels: Pixels, _: np.random.Generator, radius: float) -> Pixels:
    """Out of focus: Gaussian, `radius` pixels."""
    return _operation(pixels, f"blur:{radius:g}")


def _gamma(pixels: Pixels, _: np.random.Generator, gamma: float, light: float) -> Pixels:
    """Darker for a gamma above 1, brighter below; `light`: share of the light that is left."""
    return _bytes(light * 255 * (pixels / 255.0) ** gamma)


def _sharp(pixels: Pixels, _: np.random.Generator, amount: float, deviation: float) -> Pixels:
    """An unsharp mask, as cameras apply it: `amount` of the difference to a blurred copy is added."""
    soft = cv2.GaussianBlur(pixels, (0, 0), deviation).astype(np.float64)
    return _bytes(pixels + amount * (pixels - soft))


def _noise(pixels: Pixels, generator: np.random.Generator, deviation: float, grey: float) -> Pixels:
    """Of a sensor: independent, `deviation` grey levels; the same in all channels with a probability of `grey`."""
    channels = 1 if grey and generator.random() < grey else 3
    return _bytes(pixels + generator.normal(0, deviation, (*pixels.shape[:2], channels)))


def _rain(pixels: Pixels, generator: np.random.Generator, streaks: float, veil: float) -> Pixels:
    """Slanted, blurred streaks, `streaks` of them on 48 x 48 pixels; `veil`: share of the contrast that is lost."""
    height, width = pixels.shape[:2]
    drawn = np.zeros((height, width), np.float32)
    slant = generator.uniform(-0.3, 0.3)
    for _ in range(max(5, round(streaks * height * width / 48**2))):
        x, y = generator.uniform(0, width), generator.uniform(-0.2 * height, height)
        length = generator.uniform(0.1, 0.25) * height
        ends = (round(x), round(y)), (round(x + slant * length), round(y + length))
        cv2.line(drawn, *ends, float(generator.uniform(40, 100)), 1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(drawn, (0, 0), 0.6)
    return _bytes((1 - veil) * pixels + 100 * veil + soft[:, :, np.newaxis])


def _fog(pixels: Pixels, generator: np.random.Generator, density: float) -> Pixels:
    """`density` of the light is scattered, more at the top than at the bottom, in drifts."""
    height, width = pixels.shape[:2]
    coarse = generator.uniform(-0.1, 0.1, (4, 4)).astype(np.float32)
    drifts = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    scattered = np.linspace(density + 0.1, density - 0.1, height)[:, np.newaxis] + drifts
    scattered = np.clip(scattered, 0, 1)[:, :, np.newaxis]
    return _bytes(pixels * (1 - scattered) + 200 * scattered)


def _operation(pixels: Pixels, name: str) -> Pixels:
    """One of the firewall's own operations."""
    changed: Pixels = apply_operations(pixels, [name])[0]
    return changed


def _bytes(values: npt.NDArray[np.floating]) -> Pixels:
    rounded: Pixels = (np.clip(values, 0, 255) + 0.5).astype(np.uint8)
    return rounded


@dataclass(frozen=True)
class Kind:
    """One physics.

    Args:
        physics: (H, W, 3) uint8, a generator and parameters -> (H, W, 3) uint8.
        ranges: Parameter -> the range that training draws it from.
    """

    physics: Callable[..., Pixels]
    ranges: Mapping[str, tuple[float, float]]

    def drawn(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """The image at a random strength."""
        strength = {name: generator.uniform(low, high) for name, (low, high) in self.ranges.items()}
        return self.physics(pixels, generator, **strength)


KINDS: MappingProxyType[str, Kind] = MappingProxyType(
    {
        "noise": Kind(_noise, {"deviation": (2, 10), "grey": (0.5, 0.5)}),
        "jpeg": Kind(_jpeg, {"quality": (70, 95)}),
        "blur": Kind(_blur, {"radius": (0.4, 1.5)}),
        "dark": Kind(_gamma, {"gamma": (1.2, 2.2), "light": (0.6, 1)}),
        "bright": Kind(_gamma, {"gamma": (0.45, 0.85), "light": (1, 1)}),
        "sharp": Kind(_sharp, {"amount": (0.3, 1.2), "deviation": (0.6, 1.5)}),
        "rain": Kind(_rain, {"streaks": (10, 40), "veil": (0, 0.15)}),
        "fog": Kind(_fog, {"density": (0.2, 0.5)}),
    }
)

#: Shifts of one fixed strength by name: the kind, and its parameters. New ones go to the end: the place in the table is
#: part of a shift's seed.
SHIFTS: MappingProxyType[str, tuple[str, Mapping[str, float]]] = MappingProxyType(
    {
        "jpeg-95": ("jpeg", {"quality": 95}),
        "jpeg-85": ("jpeg", {"quality": 85}),
        "jpeg-70": ("jpeg", {"quality": 70}),
        "blur": ("blur", {"radius": 1}),
        "dark": ("dark", {"gamma": 2, "light": 0.6}),
        "noise": ("noise", {"deviation": 6, "grey": 0}),
        "rain": ("rain", {"streaks": 25, "veil": 0.15}),
        "fog": ("fog", {"density": 0.5}),
        "bright": ("bright", {"gamma": 0.6, "light": 1}),
        "sharp": ("sharp", {"amount": 0.8, "deviation": 1}),
    }
)
#: The shifts that attacked images are judged under as well.
JPEG = ("jpeg-95", "jpeg-85", "jpeg-70")


def shifted(images: Pixels, name: str, seed: int = 0) -> Pixels:
    """Images under a shift of fixed strength.

    Args:
        images: Uint8 (N, H, W, 3).
        name: A key of SHIFTS.
        seed: What is random depends on it.

    Returns:
        Uint8 (N, H, W, 3).

    Raises:
        UsageError: SHIFTS has no such name.
    """
    if name not in SHIFTS:
        raise UsageError(f"unknown shift {name!r}; known: {', '.join(SHIFTS)}")
    kind, strength = SHIFTS[name]
    number, physics = list(SHIFTS).index(name), KINDS[kind].physics
    parts = [physics(image, np.random.default_rng([seed, number, i]), **strength) for i, image in enumerate(images)]
    return np.stack(parts) if parts else images.copy()


def augmented(
    pixels: Pixels, augment: str, generator: np.random.Generator, change: npt.NDArray[np.int16] | None = None
) -> Pixels:
    """A benign image as training sees it.

    Half of the shifted images are shifted at a smaller size and enlarged afterwards, as the edge does with what the
    camera saw from far away: there noise and JPEG blocks come out soft. With "sensor", small changes are not hidden
    under noise: a detector would learn that noise itself is adversarial.

    Args:
        pixels: Uint8 (H, W, 3).
        augment: One of AUGMENTATIONS.
        generator: What it is drawn with.
        change: What an attack will add to it, of the same shape; None for a benign image.

    Returns:
        Uint8 (H, W, 3).
    """
    if augment == "none" or generator.random() < 0.5:
        return pixels
    height, width = pixels.shape[:2]
    if generator.random() < 0.5:
        share = generator.uniform(0.5, 1)
        pixels = resize(pixels, max(8, round(share * width)), max(8, round(share * height)))
    for kind in _chosen(augment, generator, change):
        pixels = KINDS[kind].drawn(pixels, generator)
    return pixels if pixels.shape[:2] == (height, width) else resize(pixels, width, height)


def _chosen(augment: str, generator: np.random.Generator, change: npt.NDArray[np.int16] | None) -> list[str]:
    """One kind of shift or two, by name."""
    names = list(KINDS)
    chances = np.ones(len(names))
    if augment == "sensor":
        hidden = change is not None and float(np.sqrt(np.mean(np.square(change, dtype=np.float64)))) < _HIDDEN
        chances[names.index("noise")] = 0 if hidden else 3 if change is None else 1
    size = 1 if generator.random() < 0.7 else 2
    return [str(name) for name in generator.choice(names, size=size, replace=False, p=chances / chances.sum())]
