"""The attack of Carlini and Wagner: least change, by gradient descent on distance plus weighted margin."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.rounding import as_stored

__all__ = ["CarliniWagner"]


@dataclass(frozen=True)
class CarliniWagner(WhiteBox):
    """Carlini and Wagner's L2 attack. White box, least change or high confidence.

    Carlini, Wagner: "Towards evaluating the robustness of neural networks", 2017. Minimises |x' - x|^2 + c * max(kappa
    - margin, 0) over w, where x' = (tanh(w) + 1) / 2, by Adam, with a binary search for c for each image. The nearest
    example found is the result; an image without any comes back unchanged. The margin is the criterion's gap; with k
    above 1 it is by how much the label lies below the k-th class.

    Args:
        kappa: Margin by which the wrong class has to win, in logits, 0 or more.
        steps: Steps of Adam for each c, 1 or more.
        searches: Values of c that are tried, 1 or more.
        step: Adam's learning rate, above 0.
        initial_c: The first c, above 0.
        rounded: The network and the distance see the image as it will be stored (uint8, the gradient passed straight
            through); False is the paper's form.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    kappa: float = 0.0
    steps: int = 100
    searches: int = 5
    step: float = 0.01
    initial_c: float = 1.0
    rounded: bool = True
    criterion: Criterion = TOP_1
    name: str = "cw"

    def __post_init__(self) -> None:
        if not self.kappa >= 0 or min(self.steps, self.searches) < 1 or not min(self.step, self.initial_c) > 0:
            raise UsageError(
                f"cw: kappa {self.kappa}, steps {self.steps}, searches {self.searches}, step {self.step}, initial_c "
                f"{self.initial_c}; allowed are kappa >= 0, steps and searches >= 1, step and initial_c > 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random; `seed` is not used."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            best, nearest = images.clone(), torch.full_like(labels, torch.inf, dtype=images.dtype)
            lower, upper = torch.zeros_like(nearest), torch.full_like(nearest, torch.inf)
            weight = torch.full_like(nearest, self.initial_c)
            for _ in range(self.searches):
                found = self._descend(logits, images, labels, weight, best, nearest)
                upper = torch.where(found, weight, upper)
                lower = torch.where(found, lower, weight)
                weight = torch.where(upper.isinf(), weight * 10, (lower + upper) / 2)
        return best

    def _descend(
        self, logits: Logits, images: Tensor, labels: Tensor, weight: Tensor, best: Tensor, nearest: Tensor
    ) -> Tensor:
        """Run Adam with the weights c `weight`; writes nearer examples to `best`, their squared distances to `nearest`.

        Returns bool (N,): whether an example was met, nearer or not.
        """
        # A little inside the box, where the inverse of tanh is finite.
        hidden = torch.atanh((2 * images - 1) * (1 - 1e-6)).requires_grad_()
        adam = torch.optim.Adam([hidden], lr=self.step)
        found = torch.zeros_like(labels, dtype=torch.bool)
        for _ in range(self.steps):
            point = (torch.tanh(hidden) + 1) / 2
            seen = as_stored(point) if self.rounded else point
            values = logits(seen)
            gap = self.criterion.gap(values, labels)
            distance = (seen - images).square().flatten(1).sum(1)
            loss = distance + weight * (self.kappa - gap).clamp_min(0)
            (hidden.grad,) = torch.autograd.grad(loss.sum(), hidden)
            adam.step()
            fools = self.criterion.met(values, labels) & (gap >= self.kappa)
            found |= fools
            nearer = (fools & (distance < nearest)).detach()
            best[nearer] = seen.detach()[nearer]
            nearest[nearer] = distance.detach()[nearer]
        return found
