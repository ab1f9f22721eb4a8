"""What may lie between a sign and a camera, or on the sign: shadows, light, stickers, leaves, dirt, drops, casts.

Each draws one random version of an image: (pixels uint8 (h, w, 3), generator) -> uint8 (h, w, 3), any h, w >= 1; the
image itself is left as it was. The bounds are such that a person still reads the sign. Training draws them as
augmentation; attacks draw many and keep the worst.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from firewall.frame import Pixels

__all__ = ["DRAWS", "OBSTRUCTIONS", "Draw", "obstruct"]

Draw = Callable[[Pixels, np.random.Generator], Pixels]
Plane = npt.NDArray[np.float32]
Points = npt.NDArray[np.floating]

#: The largest share of the image that bars, stickers, leaves and scribbles are given together. What is drawn is larger:
#: edges are smoothed, which adds about half a pixel around. Measured, mean and largest of 300 draws of two bars: .043
#: and .046 at 300 x 300 pixels, .051 and .061 at 100, .066 and .09 at 48, .095 and .13 at 24.
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
    return _shaded(pixels, mask, factor)


def bars(pixels: Pixels, generator: np.random.Generator, *, exact: bool = False) -> Pixels:
    """One to three black, white or grey bars, together of at most LARGEST_AREA."""
    height, width = pixels.shape[:2]
    count = int(generator.integers(1, 4))
    for _ in range(count):
        area = LARGEST_AREA / count * generator.uniform(0.5, 1) * height * width
        points = _bar(height, width, area, generator)
        grey = float(generator.choice([0.0, 255.0, generator.uniform(0, 255)]))
        pixels = _painted(pixels, _polygon(height, width, points, exact=exact), (grey, grey, grey))
    return pixels


def stickers(pixels: Pixels, generator: np.random.Generator, *, exact: bool = False) -> Pixels:
    """One to four coloured rectangles or discs, together of at most LARGEST_AREA."""
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
        pixels = _painted(pixels, _polygon(height, width, middle + outline, exact=exact), tuple(colour.tolist()))
    return pixels


def leaves(pixels: Pixels, generator: np.random.Generator, *, exact: bool = False) -> Pixels:
    """One to four leaves, green to brown, together of at most LARGEST_AREA."""
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
        pixels = _painted(pixels, _polygon(height, width, middle + outline, exact=exact), tuple(colour.tolist()))
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


def obstruct(
    pixels: Pixels, generator: np.random.Generator, kinds: tuple[str, ...] = tuple(OBSTRUCTIONS)
) -> tuple[Pixels, str]:
    """One random obstruction of a random kind.

    Args:
        pixels: Uint8 (H, W, 3).
        generator: What it is drawn with.
        kinds: Names of the kinds to choose from, keys of OBSTRUCTIONS, at least one.

    Returns:
        Uint8 (H, W, 3), and the kind.
    """
    kind = kinds[int(generator.integers(len(kinds)))]
    return OBSTRUCTIONS[kind](pixels, generator), kind


def triangle(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """The shadow of Zhong et al. itself: a triangle, lightness times .43, sharp to a pixel."""
    height, width = pixels.shape[:2]
    points = generator.uniform(-0.15, 1.15, (3, 2)) * (width, height)
    mask = _polygon(height, width, points, exact=True)
    return _shaded(pixels, mask, 0.43)


def railing(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """The shadow of a railing or of branches: parallel dark stripes."""
    height, width = pixels.shape[:2]
    angle, phase = generator.uniform(0, np.pi), generator.uniform(0, 1)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    along = (columns * np.cos(angle) + rows * np.sin(angle)) / min(height, width) * generator.uniform(2, 7) + phase
    share = generator.uniform(0.25, 0.6)
    mask = _soft((along % 1 < share).astype(np.float32), generator.uniform(0.3, 0.02 * min(height, width) + 0.31))
    return _shaded(pixels, mask, float(generator.uniform(0.35, 0.7)))


def two_bars(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Two black or white bars of half of LARGEST_AREA each."""
    height, width = pixels.shape[:2]
    for _ in range(2):
        points = _bar(height, width, LARGEST_AREA / 2 * height * width, generator)
        grey = 255.0 if generator.random() < 0.5 else 0.0
        pixels = _painted(pixels, _polygon(height, width, points, exact=True), (grey, grey, grey))
    return pixels


