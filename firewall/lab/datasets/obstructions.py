"""What may lie between a sign and a camera, or on the sign: shadows, light, stickers, leaves, dirt, drops, casts.

Each draws one random version of an image: (pixels uint8 (h, w, 3), generator) -> uint8 (h, w, 3), the bounds being such
that a person still reads the sign. Training draws them as augmentation; attacks draw many and keep the worst.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from firewall.frame import Pixels

__all__ = ["OBSTRUCTIONS", "obstruct"]

Draw = Callable[[Pixels, np.random.Generator], Pixels]
Plane = npt.NDArray[np.float32]
Points = npt.NDArray[np.floating]

#: The largest share of the image that bars, stickers and leaves cover together.
LARGEST_AREA = 0.04


def shadow(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """The shadow of a polygon with three to five corners (Zhong et al., Shadows can be Dangerous, CVPR 2022).

    Lightness is multiplied by k in .3 to .7 inside; the paper's k is .43.
    """
    height, width = pixels.shape[:2]
    corners = int(generator.integers(3, 6))
    points = generator.uniform(-0.15, 1.15, (corners, 2)) * (width, height)
    mask = _soft(_polygon(height, width, points), generator.uniform(0.3, 0.04 * min(height, width) + 0.31))
    factor = float(generator.uniform(0.3, 0.7))
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 0] *= np.float32(1) - np.float32(1 - factor) * mask
    return _rounded(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255)


def bars(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """One to three black, white or grey bars, together at most LARGEST_AREA."""
    height, width = pixels.shape[:2]
    count = int(generator.integers(1, 4))
    for _ in range(count):
        area = LARGEST_AREA / count * generator.uniform(0.5, 1) * height * width
        length = generator.uniform(0.15, 0.75) * max(height, width)
        angle = generator.uniform(0, np.pi)
        along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        across = np.array([-np.sin(angle), np.cos(angle)]) * area / length / 2
        middle = generator.uniform(0.15, 0.85, 2) * (width, height)
        points = middle + np.array([along + across, along - across, -along - across, -along + across])
        grey = float(generator.choice([0.0, 255.0, generator.uniform(0, 255)]))
        pixels = _painted(pixels, _polygon(height, width, points), (grey, grey, grey))
    return pixels


def stickers(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """One to four coloured rectangles or discs, together at most LARGEST_AREA."""
    height, width = pixels.shape[:2]
    count = int(generator.integers(1, 5))
    for _ in range(count):
        area = LARGEST_AREA / count * generator.uniform(0.4, 1) * height * width
        ratio = np.exp(generator.uniform(-0.9, 0.9))
        middle = generator.uniform(0.15, 0.85, 2) * (width, height)
        if generator.random() < 0.4:
            turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            outline = np.stack([np.cos(turn), np.sin(turn)], 1) * np.sqrt(area / np.pi)
        else:
            side = np.sqrt(area)
            outline = (
                np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (side * np.sqrt(ratio), side / np.sqrt(ratio)) / 2
            )
            angle = generator.uniform(0, np.pi)
            outline = outline @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        colour = (
            generator.uniform(0, 255, 3) if generator.random() < 0.7 else np.full(3, generator.choice([0.0, 255.0]))
        )
        pixels = _painted(pixels, _polygon(height, width, middle + outline), tuple(colour.tolist()))
    return pixels


def leaves(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """One to four leaves, green to brown, together at most LARGEST_AREA."""
    height, width = pixels.shape[:2]
    count = int(generator.integers(1, 5))
    for _ in range(count):
        area = LARGEST_AREA / count * generator.uniform(0.5, 1) * height * width
        long = np.sqrt(area / 0.3)  # a lens whose width is .45 of its length covers .3 of length squared
        steps = np.linspace(-1, 1, 12)
        edge = 0.45 * (1 - steps**2)
        outline = np.concatenate([np.stack([steps, edge], 1), np.stack([steps[::-1], -edge[::-1]], 1)]) * long / 2
        angle = generator.uniform(0, 2 * np.pi)
        outline = outline @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        middle = generator.uniform(0.05, 0.95, 2) * (width, height)
        green = generator.uniform(0, 1)
        colour = np.array([60 + 90 * (1 - green), 60 + 50 * green, 25]) * generator.uniform(0.4, 1.4)
        pixels = _painted(pixels, _polygon(height, width, middle + outline), tuple(colour.tolist()))
    return pixels


def beam(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """A beam of coloured light across the sign, as a laser or a lamp behind a slit makes it."""
    height, width = pixels.shape[:2]
    angle = generator.uniform(0, np.pi)
    middle = generator.uniform(0.1, 0.9, 2) * (width, height)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = (columns - middle[0]) * -np.sin(angle) + (rows - middle[1]) * np.cos(angle)
    spread = generator.uniform(0.02, 0.12) * min(height, width)
    strength = np.exp(-0.5 * (distance / spread) ** 2) * generator.uniform(40, 160)
    return _rounded(pixels + strength[..., np.newaxis] * _tint(generator))


def glare(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """A round patch of light that washes the sign out, as the sun or a headlamp makes it."""
    height, width = pixels.shape[:2]
    middle = generator.uniform(-0.1, 1.1, 2) * (width, height)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    distance = np.hypot(columns - middle[0], rows - middle[1]) / max(height, width)
    strength = np.exp(-0.5 * (distance / generator.uniform(0.1, 0.5)) ** 2) * generator.uniform(0.25, 0.75)
    light = 255 * (0.6 + 0.4 * _tint(generator))
    return _rounded(pixels + strength[..., np.newaxis] * (light - pixels))


def projector(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """A smooth coloured pattern thrown onto the sign; light is only added."""
    height, width = pixels.shape[:2]
    cells = int(generator.integers(2, 7))
    coarse = generator.uniform(0, 1, (cells, cells, 3)).astype(np.float32)
    pattern = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    return _rounded(pixels + pattern * np.float32(generator.uniform(20, 90)))


def dirt(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Splashes of mud or snow: soft spots that cover up to .85 of what is under them."""
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.float32)
    middle = generator.uniform(0, 1, 2)
    for _ in range(int(generator.integers(3, 14))):
        place = (middle + generator.normal(0, 0.25, 2)) * (width, height)
        radius = generator.uniform(0.02, 0.09) * min(height, width)
        _disc(mask, place, radius)
    mask = _soft(mask, generator.uniform(0.3, 0.03 * min(height, width) + 0.31))
    bright = generator.random() < 0.3
    colour = np.array([225, 228, 232]) if bright else np.array([80, 65, 48]) * generator.uniform(0.5, 1.5)
    opacity = generator.uniform(0.5, 0.85)
    return _rounded(pixels + opacity * mask[..., np.newaxis] * (colour - pixels))


