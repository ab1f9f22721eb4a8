"""From an attack's real numbers to the bytes that are stored and that the edge sees, and which images still fool."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from firewall.errors import DataError
from firewall.lab.attacks.criteria import Criterion, TopOut

__all__ = ["as_stored", "quantise", "survivors", "to_input"]

Pixels = npt.NDArray[np.uint8]


def quantise(images: Tensor) -> Pixels:
    """Real numbers as bytes, rounded to nearest (halves to even).

    Args:
        images: Float (N, C, H, W) in 0..1.

    Returns:
        Uint8 (N, H, W, C).

    Raises:
        DataError: A value is not a number or lies outside 0..1: an attack that leaves the box is wrong.
    """
    images = images.detach()
    if len(images) and not (float(images.min()) >= 0.0 and float(images.max()) <= 1.0):
        raise DataError("images hold NaN or values outside 0..1 and can't be stored as uint8")
    levels = images.mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def to_input(pixels: Pixels) -> Tensor:
    """Stored images as the network's input.

    Args:
        pixels: Uint8 (N, H, W, C).

    Returns:
        Float32 (N, C, H, W) in 0..1.

    Raises:
        DataError: Another dtype or number of dimensions.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 4:
        raise DataError(f"pixels are {pixels.dtype} {pixels.shape}; stored images are uint8 (N, H, W, C)")
    own = pixels if pixels.flags.writeable else pixels.copy()  # torch would warn of an array that is read only
    return torch.from_numpy(own).permute(0, 3, 1, 2).float().div(255)


def as_stored(images: Tensor) -> Tensor:
    """Images with the values that their stored form has; the gradient passes as if nothing had been rounded.

    Args:
        images: Float (N, C, H, W) in 0..1.

    Returns:
        Float of the same shape, multiples of 1/255.
    """
    return images + (images.mul(255).round().div(255) - images).detach()


@torch.no_grad()
def survivors(
    model: nn.Module, quantised: Pixels, labels: Tensor, criterion: Criterion | None = None
) -> npt.NDArray[np.bool_]:
    """Which stored images still meet the criterion.

    Args:
        model: The network. It runs in evaluation mode and is left in its own.
        quantised: Uint8 (N, H, W, C).
        labels: Int64 (N,).
        criterion: That of the attack; None: a wrong first label.

    Returns:
        Bool (N,). Logits that are not finite count as not fooled.
    """
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        # In parts: a data set of large images doesn't fit a network all at once.
        parts = [model(to_input(part).to(labels.device)) for part in np.array_split(quantised, _parts(len(quantised)))]
    finally:
        for module, training in modes:
            module.training = training
    fooled = (criterion or TopOut()).met(torch.cat(parts), labels)
    return np.asarray(fooled.cpu().numpy(), np.bool_)


def _parts(count: int) -> int:
    return max(1, -(-count // 256))
