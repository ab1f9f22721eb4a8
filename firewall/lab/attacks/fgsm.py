"""The fast gradient sign method: one step of the same length in every pixel, up the loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import WhiteBox, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion

__all__ = ["Fgsm"]


@dataclass(frozen=True)
class Fgsm(WhiteBox):
    """Goodfellow, Shlens, Szegedy: "Explaining and harnessing adversarial examples", 2015.

    eps: L-infinity length of the step, in units of the full range 0..1.
    """

    eps: float = 0.03
    criterion: Criterion = TOP_1
    name: str = "fgsm"

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1:
            raise UsageError(f"fgsm: eps is {self.eps}; it must lie in 0..1, above 0")

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random; `seed` is not used."""
        with under_attack(model, images, labels) as logits:
            point = images.detach().clone().requires_grad_()
            loss = self.criterion.loss(logits(point), labels)
            (gradient,) = torch.autograd.grad(loss.sum(), point)
        return (images.detach() - self.eps * gradient.sign()).clamp(0, 1)
