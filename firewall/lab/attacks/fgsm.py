"""The fast gradient sign method: one step of the same length in every value, up the loss."""

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
    """FGSM. White box, L-infinity, bounded.

    Goodfellow, Shlens, Szegedy: "Explaining and harnessing adversarial examples", 2015, section 4.

    Args:
        eps: Length of the step in every value, in units of the full range 0..1, above 0.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
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
