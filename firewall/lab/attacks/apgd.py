"""APGD: projected gradient descent that sets its own step length, a part of AutoAttack."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from firewall.errors import DataError, UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.bisection import along
from firewall.lab.attacks.criteria import TOP_1, Criterion, wrong_classes
from firewall.lab.attacks.pgd import project, random_start
from firewall.lab.attacks.rounding import as_stored

__all__ = ["Apgd"]


@dataclass(frozen=True)
class Apgd(WhiteBox):
    """Auto-PGD. White box, L-infinity, bounded.

    Croce, Hein: "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
    2020, algorithm 1. Steps with momentum, 2 eps long at first. At checkpoints that come closer and closer the step is
    halved and the search returns to its best point, if the loss rose in less than `rho` of the steps or the best loss
    did not change since the last checkpoint. An image is done when it meets the criterion as stored.

    Args:
        loss: `ce`: the criterion's cross-entropy. `dlr`: the targeted difference of logits ratio (the paper's equation
            7), from the label to the most likely wrong classes in turn; its gradient does not vanish where the network
            is certain.
        eps: Radius of the ball, in units of the full range 0..1, above 0.
        steps: Steps from each start, 1 or more.
        targets: Target classes of the dlr loss, 1 or more.
        rho: Share of rising steps that keeps the step length, between 0 and 1.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    loss: Literal["ce", "dlr"] = "ce"
    eps: float = 0.03
    steps: int = 50
    targets: int = 3
    rho: float = 0.75
    criterion: Criterion = TOP_1
    name: str = "apgd"

    def __post_init__(self) -> None:
        if self.loss not in ("ce", "dlr") or not 0 < self.eps <= 1 or min(self.steps, self.targets) < 1:
            raise UsageError(
                f"apgd: loss {self.loss}, eps {self.eps}, steps {self.steps}, targets {self.targets}; allowed are loss "
                "ce or dlr, 0 < eps <= 1, steps and targets >= 1"
            )
        if not 0 < self.rho < 1:
            raise UsageError(f"apgd: rho is {self.rho}; it must lie between 0 and 1")

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The random start depends on the seed and on the image's place in the batch."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            start = random_start(images, self.eps, seed)
            with torch.no_grad():
                values = logits(images)
                rivals = wrong_classes(values, labels, self.targets if self.loss == "dlr" else 1)
            if self.loss == "dlr" and values.shape[1] < 4:
                raise DataError(f"the dlr loss takes four classes; the network has {values.shape[1]}; use loss ce")
            result = images.clone()
            open_ = torch.arange(len(images), device=images.device)
            for rank in range(rivals.shape[1]):
                if len(open_) == 0:
                    break
                aim = rivals[open_, rank]
                result[open_], met = self._climb(logits, images[open_], labels[open_], aim, start[open_])
                open_ = open_[~met]
        return result

    def _climb(
        self, logits: Logits, centre: Tensor, labels: Tensor, aim: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The points of highest objective, or that meet the criterion as stored, and whether they do."""
        point, before = start, start
        best, best_slope = start.clone(), torch.zeros_like(start)
        found, met = start.clone(), torch.zeros_like(labels, dtype=torch.bool)
        highest = torch.full_like(labels, -torch.inf, dtype=start.dtype)
        step = torch.full_like(highest, 2 * self.eps)
        rises, value_before = torch.zeros_like(highest), highest.clone()
        halved, highest_at_last = torch.ones_like(met), highest.clone()
        checkpoints, last = _checkpoints(self.steps), 0
        for turn in range(self.steps + 1):
            point = point.detach().requires_grad_()
            values = logits(as_stored(point))
            value = self._objective(values, labels, aim)
            (slope,) = torch.autograd.grad(value.sum(), point)
            value, point = value.detach(), point.detach()
            now = self.criterion.met(values.detach(), labels) & ~met
            found[now], met = point[now], met | now
            if bool(met.all()) or turn == self.steps:
                higher = value > highest
                best[higher] = point[higher]
                break
            rises += value > value_before
            value_before = value
            higher = value > highest
            best[higher], best_slope[higher], highest = point[higher], slope[higher], torch.maximum(highest, value)
            if turn in checkpoints:
                few = rises < self.rho * (turn - last)
                stuck = ~halved & (highest <= highest_at_last)
                halved, highest_at_last, last = few | stuck, highest.clone(), turn
                rises.zero_()
                step = torch.where(halved, step / 2, step)
                point = torch.where(along(halved, point), best, point)
                slope = torch.where(along(halved, slope), best_slope, slope)
                before = torch.where(along(halved, before), point, before)
            plain = project(point + along(step, point) * slope.sign(), centre, self.eps)
            share = 0.75 if turn else 1.0
            moved = project(point + share * (plain - point) + (1 - share) * (point - before), centre, self.eps)
            point, before = moved, point
        return torch.where(along(met, best), found, best), met

    def _objective(self, values: Tensor, labels: Tensor, aim: Tensor) -> Tensor:
        """What the walk climbs, each image's own."""
        if self.loss == "ce":
            return -self.criterion.loss(values, labels)
        ordered = values.sort(dim=1, descending=True).values
        own, other = (values.gather(1, classes[:, None])[:, 0] for classes in (labels, aim))
        spread = ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2
        return (other - own) / spread.clamp_min(1e-12)


def _checkpoints(steps: int) -> set[int]:
    """The paper's: after 22 % of the steps, then each gap 3 % shorter than the last, but at least 6 %."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {math.ceil(round(share * steps, 6)) for share in shares[1:]}
