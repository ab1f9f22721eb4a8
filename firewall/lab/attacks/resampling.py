"""The edge's resize in torch: the same numbers forward, and a gradient backward."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.rounding import as_stored

__all__ = ["Resized", "resized"]

_BITS = 22  # of the fraction in Pillow's weights: 32, less 8 of a value and 2 to spare


class Resized(nn.Module):
    """A classifier behind the edge's resize, so that a crop can be attacked at its own size.

    Args:
        network: Float (N, C, height, width) in 0..1 -> logits (N, classes).
        width: Of the network's input, in pixels, 1 or more.
        height: Of the network's input, in pixels, 1 or more.

    Raises:
        UsageError: A side is below 1.
    """

    def __init__(self, network: nn.Module, width: int, height: int) -> None:
        super().__init__()
        if min(width, height) < 1:
            raise UsageError(f"a network's input can't be {width} x {height} pixels; both sides must be 1 or more")
        self.network, self.width, self.height = network, width, height

    def forward(self, images: Tensor) -> Tensor:
        """Logits of float (N, C, h, w) in 0..1, which are rounded to levels first: the edge sees uint8."""
        logits: Tensor = self.network(resized(images, self.width, self.height))
        return logits


def resized(images: Tensor, width: int, height: int) -> Tensor:
    """Images resampled as `firewall.transforms.resize` does it, byte for byte, with a gradient.

    Forward: rounded to levels, along the rows, rounded, along the columns, rounded, by Pillow's own integer weights.
    Backward: as if nothing had been rounded.

    Args:
        images: Float (N, C, h, w) in 0..1.
        width: Of the result, in pixels.
        height: Of the result, in pixels.

    Returns:
        Float (N, C, height, width), multiples of 1/255, of the type of `images`.
    """
    stored = as_stored(images)
    if images.shape[2:] == (height, width):
        return stored
    # Whole levels times whole weights: exact in double precision, so that every half is rounded as Pillow rounds it.
    levels = _levels(stored.double() * 255)
    levels = _levels(levels @ _weights(images.shape[3], width).to(images.device).T)
    levels = _levels(_weights(images.shape[2], height).to(images.device) @ levels)
    return levels.to(images.dtype) / 255  # as `to_input` divides, to the last bit


def _levels(values: Tensor) -> Tensor:
    """Whole levels, halves up; the gradient passes."""
    return values + ((values + 0.5).floor().clamp(0, 255) - values).detach()


@lru_cache(maxsize=512)
def _weights(before: int, after: int) -> Tensor:
    """Pillow's BILINEAR weights in fixed point, as numbers: float64 (after, before); a row sums to about 1."""
    weights = torch.zeros(after, before, dtype=torch.float64)
    scale = before / after
    support = max(scale, 1.0)
    for place in range(after):
        centre = (place + 0.5) * scale
        first = max(0, math.floor(centre - support + 0.5))
        last = min(before, math.floor(centre + support + 0.5))
        row = [max(0.0, 1 - abs((at - centre + 0.5) / support)) for at in range(first, last)]
        total = sum(row)
        for at, weight in enumerate(row, start=first):
            weights[place, at] = math.floor(0.5 + weight / total * (1 << _BITS)) / (1 << _BITS)
    return weights
