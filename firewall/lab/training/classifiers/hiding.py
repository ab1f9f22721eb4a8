"""What a classifier for masks learns from: images with parts hidden, the hardest of several ways, and a teacher's view.

A teacher sees the whole image. Its opinion is part of what is wanted of the network that sees less (distillation,
Hinton et al. 2015), sharpened, since a label is released only if the network is sure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from firewall.lab.models.sign_classifier import INPUT_SIZE
from firewall.lab.training.loop import Schedule

__all__ = ["MaskedSettings", "Masking"]

#: Spread of the middles of central masks, as a share of the width: strokes that make the difference lie there.
_SPREAD = 0.14
#: Factor of the teachers' logits: they were trained with smoothed labels and never are surer than 95 %.
_SHARPER = 1.5
#: Longer and shorter side of a long mask, as a share of the largest mask's side.
_LONG, _SHORT = (1.2, 1.8), (0.4, 0.8)


@dataclass(frozen=True)
class MaskedSettings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        images: Images drawn in each epoch.
        area: Of the patches, as a share of the image: see decision.masking.masks_for.
        masks: Masks along a side of the covering set.
        plain: Share of images without a mask, 0..1, below 1.
        worst: Pairs of masks of which the worst is shown, 1 or more.
        easy: Share of the training after which the worst pairs are shown.
        label_smoothing: Of the cross-entropy.
        calibration_share: Share of the tracks that is kept out.
        network: "sign", the default classifier's; "masks", see `masked_network`.
        size: Width and height of the network's input in pixels: 48; for "masks" also 64.
        extra: For "masks": residual blocks more, see MaskedNetwork.
        pairs: Share of the images under two masks, the others are under one.
        central: Share of the masks about the middle.
        long: Share of the masks that are long and thin.
        least: Smallest mask's side in pixels; 0: 3 less than the covering set's.
        distil: Weight of the teachers' opinion in the loss, 0..1.
        obstructed: Share of the versions with something on the sign.
        weather: Share of the versions in bad weather.
        bfloat16: Whether passes run in bfloat16.
    """

    epochs: int = 12
    images: int = 4000
    learning_rate: float = 1e-3
    moving_average: float = 0.99
    area: float = 0.02
    masks: int = 6
    plain: float = 0.15
    worst: int = 1
    easy: float = 0.6
    label_smoothing: float = 0.08
    calibration_share: float = 0.1
    network: str = "sign"
    size: int = INPUT_SIZE
    extra: int = 0
    pairs: float = 1.0
    central: float = 0.0
    long: float = 0.0
    least: int = 0
    distil: float = 0.0
    obstructed: float = 0.0
    weather: float = 0.0
    bfloat16: bool = False


class Masking:
    """Hides parts of a batch of images, as `fit` asks for, and says what loss their logits have.

    Args:
        settings: Of the training.
        side: Of the largest mask of the covering set, in pixels.
        fill: Value under a mask, 0..1.
        least: Side of the smallest mask in pixels; None: 3 less than `side`.
        teachers: Networks that see the whole image, float (N, 3, 48, 48) in 0..1.
    """

    def __init__(
        self,
        settings: MaskedSettings,
        side: int,
        fill: float,
        least: int | None = None,
        teachers: Sequence[nn.Module] = (),
    ) -> None:
        self.settings, self.side, self.fill = settings, side, fill
        self.least = side - 3 if least is None else least
        self.teachers = [teacher.eval() for teacher in teachers]
        self._opinion: Tensor | None = None

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
        """The images (N, 3, H, W) under masks, except for the share that is shown plain."""
        self._opinion = self._teach(images) if self.teachers and self.settings.distil > 0 else None
        shown = self._hidden(images)
        if self.settings.worst > 1 and done >= self.settings.easy:
            model.eval()
            with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
                highest = self._losses(model, shown, labels)
                for _ in range(self.settings.worst - 1):
                    other = self._hidden(images)
                    loss = self._losses(model, other, labels)
                    shown = torch.where((loss > highest)[:, None, None, None], other, shown)
                    highest = torch.maximum(highest, loss)
            model.train()
        plain = torch.rand(len(images)) < self.settings.plain
        return torch.where(plain[:, None, None, None], images, shown)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Of the logits (N, classes) for the images that were hidden last: cross-entropy with labels and teachers."""
        own = functional.cross_entropy(logits, labels, label_smoothing=self.settings.label_smoothing)
        if self._opinion is None:
            return own
        return torch.lerp(own, functional.cross_entropy(logits, self._opinion), self.settings.distil)

    @staticmethod
    def _losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(model(images).float(), labels, reduction="none")

    @torch.no_grad()
    def _teach(self, images: Tensor) -> Tensor:
        """The teachers' mean probabilities (N, classes)."""
        if images.shape[-1] != 48:
            images = functional.interpolate(images, (48, 48), mode="bilinear", antialias=True)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            logits = torch.stack([teacher(images).float() for teacher in self.teachers])
        return (_SHARPER * logits).softmax(2).mean(0)

    def _hidden(self, images: Tensor) -> Tensor:
        """Under one random mask each, or two."""
        count, _, height, width = images.shape
        hidden = torch.zeros(count, height, width, dtype=torch.bool)
        for number in range(2):
            tall, wide = self._sides(count)
            central = torch.rand(count) < self.settings.central
            tops, lefts = self._starts(height, tall, central), self._starts(width, wide, central)
            down, across = torch.arange(height)[None, :], torch.arange(width)[None, :]
            rows = (down >= tops[:, None]) & (down < (tops + tall)[:, None])
            columns = (across >= lefts[:, None]) & (across < (lefts + wide)[:, None])
            mask = rows[:, :, None] & columns[:, None, :]
            if number:
                mask &= (torch.rand(count) < self.settings.pairs)[:, None, None]
            hidden |= mask
        return images.masked_fill(hidden[:, None], self.fill)

    def _sides(self, count: int) -> tuple[Tensor, Tensor]:
        """Heights and widths of random masks; some are long and thin, standing or lying."""
        tall, wide = (torch.randint(self.least, self.side + 2, (count,)) for _ in range(2))
        if self.settings.long > 0:
            more, less = (
                (self.side * (low + (high - low) * torch.rand(count))).round().long() for low, high in (_LONG, _SHORT)
            )
            kind = torch.rand(count)
            stands, lies = kind < self.settings.long / 2, kind > 1 - self.settings.long / 2
            tall = torch.where(stands, more, torch.where(lies, less, tall))
            wide = torch.where(lies, more, torch.where(stands, less, wide))
        return tall, wide

    @staticmethod
    def _starts(length: int, runs: Tensor, central: Tensor) -> Tensor:
        """Beginnings of runs on an axis: anywhere, or about the middle."""
        anywhere = (torch.rand(len(runs)) * (length - runs + 1)).long()
        middle = length / 2 + length * _SPREAD * torch.randn(len(runs))
        near = (middle - runs / 2).round().long().clamp(min=0)
        return torch.where(central, torch.minimum(near, length - runs), anywhere)