def drops(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Drops of water on the lens: round spots in which the image is blurred, shifted and a little brighter."""
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.float32)
    for _ in range(int(generator.integers(1, 7))):
        _disc(mask, generator.uniform(0, 1, 2) * (width, height), generator.uniform(0.04, 0.16) * min(height, width))
    mask = _soft(mask, generator.uniform(0.3, 0.03 * min(height, width) + 0.31))
    blurred = cv2.GaussianBlur(pixels, (0, 0), generator.uniform(0.03, 0.1) * min(height, width)).astype(np.float32)
    moved = generator.uniform(-0.15, 0.15, 2) * (width, height)
    matrix = np.array([[1, 0, moved[0]], [0, 1, moved[1]]], np.float32)
    seen = cv2.warpAffine(blurred, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    seen = seen * generator.uniform(0.85, 1.2) + generator.uniform(-10, 25)
    return _rounded(pixels + mask[..., np.newaxis] * (seen - pixels))


def cast(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """A colour cast and another exposure: each channel times .55 to 1.6, gamma .6 to 1.7."""
    gain = np.exp(generator.uniform(-0.15, 0.15) + generator.uniform(-0.32, 0.32, 3)).astype(np.float32)
    values = (pixels.astype(np.float32) / 255) ** np.float32(np.exp(generator.uniform(-0.5, 0.5)))
    return _rounded(values * gain * 255)


#: Every kind by its name.
OBSTRUCTIONS: Mapping[str, Draw] = MappingProxyType(
    {
        "shadow": shadow,
        "bars": bars,
        "stickers": stickers,
        "leaves": leaves,
        "beam": beam,
        "glare": glare,
        "projector": projector,
        "dirt": dirt,
        "drops": drops,
        "cast": cast,
    }
)


def obstruct(pixels: Pixels, generator: np.random.Generator, kinds: tuple[str, ...] = tuple(OBSTRUCTIONS)) -> Pixels:
    """One random obstruction of a random kind.

    Args:
        pixels: Uint8 (H, W, 3).
        generator: What it is drawn with.
        kinds: Names of the kinds to choose from.

    Returns:
        Uint8 (H, W, 3).
    """
    return OBSTRUCTIONS[kinds[int(generator.integers(len(kinds)))]](pixels, generator)


def _polygon(height: int, width: int, points: Points) -> Plane:
    """A filled polygon, 0..1, with edges smoothed over a pixel; points (n, 2) as (x, y) in pixels."""
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    filled: Plane = mask.astype(np.float32) / np.float32(255)
    return filled


def _soft(mask: Plane, deviation: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), deviation), np.float32)


def _disc(mask: Plane, place: Points, radius: float) -> None:
    centre = (round(place[0] * 16), round(place[1] * 16))
    cv2.circle(mask, centre, max(1, round(radius * 16)), 1.0, -1, cv2.LINE_8, 4)


def _painted(pixels: Pixels, mask: Plane, colour: tuple[float, ...]) -> Pixels:
    return _rounded(pixels + mask[..., np.newaxis] * (np.array(colour, np.float32) - pixels))


def _tint(generator: np.random.Generator) -> Plane:
    """A colour, 0..1 a channel, the largest being 1."""
    colour = generator.uniform(0.1, 1, 3) if generator.random() < 0.7 else np.ones(3)
    tint: Plane = np.asarray(colour / colour.max()).astype(np.float32)
    return tint


def _rounded(values: npt.ArrayLike) -> Pixels:
    rounded: Pixels = (np.clip(np.asarray(values), 0, 255) + 0.5).astype(np.uint8)
    return rounded
