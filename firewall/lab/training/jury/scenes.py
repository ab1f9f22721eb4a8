"""Crops of road scenes that show no sign: what the edge's finder proposes by mistake, and places drawn at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.progress import track

from firewall.bundle import load_bundle
from firewall.frame import Pixels, Region
from firewall.regions import overlaps
from firewall.regions.sign_finder import UNSURE, SignFinder

__all__ = ["crops_without_sign"]

#: The largest intersection over union with a sign's box at which a crop shows no sign; a part of one is none either.
_FREE = 0.15


def crops_without_sign(
    frames: Sequence[Pixels], boxes: Sequence[Sequence[Region]], *, drawn: int = 6, seed: int = 0
) -> list[Pixels]:
    """Crops away from the signs.

    Args:
        frames: Uint8 (H, W, 3) each.
        boxes: The signs of each frame, (x, y, width, height) in pixels.
        drawn: Places drawn at random in each frame.
        seed: What they depend on.

    Returns:
        Uint8 (h, w, 3) each.
    """
    finder = SignFinder.of(load_bundle(), threshold=UNSURE)
    generator = np.random.default_rng(seed)
    crops = []
    for pixels, signs in track(list(zip(frames, boxes, strict=True)), "mining", console=Console(stderr=True)):
        places = [*finder.find(pixels), *(_place(pixels, generator) for _ in range(drawn))]
        for place in places:
            x, y, width, height = place
            found = overlaps(np.array([place], np.float64), np.array(signs, np.float64).reshape(-1, 4))
            if found.max(initial=0) < _FREE:
                crops.append(pixels[y : y + height, x : x + width].copy())
    return crops


def _place(pixels: Pixels, generator: np.random.Generator) -> Region:
    """A square of 16 to 160 pixels a side, or as large as the frame allows."""
    height, width = pixels.shape[:2]
    largest = min(160, height, width)
    side = min(largest, int(np.exp(generator.uniform(np.log(min(16, largest)), np.log(largest)))))
    return int(generator.integers(width - side + 1)), int(generator.integers(height - side + 1)), side, side
