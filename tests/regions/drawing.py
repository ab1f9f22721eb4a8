"""A street of plain shapes: sky, trees and road, and signs drawn into it."""

from __future__ import annotations

import cv2
import numpy as np

from firewall.frame import Pixels, Region

RED, BLUE, YELLOW, WHITE, BLACK = (190, 25, 35), (20, 70, 170), (240, 190, 20), (235, 235, 235), (20, 20, 20)


def scene(width: int = 960, height: int = 540, light: float = 1.0) -> Pixels:
    """Sky above, a band of mottled trees, a road; `light` darkens it."""
    random = np.random.default_rng(5)
    frame = np.empty((height, width, 3), np.float32)
    frame[: height // 2] = (150, 180, 205)
    frame[height // 2 :] = (95, 95, 98)
    coarse = random.uniform(0.5, 1.2, (height // 20 + 1, width // 12 + 1)).astype(np.float32)
    mottle = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    band = slice(height * 2 // 5, height * 3 // 5)
    frame[band] = np.float32((70, 90, 55)) * mottle[band]
    return np.clip(frame * light, 0, 255).astype(np.uint8)


def draw(frame: Pixels, kind: str, x: int, y: int, size: int, light: float = 1.0) -> Region:
    """Draw a sign of `size` px with its box at x, y; returns the tight box. Drawn eight times as large and averaged, so
    that edges are as soft as a camera's."""
    big = size * 8
    colour = np.zeros((big, big, 3), np.uint8)
    cover = np.zeros((big, big), np.uint8)
    centre, radius = (big // 2, big // 2), big // 2

    def polygon(part: float, corners: int, turn: float) -> list[np.ndarray]:
        angles = turn + 2 * np.pi * np.arange(corners) / corners
        return [np.rint(big / 2 + part * big / 2 * np.stack([np.cos(angles), np.sin(angles)], 1)).astype(np.int32)]

    if kind == "red ring":
        cv2.circle(cover, centre, radius, 255, -1)
        colour[:] = RED
        cv2.circle(colour, centre, int(0.75 * radius), WHITE, -1)
        cv2.putText(colour, "60", (int(0.24 * big), int(0.64 * big)), 0, big / 62, BLACK, big // 14)
    elif kind == "triangle":
        corners = np.array([[big // 2, 0], [big - 1, int(0.88 * big)], [0, int(0.88 * big)]], np.int32)
        cv2.fillPoly(cover, [corners], 255)
        colour[:] = RED
        inner = np.rint(corners.mean(0) + 0.6 * (corners - corners.mean(0))).astype(np.int32)
        cv2.fillPoly(colour, [inner], WHITE)
        cv2.line(colour, (big // 2, int(0.42 * big)), (big // 2, int(0.68 * big)), BLACK, big // 12)
    elif kind == "octagon":
        cv2.fillPoly(cover, polygon(1.05, 8, np.pi / 8), 255)
        colour[:] = RED
        cv2.putText(colour, "STOP", (int(0.12 * big), int(0.6 * big)), 0, big / 95, WHITE, big // 22)
    elif kind == "blue disc":
        cv2.circle(cover, centre, radius, 255, -1)
        colour[:] = BLUE
        cv2.arrowedLine(colour, (big // 2, int(0.8 * big)), (big // 2, int(0.2 * big)), WHITE, big // 10, tipLength=0.4)
    elif kind == "yellow diamond":
        cv2.fillPoly(cover, polygon(1.0, 4, 0), 255)
        colour[:] = WHITE
        cv2.fillPoly(colour, polygon(0.8, 4, 0), YELLOW)
    else:
        raise ValueError(kind)
    small = cv2.resize(colour, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) * light
    part = cv2.resize(cover, (size, size), interpolation=cv2.INTER_AREA)[..., None] / np.float32(255)
    under = frame[y : y + size, x : x + size]
    under[:] = np.rint(part * small + (1 - part) * under).astype(np.uint8)
    return (x, y, size, size)


def overlap(one: Region, other: Region) -> float:
    """Intersection over union, by counting."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[0] + one[2], other[0] + other[2]), min(one[1] + one[3], other[1] + other[3])
    shared = max(0, right - left) * max(0, bottom - top)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def with_margin(box: Region) -> Region:
    """A tenth more on each side, as the proposals give it."""
    x, y, width, height = box
    return (round(x - 0.1 * width), round(y - 0.1 * height), round(1.2 * width), round(1.2 * height))
