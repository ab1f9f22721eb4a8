"""stAdv: a spatially transformed example, by a flow field of little total variation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, takewhile

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.bisection import along
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.flow import deform, total_variation
from firewall.lab.attacks.rounding import as_stored

__all__ = ["StAdv"]


@dataclass(frozen=True)
class StAdv(WhiteBox):
    """stAdv with a cap on the flow's total variation. White box, deformation.

    Xiao et al.: "Spatially transformed adversarial examples", 2018, with the search for tau and the cap of the thesis
    (Nguyen C. 2018, section 4.2). Minimises L_adv + tau * max(TV - cap, 0) by Adam on the flow, where L_adv is max(-gap
    of the criterion, 0), the thesis's equation 5 with k = 0. tau is bisected in 0..highest_tau: up where the network
    was fooled, down where not. Of the flows that fool the network as stored the one of least total variation is the
    result; an image without any comes back unchanged.

    How the thesis's text was read where it is damaged or silent: the search is "for" a symbol that is lost, tau by all
    that follows. Equation 14, L_flow = max(L_flow - eps, 0) with eps = 7, takes the place of L_flow in equation 7, so
    that total variation costs nothing up to the cap. The penalty alone doesn't hold the cap, so the network is shown
    the flow scaled down to it. Equation 6 sums over pixels and, for each, its neighbours: every pair counts twice, and
    an even shift of the whole image costs nothing. Its unit is taken to be the pixel, as in Xiao et al. Read so, 42 of
    100 MNIST test images reached their target on a two-layer network of 97.8 % accuracy; the thesis has about 380 of
    1000 on one of 98 %. It draws targets at random and asks that they come first; the nearest here is Target(0.5).

    Args:
        cap: Largest total variation, in pixels, above 0. It is a sum: 7.0, made for 28x28, means less change the larger
            the image is.
        reach: The farthest that a pixel may be taken from, in pixels, so that a larger cap doesn't shift the image out
            of sight; None, the thesis's form: no bound.
        highest_tau: Upper end of the search for tau, above 0.
        searches: Values of tau, 1 or more.
        steps: Steps of Adam for each tau, 1 or more.
        step: Adam's learning rate in pixels (see _Pyramid), above 0.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    cap: float = 7.0
    reach: float | None = None
    highest_tau: float = 1000.0
    searches: int = 8
    steps: int = 40
    step: float = 0.5
    criterion: Criterion = TOP_1
    name: str = "stadv"

    def __post_init__(self) -> None:
        bounds = (self.cap, self.highest_tau, self.step, 1.0 if self.reach is None else self.reach)
        if min(self.searches, self.steps) < 1 or not all(bound > 0 for bound in bounds):
            raise UsageError(
                f"stadv: cap {self.cap}, reach {self.reach}, highest_tau {self.highest_tau}, searches {self.searches}, "
                f"steps {self.steps}, step {self.step}; allowed are searches and steps >= 1, the others > 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random; `seed` is not used."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            return as_stored(deform(images, self.fields(logits, images, labels)))

    def fields(self, logits: Logits, images: Tensor, labels: Tensor) -> Tensor:
        """The flows that the attack finds.

        Args:
            logits: The network, as `under_attack` gives it.
            images: Float (N, C, H, W) in 0..1.
            labels: Int64 (N,).

        Returns:
            Float (N, 2, H, W), in pixels, of a total variation of at most `cap`; zero where the attack fails.
        """
        best = torch.zeros_like(images[:, :1]).repeat(1, 2, 1, 1)
        least = torch.full_like(labels, torch.inf, dtype=images.dtype)
        low, high = torch.zeros_like(least), torch.full_like(least, self.highest_tau)
        for _ in range(self.searches):
            tau = (low + high) / 2
            fooled = self._descend(logits, images, labels, tau, best, least)
            low, high = torch.where(fooled, tau, low), torch.where(fooled, high, tau)
        return best

    def _descend(
        self, logits: Logits, images: Tensor, labels: Tensor, tau: Tensor, best: Tensor, least: Tensor
    ) -> Tensor:
        """Run Adam; writes flows of less total variation to `best` and `least`. Returns whether any flow fooled."""
        pyramid = _Pyramid(best)
        adam = torch.optim.Adam([{"params": [level], "lr": self.step / level.shape[-1]} for level in pyramid.levels])
        fooled = torch.zeros_like(labels, dtype=torch.bool)
        for _ in range(self.steps):
            flow = pyramid.flow()
            variation = total_variation(flow)
            share = (self.cap / variation.detach()).clamp_max(1)
            if self.reach is not None:
                farthest = flow.detach().norm(dim=1).flatten(1).amax(1).clamp_min(1e-12)
                share = torch.minimum(share, self.reach / farthest)
            shown = along(share * (1 - 1e-6), flow) * flow
            values = logits(as_stored(deform(images, shown)))
            loss = (-self.criterion.gap(values, labels)).clamp_min(0) + tau * (variation - self.cap).clamp_min(0)
            for level, gradient in zip(pyramid.levels, torch.autograd.grad(loss.sum(), pyramid.levels), strict=True):
                level.grad = gradient
            met = self.criterion.met(values, labels)
            reached = (share * variation).detach()
            better = met & (reached < least)
            best[better], least[better] = shown.detach()[better], reached[better]
            fooled |= met
            adam.step()
        return fooled


class _Pyramid:
    """A flow as the sum of fields of 1x1, 2x2, 4x4, ... vectors, enlarged to the image.

    Any flow is such a sum. Adam moves each number by about the same, so that pixel by pixel a single step would cost
    many times the cap; here an even flow moves first and fine detail last, each level by the less the finer it is.
    """

    def __init__(self, like: Tensor) -> None:
        self.size = like.shape[2:]
        sides = [*takewhile(lambda side: side < max(self.size), (2**level for level in count())), max(self.size)]
        self.levels = [like.new_zeros(len(like), 2, side, side).requires_grad_() for side in sides]

    def flow(self) -> Tensor:
        """The sum, (N, 2, H, W), in pixels."""
        enlarged = [interpolate(level, self.size, mode="bilinear", align_corners=True) for level in self.levels]
        return torch.stack(enlarged).sum(0)
