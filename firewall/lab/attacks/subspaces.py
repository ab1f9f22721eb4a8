"""Where a change may lie: anywhere, under a blur, or in the lowest frequencies. Each is linear and has a gradient."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from firewall.lab.attacks.channels.optics import blurred

__all__ = ["SUBSPACES", "change_in", "low_frequencies", "roughness"]

SUBSPACES = ("pixels", "blurred", "low-frequency")


def change_in(subspace: str, free: Tensor, eps: float, *, sigma: float, frequencies: int) -> Tensor:
    """The change that free numbers stand for, within the bound.

    Args:
        subspace: One of SUBSPACES: the numbers as they are; blurred by a Gaussian; their lowest DCT coefficients.
        free: Float (N, C, h, w) within eps.
        eps: Radius of the L-infinity ball, in units of the full range 0..1. Low frequencies are cut off there, which
            adds a little of higher ones; the gradient passes the cut.
        sigma: Of the blur, in pixels.
        frequencies: How many along each side, of those that there are.

    Returns:
        Float (N, C, h, w), nowhere more than eps.
    """
    if subspace == "blurred":
        free = blurred(free, sigma)
    elif subspace == "low-frequency":
        free = low_frequencies(free, frequencies)
    return free + (free.clamp(-eps, eps) - free).detach()


def low_frequencies(values: Tensor, count: int) -> Tensor:
    """What is left of values in the lowest count x count coefficients of the DCT of the whole image.

    Args:
        values: Float (N, C, h, w).
        count: How many along each side, 1 or more; all that there are, where there are fewer.

    Returns:
        Float of the same shape.
    """
    height, width = values.shape[2:]
    return _lowest(height, count).to(values) @ values @ _lowest(width, count).to(values)


def roughness(changes: Tensor, eps: float) -> Tensor:
    """Total variation of each change: the mean step between neighbours, along both sides together, as a share of eps.

    Args:
        changes: Float (N, C, h, w).
        eps: What counts as 1.

    Returns:
        Float (N,): 0 for the same change everywhere, about 2 for random signs.
    """
    down = (changes[:, :, 1:] - changes[:, :, :-1]).abs().flatten(1).sum(1)
    right = (changes[:, :, :, 1:] - changes[:, :, :, :-1]).abs().flatten(1).sum(1)
    return (down + right) / (eps * max(1, changes[0].numel() if len(changes) else 1))


@lru_cache(maxsize=256)
def _lowest(size: int, count: int) -> Tensor:
    """The projection to the lowest frequencies of the DCT of `size` numbers: (size, size)."""
    row, column = torch.meshgrid(torch.arange(min(size, count)), torch.arange(size), indexing="ij")
    waves = torch.cos((2 * column + 1) * row * math.pi / (2 * size)) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves.T @ waves
