"""Images without a sign that look like one: what the region finder proposes where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.progress import track

from firewall.bundle import load_bundle
from firewall.demo.scene import render
from firewall.demo.source import ENCOUNTERS
from firewall.frame import Pixels, Region
from firewall.regions.sign_finder import UNSURE, SignFinder

__all__ = ["half", "mine", "mine_scenes", "partial"]


def mine(images: Sequence[Pixels]) -> list[Pixels]:
    """What the default bundle's finder takes for signs, if only a little, in images without any.

    Args:
        images: Uint8 (H, W, 3) each.

    Returns:
        Uint8 (h, w, 3) each.
    """
    finder = SignFinder.of(load_bundle(), threshold=UNSURE)
    console = Console(stderr=True)
    return [
        pixels[y : y + height, x : x + width].copy()
        for pixels in track(images, "mining", transient=True, console=console)
        for x, y, width, height in finder.find(pixels)
    ]


def mine_scenes(count: int) -> list[Pixels]:
    """What the default bundle's finder takes for signs, if only a little, in rendered scenes, away from their sign.

    Args:
        count: How many scenes; their seeds are others than the demo's.

    Returns:
        Uint8 (h, w, 3) each.
    """
    finder = SignFinder.of(load_bundle(), threshold=UNSURE)
    crops = []
    for pixels, sign in _scenes(count):
        for x, y, width, height in finder.find(pixels):
            across = min(x + width, sign[0] + sign[2]) - max(x, sign[0])
            down = min(y + height, sign[1] + sign[3]) - max(y, sign[1])
            if across <= 0 or down <= 0:
                crops.append(pixels[y : y + height, x : x + width].copy())
    return crops


def partial(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """A part of a sign, 30 to 55 % of its side: too little to name it by.

    Args:
        pixels: Uint8 (H, W, 3).
        generator: What the part is drawn with.

    Returns:
        A view of `pixels`, 4 pixels a side or more where there are so many.
    """
    height, width = pixels.shape[:2]
    share = generator.uniform(0.3, 0.55)
    rows, columns = min(height, max(4, round(height * share))), min(width, max(4, round(width * share)))
    top, left = int(generator.integers(height - rows + 1)), int(generator.integers(width - columns + 1))
    return pixels[top : top + rows, left : left + columns]


def half(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """One side of a sign, 40 to 62 % of its height or width: the lower half of one sign is that of many others.

    Args:
        pixels: Uint8 (H, W, 3).
        generator: What the part is drawn with.

    Returns:
        A view of `pixels`, a pixel wide or more.
    """
    axis, last = int(generator.integers(2)), generator.random() < 0.5
    whole = pixels.shape[axis]
    kept = max(1, round(whole * generator.uniform(0.4, 0.62)))
    rows = slice(whole - kept, whole) if last else slice(0, kept)
    return pixels[rows] if axis == 0 else pixels[:, rows]


def _scenes(count: int) -> Iterator[tuple[Pixels, Region]]:
    for number in range(count):
        encounter = replace(ENCOUNTERS[number % len(ENCOUNTERS)], seed=90_000 + number)
        yield render(encounter, number % encounter.steps)
