"""How the versions of an image differ that a sign classifier or a juror learns from: as a camera would see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.lab.datasets.families import named
from firewall.lab.datasets.obstructions import OBSTRUCTIONS, obstruct
from firewall.lab.datasets.shifts import KINDS
from firewall.lab.training.classifiers.augmentation import augment

__all__ = ["WEATHER", "Variety", "varied", "version"]

#: Kinds of weather that are drawn.
WEATHER = ("rain", "fog", "dark", "bright", "sharp", "noise")
#: Longer side in pixels that larger images are reduced to first.
_LARGEST = 96


@dataclass(frozen=True)
class Variety:
    """How far the versions differ from the image.

    Args:
        obstructed: Share of the versions with a shadow, a sticker, light, dirt ... on them.
        kinds: Names of the obstructions that are drawn.
        weather: Share of the versions under rain, fog, darkness ...
        mirror: Class of the mirror image of each class that has one; half of their versions are mirrored, and half of
            what is no sign.
        kinds_of_weather: Of which kinds, keys of `firewall.lab.datasets.shifts.KINDS`; if there are none, none is.
        without: Steps of `augment` that are left out.
    """

    obstructed: float = 0.4
    kinds: tuple[str, ...] = tuple(OBSTRUCTIONS)
    weather: float = 0.2
    mirror: Mapping[int, int] = field(default_factory=dict)
    kinds_of_weather: tuple[str, ...] = WEATHER
    without: tuple[str, ...] = ()


def varied(obstructed: float, weather: float, without: Sequence[str], mirror: Mapping[int, int]) -> Variety:
    """How versions differ where something is left out.

    Args:
        obstructed: As of `Variety`.
        weather: As of `Variety`.
        without: Names of obstructions, or of whole families (`firewall.lab.datasets.families`).
        mirror: As of `Variety`.

    Raises:
        UsageError: What is left out is unknown, or no obstruction is left.
    """
    left_out = named(without)
    kinds = tuple(kind for kind in OBSTRUCTIONS if kind not in left_out.obstructions)
    if not kinds:
        raise UsageError(f"--without: no obstruction is left; known: {', '.join(OBSTRUCTIONS)}")
    seen = tuple(kind for kind in WEATHER if kind not in left_out.weather)
    return Variety(obstructed, kinds, weather, mirror, seen, left_out.steps)


def version(pixels: Pixels, size: int, variety: Variety, generator: np.random.Generator) -> tuple[Pixels, str]:
    """One random version of an image.

    Args:
        pixels: Uint8 (H, W, 3) of any size.
        size: Height and width of the result in pixels.
        variety: How far it may differ.
        generator: What it is drawn with.

    Returns:
        Uint8 (size, size, 3), and which obstruction was drawn, a key of OBSTRUCTIONS, or "".
    """
    height, width = pixels.shape[:2]
    if max(height, width) > _LARGEST:  # finer than that is not seen, and costs time
        share = _LARGEST / max(height, width)
        # A strip so thin that nothing would be left of it stays a pixel wide.
        thin = min(height, width) * share <= 0.5
        shape = (max(1, round(width * share)), max(1, round(height * share))) if thin else None
        pixels = np.asarray(cv2.resize(pixels, shape, fx=share, fy=share, interpolation=cv2.INTER_AREA), np.uint8)
    obstructed = generator.random() < variety.obstructed
    before = generator.random() < 0.5  # what lies on the sign is seen under its pose and through the camera
    kind = ""
    if obstructed and before:
        pixels, kind = obstruct(pixels, generator, variety.kinds)
    pixels = augment(pixels, size, generator, variety.without)
    if obstructed and not before:
        pixels, kind = obstruct(pixels, generator, variety.kinds)
    weather = variety.kinds_of_weather
    if weather and generator.random() < variety.weather:
        pixels = KINDS[weather[int(generator.integers(len(weather)))]].drawn(pixels, generator)
    return pixels, kind
