"""DeepFool: to the nearest linearised boundary, again and again, until the class changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.criteria import TOP_1, TopOut, wrong_classes
from firewall.lab.attacks.protocol import under_attack
from firewall.lab.attacks.rounding import as_stored

__all__ = ["DeepFool"]


@dataclass(frozen=True)
class DeepFool:
    """Moosavi-Dezfooli, Fawzi, Frossard: "DeepFool: a simple and accurate method to fool deep neural networks", 2016.

    L2, untargeted. steps: at most. candidates: how many of the most likely wrong classes have their boundaries
    looked at. criterion: with k above 1, each step goes to the nearest boundary of those that are left to cross.
    overshoot: by how much the sum of the steps is stretched to get across the boundary, 0.02 as in the
    paper. rounded: the network sees the image as it will be stored (uint8), so that the steps go on until rounding no
    longer undoes them; False is the paper's form, of which many results do not survive.
    """

    steps: int = 50
    candidates: int = 9
    overshoot: float = 0.02
    rounded: bool = True
    criterion: TopOut = TOP_1
    name: str = "deepfool"

    needs_gradient: ClassVar[bool] = True
    labels_only: ClassVar[bool] = False
    chunk: ClassVar[int] = 32

    def __post_init__(self) -> None:
        if self.steps < 1 or self.candidates < self.criterion.k or not self.overshoot >= 0:
            raise UsageError(
                f"deepfool: steps {self.steps}, candidates {self.candidates}, overshoot {self.overshoot}; "
                f"allowed are steps >= 1, candidates >= {self.criterion.k} (the criterion's k), overshoot >= 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random; `seed` is not used. Where the criterion is met already nothing changes."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            moved, result = torch.zeros_like(images), images.clone()
            with torch.no_grad():
                rivals = wrong_classes(logits(images), labels, self.candidates)
            open_ = torch.arange(len(images), device=images.device)  # images where it is not met yet
            for turn in range(self.steps + 1):
                point = result[open_].requires_grad_()
                values = logits(as_stored(point) if self.rounded else point)
                kept = (~self.criterion.met(values, labels[open_])).nonzero()[:, 0]
                open_ = open_[kept]
                if len(open_) == 0 or turn == self.steps:
                    break
                moved[open_] += _nearest(values, point, labels[open_], rivals[open_], kept)
                result[open_] = (images[open_] + (1 + self.overshoot) * moved[open_]).clamp(0, 1)
        return as_stored(result) if self.rounded else result


def _nearest(values: Tensor, point: Tensor, labels: Tensor, rivals: Tensor, kept: Tensor) -> Tensor:
    """The step, (len(kept), C, H, W), to the nearest of the boundaries left to cross, linearised."""
    values = values[kept]
    own = values.gather(1, labels[:, None])
    gaps = values.gather(1, rivals) - own
    best = torch.full(labels.shape, torch.inf, dtype=values.dtype, device=values.device)
    step = torch.zeros_like(point[kept])
    for rival in range(rivals.shape[1]):
        left = gaps[:, rival] <= 0
        if not bool(left.any()):
            continue
        (gradient,) = torch.autograd.grad(gaps[:, rival].sum(), point, retain_graph=True)
        slope = gradient[kept]
        norm = slope.flatten(1).norm(dim=1).clamp_min(1e-12)
        distance = gaps[:, rival].detach().abs() / norm
        nearer = (distance < best) & left
        best = torch.where(nearer, distance, best)
        # A little further than the boundary: at a tie of two logits the step would else have no length.
        reach = (distance + 1e-4) / norm
        step = torch.where(nearer[:, None, None, None], reach[:, None, None, None] * slope, step)
    return step.detach()
