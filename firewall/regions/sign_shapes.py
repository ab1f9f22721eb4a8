"""Outlines in a frame that could be the rim, the face or the inner field of a traffic sign.

Nine masks look at the frame in three ways that light changes little: the share of red, the share of blue, and the
brightness, each against a fixed share or against its own neighbourhood. A real sign stands out in several of them,
so no single mask has to be right. Compact outlines of each mask are handed on; which of them are signs is decided
in sign_evidence.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from firewall.frame import Pixels
from firewall.regions.boxes import Floats

__all__ = ["FAMILIES", "Layers", "Outlines", "find_outlines", "split_layers"]

Layer = npt.NDArray[np.uint8]

#: Frames are looked at with about this many pixels. 960x540 is scaled by 0.56: a sign of 16 px is then 9 px.
WORKING_AREA = 160_000
#: Shortest side of an outline in pixels of the working image.
SMALLEST_OUTLINE = 7
#: More outlines than this (noise, dense foliage) are cut to the largest, which bounds the time a frame takes.
MOST_OUTLINES = 400
#: Mask number times two, plus one for an outline that is the rim of a hole.
FAMILIES = 18

# Weights of R, G, B and a constant. The constants pull pixels that are nearly black towards grey, where a share of
# a colour is only noise: 20 in all, a third of it for each colour.
_SUM = np.array([[1, 1, 1, 20]], np.float32)
_RED = np.array([[1, 0, 0, 20 / 3]], np.float32)
_BLUE = np.array([[0, 0, 1, 20 / 3]], np.float32)
_SHARE_UNIT = 512.0  # a share of 0.5 or more is 255; grey, 1/3, is 171

# How much larger a sign with its margin of a tenth is than an outline of it: seen from the outline of a coloured rim,
# and from the outline of the field inside the rim.
_RIM, _FIELD = 1.2, 1.65
_GROWTH = np.array([_RIM, _FIELD] * 6 + [_FIELD, _RIM] * 2 + [_RIM, _FIELD])


@dataclass(frozen=True, slots=True)
class Layers:
    """The working image.

    Attributes:
        red: Share of the colour in a pixel, 512 for all of it, up to 255.
        blue: The same for blue.
        light: Mean of R, G and B. All (h, w) uint8.
        across: Frame pixels per working pixel, horizontally.
        down: Frame pixels per working pixel, vertically.
    """

    red: Layer
    blue: Layer
    light: Layer
    across: float
    down: float


@dataclass(frozen=True, slots=True)
class Outlines:
    """N outlines.

    Attributes:
        family: (N,) int, 0..FAMILIES-1.
        boxes: (N, 4) square box of the sign that each suggests, working pixels.
        shape: (N, 8) what the outline looks like, see `_describe`.
    """

    family: npt.NDArray[np.int64]
    boxes: Floats
    shape: Floats


def split_layers(pixels: Pixels) -> Layers:
    """The working image of a frame (H, W, 3) uint8."""
    height, width = pixels.shape[:2]
    scale = min(1.0, (WORKING_AREA / (height * width)) ** 0.5)
    image: cv2.typing.MatLike = np.ascontiguousarray(pixels)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        # Area averaging costs five times as much and differs only when several pixels become one.
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR)
    smooth = cv2.blur(image, (3, 3)).astype(np.float32)
    total = cv2.transform(smooth, _SUM)
    red = cv2.convertScaleAbs(cv2.divide(cv2.transform(smooth, _RED), total), alpha=_SHARE_UNIT)
    blue = cv2.convertScaleAbs(cv2.divide(cv2.transform(smooth, _BLUE), total), alpha=_SHARE_UNIT)
    light = cv2.convertScaleAbs(total, alpha=1 / 3)
    return Layers(_layer(red), _layer(blue), _layer(light), width / image.shape[1], height / image.shape[0])


def find_outlines(layers: Layers) -> Outlines:
    """All outlines that are compact enough to belong to a sign."""
    rows = [row for number, mask in enumerate(_masks(layers)) for row in _compact(number, mask)]
    if len(rows) > MOST_OUTLINES:
        rows = sorted(rows, key=lambda row: -row[6])[:MOST_OUTLINES]
    table = np.array(rows, np.float64).reshape(-1, 14)
    family = table[:, 0].astype(np.int64)
    x, y, width, height, _, area, moment_x, moment_y = table[:, 1:9].T
    # A field shares the centroid with its rim, not the middle of the box: a triangle is seen to be off otherwise.
    growth = _GROWTH[family]
    side = np.maximum(width, height) * growth
    middle_x, middle_y = moment_x / area, moment_y / area
    left = middle_x + (x + width / 2 - middle_x) * growth - side / 2
    top = middle_y + (y + height / 2 - middle_y) * growth - side / 2
    return Outlines(family, np.stack([left, top, side, side], axis=1), _describe(table, side))


def _masks(layers: Layers) -> Iterator[Layer]:
    red, blue, light = layers.red, layers.blue, layers.light
    yield _above(red, 184)  # a share of 0.36
    yield _above(cv2.subtract(red, _around(red, 31)), 5)
    yield _above(cv2.subtract(red, _around(red, 121)), 10)
    yield _above(blue, 194)  # a share of 0.38
    yield _above(cv2.subtract(blue, _around(blue, 31)), 5)
    yield _above(cv2.subtract(_around(blue, 61), blue), 10)  # less blue than around: yellow
    yield _above(light, cv2.convertScaleAbs(_around(light, 31), alpha=1.08))
    yield _above(light, cv2.convertScaleAbs(_around(light, 81), alpha=1.15))
    yield _above(cv2.convertScaleAbs(_around(light, 21), alpha=0.92), light)


def _compact(number: int, mask: Layer) -> Iterator[tuple[float, ...]]:
    """Rows: family, box (4), area, hull area, first moments of the hull (2), its central second moments (3), number of
    outline pixels, hull perimeter."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for outline in outlines:
        if len(outline) < 2 * SMALLEST_OUTLINE + 2:
            continue
        x, y, width, height = cv2.boundingRect(outline)
        if min(width, height) < SMALLEST_OUTLINE or max(width, height) > 1.67 * min(width, height):
            continue
        signed = cv2.contourArea(outline, oriented=True)  # OpenCV goes round a hole the other way
        area = abs(signed)
        if area < 0.35 * width * height:
            continue
        hull = cv2.convexHull(outline)
        m = cv2.moments(hull)
        if area < 0.7 * m["m00"]:
            continue
        yield (
            2 * number + (signed > 0), x, y, width, height, area, m["m00"], m["m10"], m["m01"], m["mu20"], m["mu11"],
            m["mu02"], len(outline), cv2.arcLength(hull, True),
        )  # fmt: skip


