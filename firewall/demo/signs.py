"""Traffic signs drawn from their proportions: no image and no font is read.

Plates, colours and symbols follow the German signs that the classes of GTSRB show. Coordinates run from -1 to 1 over
the plate, x to the right, y down. Digits and letters are strokes along centre lines in the manner of DIN 1451.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from firewall.errors import UsageError

__all__ = ["DRAWN", "NAMES", "draw_sign"]

Colour = tuple[int, int, int]
Points = npt.NDArray[np.float64]

WHITE: Colour = (243, 243, 239)
BLACK: Colour = (26, 26, 29)
RED: Colour = (196, 18, 28)  # RAL 3020
BLUE: Colour = (0, 86, 148)  # RAL 5017, a little bluer: the foil reflects more than the paint
YELLOW: Colour = (245, 176, 0)  # RAL 1023
GREEN: Colour = (0, 122, 84)  # RAL 6024

#: Drawn this many times larger, then shrunk, so that edges are smooth.
_OVERSAMPLING = 4


def draw_sign(label: int, size: int) -> npt.NDArray[np.uint8]:
    """The sign of GTSRB class `label`, one of `DRAWN`, as (size, size, 4) uint8 RGBA with smooth edges; size 8..1024.

    The plate touches the borders of the square (a triangle: left and right).

    Raises:
        UsageError: If a value is not allowed.
    """
    if label not in _DRAWINGS:
        raise UsageError(f"no drawing for sign class {label}; drawn are {', '.join(map(str, DRAWN))}")
    if not 8 <= size <= 1024:
        raise UsageError(f"a sign is drawn at 8 to 1024 pixels, got {size}")
    canvas = _Canvas(size * _OVERSAMPLING)
    _DRAWINGS[label][1](canvas)
    return np.asarray(cv2.resize(canvas.pixels, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


class _Canvas:
    """A square that starts transparent and white: white, because shrinking mixes the colour beyond the edge into it."""

    def __init__(self, side: int) -> None:
        self.half = side / 2
        self.pixels = np.empty((side, side, 4), np.uint8)
        self.pixels[:] = (*WHITE, 0)

    def fill(self, points: Points, colour: Colour) -> None:
        """A polygon, (N, 2); it may be concave but its outline may not cross itself."""
        fixed = np.round(((points + 1) * self.half - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(self.pixels, [fixed], (*colour, 255), cv2.LINE_8, 4)

    def disc(self, radius: float, colour: Colour, centre: tuple[float, float] = (0, 0)) -> None:
        self.fill(_arc(centre, radius, radius, 0, 360, 96), colour)

    def stroke(self, line: Points, width: float, colour: Colour) -> None:
        """A line of even width with flat ends and round joins."""
        for index, (start, end) in enumerate(pairwise(line)):
            along = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
            side = np.array([-along[1], along[0]]) * width / 2
            self.fill(np.array([start + side, end + side, end - side, start - side]), colour)
            if index:
                self.disc(width / 2, colour, (start[0], start[1]))


def _arc(centre: tuple[float, float], rx: float, ry: float, start: float, end: float, count: int = 24) -> Points:
    """Points of an ellipse from angle `start` to `end` in degrees; 0 is right, 90 is down."""
    angles = np.deg2rad(np.linspace(start, end, count))
    return np.stack([centre[0] + rx * np.cos(angles), centre[1] + ry * np.sin(angles)], 1)


def _points(*pairs: tuple[float, float]) -> Points:
    return np.array(pairs, np.float64)


def _rounded(corners: Points, inset: float, radius: float) -> Points:
    """A regular polygon about the mean of `corners`, its sides moved in by `inset`, its corners rounded."""
    centre = corners.mean(0)
    inradius = float(np.hypot(*((corners[0] + corners[1]) / 2 - centre)))
    shrunk = centre + (corners - centre) * (inradius - inset - radius) / inradius
    circles = np.concatenate([_arc((x, y), radius, radius, 0, 360, 33) for x, y in shrunk])
    return np.asarray(cv2.convexHull(circles.astype(np.float32)), np.float64).reshape(-1, 2)


# Digits and letters ---------------------------------------------------------------------------------------------------


def _glyph(character: str, r: float, h: float) -> list[Points]:
    """Centre lines of a character in a box of width 2 * r and height h, origin at its top left."""
    w, q = 2 * r, h / 4
    top, bottom = _arc((r, r), r, r, 180, 360), _arc((r, h - r), r, r, 0, 180)
    oval = np.concatenate([top, bottom, top[:1]])
    lines: dict[str, Callable[[], list[Points]]] = {
        "0": lambda: [oval],
        "O": lambda: [oval],
        "1": lambda: [_points((0, 0.2 * h), (w, 0), (w, h + r / 3))],
        "2": lambda: [np.concatenate([_arc((r, q * 1.1), r, q * 1.1, 185, 390), _points((0, h), (w, h))])],
        "3": lambda: [
            np.concatenate([_arc((r, q), r * 0.94, q, 195, 440), _arc((r, 3 * q), r, q, -80, 165)]),
        ],
        "5": lambda: [
            np.concatenate([_points((w * 0.93, 0), (w * 0.12, 0), (0.04 * w, h * 0.5)), _bowl(r, h, 0.29, -150, 160)]),
        ],
        "6": lambda: [
            _bowl(r, h, 0.27, 0, 360),
            np.concatenate([_arc((w, h * 0.73), w, h * 0.73, 180, 262), _points((w * 0.9, 0.005 * h))]),
        ],
        "7": lambda: [_points((0, 0), (w, 0), (w * 0.97, h * 0.12), (w * 0.28, h))],
        "8": lambda: [_arc((r, q * 0.96), r * 0.9, q * 0.96, 0, 360), _arc((r, h - q * 1.04), r, q * 1.04, 0, 360)],
        "S": lambda: [np.concatenate([_arc((r, q), r, q, -20, -270), _arc((r, 3 * q), r, q, -90, 160)])],
        "T": lambda: [_points((-r * 0.15, 0), (w + r * 0.15, 0)), _points((r, 0), (r, h + r / 3))],
        "P": lambda: [
            np.concatenate([_points((0, 0)), _arc((w - q, q * 1.1), q, q * 1.1, -90, 90), _points((0, q * 2.2))]),
            _points((0, -r / 3), (0, h + r / 3)),
        ],
    }
    return lines[character]()


def _bowl(r: float, h: float, height: float, start: float, end: float) -> Points:
    return _arc((r, h * (1 - height)), r, h * height, start, end, 40)


def _write(canvas: _Canvas, text: str, height: float, width: float, gap: float, weight: float, colour: Colour) -> None:
    """Text in the middle of the plate; `width` of one character and `height` are outer measures."""
    widths = [width * 0.62 if character == "1" else width for character in text]
    x = -(sum(widths) + gap * (len(text) - 1)) / 2
    for character, room in zip(text, widths, strict=True):
        origin = np.array([x + weight / 2, -height / 2 + weight / 2])
        for line in _glyph(character, (room - weight) / 2, height - weight):
            canvas.stroke(line + origin, weight, colour)
        x += room + gap


# Plates ---------------------------------------------------------------------------------------------------------------

_TRIANGLE = _points((0, -1.0), (1.06, 0.836), (-1.06, 0.836))
_OCTAGON = _arc((0, 0), 1.0824, 1.0824, 22.5, 337.5, 8)
_DIAMOND = _points((0, -1.04), (1.04, 0), (0, 1.04), (-1.04, 0))


def _prohibition(canvas: _Canvas) -> None:
    canvas.disc(1, WHITE)
    canvas.disc(0.965, RED)
    canvas.disc(0.765, WHITE)


def _mandatory(canvas: _Canvas) -> None:
    canvas.disc(1, WHITE)
    canvas.disc(0.955, BLUE)


def _warning(canvas: _Canvas, turn: float = 1) -> None:
    for inset, radius, colour in ((0, 0.1, WHITE), (0.03, 0.08, RED), (0.215, 0.03, WHITE)):
        canvas.fill(_rounded(_TRIANGLE, inset, radius) * (1, turn), colour)


# Signs ----------------------------------------------------------------------------------------------------------------


def _limit(canvas: _Canvas, text: str) -> None:
    _prohibition(canvas)
    if len(text) == 2:
        _write(canvas, text, height=0.84, width=0.47, gap=0.11, weight=0.122, colour=BLACK)
    else:
        _write(canvas, text, height=0.78, width=0.345, gap=0.085, weight=0.112, colour=BLACK)


def _stop(canvas: _Canvas) -> None:
    canvas.fill(_rounded(_OCTAGON, 0, 0.08), WHITE)
    canvas.fill(_rounded(_OCTAGON, 0.055, 0.05), RED)
    _write(canvas, "STOP", height=0.7, width=0.335, gap=0.085, weight=0.112, colour=WHITE)


def _priority(canvas: _Canvas) -> None:
    layers = ((0, 0.1, WHITE), (0.015, 0.09, BLACK), (0.04, 0.08, WHITE), (0.245, 0.03, BLACK), (0.27, 0.02, YELLOW))
    for inset, radius, colour in layers:
        canvas.fill(_rounded(_DIAMOND, inset, radius), colour)


def _no_entry(canvas: _Canvas) -> None:
    canvas.disc(1, WHITE)
    canvas.disc(0.965, RED)
    canvas.stroke(_points((-0.8, 0), (0.8, 0)), 0.32, WHITE)


def _no_overtaking(canvas: _Canvas) -> None:
    _prohibition(canvas)
    for x, colour in ((-0.335, RED), (0.335, BLACK)):
        at = np.array([x, 0.0])
        canvas.fill(_points((-0.2, -0.21), (0.2, -0.21), (0.27, 0), (-0.27, 0)) + at, colour)
        canvas.fill(_points((-0.155, -0.155), (0.155, -0.155), (0.195, -0.03), (-0.195, -0.03)) + at, WHITE)
        canvas.fill(_points((-0.29, -0.02), (0.29, -0.02), (0.29, 0.13), (-0.29, 0.13)) + at, colour)
        for wheel in (-0.19, 0.19):
            canvas.fill(_points((-0.06, 0.1), (0.06, 0.1), (0.06, 0.2), (-0.06, 0.2)) + at + (wheel, 0), colour)
            canvas.disc(0.03, WHITE, (x + wheel * 1.05, 0.05))


def _end_of_limits(canvas: _Canvas) -> None:
    canvas.disc(1, WHITE)
    canvas.disc(0.975, BLACK)
    canvas.disc(0.93, WHITE)
    for offset in (-0.2, -0.1, 0, 0.1, 0.2):
        reach = float(np.sqrt((0.95**2 - offset**2) / 2))
        shift = offset / float(np.sqrt(2))
        canvas.stroke(_points((-reach + shift, reach + shift), (reach + shift, -reach + shift)), 0.048, BLACK)


def _danger(canvas: _Canvas) -> None:
    _warning(canvas)
    top = _arc((0, -0.3), 0.095, 0.095, 180, 360)
    canvas.fill(np.concatenate([top, _points((0.045, 0.33), (-0.045, 0.33))]), BLACK)
    canvas.disc(0.09, BLACK, (0, 0.5))


def _right_of_way(canvas: _Canvas) -> None:
    _warning(canvas)
    right = _points((0, -0.36), (0.2, -0.1), (0.13, -0.1), (0.13, 0.6))
    canvas.fill(np.concatenate([right, right[:0:-1] * (-1, 1)]), BLACK)
    canvas.stroke(_points((-0.33, 0.22), (0.33, 0.22)), 0.13, BLACK)


def _signals(canvas: _Canvas) -> None:
    _warning(canvas)
    for y, colour in ((-0.2, RED), (0.13, YELLOW), (0.46, GREEN)):
        canvas.disc(0.135, colour, (0, y))


def _arrow(tail: float, tip: float, stem: float, barb: float) -> Points:
    """An arrow upwards from y = tail to y = tip: `stem` and `barb` are half the widths of its shaft and head."""
    cut = 0.2
    right = _points((0, tip), (barb, tip + barb), (barb, tip + barb + cut), (stem, tip + stem + cut), (stem, tail))
    return np.concatenate([right, right[:0:-1] * (-1, 1)])


def _turned(points: Points, degrees: float, at: tuple[float, float] = (0, 0)) -> Points:
    """Clockwise about the origin, then moved."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray(points @ turn + np.array(at), np.float64)


