"""Random changes that attacks without gradients draw from."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from firewall.errors import UsageError
from firewall.lab.attacks.adaptive.ball import Ball

__all__ = ["SUBSPACES", "changed", "draw"]

Pixels = npt.NDArray[np.uint8]
Change = npt.NDArray[np.float32]

#: What changes may be made of.
SUBSPACES = ("pixels", "low-frequency")
#: Waves along a side that a random change of low frequency has at the most.
_WAVES = 12


def draw(pixels: Pixels, ball: Ball, subspace: str, generator: np.random.Generator) -> Change:
    """A random change, as long as is allowed.

    Args:
        pixels: Uint8 (h, w, 3), the original.
        ball: What is allowed.
        subspace: One of SUBSPACES. `pixels`: squares of random colours, from one pixel to half the side;
            `low-frequency`: random cosines of few waves.
        generator: Draws it.

    Returns:
        Float32 (h, w, 3), to be added, in units of 1/255.

    Raises:
        UsageError: There is no such subspace.
    """
    height, width = pixels.shape[:2]
    if subspace not in SUBSPACES:
        raise UsageError(f"subspace must be one of {', '.join(SUBSPACES)}, got {subspace!r}")
    make = _cosines if subspace == "low-frequency" else _squares
    change = make(height, width, generator)
    if ball.norm == "linf":
        return (np.sign(change) * ball.eps * 255).astype(np.float32)
    return (change * (ball.eps * 255 / max(float(np.linalg.norm(change)), 1e-9))).astype(np.float32)


def changed(pixels: Pixels, change: Change, ball: Ball) -> Pixels:
    """An image with a change, cut to what is allowed, as bytes.

    Args:
        pixels: Uint8 (h, w, 3).
        change: Float32 (h, w, 3), of `draw` or a mixture of several.
        ball: What is allowed.

    Returns:
        Uint8 (h, w, 3).
    """
    moved = pixels + change
    centre = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] / 255
    point = torch.from_numpy(moved.astype(np.float32)).permute(2, 0, 1)[None] / 255
    return ball.rounded(ball.project(point, centre)[0], pixels)


def _cosines(height: int, width: int, generator: np.random.Generator) -> Change:
    """A random field of few waves, of a scale that is drawn too."""
    most = int(generator.integers(2, _WAVES + 1))
    sides = []
    for side in (height, width):
        count = min(side, most)
        sides.append(np.cos(np.pi / side * np.outer(np.arange(side) + 0.5, np.arange(count))))
    amplitudes = generator.normal(size=(3, sides[0].shape[1], sides[1].shape[1]))
    if generator.random() < 0.5:  # light and dark rather than colours
        amplitudes[1:] = amplitudes[0]
    field: Change = np.einsum("hi,cij,wj->hwc", sides[0], amplitudes, sides[1]).astype(np.float32)
    return field


def _squares(height: int, width: int, generator: np.random.Generator) -> Change:
    """Squares in a grid, each with a random sign for each channel."""
    edge = int(2 ** generator.uniform(0, math.log2(max(2, min(height, width) / 2))))
    rows, columns = -(-height // edge), -(-width // edge)
    signs = generator.choice([-1.0, 1.0], (rows, columns, 3)).astype(np.float32)
    field: Change = signs.repeat(edge, 0).repeat(edge, 1)[:height, :width]
    return field
