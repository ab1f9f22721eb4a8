"""ResNet-50: He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016, table 1, column 50.

Any input from 32 pixels on. At 48x48 nothing was left out, so that weights would fit both sizes; the maps of the four
stages are then 12, 6, 3 and 2 pixels wide. As is usual since, the stride of a block is in its 3x3 convolution.
"""

from __future__ import annotations

from torch import Tensor, nn

from firewall.lab.models.normalisation import normalisation

__all__ = ["ResNet50"]

#: Blocks and width of the four stages.
_STAGES = ((3, 64), (4, 128), (6, 256), (3, 512))
_EXPANSION = 4


class ResNet50(nn.Module):
    """Float (N, channels, H, W) in 0..1 -> (N, classes).

    23,508,032 weights at three channels, and 2,048 + 1 for each class.

    Args:
        classes: How many outputs.
        channels: Of the input.
        normalise: "batch" as in the paper, or "group" (Wu and He 2018), by image.
    """

    #: How many outputs `features` has.
    width = 2048

    def __init__(self, classes: int = 2, *, channels: int = 3, normalise: str = "batch") -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(channels, 64, 7, 2, 3, bias=False),
            normalisation(normalise, 64),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        ]
        inputs = 64
        for stage, (blocks, width) in enumerate(_STAGES):
            for block in range(blocks):
                layers.append(_Bottleneck(inputs, width, 2 if stage and not block else 1, normalise))
                inputs = width * _EXPANSION
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, _Bottleneck):
                # Each block begins as the identity (Goyal et al. 2017), which a short training from scratch needs most.
                nn.init.zeros_(module.last.weight)

    def forward(self, image: Tensor) -> Tensor:
        """The outputs, before any softmax."""
        outputs: Tensor = self.head(self.features((image - 0.5) * 4.0).mean(dim=(2, 3)))
        return outputs


class _Bottleneck(nn.Module):
    """1x1 to `width`, 3x3, 1x1 to four times `width`, and a way past them."""

    def __init__(self, inputs: int, width: int, stride: int, normalise: str) -> None:
        super().__init__()
        outputs = width * _EXPANSION
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(inputs, width, 1, bias=False), normalisation(normalise, width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, stride, 1, bias=False), normalisation(normalise, width), nn.ReLU()),
            nn.Conv2d(width, outputs, 1, bias=False),
        )
        self.last = normalisation(normalise, outputs)
        self.past: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.past = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), normalisation(normalise, outputs)
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.relu(self.past(x) + self.last(self.convolutions(x)))
        return outputs