def scribble(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """A curved stroke of spray paint or of a pen, of at most LARGEST_AREA."""
    height, width = pixels.shape[:2]
    knots = generator.uniform(0.05, 0.95, (4, 2)) * (width, height)
    steps = np.linspace(0, 1, 24)[:, np.newaxis]
    curve = (
        (1 - steps) ** 3 * knots[0]
        + 3 * (1 - steps) ** 2 * steps * knots[1]
        + 3 * (1 - steps) * steps**2 * knots[2]
        + steps**3 * knots[3]
    )
    length = max(1.0, float(np.hypot(*np.diff(curve, axis=0).T).sum()))
    half = LARGEST_AREA * generator.uniform(0.5, 1) * height * width / length / 2
    slope = np.gradient(curve, axis=0)
    normal = np.stack([-slope[:, 1], slope[:, 0]], 1) / np.maximum(np.hypot(*slope.T), 1e-6)[:, np.newaxis]
    sides = min(half, 0.05 * min(height, width)) * normal
    strips = [np.concatenate([(curve + sides)[k : k + 2], (curve - sides)[k : k + 2][::-1]]) for k in range(23)]
    mask = _filled(height, width, strips)
    colour = generator.uniform(0, 255, 3) if generator.random() < 0.5 else np.full(3, generator.choice([0.0, 255.0]))
    return _painted(pixels, mask, tuple(colour.tolist()))


def flicker(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Dark bands across the image, as a lamp on alternating current makes them with a rolling shutter."""
    height = pixels.shape[0]
    rows = np.linspace(0, 1, height, dtype=np.float32)
    waves = np.sin(2 * np.pi * (rows * generator.uniform(1, 5) + generator.uniform(0, 1)))
    light = 1 - generator.uniform(0.15, 0.5) * (0.5 + 0.5 * waves)
    return _rounded(pixels * light[:, np.newaxis, np.newaxis])


def pose(
    pixels: Pixels,
    generator: np.random.Generator,
    *,
    degrees: float = 20.0,
    moved: float = 0.15,
    zoom: float = 1.2,
) -> Pixels:
    """Seen from the side, turned and moved: what comes in over the edge is the image mirrored.

    Args:
        pixels: Uint8 (H, W, 3).
        generator: What it is drawn with.
        degrees: Largest turn, either way.
        moved: How far each corner may lie from its place, as a share of the side.
        zoom: Largest factor of enlargement; its inverse is the smallest.

    Returns:
        Uint8 (H, W, 3).
    """
    height, width = pixels.shape[:2]
    angle, scale = np.radians(generator.uniform(-degrees, degrees)), zoom ** generator.uniform(-1, 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    places = corners @ turn.T + generator.uniform(-moved, moved, (4, 2)) + 0.5
    matrix = cv2.getPerspectiveTransform(
        np.float32((corners + 0.5) * (width, height)), np.float32(places * (width, height))
    )
    view = cv2.warpPerspective(
        pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(view, np.uint8)


#: Every family that an attack draws from: those of OBSTRUCTIONS, and more that training doesn't draw.
DRAWS: Mapping[str, Draw] = MappingProxyType(
    {
        **OBSTRUCTIONS,
        "bars": partial(bars, exact=True),
        "stickers": partial(stickers, exact=True),
        "leaves": partial(leaves, exact=True),
        "triangle": triangle,
        "railing": railing,
        "two-bars": two_bars,
        "scribble": scribble,
        "flicker": flicker,
        "pose": pose,
        "pose-wide": partial(pose, degrees=25.0, moved=0.2, zoom=1.28),
    }
)


def _polygon(height: int, width: int, points: Points, *, exact: bool = False) -> Plane:
    """A filled polygon, 0..1, with edges smoothed over a pixel; points (n, 2) as (x, y) in pixels.

    OpenCV adds about half a pixel all around, so that thin bars on small crops cover up to three times their area; see
    `_filled` for `exact`. Training goes on without, as it began.
    """
    if exact:
        return _filled(height, width, [points])
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    filled: Plane = mask.astype(np.float32) / np.float32(255)
    return filled


def _filled(height: int, width: int, polygons: list[Points]) -> Plane:
    """The union of polygons, 0..1: how much of each pixel they cover, found on a finer grid."""
    found: Plane = np.zeros((height, width), np.float32)
    every = np.concatenate(polygons)
    left, top = np.clip(np.floor(every.min(0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(every.max(0)) + 1, 0, (width, height)).astype(int)
    if right <= left or bottom <= top:
        return found
    times = max(3, min(12, 384 // int(max(right - left, bottom - top))))
    fine = np.zeros((times * (bottom - top), times * (right - left)), np.uint8)
    for points in polygons:
        places = (points - (left, top) + 0.5) * times - 0.5
        cv2.fillPoly(fine, [np.round(places * 16).astype(np.int32)], 255, cv2.LINE_8, 4)
    size = (int(right - left), int(bottom - top))
    found[top:bottom, left:right] = cv2.resize(fine, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return found


def _soft(mask: Plane, deviation: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), deviation), np.float32)


def _bar(height: int, width: int, area: float, generator: np.random.Generator) -> Points:
    """The corners of a bar of that area, in square pixels: (4, 2)."""
    length = generator.uniform(0.15, 0.75) * max(height, width)
    angle = generator.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * area / length / 2
    middle = generator.uniform(0.15, 0.85, 2) * (width, height)
    corners: Points = middle + np.array([along + across, along - across, -along - across, -along + across])
    return corners


def _disc(mask: Plane, place: Points, radius: float) -> None:
    centre = (round(place[0] * 16), round(place[1] * 16))
    cv2.circle(mask, centre, max(1, round(radius * 16)), 1.0, -1, cv2.LINE_8, 4)


def _shaded(pixels: Pixels, mask: Plane, factor: float) -> Pixels:
    """Lightness (of CIELAB) times `factor` where the mask is 1."""
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 0] *= np.float32(1) - np.float32(1 - factor) * mask
    return _rounded(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255)


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
