"""Small networks for proofs: a classifier and a denoiser to be run on noise ten thousand times an image, and a
classifier whose bounds are tight.

The first two take 48x48 pixels, as the classifier on the edge does: an l2 radius is one of that input. The third takes
32x32: how far each value may change doesn't depend on how many there are.
"""

from __future__ import annotations

import copy
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from firewall.errors import UsageError
from firewall.lab.models.sign_classifier import Residual

__all__ = ["INTERVAL_SIZE", "NOISE_SIZE", "Denoiser", "IntervalNetwork", "noise_network"]

#: Height and width of their inputs, in pixels.
NOISE_SIZE, INTERVAL_SIZE = 48, 32
#: Side of the squares that a denoiser sees as one place, in pixels.
_SQUARE = 4


def noise_network(classes: int, width: int = 48, blocks: int = 0) -> nn.Module:
    """Four convolutions with batch normalisation, 4.8 million products an image; and more for what a larger one gains.

    Args:
        classes: How many.
        width: Channels at an eighth of a side's pixels, a multiple of 6.
        blocks: Residual blocks at that size, of two convolutions each.

    Returns:
        Float (N, 3, 48, 48) in 0..1 -> logits.

    Raises:
        UsageError: There is no network of that width, or with so many blocks.
    """
    if width < 6 or width % 6:
        raise UsageError(f"--width must be a multiple of 6, got {width}")
    if blocks < 0:
        raise UsageError(f"--blocks must be 0 or more, got {blocks}")
    return nn.Sequential(
        *_normalised(3, 2 * width // 3, 6, 3, padding=2),
        *_normalised(2 * width // 3, width, 4, 2),
        *_normalised(width, width, 3, 1),
        *(Residual(width) for _ in range(blocks)),
        *_normalised(width, 2 * width, 3, 2),
        *(nn.Flatten(), nn.Linear(2 * width * 16, classes)),
    )


def _normalised(inputs: int, outputs: int, side: int, stride: int, padding: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, side, stride, padding, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


class Denoiser(nn.Module):
    """Takes noise out of an image: four convolutions, 6.6 million products for 48x48 pixels.

    They see a square of four by four pixels as one place with 48 values, so that they look far for little work (after
    Zhang, Zuo, Zhang, FFDNet, 2018, who take squares of two). They give the image, not the noise that is to be taken
    from it: 32 channels hold what a sign's 48 values are, but not 48 values of noise, most of which would stay.

    Args:
        width: Channels between the convolutions.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        values = 3 * _SQUARE**2
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(_SQUARE),
            *_normalised(values, width, 3, 1),
            *_normalised(width, width, 3, 1),
            *_normalised(width, width, 3, 1),
            nn.Conv2d(width, values, 3, padding=1),
            nn.PixelShuffle(_SQUARE),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, 3, H, W), H and W multiples of 4 -> the same shape; values may lie a little outside 0..1."""
        cleaned: Tensor = self.layers(images)
        return cleaned

    def as_run(self) -> Denoiser:
        """A copy that says the same and takes less time in ONNX Runtime.

        Rearranging pixels into squares takes as long as two of the convolutions there. So the first one, of 3 x 3
        squares, is a convolution of 12 x 12 pixels with the same weights, four pixels apart.
        """
        copied = copy.deepcopy(self)
        first = cast(nn.Conv2d, copied.layers[1])
        whole = nn.Conv2d(3, first.out_channels, 3 * _SQUARE, _SQUARE, _SQUARE, bias=False).to(first.weight)
        by_place = first.weight.detach().reshape(-1, 3, _SQUARE, _SQUARE, 3, 3).permute(0, 1, 4, 2, 5, 3)
        whole.weight = nn.Parameter(by_place.reshape(whole.weight.shape))
        copied.layers = nn.Sequential(whole, *list(copied.layers)[2:]).train(self.training)
        return copied


class IntervalNetwork(nn.Module):
    """Two or three convolutions and two linear layers, and the bounds of interval arithmetic that it is trained with.

    Evaluated it gives its logits. In training it gives (N, 2, classes): the logits, and minus the least margin that
    the label `labels` has over each class for any values within `radius` of the image's, in 0..1. Batch normalisation
    takes its statistics from the images as they are, for the bounds too. The weights begin as Shi et al. 2021 ("Fast
    certified robust training") have them, so that intervals neither grow nor vanish from layer to layer.

    The bounds here are a guide in float32; what a trained network is worth says `firewall lab certify linf`.

    Args:
        classes: How many.
        convolutions: 3, or 2: the layers of `sign-small`, whose bounds against flows take a tenth of the time.
    """

    def __init__(self, classes: int, convolutions: int = 3) -> None:
        super().__init__()
        if convolutions == 2:
            found = [*_normalised(3, 16, 4, 2), *_normalised(16, 32, 4, 2)]
        else:
            found = [*_normalised(3, 24, 4, 2), *_normalised(24, 40, 4, 2), *_normalised(40, 48, 3, 1)]
        features, hidden = (32 * 64, 128) if convolutions == 2 else (48 * 64, 192)
        self.layers = nn.Sequential(
            *found, nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, classes)
        )
        for layer in self.layers:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(layer.weight, 0, math.sqrt(2 * math.pi) / layer.weight[0].numel())
        self.labels = torch.zeros(0, dtype=torch.int64)
        self.radius = 0.0

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, 3, 32, 32) in 0..1 -> (N, classes), in training (N, 2, classes)."""
        if not self.training:
            logits: Tensor = self.layers(images)
            return logits
        low, high = (images - self.radius).clamp_min(0), (images + self.radius).clamp_max(1)
        values = (images, low + high, high - low)
        *inner, last = self.layers
        for layer in inner:
            values = _through(layer, *values)
        x, twice, wide = values
        return torch.stack([last(x), -_margins(cast(nn.Linear, last), twice / 2, wide / 2, self.labels)], dim=1)


def _through(layer: nn.Module, x: Tensor, twice: Tensor, wide: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values, the sums of their intervals' ends, and the intervals' widths, behind a layer.

    They are not halved before a convolution, which would be one more pass over all values: such passes are most of what
    a step takes.
    """
    if isinstance(layer, nn.ReLU):
        low, high = functional.relu(twice - wide), functional.relu(twice + wide)
        # Twice either end each, so their sum is four times the middle.
        return functional.relu(x), (low + high) / 2, (high - low) / 2
    if isinstance(layer, nn.BatchNorm2d):
        variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        scale = (layer.weight * torch.rsqrt(variance + layer.eps))[:, None, None]
        shift = 2 * (layer.bias[:, None, None] - mean[:, None, None] * scale)
        return layer(x), torch.addcmul(shift, twice, scale), wide * scale.abs()
    if isinstance(layer, nn.Conv2d):
        size = functional.conv2d(wide, layer.weight.abs(), None, layer.stride, layer.padding)
        return layer(x), layer(twice), size
    if isinstance(layer, nn.Linear):
        return layer(x), layer(twice) + layer.bias, functional.linear(wide, layer.weight.abs())
    return layer(x), layer(twice), layer(wide)


def _margins(last: nn.Linear, middle: Tensor, half: Tensor, labels: Tensor) -> Tensor:
    """Least margins of the labels over each class, (N, classes), the last layer taken together with the difference."""
    classes, logits = len(last.weight), last(middle)
    apart = (last.weight[:, None] - last.weight).abs().flatten(0, 1)
    loss = functional.linear(half, apart).reshape(-1, classes, classes)[
        torch.arange(len(labels), device=labels.device), labels
    ]
    margins: Tensor = logits.gather(1, labels[:, None]) - logits - loss
    return margins
