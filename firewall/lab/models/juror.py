"""Jurors: small networks that answer the classifier's question in their own way, beside a class "not a sign".

Kinds differ in what they see, so that what fools one need not fool another:

robust   the crop at 48x48; trained on attacked images
coarse   the crop at 32x32, where fine changes are gone before any network sees them; trained on attacked images
edges    the crop at 48x48 under local normalisation: light and shadow that change slowly over the image cancel out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firewall.errors import UsageError

__all__ = ["KINDS", "Juror", "Kind", "juror_kind"]


@dataclass(frozen=True)
class Kind:
    """What a juror sees, and how large it is.

    Args:
        size: Width and height of its input in pixels.
        widths: Channels at a half, a quarter and an eighth of the input's size.
        edges: Whether it sees the image under local normalisation.
    """

    size: int
    widths: tuple[int, int, int]
    edges: bool = False


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "robust": Kind(48, (32, 64, 128)),
        "coarse": Kind(32, (40, 80, 144)),
        "edges": Kind(48, (32, 64, 112), edges=True),
    }
)


def juror_kind(name: str) -> Kind:
    """The kind of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in KINDS:
        raise UsageError(f"unknown kind of juror {name!r}; known: {', '.join(KINDS)}")
    return KINDS[name]


class Juror(nn.Module):
    """Input: float (N, 3, size, size), RGB, 0..1 (the normalisation is inside). Output: logits (N, outputs).

    Args:
        kind: What it sees, and how large it is.
        outputs: How many logits: the classes, then "not a sign".
    """

    def __init__(self, kind: Kind, outputs: int) -> None:
        super().__init__()
        first, second, third = kind.widths
        self.view: nn.Module = LocalNormalisation() if kind.edges else Centred()
        self.features = nn.Sequential(
            _convolution(3, first, 5, stride=2),
            _convolution(first, first, 3),
            _convolution(first, second, 3, stride=2),
            _Residual(second),
            _convolution(second, third, 3, stride=2),
            _Residual(third),
            _Residual(third),
        )
        side = kind.size // 8
        # Where the strokes of a sign are is what it means, so the map is read through learned spatial weights.
        self.pool = nn.Sequential(
            nn.Conv2d(third, 2 * third, side, groups=third, bias=False), nn.BatchNorm2d(2 * third), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(2 * third, outputs))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, outputs) of float (N, 3, size, size) in 0..1."""
        logits: Tensor = self.head(self.pool(self.features(self.view(image))))
        return logits


class Centred(nn.Module):
    """About -2..2 instead of 0..1."""

    def forward(self, image: Tensor) -> Tensor:
        """The same shape."""
        return (image - 0.5) * 4.0


class LocalNormalisation(nn.Module):
    """(pixel - local mean) / local standard deviation, both over 11 x 11 pixels and the three channels' mean.

    A factor or an offset that changes slowly over the image (shadow, glare, exposure) cancels out. The constant under
    the root keeps what is flat from becoming noise.
    """

    def forward(self, image: Tensor) -> Tensor:
        """The same shape, about -3..3."""
        mean = F.avg_pool2d(image, 11, stride=1, padding=5, count_include_pad=False)
        detail = image - mean
        spread = F.avg_pool2d((detail * detail).mean(1, keepdim=True), 11, 1, 5, count_include_pad=False)
        return detail / torch.sqrt(spread + 0.0016)


def _convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, side, stride=stride, padding=side // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width, 3)
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))
