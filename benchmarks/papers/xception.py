"""Xception: Chollet, Deep learning with depthwise separable convolutions, CVPR 2017, figure 5.

Any input from 32 pixels on. The two first convolutions are padded here, which the original's are not: of 48 pixels the
border would be a tenth. Its maps are then 24 pixels wide, and 12, 6, 3 and 2 after the four blocks with a stride.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from firewall.lab.models.normalisation import normalisation

__all__ = ["Xception"]

_MIDDLE = 8


class Xception(nn.Module):
    """Float (N, channels, H, W) in 0..1 -> (N, classes). Its arguments are those of ResNet50.

    20,806,952 weights at three channels, and 2,048 + 1 for each class.
    """

    #: How many outputs `features` has.
    width = 2048

    def __init__(self, classes: int = 2, *, channels: int = 3, normalise: str = "batch") -> None:
        super().__init__()
        entry: list[nn.Module] = [
            *(nn.Conv2d(channels, 32, 3, 2, 1, bias=False), normalisation(normalise, 32), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, 1, 1, bias=False), normalisation(normalise, 64), nn.ReLU()),
            _Block((64, 128, 128), 2, normalise, first=False),
            _Block((128, 256, 256), 2, normalise),
            _Block((256, 728, 728), 2, normalise),
        ]
        middle = [_Block((728, 728, 728, 728), 1, normalise) for _ in range(_MIDDLE)]
        end: list[nn.Module] = [
            _Block((728, 728, 1024), 2, normalise),
            *(_Separable(1024, 1536), normalisation(normalise, 1536), nn.ReLU()),
            *(_Separable(1536, 2048), normalisation(normalise, 2048), nn.ReLU()),
        ]
        self.features = nn.Sequential(*entry, *middle, *end)
        self.head = nn.Linear(self.width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for module in middle:
            last = module.convolutions[-1]
            if isinstance(last, nn.GroupNorm | nn.BatchNorm2d):
                nn.init.zeros_(last.weight)  # each middle block begins as the identity, as in the ResNet here

    def forward(self, image: Tensor) -> Tensor:
        """The outputs, before any softmax."""
        outputs: Tensor = self.head(self.features((image - 0.5) * 4.0).mean(dim=(2, 3)))
        return outputs


class _Separable(nn.Sequential):
    """A 3x3 convolution of each channel by itself, then a 1x1 over the channels, with nothing between them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, inputs, 3, 1, 1, groups=inputs, bias=False), nn.Conv2d(inputs, outputs, 1, bias=False)
        )


class _Block(nn.Module):
    """Separable convolutions from each of `widths` to the next, a maximum over 3x3 if there is a stride, a way past.

    first: whether a ReLU comes before the first of them.
    """

    def __init__(self, widths: tuple[int, ...], stride: int, normalise: str, *, first: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            if number or first:
                layers.append(nn.ReLU())
            layers += [_Separable(inputs, outputs), normalisation(normalise, outputs)]
        if stride > 1:
            layers.append(nn.MaxPool2d(3, stride, 1))
        self.convolutions = nn.Sequential(*layers)
        self.past: nn.Module = nn.Identity()
        if stride > 1:
            self.past = nn.Sequential(
                nn.Conv2d(widths[0], widths[-1], 1, stride, bias=False), normalisation(normalise, widths[-1])
            )

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.past(x) + self.convolutions(x)
        return outputs
