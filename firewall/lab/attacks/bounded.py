"""The most confident wrong image within a bound, anywhere or in a subspace that channels let through."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.rounding import as_stored
from firewall.lab.attacks.subspaces import SUBSPACES, change_in, roughness

__all__ = ["Bounded"]


@dataclass(frozen=True)
class Bounded(WhiteBox):
    """PGD that keeps the best image that it meets. White box, L-infinity, bounded.

    Madry et al. 2018 (see Pgd) on the criterion's gap: for a wrong label, by how much another class leads. The images
    are rounded to uint8 in every step, and the one where the gap is largest is the result: the attack doesn't stop at
    the first wrong label, but makes it as certain as it can. In a subspace the steps are taken on the numbers that the
    change is made of: low frequencies as Guo et al. 2018 and Sharma et al. 2019 have them.

    Args:
        eps: Radius of the ball, in units of the full range 0..1, above 0; held by the stored image too, where it is a
            multiple of 1/255.
        steps: How many steps, 1 or more.
        step: Length of a step; None: 2.5 eps / steps.
        restarts: How many random starts, 1 or more.
        subspace: Where the change lies: `pixels` (anywhere), `blurred` or `low-frequency`.
        sigma: Of the blur, in pixels, above 0.
        frequencies: Low frequencies along each side, 1 or more.
        total_variation: Logits that are paid for a change whose neighbours differ by eps, 0 or more. Success comes
            first: nothing is paid until then, and from there on the gap less this is made as large as it can be.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    eps: float = 8 / 255
    steps: int = 40
    step: float | None = None
    restarts: int = 1
    subspace: str = "pixels"
    sigma: float = 1.0
    frequencies: int = 12
    total_variation: float = 0.0
    criterion: Criterion = TOP_1
    name: str = "bounded"

    def __post_init__(self) -> None:
        if (
            not 0 < self.eps <= 1
            or min(self.steps, self.restarts, self.frequencies) < 1
            or (self.step is not None and not self.step > 0)
            or not 0 < self.sigma <= 20
            or not 0 <= self.total_variation < float("inf")
        ):
            raise UsageError(
                f"bounded: eps {self.eps}, steps {self.steps}, step {self.step}, restarts {self.restarts}, sigma "
                f"{self.sigma}, frequencies {self.frequencies}, total_variation {self.total_variation}; allowed are "
                "0 < eps <= 1, steps, restarts and frequencies >= 1, step > 0, 0 < sigma <= 20, total_variation >= 0"
            )
        if self.subspace not in SUBSPACES:
            raise UsageError(f"bounded: subspace {self.subspace!r}; allowed are {', '.join(SUBSPACES)}")

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The random starts depend on the seed and on the image's place in the batch."""
        generator = torch.Generator().manual_seed(seed)
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            best, highest = images.clone(), torch.full(labels.shape, -torch.inf).to(images)
            for _ in range(self.restarts if len(images) else 0):
                drawn = torch.rand(images.shape, generator=generator, dtype=images.dtype).to(images.device)
                found, worth = self._climb(logits, images, labels, self.eps * (2 * drawn - 1))
                better = worth > highest
                best[better], highest[better] = found[better], worth[better]
        return best

    def _climb(self, logits: Logits, images: Tensor, labels: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        """The best images on the way from a start, as stored, and what they are worth."""
        step = 2.5 * self.eps / self.steps if self.step is None else self.step
        best, highest = images.clone(), torch.full(labels.shape, -torch.inf).to(images)
        for turn in range(self.steps + 1):
            free.requires_grad_()
            change = change_in(self.subspace, free, self.eps, sigma=self.sigma, frequencies=self.frequencies)
            moved = images + change
            stored = as_stored(moved + (moved.clamp(0, 1) - moved).detach())
            values = logits(stored)
            gap, met = self.criterion.gap(values, labels), self.criterion.met(values.detach(), labels)
            aim = gap
            if self.total_variation:
                aim = gap - met * self.total_variation * roughness(change, self.eps)
            # A success beats whatever is none, even one that costs more than it leads by.
            worth = (aim - 1e4 * ~met).detach()
            better = worth > highest
            best[better], highest[better] = stored.detach()[better], worth[better]
            if turn < self.steps:
                (gradient,) = torch.autograd.grad(aim.sum(), free)
                free = (free.detach() + step * gradient.sign()).clamp(-self.eps, self.eps)
        return best, highest
