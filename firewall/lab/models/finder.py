"""The sign finder: a compact fully convolutional network that says where in a frame signs are, whatever their class.

A stem that goes straight to a quarter of the frame, separable blocks down to a thirty-second, and the way back up by
addition to one map at an eighth. Each place of that map has a score and the distances to the four sides of a sign. Only
convolutions, additions and enlargement by two: every runtime builds it, for any frame whose sides are multiples of 32.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CHANNELS", "COARSEST", "STRIDE", "WHITE", "Finder", "reading_bytes"]

#: Pixels of the frame to a place of the map, along each side.
STRIDE = 8
#: The sides of what the network reads are multiples of this, in pixels.
COARSEST = 32
#: A place's channels: score as a logit, then the logarithms of the distances to left, top, right and bottom in strides.
CHANNELS = 5
#: What white is in the input of the network that is exported.
WHITE = 255.0
#: A place is a sign's with this probability before anything is learned.
_RARE = 0.01
_STEM, _QUARTER, _EIGHTH, _SIXTEENTH, _LAST = 16, 32, 64, 128, 192


class Finder(nn.Module):
    """Input: float (N, 3, H, W), RGB, 0..1, H and W multiples of 32. Output: float (N, 5, H / 8, W / 8), see CHANNELS.

    0.24 million parameters, 1.0 thousand million multiply-adds for a frame of 1360x800.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _convolution(3, _STEM, 6, stride=4, padding=1)
        self.quarter = _separable(_STEM, _QUARTER, 3)
        self.eighth = nn.Sequential(_separable(_QUARTER, _EIGHTH, 5, stride=2), _Block(_EIGHTH), _Block(_EIGHTH))
        self.sixteenth = nn.Sequential(
            _separable(_EIGHTH, _SIXTEENTH, 5, stride=2), _Block(_SIXTEENTH), _Block(_SIXTEENTH), _Block(_SIXTEENTH)
        )
        self.last = nn.Sequential(_separable(_SIXTEENTH, _LAST, 5, stride=2), _Block(_LAST), _Block(_LAST))
        self.from_last = _convolution(_LAST, _SIXTEENTH, 1, activation=False)
        self.from_sixteenth = _convolution(_SIXTEENTH, _EIGHTH, 1, activation=False)
        self.joined = _Block(_EIGHTH)
        self.head = nn.Conv2d(_EIGHTH, CHANNELS, 1)
        with torch.no_grad():
            nn.init.normal_(self.head.weight, std=0.01)
            bias = torch.tensor([math.log(_RARE / (1 - _RARE)), 1.0, 1.0, 1.0, 1.0])
            self.head.bias = nn.Parameter(bias)

    def forward(self, image: Tensor) -> Tensor:
        """The map of float (N, 3, H, W) in 0..1."""
        eighth = self.eighth(self.quarter(self.stem(image)))
        sixteenth = self.sixteenth(eighth)
        last = self.last(sixteenth)
        sixteenth = torch.relu(sixteenth + F.interpolate(self.from_last(last), scale_factor=2.0, mode="nearest"))
        eighth = torch.relu(eighth + F.interpolate(self.from_sixteenth(sixteenth), scale_factor=2.0, mode="nearest"))
        answer: Tensor = self.head(self.joined(eighth))
        return answer


def reading_bytes(network: Finder) -> Finder:
    """A copy whose input is 0..WHITE, which saves the edge a pass over the frame; black is 0 as before."""
    copied = copy.deepcopy(network)
    first = copied.stem[0]
    if isinstance(first, nn.Conv2d):
        first.weight = nn.Parameter(first.weight.detach() / WHITE)
    return copied


def _convolution(
    inputs: int, outputs: int, side: int, *, stride: int = 1, padding: int = 0, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    layers = [
        nn.Conv2d(inputs, outputs, side, stride=stride, padding=padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if activation else nn.Sequential(*layers)


def _separable(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    """A convolution of each channel by itself, then one of all channels at each place."""
    return nn.Sequential(
        _convolution(inputs, inputs, side, stride=stride, padding=side // 2, groups=inputs, activation=False),
        _convolution(inputs, outputs, 1),
    )


class _Block(nn.Module):
    """A separable convolution of 5 x 5 beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = _convolution(width, width, 5, padding=2, groups=width, activation=False)
        self.mixed = _convolution(width, width, 1, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return torch.relu(x + self.mixed(self.spatial(x)))
