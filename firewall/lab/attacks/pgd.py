"""Projected gradient descent: many small sign steps, each brought back into the ball and the box."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import WhiteBox, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion

__all__ = ["Pgd", "project", "random_start"]


@dataclass(frozen=True)
class Pgd(WhiteBox):
    """PGD. White box, L-infinity, bounded.

    Madry et al.: "Towards deep learning models resistant to adversarial attacks", 2018. The last point is the result.

    Args:
        eps: Radius of the ball, in units of the full range 0..1, above 0.
        steps: How many steps, 1 or more.
        step: Length of a step; None: 2.5 eps / steps, as in the paper's code.
        random_start: Begin at a random point of the ball instead of the image.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    eps: float = 0.03
    steps: int = 40
    step: float | None = None
    random_start: bool = True
    criterion: Criterion = TOP_1
    name: str = "pgd"

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1 or self.steps < 1 or (self.step is not None and not self.step > 0):
            raise UsageError(
                f"pgd: eps {self.eps}, steps {self.steps}, step {self.step}; "
                "allowed are 0 < eps <= 1, steps >= 1, step > 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The random start depends on the seed and on the image's place in the batch."""
        step = 2.5 * self.eps / self.steps if self.step is None else self.step
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            point = random_start(images, self.eps, seed) if self.random_start else images.clone()
            lowest, highest = (images - self.eps).clamp_min(0), (images + self.eps).clamp_max(1)
            for _ in range(self.steps):
                point.requires_grad_()
                loss = self.criterion.loss(logits(point), labels)
                (gradient,) = torch.autograd.grad(loss.sum(), point)
                # As `project`, in as few passes over the images as there can be: 40 steps are all that PGD costs.
                point = point.detach().sub_(gradient.sign_(), alpha=step).clamp_(lowest, highest)
        return point


def project(point: Tensor, centre: Tensor, eps: float) -> Tensor:
    """The nearest point in both the L-infinity ball around `centre` and the box 0..1.

    Args:
        point: Float (N, C, H, W).
        centre: Of the same shape, in 0..1.
        eps: Radius of the ball.

    Returns:
        Float of the same shape, in 0..1.
    """
    return torch.maximum(torch.minimum(point, centre + eps), centre - eps).clamp(0, 1)


def random_start(images: Tensor, eps: float, seed: int) -> Tensor:
    """A uniformly random point of the ball around each image, in the box; drawn on the CPU for any device.

    Args:
        images: Float (N, C, H, W) in 0..1.
        eps: Radius of the L-infinity ball.
        seed: What is drawn depends on it and on the image's place in the batch.

    Returns:
        Float of the same shape, in 0..1.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(images.shape, generator=generator, dtype=images.dtype).to(images.device)
    return (images + eps * (2 * noise - 1)).clamp(0, 1)
