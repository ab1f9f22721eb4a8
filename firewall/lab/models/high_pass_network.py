"""A small network that uses only what neighbouring pixels don't explain of each other: fit for the edge.

An image of a sign is smooth compared with a perturbation of a few grey levels, so the image is removed before anything
is learnt from the rest. Detectors of hidden messages do so: fixed or constrained high-pass filters first (Fridrich and
Kodovsky 2012; Bayar and Stamm 2016), their outputs cut off at a few grey levels (truncated linear units, Ye, Ni and Yi
2017), no pooling before the noise has been examined.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from firewall.lab.models.normalisation import normalisation

__all__ = ["HighPassNetwork"]

_SIDE = 5

#: What the filters are before training: differences of first to fourth order, (row, column) from the centre -> weight.
_DIFFERENCES: tuple[dict[tuple[int, int], float], ...] = (
    {(0, 0): -1, (0, 1): 1},
    {(0, 0): -1, (1, 0): 1},
    {(0, 0): -1, (1, 1): 1},
    {(0, 0): -1, (1, -1): 1},
    {(0, 0): -1, (0, 1): 0.5, (0, -1): 0.5},
    {(0, 0): -1, (1, 0): 0.5, (-1, 0): 0.5},
    {(0, 0): -1, (0, 1): 0.25, (0, -1): 0.25, (1, 0): 0.25, (-1, 0): 0.25},
    {
        **dict.fromkeys([(0, 1), (0, -1), (1, 0), (-1, 0)], 0.5),
        **dict.fromkeys([(1, 1), (1, -1), (-1, 1), (-1, -1)], -0.25),
        (0, 0): -1,
    },
    {(0, -1): 1 / 3, (0, 0): -1, (0, 1): 1, (0, 2): -1 / 3},
    {(-1, 0): 1 / 3, (0, 0): -1, (1, 0): 1, (2, 0): -1 / 3},
    {(0, -2): -1 / 6, (0, -1): 2 / 3, (0, 0): -1, (0, 1): 2 / 3, (0, 2): -1 / 6},
    {(-2, 0): -1 / 6, (-1, 0): 2 / 3, (0, 0): -1, (1, 0): 2 / 3, (2, 0): -1 / 6},
)


class HighPassNetwork(nn.Module):
    """(N, channels, H, W) in 0..1 -> (N, 2): normal, adversarial. About 31 thousand weights at width 16.

    Twelve 5x5 filters, the same on each channel, whose weights are learned but always sum to 0; then convolutions at
    full, half and a quarter of the resolution. The end takes the mean and the maximum over all places.

    Args:
        channels: Of the input.
        width: Channels of the first convolution behind the filters.
        cut: Grey levels at which the filters' outputs are cut off.
        normalise: `batch` or `group`, see `normalisation`.
    """

    def __init__(self, *, channels: int = 3, width: int = 16, cut: float = 4.0, normalise: str = "batch") -> None:
        super().__init__()
        self.channels, self.cut = channels, cut
        filters = torch.zeros(len(_DIFFERENCES), 1, _SIDE, _SIDE)
        for kernel, weights in zip(filters, _DIFFERENCES, strict=True):
            for (row, column), weight in weights.items():
                kernel[0, _SIDE // 2 + row, _SIDE // 2 + column] = weight
        self.filters = nn.Parameter(filters)
        inputs = len(_DIFFERENCES) * channels
        layers: list[nn.Module] = []
        for outputs, side, stride in (
            (width, 1, 1),
            (width, 3, 1),
            (2 * width, 3, 2),
            (2 * width, 3, 1),
            (3 * width, 3, 2),
        ):
            layers += [
                *(nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=False), normalisation(normalise, outputs)),
                nn.ReLU(),
            ]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * inputs, 2)

    def forward(self, image: Tensor) -> Tensor:
        """The two outputs (N, 2), before any softmax."""
        filters = (self.filters - self.filters.mean(dim=(2, 3), keepdim=True)).repeat(self.channels, 1, 1, 1)
        noise = conv2d(image * 255.0, filters, padding=_SIDE // 2, groups=self.channels)
        found = self.layers(noise.clamp(-self.cut, self.cut) / self.cut)
        outputs: Tensor = self.head(torch.cat([found.mean(dim=(2, 3)), found.amax(dim=(2, 3))], dim=1))
        return outputs
