"""One step along the gradient, as short as suffices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import WhiteBox, under_attack
from firewall.lab.attacks.bim import Norm, unit
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.rounding import as_stored

__all__ = ["GradientStep"]


@dataclass(frozen=True)
class GradientStep(WhiteBox):
    """The gradient attack of Foolbox 1.8, and its FGSM. White box, least change.

    With `linf` it is FGSM (Goodfellow et al. 2015) at the least length: the direction is computed once, at the image,
    and lengths are tried from the shortest up until the criterion is met as stored. An image for which no length
    suffices comes back unchanged. Foolbox goes on to length 1, where nothing is left of the image; here it ends where
    `bim` does.

    Args:
        norm: `linf`, `l2` or `l1`: see bim.Norm.
        shortest: The first length, in units of `norm`, above 0.
        longest: The last length, at most 1.
        lengths: How many are tried, 1 or more, each longer than the last by the same ratio.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    norm: Norm = "l2"
    shortest: float = 0.5 / 255
    longest: float = 0.3
    lengths: int = 64
    criterion: Criterion = TOP_1
    name: str = "gradient"

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2", "l1") or not 0 < self.shortest <= self.longest <= 1 or self.lengths < 1:
            raise UsageError(
                f"gradient: norm {self.norm}, shortest {self.shortest}, longest {self.longest}, lengths "
                f"{self.lengths}; allowed are norm linf, l2 or l1, 0 < shortest <= longest <= 1, lengths >= 1"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random; `seed` is not used."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            point = images.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.criterion.loss(logits(point), labels).sum(), point)
            direction = -unit(gradient, self.norm)
            result = images.clone()
            open_ = torch.arange(len(images), device=images.device)
            for eps in torch.logspace(0, 1, self.lengths, self.longest / self.shortest, dtype=torch.float64):
                step = float(eps) * self.shortest
                seen = as_stored((images[open_] + step * direction[open_]).clamp(0, 1))
                met = self.criterion.met(logits(seen), labels[open_])
                result[open_[met]] = seen[met]
                open_ = open_[~met]
                if len(open_) == 0:
                    break
        return result