def _ahead(canvas: _Canvas, degrees: float) -> None:
    _mandatory(canvas)
    canvas.fill(_turned(_arrow(0.7, -0.7, 0.115, 0.36), degrees), WHITE)


def _turn(canvas: _Canvas, mirror: int) -> None:
    _mandatory(canvas)
    bend = np.concatenate([_points((-0.3, 0.6)), _arc((0.06, 0.12), 0.36, 0.36, 180, 270), _points((0.5, -0.24))])
    canvas.stroke(bend * (mirror, 1), 0.21, WHITE)
    canvas.fill(_turned(_arrow(0, -0.32, 0.105, 0.34), 90, (0.32, -0.24)) * (mirror, 1), WHITE)


def _ahead_or_turn(canvas: _Canvas, mirror: int) -> None:
    _mandatory(canvas)
    canvas.fill(_turned(_arrow(0.72, -0.76, 0.085, 0.25), 0, (-0.2, 0)) * (mirror, 1), WHITE)
    bend = np.concatenate([_points((-0.2, 0.5)), _arc((0.05, 0.45), 0.25, 0.25, 180, 270), _points((0.4, 0.2))])
    canvas.stroke(bend * (mirror, 1), 0.17, WHITE)
    canvas.fill(_turned(_arrow(0, -0.36, 0.085, 0.25), 90, (0.33, 0.2)) * (mirror, 1), WHITE)


