"""The networks of the papers' detectors by name: ResNet-50 and Xception here, the small ones from the lab."""

from __future__ import annotations

from torch import nn

from benchmarks.papers.resnet50 import ResNet50
from benchmarks.papers.xception import Xception
from firewall.lab.models.detector_network import by_name

__all__ = ["LARGE", "network_of"]

LARGE: dict[str, type[ResNet50 | Xception]] = {"resnet50": ResNet50, "xception": Xception}


def network_of(name: str, channels: int = 3) -> nn.Module:
    """A new network, its weights random by torch's global generator.

    Args:
        name: A key of LARGE, or of the lab's table.
        channels: Of the input.

    Returns:
        (N, channels, H, W) in 0..1 -> (N, 2), before any softmax.

    Raises:
        UsageError: The name is unknown.
    """
    return LARGE[name](channels=channels) if name in LARGE else by_name(name, channels)
