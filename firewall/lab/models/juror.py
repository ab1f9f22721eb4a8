"""Jurors: small networks that answer the classifier's question in their own way, beside a class "not a sign".

Kinds differ in what they see, so that what fools one need not fool another:

robust   the crop at 48x48; trained on attacked images
coarse   the crop at 32x32, where fine changes are gone before any network sees them; trained on attacked images
edges    the crop at 48x48 under local normalisation: light and shadow that change slowly over the image cancel out
clear    the crop at 48x48; it answers only for signs that nothing lies on, and has its last class for all others. No
         second opinion on the label: the detector `obstructed` asks it

These are the sizes for traffic signs. A jury for another classifier has them smaller or larger, see `kind_for`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.models.sign_classifier import Residual, convolution

__all__ = ["CLEAR", "KINDS", "Juror", "Kind", "juror_kind", "kind_for"]


@dataclass(frozen=True)
class Kind:
    """What a juror sees, and how large it is.

    Args:
        size: Width and height of its input in pixels, a multiple of 8, at least 16.
        widths: Channels at a half, a quarter and an eighth of the input's size.
        edges: Whether it sees the image under local normalisation.

    Raises:
        UsageError: The size is not allowed.
    """

    size: int
    widths: tuple[int, int, int]
    edges: bool = False

    def __post_init__(self) -> None:
        if self.size % 8 or self.size < 16:
            raise UsageError(f"a juror's input must be a multiple of 8 pixels a side, at least 16, got {self.size}")

    @property
    def window(self) -> int:
        """Side of the window of local normalisation in pixels, odd: 11 at 48 pixels, in proportion at other sizes."""
        return 2 * round(5 * self.size / 48) + 1

    def scaled(self, factor: float) -> Kind:
        """The same kind with a smaller or larger input, rounded to a multiple of 8 pixels."""
        return replace(self, size=8 * max(2, round(self.size * factor / 8)))


#: The kind that says whether a sign is obstructed.
CLEAR = "clear"
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "robust": Kind(48, (32, 64, 128)),
        "coarse": Kind(32, (40, 80, 144)),
        "edges": Kind(48, (32, 64, 112), edges=True),
        CLEAR: Kind(48, (32, 64, 128)),
    }
)

#: Up to which shorter side of a classifier's input, in pixels, a kind's size is multiplied by what.
_FACTORS = ((40, 2 / 3), (80, 1.0), (144, 1.5))
_LARGEST_FACTOR = 2.0


def juror_kind(name: str) -> Kind:
    """The kind of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in KINDS:
        raise UsageError(f"unknown kind of juror {name!r}; known: {', '.join(KINDS)}")
    return KINDS[name]


def kind_for(name: str, side: int) -> Kind:
    """The kind of that name for a classifier of another input size.

    A classifier up to 40 pixels gets 32 (coarse: 24), up to 80 pixels 48 (32), up to 144 pixels 72 (48), a larger one
    96 (64).

    Args:
        name: A key of KINDS.
        side: The shorter side of the classifier's input in pixels.

    Raises:
        UsageError: There is no such kind, or it gives no second opinion.
    """
    if name == CLEAR:
        raise UsageError(f"a juror {name!r} gives no second opinion; train one with 'firewall lab train juror'")
    factor = next((factor for largest, factor in _FACTORS if side <= largest), _LARGEST_FACTOR)
    return juror_kind(name).scaled(factor)


class Juror(nn.Module):
    """Input: float (N, 3, size, size), RGB, 0..1 (the normalisation is inside). Output: logits (N, outputs).

    Args:
        kind: What it sees, and how large it is.
        outputs: How many logits: the classes, then perhaps "not a sign".
    """

    def __init__(self, kind: Kind, outputs: int) -> None:
        super().__init__()
        first, second, third = kind.widths
        self.view: nn.Module = LocalNormalisation(kind.window) if kind.edges else Centred()
        self.features = nn.Sequential(
            convolution(3, first, 5, stride=2),
            convolution(first, first, 3),
            convolution(first, second, 3, stride=2),
            Residual(second),
            convolution(second, third, 3, stride=2),
            Residual(third),
            Residual(third),
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
    """(pixel - local mean) / local standard deviation.

    Each channel has its own mean, and all three have one standard deviation. A factor or an offset that changes slowly
    over the image (shadow, glare, exposure) cancels out. The constant under the root keeps what is flat from becoming
    noise.

    Args:
        window: Side of the square that both are taken over, in pixels, odd.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    def forward(self, image: Tensor) -> Tensor:
        """The same shape, about -3..3."""
        side, margin = self.window, self.window // 2
        mean = F.avg_pool2d(image, side, stride=1, padding=margin, count_include_pad=False)
        detail = image - mean
        spread = F.avg_pool2d((detail * detail).mean(1, keepdim=True), side, 1, margin, count_include_pad=False)
        return detail / torch.sqrt(spread + 0.0016)
