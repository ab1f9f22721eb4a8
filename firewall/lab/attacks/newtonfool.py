"""NewtonFool: Newton's method on the label's probability, down to that of a guess."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import WhiteBox, under_attack
from firewall.lab.attacks.bisection import along
from firewall.lab.attacks.criteria import TOP_1, TopOut
from firewall.lab.attacks.deepfool import unmet
from firewall.lab.attacks.rounding import as_stored

__all__ = ["NewtonFool"]


@dataclass(frozen=True)
class NewtonFool(WhiteBox):
    """NewtonFool. White box, L2, least change, untargeted.

    Jang, Wu, Jha: "Objective metrics and gradient descent algorithms for adversarial examples in machine learning",
    2017. A step goes against the gradient of the label's probability p, by min(eta |image|, (p - 1/K) / |gradient|).
    The second is where a straight line through p would reach the probability of a guess among K classes, at which one
    other class must have come first; for a criterion with k above 1 the line is followed to 0 instead.

    The gradient is taken as p (1 - p) times that of the log odds. That of p itself vanishes in float32 where the
    network is certain, and dividing by it is where other implementations get NaN.

    Args:
        steps: Largest number of steps, 1 or more.
        eta: Largest length of a step as a share of the image's L2 length, above 0.
        rounded: The network sees the image as it will be stored (uint8); False is the paper's form.
        criterion: What counts as success, of the kind TopOut.
        name: The kind of attack.

    Raises:
        UsageError: A parameter is out of its range.
    """

    steps: int = 200
    eta: float = 0.01
    rounded: bool = True
    criterion: TopOut = TOP_1
    name: str = "newtonfool"

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.eta > 0:
            raise UsageError(f"newtonfool: steps {self.steps}, eta {self.eta}; allowed are steps >= 1, eta > 0")

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random. An image that meets the criterion already stays as it is."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            result = images.clone()
            longest = self.eta * images.flatten(1).norm(dim=1)
            seen = (lambda point: logits(as_stored(point))) if self.rounded else logits
            for open_, kept, values, point in unmet(seen, result, labels, self.criterion, self.steps):
                own = labels[open_][:, None]
                others = values.scatter(1, own, -torch.inf).logsumexp(1)
                odds = values.gather(1, own)[:, 0] - others
                (slope,) = torch.autograd.grad(odds.sum(), point)
                chance, rest = odds.detach().sigmoid(), (-odds.detach()).sigmoid()
                guess = 1 / values.shape[1] if self.criterion.k == 1 else 0.0
                norm = slope[kept].flatten(1).norm(dim=1).clamp_min(1e-12)
                line = (chance - guess).clamp_min(0) / (chance * rest * norm).clamp_min(1e-20)
                step = torch.minimum(longest[open_], line)
                result[open_] = (result[open_] - along(step / norm, images) * slope[kept]).clamp(0, 1)
        return as_stored(result) if self.rounded else result
