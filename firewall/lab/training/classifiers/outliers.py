"""Images of no sign that look like one: what the region finder proposes where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import track

from firewall.demo.scene import render
from firewall.demo.source import ENCOUNTERS
from firewall.frame import Pixels, Region
from firewall.regions import build

__all__ = ["mine", "mine_scenes", "partial"]


def mine(images: Sequence[Pixels]) -> list[Pixels]:
    """The crops that the edge would classify in `images`, which hold no signs."""
    finder = build("signs")
    console = Console(stderr=True)
    return [
        pixels[y : y + height, x : x + width].copy()
        for pixels in track(images, "mining", transient=True, console=console)
        for x, y, width, height in finder.find(pixels)
    ]


def mine_scenes(count: int) -> list[Pixels]:
    """The same on rendered road scenes (other seeds than the demo's), away from their sign."""
    finder = build("signs")
    crops = []
    for pixels, sign in _scenes(count):
        for x, y, width, height in finder.find(pixels):
            across = min(x + width, sign[0] + sign[2]) - max(x, sign[0])
            down = min(y + height, sign[1] + sign[3]) - max(y, sign[1])
            if across <= 0 or down <= 0:
                crops.append(pixels[y : y + height, x : x + width].copy())
    return crops


def partial(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """A part of a sign, 30 to 55 % of its side: too little to name it by."""
    height, width = pixels.shape[:2]
    share = generator.uniform(0.3, 0.55)
    rows, columns = max(4, round(height * share)), max(4, round(width * share))
    top, left = int(generator.integers(height - rows + 1)), int(generator.integers(width - columns + 1))
    return pixels[top : top + rows, left : left + columns]


def _scenes(count: int) -> Iterator[tuple[Pixels, Region]]:
    for number in range(count):
        encounter = replace(ENCOUNTERS[number % len(ENCOUNTERS)], seed=90_000 + number)
        yield render(encounter, number % encounter.steps)
