"""A universal perturbation: one change that fools the network on most images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import WhiteBox, under_attack
from firewall.lab.attacks.criteria import TOP_1, TopOut
from firewall.lab.attacks.deepfool import DeepFool
from firewall.lab.attacks.pgd import project
from firewall.lab.attacks.rounding import as_stored

__all__ = ["Universal"]


@dataclass(frozen=True)
class Universal(WhiteBox):
    """A universal perturbation. White box, L-infinity, bounded.

    Moosavi-Dezfooli et al.: "Universal adversarial perturbations", 2017, algorithm 1. Fitted to the images of the
    batch, one after the other, in random order: where the image with the perturbation v still gets its label, DeepFool
    finds the least further change, and v plus that change, projected onto the ball, is the new v. After each pass the
    attack success rate is measured on the stored images; the best v is added to all of them.

    Args:
        eps: Radius of the ball, in units of the full range 0..1, above 0; the paper has 10 of 255.
        passes: Largest number of passes, 1 or more.
        goal: Attack success rate at which it stops, 0..1, above 0.
        steps: DeepFool's steps, 1 or more.
        candidates: DeepFool's candidates.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    eps: float = 0.06
    passes: int = 4
    goal: float = 0.8
    steps: int = 10
    candidates: int = 3
    criterion: TopOut = TOP_1
    name: str = "universal"

    chunk: ClassVar[int] = 128

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1 or self.passes < 1 or not 0 < self.goal <= 1 or self.steps < 1:
            raise UsageError(
                f"universal: eps {self.eps}, passes {self.passes}, goal {self.goal}, steps {self.steps}; allowed are "
                "0 < eps <= 1, passes and steps >= 1, 0 < goal <= 1"
            )
        self._inner()

    def _inner(self) -> DeepFool:
        return DeepFool(steps=self.steps, candidates=self.candidates, rounded=False, criterion=self.criterion)

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The order of the images, and so the result, depends on the seed and on the whole batch."""
        generator = torch.Generator().manual_seed(seed)
        inner = self._inner()
        with under_attack(model, images, labels, gradients=False) as logits:
            images = images.detach()
            v = torch.zeros_like(images[:1])
            best, most = v, -1.0
            for _ in range(self.passes):
                for place in torch.randperm(len(images), generator=generator).tolist():
                    image, label = images[place : place + 1], labels[place : place + 1]
                    seen = (image + v).clamp(0, 1)
                    if not bool(self.criterion.met(logits(seen), label)):
                        change = inner.run(model, seen, label, seed) - seen
                        v = (v + change).clamp(-self.eps, self.eps)
                fooled = self._fooled(logits(self._with(images, v)), labels)
                if fooled > most:
                    best, most = v, fooled
                if most >= self.goal:
                    break
        return project(self._with(images, best), images, self.eps)

    def _with(self, images: Tensor, v: Tensor) -> Tensor:
        return as_stored((images + v).clamp(0, 1))

    def _fooled(self, values: Tensor, labels: Tensor) -> float:
        return float(self.criterion.met(values, labels).float().mean()) if len(labels) else 1.0
