"""PGD that does not stop at a wrong class: it makes one wrong class as certain as it can.

Such examples lie far behind the decision boundary. They are *more* stable under compression than benign images, so a
detector that only looks for unstable labels can miss them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion, margin, wrong_classes
from firewall.lab.attacks.pgd import project, random_start
from firewall.lab.attacks.rounding import as_stored

__all__ = ["HighConfidencePgd"]


@dataclass(frozen=True)
class HighConfidencePgd(WhiteBox):
    """PGD towards a wrong class with a high probability. White box, L-infinity, bounded.

    Madry et al. 2018 (see Pgd), targeted, with the margin of Carlini and Wagner 2017 as the loss: it keeps its gradient
    where the cross-entropy of a class at probability 1 has none left. Targets are the most likely wrong classes; the
    next one is tried on images where the target's probability, after rounding to uint8, stays below `confidence`. The
    most certain point found is the result.

    Args:
        eps: Radius of the ball, in units of the full range 0..1, above 0.
        steps: Steps towards each target, 1 or more.
        step: Length of a step; None: 2.5 eps / steps.
        confidence: The target's probability that is enough, 0..1, above 0.
        targets: How many target classes are tried, 1 or more.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    eps: float = 0.1
    steps: int = 60
    step: float | None = None
    confidence: float = 0.99
    targets: int = 2
    name: str = "pgd-high-confidence"

    criterion: ClassVar[Criterion] = TOP_1

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1 or self.steps < 1 or (self.step is not None and not self.step > 0):
            raise UsageError(
                f"{self.name}: eps {self.eps}, steps {self.steps}, step {self.step}; "
                "allowed are 0 < eps <= 1, steps >= 1, step > 0"
            )
        if not 0 < self.confidence <= 1 or self.targets < 1:
            raise UsageError(
                f"{self.name}: confidence {self.confidence}, targets {self.targets}; "
                "allowed are 0 < confidence <= 1, targets >= 1"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The random start depends on the seed and on the image's place in the batch."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            best = images.clone()
            reached = torch.full_like(labels, -1, dtype=images.dtype)
            with torch.no_grad():
                targets = wrong_classes(logits(images), labels, self.targets)
            start = random_start(images, self.eps, seed)
            for rank in range(targets.shape[1]):
                open_ = (reached < self.confidence).nonzero()[:, 0]
                if len(open_) == 0:
                    break
                point, probability = self._climb(logits, images[open_], start[open_], targets[open_, rank])
                better = probability > reached[open_]
                best[open_[better]] = point[better]
                reached[open_[better]] = probability[better]
        return best

    def _climb(self, logits: Logits, centre: Tensor, point: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The most certain points on the way from `point`, and the target's probability there as stored."""
        step = 2.5 * self.eps / self.steps if self.step is None else self.step
        best = point.clone()
        lowest = torch.full(target.shape, torch.inf, dtype=point.dtype, device=point.device)
        reached = torch.zeros_like(lowest)
        for turn in range(self.steps + 1):
            point.requires_grad_()
            values = logits(as_stored(point))
            gap = margin(values, target)
            lower = (gap < lowest).detach()
            best[lower] = point.detach()[lower]
            lowest[lower] = gap.detach()[lower]
            reached[lower] = values.detach().softmax(1).gather(1, target[:, None])[:, 0][lower]
            if turn < self.steps:
                (gradient,) = torch.autograd.grad(gap.sum(), point)
                point = project(point.detach() - step * gradient.sign(), centre, self.eps)
        return best, reached
