"""ADef: the way of DeepFool to the decision boundary, by moving pixels instead of changing them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.bisection import along
from firewall.lab.attacks.criteria import TOP_1, TopOut, wrong_classes
from firewall.lab.attacks.deepfool import missing, ranked
from firewall.lab.attacks.flow import deform, smooth
from firewall.lab.attacks.rounding import as_stored

__all__ = ["ADef"]


@dataclass(frozen=True)
class ADef(WhiteBox):
    """Adversarial deformation. White box, least deformation.

    Alaifari, Alberti, Gauksson: "ADef: an iterative algorithm to construct adversarial deformations", 2019. With f the
    difference between a rival's logit and the label's, and a its gradient by the flow field, the shortest smooth flow
    to the linearised boundary is -f S S a / |S a|^2, where S is a Gaussian blur. The flows of all steps are added up,
    and the original image is deformed by the sum: deforming it again and again, as the paper does, blurs it.

    Args:
        steps: Largest number of steps, 1 or more.
        candidates: How many of the most likely wrong classes have their boundaries examined, at least the criterion's
            k.
        sigma: Width of the blur S, in pixels; 0 for none.
        overshoot: By how much each step is stretched, 0 or more.
        reach: How far a pixel may be moved, in pixels, above 0 (the paper's bound); longer flows are scaled back.
        criterion: What counts as success, with k as in DeepFool.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    steps: int = 40
    candidates: int = 9
    sigma: float = 1.0
    overshoot: float = 0.2
    reach: float = 3.0
    criterion: TopOut = TOP_1
    name: str = "adef"

    def __post_init__(self) -> None:
        if (
            self.steps < 1
            or self.candidates < self.criterion.k
            or not (self.sigma >= 0 and self.overshoot >= 0 and self.reach > 0)
        ):
            raise UsageError(
                f"adef: steps {self.steps}, candidates {self.candidates}, sigma {self.sigma}, overshoot "
                f"{self.overshoot}, reach {self.reach}; allowed are steps >= 1, candidates >= {self.criterion.k} (the "
                "criterion's k), sigma and overshoot >= 0, reach > 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random. An image that meets the criterion already stays as it is."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            return as_stored(deform(images, self.field(logits, images, labels)))

    def field(self, logits: Logits, images: Tensor, labels: Tensor) -> Tensor:
        """The flow that deforms each image as far as it has to be, or as far as the steps got.

        Args:
            logits: The network, as `under_attack` gives it.
            images: Float (N, C, H, W) in 0..1.
            labels: Int64 (N,).

        Returns:
            Float (N, 2, H, W), to the right and down, in pixels.
        """
        with torch.no_grad():
            rivals = wrong_classes(logits(images), labels, self.candidates)
        result = torch.zeros_like(images[:, :1]).repeat(1, 2, 1, 1)
        open_ = torch.arange(len(images), device=images.device)
        for turn in range(self.steps + 1):
            flow = result[open_].requires_grad_()
            values = logits(as_stored(deform(images[open_], flow)))
            kept = (~self.criterion.met(values, labels[open_])).nonzero()[:, 0]
            open_ = open_[kept]
            if len(open_) == 0 or turn == self.steps:
                break
            short = missing(self.criterion.k, values[kept], labels[open_])
            step = self._step(values[kept], flow, labels[open_], rivals[open_], kept, short)
            result[open_] = self._bounded(flow.detach()[kept] + (1 + self.overshoot) * step)
        return result

    def _step(
        self, values: Tensor, flow: Tensor, labels: Tensor, rivals: Tensor, kept: Tensor, short: Tensor
    ) -> Tensor:
        """The `short`-th shortest of the smooth flows to the rivals' boundaries that are left to cross."""
        gaps = values.gather(1, rivals) - values.gather(1, labels[:, None])
        lengths = torch.full_like(gaps.detach(), torch.inf)
        steps = torch.zeros(*gaps.shape, *flow.shape[1:]).to(flow)
        for rival in range(rivals.shape[1]):
            left = gaps[:, rival] <= 0
            if not bool(left.any()):
                continue
            (gradient,) = torch.autograd.grad(gaps[:, rival].sum(), flow, retain_graph=True)
            once = smooth(gradient[kept], self.sigma)
            # A little further than the boundary, as in DeepFool: a tie is no success.
            reach = (gaps[:, rival].detach().abs() + 1e-4) / once.flatten(1).square().sum(1).clamp_min(1e-12)
            steps[:, rival] = along(reach, once) * smooth(once, self.sigma)
            lengths[:, rival] = torch.where(left, steps[:, rival].flatten(1).norm(dim=1), torch.inf)
        return ranked(lengths, steps, short)

    def _bounded(self, flow: Tensor) -> Tensor:
        longest = flow.norm(dim=1).flatten(1).amax(1).clamp_min(1e-12)
        return flow * along((self.reach / longest).clamp_max(1), flow)
