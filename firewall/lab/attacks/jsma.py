"""The saliency map attack (JSMA): few values, each changed as far as it goes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import WhiteBox, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion, TopOut
from firewall.lab.attacks.rounding import as_stored

__all__ = ["Jsma"]


@dataclass(frozen=True)
class Jsma(WhiteBox):
    """JSMA, untargeted. White box, L0, few values.

    Papernot et al.: "The limitations of deep learning in adversarial settings", 2016; away from the label, with values
    going either way, as in Wiyatno, Xu: "Maximal Jacobian-based saliency map attack", 2018. A value's saliency is -a b,
    where a is the gradient of the label's logit and b that of the sum of the others, for a change that lowers the first
    and raises the second. In every round the `width` most salient values of an image move by `step`. A value that
    reaches its limit, 0 or 1, drops out, and a value is only ever moved one way.

    Args:
        step: By how much a value moves, in units of the full range 0..1, above 0.
        width: Values that move in each round, 1 or more.
        share: Largest share of an image's values that may be changed, 0..1, above 0: the paper's bound. The number of
            rounds follows from it.
        criterion: What counts as success, of the kind TopOut.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    step: float = 1.0
    width: int = 4
    share: float = 0.1
    criterion: Criterion = TOP_1
    name: str = "jsma"

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1 or self.width < 1 or not 0 < self.share <= 1:
            raise UsageError(
                f"jsma: step {self.step}, width {self.width}, share {self.share}; allowed are 0 < step <= 1, "
                "width >= 1, 0 < share <= 1"
            )
        if not isinstance(self.criterion, TopOut):
            raise UsageError("jsma: its saliency leads away from the label; allowed are criteria of the kind TopOut")

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random. An image that meets the criterion already stays as it is."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            result = images.clone()
            budget = max(1, int(self.share * images[:1].numel()))
            way = torch.zeros_like(images).flatten(1)  # -1, 1: which way a value has been moved; 0: not yet
            open_ = torch.arange(len(images), device=images.device)
            while len(open_) > 0:
                point = result[open_].requires_grad_()
                values = logits(as_stored(point))
                left = ~self.criterion.met(values, labels[open_])
                left &= (way[open_] != 0).sum(1) + self.width <= budget
                kept = left.nonzero()[:, 0]
                if len(kept) == 0:
                    break
                own = values.gather(1, labels[open_][:, None])[:, 0]
                (total,) = torch.autograd.grad(values.sum(), point, retain_graph=True)
                (slope,) = torch.autograd.grad(own.sum(), point)
                open_, a, b = open_[kept], slope[kept].flatten(1), (total - slope)[kept].flatten(1)
                salience = self._salience(a, b, result[open_].flatten(1), way[open_])
                best, places = salience.topk(min(self.width, salience.shape[1]), dim=1)
                move = torch.where(best > 0, b.gather(1, places).sign(), 0)
                if not bool((move != 0).any()):
                    break
                way[open_] = way[open_].scatter(1, places, torch.where(move != 0, move, way[open_].gather(1, places)))
                changed = result[open_].flatten(1).scatter_add(1, places, self.step * move).clamp(0, 1)
                result[open_] = changed.reshape(point[kept].shape)
        return as_stored(result)

    def _salience(self, a: Tensor, b: Tensor, value: Tensor, way: Tensor) -> Tensor:
        """-a b where the change helps on both counts, there is room left for it and it isn't the way back."""
        direction = b.sign()
        room = torch.where(direction > 0, value < 1, value > 0)
        return torch.where(room & (way != -direction), -a * b, -1.0)
