"""Things that are no sign of any known class: drawn shapes, lettering, inverted colours, digits, parts of signs.

Beside crops of real scenes they are what the class "not a sign" is learned from.
"""

from __future__ import annotations

import cv2
import numpy as np

from firewall.frame import Pixels

__all__ = ["TURNED", "drawn", "inverted"]

#: Classes of GTSRB that show no sign any more when they are turned by one, two or three right angles. Others look alike
#: then, or become each other: priority road, no vehicles, no entry, the ends of limits, all arrows.
TURNED = frozenset(range(33)) - {12, 15, 17, 32}


def drawn(size: int, generator: np.random.Generator) -> Pixels:
    """A lamp, a blank shape or a panel with letters before a smooth background.

    Blank shapes that are signs (a red ring around white, a red triangle standing on its tip) are not drawn.

    Args:
        size: Width and height in pixels.
        generator: What it is drawn with.

    Returns:
        Uint8 (size, size, 3).
    """
    picture = _background(size, generator)
    centre = generator.uniform(0.4, 0.6, 2) * size
    radius = generator.uniform(0.25, 0.48) * size
    kind = int(generator.integers(4))
    if kind == 0:  # a lamp: brake light, traffic light
        colour = _colour(generator, ((255, 40, 30), (255, 170, 30), (40, 230, 120), (250, 250, 240)))
        cv2.circle(picture, _fixed(centre), round(radius * 16), colour, -1, cv2.LINE_AA, 4)
        if generator.random() < 0.5:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), generator.uniform(0.5, 3)), np.uint8)
    elif kind == 1:  # a blank disc, square or triangle on its side in one colour
        colour = _colour(generator, ((190, 30, 40), (20, 80, 170), (230, 190, 30), (90, 95, 100), (30, 120, 60)))
        corners = int(generator.choice([3, 4, 6, 8, 64]))
        turn = generator.uniform(0, 2 * np.pi)
        cv2.fillPoly(picture, [_corners(centre, radius, corners, turn)], colour, cv2.LINE_AA, 4)
    elif kind == 2:  # an upright triangle with a red border and nothing in it
        for share, colour in ((1.0, (190, 30, 40)), (generator.uniform(0.55, 0.75), (235, 235, 230))):
            cv2.fillPoly(picture, [_corners(centre, share * radius, 3, -np.pi / 2)], colour, cv2.LINE_AA, 4)
    else:
        _panel(picture, generator)
    return picture


def inverted(pixels: Pixels) -> Pixels:
    """The negative of an image, (H, W, 3) uint8."""
    return 255 - pixels


def _background(size: int, generator: np.random.Generator) -> Pixels:
    coarse = generator.uniform(0, 255, (int(generator.integers(2, 6)), int(generator.integers(2, 6)), 3))
    coarse = coarse * generator.uniform(0.3, 1)
    return np.asarray(cv2.resize(coarse.astype(np.uint8), (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def _panel(picture: Pixels, generator: np.random.Generator) -> None:
    size = picture.shape[0]
    ground = _colour(generator, ((20, 80, 170), (240, 240, 235), (230, 190, 30), (20, 110, 60), (60, 60, 60)))
    ink = (245, 245, 245) if sum(ground) < 380 else (20, 20, 20)
    half = generator.uniform(0.2, 0.5, 2) * size
    low, high = np.array(size / 2 - half, int).tolist(), np.array(size / 2 + half, int).tolist()
    cv2.rectangle(picture, low, high, ground, -1)
    letters = "".join(chr(int(code)) for code in generator.integers(65, 91, int(generator.integers(1, 5))))
    scale = generator.uniform(0.02, 0.045) * size / len(letters) ** 0.5
    thickness = max(1, round(scale * 2))
    (width, height), _ = cv2.getTextSize(letters, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    place = (int((size - width) / 2), int((size + height) / 2))
    cv2.putText(picture, letters, place, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, thickness, cv2.LINE_AA)


def _colour(generator: np.random.Generator, choices: tuple[tuple[int, int, int], ...]) -> tuple[int, ...]:
    colour = np.array(choices[int(generator.integers(len(choices)))]) * generator.uniform(0.4, 1.1)
    return tuple(np.clip(colour, 0, 255).astype(int).tolist())


def _corners(centre: np.ndarray, radius: float, count: int, turn: float) -> np.ndarray:
    angles = turn + np.linspace(0, 2 * np.pi, count, endpoint=False)
    points = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    return np.round(points * 16).astype(np.int32)


def _fixed(point: np.ndarray) -> tuple[int, ...]:
    """Fixed-point coordinates with 4 bits behind the point, as OpenCV draws with."""
    return tuple(np.round(point * 16).astype(int).tolist())
