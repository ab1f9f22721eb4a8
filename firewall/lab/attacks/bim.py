"""The basic iterative method in three norms, within the least radius that suffices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.bisection import along, least
from firewall.lab.attacks.criteria import TARGET_99, Criterion
from firewall.lab.attacks.pgd import random_start
from firewall.lab.attacks.rounding import as_stored

__all__ = ["Bim", "Norm", "length", "within"]

#: Lengths that don't depend on the image's size: largest, root mean square and mean absolute change of a value.
Norm = Literal["linf", "l2", "l1"]


@dataclass(frozen=True)
class Bim(WhiteBox):
    """The basic iterative method (BIM), and PGD with a random start. White box, least radius.

    Kurakin, Goodfellow, Bengio: "Adversarial examples in the physical world", 2017; Madry et al. 2018 for the random
    start. The L1 and L2 forms, and the search for the radius, are those of Foolbox 1.8, which the statistics paper
    used: a step follows the gradient scaled to unit length, and a change that is too long is scaled back.

    Args:
        norm: `linf`, `l2` or `l1`: see Norm.
        radius: The largest radius that is tried, 0..1, in units of `norm`.
        steps: Steps at each radius, 1 or more.
        searches: Radii that are tried for each image, 1 or more, between radius / 64 and radius. The example in the
            smallest is the result; an image without any comes back unchanged.
        step: Length of a step as a share of the radius; None: 2.5 / steps.
        random_start: Begin at a random point of the ball.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    norm: Norm = "linf"
    radius: float = 0.3
    steps: int = 10
    searches: int = 7
    step: float | None = None
    random_start: bool = False
    criterion: Criterion = TARGET_99
    name: str = "bim"

    def __post_init__(self) -> None:
        if (
            self.norm not in ("linf", "l2", "l1")
            or not 0 < self.radius <= 1
            or min(self.steps, self.searches) < 1
            or (self.step is not None and not self.step > 0)
        ):
            raise UsageError(
                f"bim: norm {self.norm}, radius {self.radius}, steps {self.steps}, searches {self.searches}, step "
                f"{self.step}; allowed are norm linf, l2 or l1, 0 < radius <= 1, steps and searches >= 1, step > 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The random start depends on the seed and on the image's place in the batch."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            # One direction for all radii, so that a larger radius is the same attack with more room.
            start = random_start(images, self.radius, seed) - images if self.random_start else torch.zeros_like(images)

            def attempt(radius: Tensor) -> tuple[Tensor, Tensor]:
                share = along(radius / self.radius, images)
                return self._walk(logits, images, labels, images + start * share, radius)

            return least(images, attempt, self.radius / 64, self.radius, self.searches)

    def _walk(
        self, logits: Logits, images: Tensor, labels: Tensor, point: Tensor, radius: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The first points, as stored, that meet the criterion on the way from `point`, and where there are any."""
        relative = 2.5 / self.steps if self.step is None else self.step
        result, met = images.clone(), torch.zeros_like(labels, dtype=torch.bool)
        open_ = torch.arange(len(images), device=images.device)
        for turn in range(self.steps + 1):
            seen = as_stored(point).requires_grad_(turn < self.steps)
            values = logits(seen)
            now = self.criterion.met(values, labels[open_])
            result[open_[now]], met[open_[now]] = seen.detach()[now], True
            if turn == self.steps or bool(now.all()):
                break
            (gradient,) = torch.autograd.grad(self.criterion.loss(values, labels[open_]).sum(), seen)
            open_, point, gradient = open_[~now], point[~now], gradient[~now]
            centre, room = images[open_], along(radius[open_], images)
            point = point - relative * room * unit(gradient, self.norm)
            point = (centre + within(point - centre, room, self.norm)).clamp(0, 1)
        return result, met


def length(change: Tensor, norm: Norm) -> Tensor:
    """The length of each image's change.

    Args:
        change: Float (N, C, H, W).
        norm: See Norm.

    Returns:
        Float (N, 1, 1, 1).
    """
    flat = change.flatten(1)
    lengths = {"linf": lambda: flat.abs().amax(1), "l2": lambda: flat.square().mean(1).sqrt()}
    return along(lengths.get(norm, lambda: flat.abs().mean(1))(), change)


def unit(gradient: Tensor, norm: Norm) -> Tensor:
    """The gradient at length 1; for L-infinity its sign, the steepest direction.

    Args:
        gradient: Float (N, C, H, W).
        norm: See Norm.

    Returns:
        Float of the same shape.
    """
    return gradient.sign() if norm == "linf" else gradient / length(gradient, norm).clamp_min(1e-20)


def within(change: Tensor, radius: Tensor, norm: Norm) -> Tensor:
    """The change, scaled back to the radius where it is longer; for L-infinity each value is cut off.

    Args:
        change: Float (N, C, H, W).
        radius: Float (N, 1, 1, 1), in units of `norm`.
        norm: See Norm.

    Returns:
        Float of the shape of `change`.
    """
    if norm == "linf":
        return torch.maximum(torch.minimum(change, radius), -radius)
    return change * (radius / length(change, norm).clamp_min(1e-20)).clamp_max(1)
