"""Networks that separate adversarial from benign images, or their residuals, by name; the small ones fit the edge."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.models.high_pass_network import HighPassNetwork

__all__ = ["NETWORKS", "DetectorNetwork", "NoiseNetwork", "by_name"]


class DetectorNetwork(nn.Module):
    """(N, channels, H, W) -> (N, 2): normal, adversarial. About 0.1 million weights.

    The first layers keep the full resolution: perturbations live in neighbouring pixels, and pooling would average them
    away. Normalisation is by image: statistics of batches that are half adversarial would shift the boundary on a
    stream of benign images. The end takes the mean over all places, since a perturbation may be anywhere.

    Args:
        width: Channels of the first layer.
        channels: Of the input.
    """

    def __init__(self, width: int = 24, channels: int = 3) -> None:
        super().__init__()
        sizes = [
            (channels, width, 1),
            (width, width, 1),
            (width, 2 * width, 2),
            (2 * width, 2 * width, 1),
            (2 * width, 3 * width, 2),
        ]
        layers: list[nn.Module] = []
        for inputs, outputs, stride in sizes:
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(3 * width, 2)

    def forward(self, image: Tensor) -> Tensor:
        """The two outputs (N, 2), before any softmax."""
        outputs: Tensor = self.head(self.layers(image).mean(dim=(2, 3)))
        return outputs


class NoiseNetwork(nn.Module):
    """(N, channels, H, W) -> (N, 2): normal, adversarial. About 55 thousand weights, for residuals.

    How strong a perturbation is against the texture around it matters, so the first layer is not normalised. Its
    outputs are cut off instead, as in networks that look for hidden messages (truncated linear units, Ye et al. 2017),
    so that strong edges don't hide what is small. The end takes the mean and the maximum over all places: a
    perturbation may be spread over the image or concentrated in a corner.

    Args:
        channels: Of the input.
        width: Channels of the first layer.
    """

    def __init__(self, channels: int = 3, width: int = 24) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(channels, width, 5, 1, 2), nn.Hardtanh(-3.0, 3.0))
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((width, 32, 2), (32, 32, 1), (32, 48, 2), (48, 48, 1)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(1, outputs), nn.ReLU()]
        layers[1] = nn.Identity()  # the strength of what the first layer found has to come through
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * 48, 2)

    def forward(self, residuals: Tensor) -> Tensor:
        """The two outputs (N, 2), before any softmax, of residuals (N, channels, H, W) in -1..1."""
        # A unit of the input is 255 grey levels, what is looked for has a few.
        found = self.layers(self.first(residuals * 32.0))
        outputs: Tensor = self.head(torch.cat([found.mean(dim=(2, 3)), found.amax(dim=(2, 3))], dim=1))
        return outputs


#: name -> a maker of fresh networks, given the number of input channels; (N, channels, H, W) in 0..1 (residuals in
#: -1..1) -> (N, 2): normal, adversarial, before any softmax.
NETWORKS: MappingProxyType[str, Callable[[int], nn.Module]] = MappingProxyType(
    {
        "small": lambda channels: DetectorNetwork(channels=channels),
        "noise": NoiseNetwork,
        "high-pass": lambda channels: HighPassNetwork(channels=channels),
    }
)


def by_name(name: str, channels: int = 3) -> nn.Module:
    """A new network, its weights random by torch's global generator.

    Args:
        name: A key of NETWORKS.
        channels: Of the input.

    Returns:
        The network: (N, channels, H, W) -> (N, 2), normal and adversarial, before any softmax.

    Raises:
        UsageError: There is none of that name; the message lists the names.
    """
    try:
        return NETWORKS[name](channels)
    except KeyError:
        raise UsageError(f"no detector network is named {name!r}; there are {', '.join(NETWORKS)}") from None
