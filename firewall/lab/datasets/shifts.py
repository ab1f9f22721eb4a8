"""What may happen to an honest image on its way: noise, JPEG, blur, light, sharpening, rain. A detector must bear it.

Used twice: to measure how many normal images a detector withholds after each shift, and to train detectors on shifted
images. An attacked image is shifted *before* the attack, as a camera would: the shifted normal image plus the same
change, so that both classes have the same history and no change is blurred away under the label "adversarial".
"""

from __future__ import annotations

import io
from collections.abc import Callable
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.errors import UsageError
from firewall.transforms import resize

__all__ = ["AUGMENTATIONS", "SHIFTS", "augmented", "shifted"]

Pixels = npt.NDArray[np.uint8]
Shift = Callable[[Pixels, np.random.Generator], Pixels]

#: How training images are changed: not at all; by one or two random shifts in half of the cases; or so, with more noise
#: on normal images, and none that a change could hide in on attacked ones.
AUGMENTATIONS = ("none", "shifts", "sensor")

#: Grey levels, root mean square: a smaller change is not seen under the noise of `_noise`.
_HIDDEN = 3.0


def _noise(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Of a sensor, 2 to 10 grey levels; half of the time the same in all channels."""
    channels = 3 if generator.random() < 0.5 else 1
    noise = generator.normal(0, generator.uniform(2, 10), (*pixels.shape[:2], channels))
    return _bytes(pixels + noise)


def _jpeg(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Stored once at a quality of 70 to 95."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="JPEG", quality=int(generator.integers(70, 96)))
    return np.asarray(Image.open(file))


def _blur(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Out of focus: Gaussian, deviation 0.4 to 1.5 pixels."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(generator.uniform(0.4, 1.5))), np.uint8)


def _dark(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Gamma 1.2 to 2.2."""
    return _bytes(255 * (pixels / 255.0) ** generator.uniform(1.2, 2.2))


def _bright(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Gamma 0.45 to 0.85: dim images gain contrast, and so does their noise."""
    return _bytes(255 * (pixels / 255.0) ** generator.uniform(0.45, 0.85))


def _sharp(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """An unsharp mask, as cameras apply it: 0.3 to 1.2 of the difference to a blurred copy is added."""
    soft = cv2.GaussianBlur(pixels, (0, 0), float(generator.uniform(0.6, 1.5))).astype(np.float64)
    return _bytes(pixels + generator.uniform(0.3, 1.2) * (pixels - soft))


def _rain(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Ten to forty bright streaks, all falling the same way."""
    height, width = pixels.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    slant = generator.uniform(-0.4, 0.4)
    for _ in range(int(generator.integers(10, 41))):
        x, y, length = generator.uniform(0, width), generator.uniform(-4, height), generator.uniform(4, 12)
        end = (round(x + slant * length), round(y + length))
        cv2.line(streaks, (round(x), round(y)), end, float(generator.uniform(20, 90)), 1, cv2.LINE_AA)
    return _bytes(pixels + cv2.GaussianBlur(streaks, (0, 0), 0.5)[..., None])


#: Each by name; a shift draws its strength itself.
SHIFTS: MappingProxyType[str, Shift] = MappingProxyType(
    {"noise": _noise, "jpeg": _jpeg, "blur": _blur, "dark": _dark, "bright": _bright, "sharp": _sharp, "rain": _rain}
)


def shifted(images: Pixels, name: str, seed: int = 0) -> Pixels:
    """Each of `images`, (N, H, W, 3) uint8, after the shift of that name; the same for the same seed.

    Raises UsageError for a name that SHIFTS doesn't have.
    """
    if name not in SHIFTS:
        raise UsageError(f"no shift is named {name!r}; there are {', '.join(SHIFTS)}")
    number = list(SHIFTS).index(name)
    parts = [SHIFTS[name](image, np.random.default_rng([seed, number, i])) for i, image in enumerate(images)]
    return np.stack(parts) if parts else images.copy()


def augmented(
    pixels: Pixels, augment: str, generator: np.random.Generator, change: npt.NDArray[np.int16] | None = None
) -> Pixels:
    """A normal image, (H, W, 3) uint8, as training sees it. augment: of AUGMENTATIONS. change: of the same shape, what
    an attack will add to it.

    Half of the shifted images are shifted at a smaller size and enlarged afterwards, as the edge does it with what the
    camera saw from afar: there noise and JPEG blocks come out soft. With "sensor", small changes are not hidden under
    noise: to call what can't be seen adversarial teaches that noise is.
    """
    if augment == "none" or generator.random() < 0.5:
        return pixels
    height, width = pixels.shape[:2]
    if generator.random() < 0.5:
        share = generator.uniform(0.5, 1)
        pixels = resize(pixels, max(8, round(share * width)), max(8, round(share * height)))
    for name in _chosen(augment, generator, change):
        pixels = SHIFTS[name](pixels, generator)
    return pixels if pixels.shape[:2] == (height, width) else resize(pixels, width, height)


def _chosen(augment: str, generator: np.random.Generator, change: npt.NDArray[np.int16] | None) -> list[str]:
    """One shift or two, by name."""
    names = list(SHIFTS)
    chances = np.ones(len(names))
    if augment == "sensor":
        hidden = change is not None and float(np.sqrt(np.mean(np.square(change, dtype=np.float64)))) < _HIDDEN
        chances[names.index("noise")] = 0 if hidden else 3 if change is None else 1
    size = 1 if generator.random() < 0.7 else 2
    return [str(name) for name in generator.choice(names, size=size, replace=False, p=chances / chances.sum())]


def _bytes(values: npt.NDArray[np.floating]) -> Pixels:
    rounded: Pixels = (np.clip(values, 0, 255) + 0.5).astype(np.uint8)
    return rounded
