"""How a detector network keeps its activations in range: by batch, or by image.

Statistics of batches have a pitfall for detectors: in training half of each batch is adversarial, on the road hardly
any image is. So the statistics that a trained network keeps must be those of its last weights: `recalibrate`.
Normalisation by image avoids that, but it divides out how strong an image's noise is as a whole, and with it much of
what a detector looks for.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from firewall.errors import UsageError

__all__ = ["normalisation", "recalibrate"]

_GROUPS = 8


def normalisation(kind: str, channels: int) -> nn.GroupNorm | nn.BatchNorm2d:
    """A normalisation layer, with two weights for each channel.

    Args:
        kind: "batch" (statistics of training, kept) or "group" (8 groups, by image).
        channels: Of its input.

    Returns:
        The layer.

    Raises:
        UsageError: Another kind.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(_GROUPS, channels)
    raise UsageError(f"unknown normalisation {kind!r}; known: batch, group")


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the kept statistics of every batch normalisation to the mean over some batches.

    Args:
        network: Left in evaluation mode; without batch normalisation nothing changes.
        batches: Inputs, (N, C, H, W) each.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    network.eval()
    if not layers:
        return
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
        layer.train()
    for inputs in batches:
        network(inputs)
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum
        layer.eval()
