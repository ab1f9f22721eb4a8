"""A projector: a smooth pattern of light that is thrown onto the sign, found by gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from firewall.errors import UsageError
from firewall.lab.attacks.attack import WhiteBox, under_attack
from firewall.lab.attacks.bisection import along
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.rounding import as_stored

__all__ = ["Projector"]


@dataclass(frozen=True)
class Projector(WhiteBox):
    """Light from a projector. White box, bounded, light is only added.

    After Gnanasambandam et al.: "Optical adversarial attack", 2021. The pattern is coarse and enlarged smoothly, as
    `firewall.lab.datasets.obstructions.projector` draws it at random; sign steps climb the criterion's gap. Of all
    patterns on the way the one wins that meets the criterion by the most, so more steps never hurt the attacker.

    Args:
        cells: Cells of the pattern along a side, 2 or more.
        brightest: Most light that is added, in units of the full range 0..1, above 0.
        steps: Sign steps, 1 or more.
        step: Length of the first step as a share of `brightest`, above 0; the k-th is this over the root of k.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    cells: int = 6
    brightest: float = 90 / 255
    steps: int = 60
    step: float = 0.3
    criterion: Criterion = TOP_1
    name: str = "projector"

    def __post_init__(self) -> None:
        if self.cells < 2 or self.steps < 1 or not 0 < self.brightest <= 1 or not self.step > 0:
            raise UsageError(
                f"projector: cells {self.cells}, brightest {self.brightest}, steps {self.steps}, step {self.step}; "
                "allowed are cells >= 2, 0 < brightest <= 1, steps >= 1, step > 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The first pattern depends on the seed and on the image's place in the batch."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            if len(images) == 0:
                return images.clone()
            shape = (*images.shape[:2], self.cells, self.cells)
            pattern = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(images)
            best, highest = images.clone(), torch.full(labels.shape, -torch.inf).to(images)
            for turn in range(self.steps + 1):
                pattern = pattern.detach().requires_grad_()
                lit = as_stored(self.lit(images, pattern))
                gaps = self.criterion.gap(logits(lit), labels)
                better = gaps.detach() > highest
                best = torch.where(along(better, best), lit.detach(), best)
                highest = torch.maximum(highest, gaps.detach())
                if turn == self.steps:
                    break
                (slope,) = torch.autograd.grad(gaps.sum(), pattern)
                length = self.step / (turn + 1) ** 0.5
                pattern = (pattern.detach() + length * slope.sign()).clamp(0, 1)
        return best

    def lit(self, images: Tensor, pattern: Tensor) -> Tensor:
        """Images under a pattern of light.

        Args:
            images: Float (N, C, H, W) in 0..1.
            pattern: Float (N, C, cells, cells) in 0..1.

        Returns:
            Float (N, C, H, W) in 0..1, nowhere darker than the images.
        """
        size = list(images.shape[2:])
        light = interpolate(pattern, size=size, mode="bicubic", align_corners=False).clamp(0, 1)
        return (images + self.brightest * light).clamp(0, 1)
