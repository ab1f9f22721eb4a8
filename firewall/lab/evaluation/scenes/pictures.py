"""Pictures of places in frames, for the page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from firewall.frame import Pixels, Region
from firewall.lab.datasets.reading import at_most

__all__ = ["Shown", "around"]

_LARGEST, _LEAST = 192, 24
_LINE = (255, 0, 200)


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture of the page.

    Attributes:
        kind: What it shows, as a heading has it.
        where: The frame.
        caption: What happened.
        image: Uint8 (h, w, 3).
    """

    kind: str
    where: str
    caption: str
    image: Pixels


def around(frame: Pixels, region: Region) -> Pixels:
    """A place with as much around it as it is large, and a line about it.

    Args:
        frame: Uint8 (H, W, 3).
        region: (x, y, width, height) in pixels, within the frame.

    Returns:
        Uint8 (h, w, 3), at most 192 pixels a side.
    """
    x, y, width, height = region
    margin = max(_LEAST, max(width, height) // 2)
    left, top = max(0, x - margin), max(0, y - margin)
    crop = frame[top : y + height + margin, left : x + width + margin].copy()
    colour = np.array(_LINE, np.uint8)
    first, last = (y - top - 1, x - left - 1), (y - top + height, x - left + width)
    for row in (first[0], last[0]):
        if 0 <= row < crop.shape[0]:
            crop[row, max(0, first[1]) : last[1] + 1] = colour
    for column in (first[1], last[1]):
        if 0 <= column < crop.shape[1]:
            crop[max(0, first[0]) : last[0] + 1, column] = colour
    return at_most(crop, _LARGEST)
