"""The least strength with which an attack succeeds, found for each image of a batch at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["along", "least"]

#: A strength for each image (N,) -> points (N, C, H, W) and where they succeed (N,).
Attempt = Callable[[Tensor], tuple[Tensor, Tensor]]


def along(values: Tensor, like: Tensor) -> Tensor:
    """One value for each image, shaped to be multiplied with images.

    Args:
        values: (N,).
        like: A tensor of the images' number of dimensions.

    Returns:
        (N, 1, ...).
    """
    return values.reshape(-1, *[1] * (like.ndim - 1))


def least(images: Tensor, attempt: Attempt, lowest: float, highest: float, searches: int) -> Tensor:
    """The points found with the least strength.

    Bisection of the *ratio*: a strength is known to the same share of itself whether it is small or large, and after n
    searches to a factor of (highest / lowest) ** (1 / 2**n). `highest` itself is tried last, where all else failed.

    Args:
        images: Float (N, C, H, W).
        attempt: Strengths (N,) -> points (N, C, H, W) and whether each succeeds (N,).
        lowest: The smallest strength, above 0.
        highest: The largest strength.
        searches: How many strengths are tried for each image, 1 or more.

    Returns:
        Float (N, C, H, W); an image with which no attempt succeeded comes back unchanged.
    """
    best = images.clone()
    low = torch.full(images.shape[:1], lowest, dtype=images.dtype, device=images.device)
    high = torch.full_like(low, highest)
    met = torch.zeros_like(low, dtype=torch.bool)
    for turn in range(searches):
        strength = (low * high).sqrt()
        if turn == searches - 1:
            strength = torch.where(met, strength, highest)
        points, success = attempt(strength)
        best = torch.where(along(success, best), points, best)
        met |= success
        high = torch.where(success, strength, high)
        low = torch.where(success, low, strength)
    return best