def _roundabout(canvas: _Canvas) -> None:
    _mandatory(canvas)
    for start in (75, 195, 315):
        canvas.stroke(_arc((0, 0), 0.53, 0.53, start, start - 78), 0.145, WHITE)
        x, y = _arc((0, 0), 0.53, 0.53, start - 74, start - 74, 1)[0]
        canvas.fill(_turned(_points((0, -0.3), (0.24, 0.05), (-0.24, 0.05)), start - 74 - 12, (x, y)), WHITE)


_DRAWINGS: dict[int, tuple[str, Callable[[_Canvas], None]]] = {
    0: ("speed limit 20", partial(_limit, text="20")),
    1: ("speed limit 30", partial(_limit, text="30")),
    2: ("speed limit 50", partial(_limit, text="50")),
    3: ("speed limit 60", partial(_limit, text="60")),
    4: ("speed limit 70", partial(_limit, text="70")),
    5: ("speed limit 80", partial(_limit, text="80")),
    7: ("speed limit 100", partial(_limit, text="100")),
    8: ("speed limit 120", partial(_limit, text="120")),
    9: ("no overtaking", _no_overtaking),
    11: ("right of way at the next crossing", _right_of_way),
    12: ("priority road", _priority),
    13: ("give way", partial(_warning, turn=-1)),
    14: ("stop", _stop),
    15: ("no vehicles", _prohibition),
    17: ("no entry", _no_entry),
    18: ("danger", _danger),
    26: ("traffic signals", _signals),
    32: ("end of all limits", _end_of_limits),
    33: ("turn right ahead", partial(_turn, mirror=1)),
    34: ("turn left ahead", partial(_turn, mirror=-1)),
    35: ("ahead only", partial(_ahead, degrees=0)),
    36: ("ahead or right", partial(_ahead_or_turn, mirror=1)),
    37: ("ahead or left", partial(_ahead_or_turn, mirror=-1)),
    38: ("keep right", partial(_ahead, degrees=135)),
    39: ("keep left", partial(_ahead, degrees=-135)),
    40: ("roundabout", _roundabout),
}

#: The classes that `draw_sign` knows.
DRAWN: tuple[int, ...] = tuple(sorted(_DRAWINGS))
#: Their names, as the benchmark's classes are named in this project.
NAMES: dict[int, str] = {label: name for label, (name, _) in _DRAWINGS.items()}
