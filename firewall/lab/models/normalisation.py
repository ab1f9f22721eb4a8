"""How a detector network keeps its activations in range: by batch, or by image.

Statistics of batches carry a trap for detectors: in training half of each batch is adversarial, on the road hardly any
image is. So the statistics that a trained network keeps must be those of its last weights: `recalibrate`. By image
nothing can go wrong that way, but how strong the noise of an image is as a whole is then divided out, and with it much
of what a detector looks for.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from firewall.errors import UsageError

__all__ = ["normalisation", "recalibrate"]

_GROUPS = 8


def normalisation(kind: str, channels: int) -> nn.GroupNorm | nn.BatchNorm2d:
    """The layer for `channels`. kind: "batch" (statistics of training ever after) or "group" (8 groups, by image).

    Both have two weights a channel. Raises UsageError for another kind.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(_GROUPS, channels)
    raise UsageError(f"unknown normalisation {kind!r}; known: batch, group")


@torch.no_grad()
def recalibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the kept statistics of every batch normalisation to the mean over `batches`, inputs (N, C, H, W) each.

    Leaves the network in evaluation mode; without batch normalisation nothing changes.
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