def _describe(table: Floats, side: Floats) -> Floats:
    """(N, 8): log side of the box, log width / height, log solidity, likeness to an ellipse (1 for one, less for any
    other shape) and to a triangle (1 for one), both the same from any angle of view, share of the box that the hull
    fills, roundness, raggedness."""
    width, height, area, hull, _, _, mu20, mu11, mu02, length, perimeter = table[:, 3:].T
    spread = np.maximum(mu20 * mu02 - mu11 * mu11, 1e-9)
    columns = [
        np.log(side),
        np.log(width / height),
        np.log(area / hull),
        hull * hull / (4 * np.pi * np.sqrt(spread)),
        108 * spread / hull**4,
        hull / (width * height),
        4 * np.pi * hull / perimeter**2,
        length / perimeter,
    ]
    return np.stack(columns, axis=1)


def _around(layer: Layer, size: int) -> Layer:
    return _layer(cv2.blur(layer, (size, size)))


def _above(layer: cv2.typing.MatLike, limit: cv2.typing.MatLike | float) -> Layer:
    return _layer(cv2.compare(layer, limit, cv2.CMP_GT))  # type: ignore[arg-type]  # a number is fine


def _layer(array: cv2.typing.MatLike) -> Layer:
    return np.asarray(array, np.uint8)
