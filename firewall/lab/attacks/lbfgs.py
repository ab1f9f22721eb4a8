"""L-BFGS: the nearest example of a target class, by a quasi-Newton method within the box 0..1."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.bisection import along, least
from firewall.lab.attacks.criteria import TARGET_99, Criterion
from firewall.lab.attacks.rounding import as_stored

__all__ = ["Lbfgs"]

#: Points (N, C, H, W) -> objective (N,) and gradient (N, C, H, W).
Objective = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Lbfgs(WhiteBox):
    """The L-BFGS attack. White box, L2, least change, targeted.

    Szegedy et al.: "Intriguing properties of neural networks", 2014. Minimises |x' - x|^2 + weight * loss of the
    criterion for x' in 0..1, and searches for the least weight whose minimum meets the criterion as stored (the paper's
    largest c = 1 / weight). Of all points found on the way the nearest is the result; an image without any comes back
    unchanged.

    The method is L-BFGS with the box by projection: values at a limit that the gradient pushes against are held, the
    others follow the quasi-Newton direction, cut off at the box and shortened until the objective falls (Armijo). All
    images of a batch are computed at once, each with a history, a step length and a weight of its own.

    Args:
        steps: Steps at each weight, 1 or more.
        memory: Pairs of changes that are kept, 1 or more.
        searches: Weights that are tried, 1 or more.
        lowest: The smallest weight, above 0.
        highest: The largest weight.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    steps: int = 25
    memory: int = 8
    searches: int = 7
    lowest: float = 0.1
    highest: float = 10_000.0
    criterion: Criterion = TARGET_99
    name: str = "lbfgs"

    def __post_init__(self) -> None:
        if min(self.steps, self.memory, self.searches) < 1 or not 0 < self.lowest <= self.highest:
            raise UsageError(
                f"lbfgs: steps {self.steps}, memory {self.memory}, searches {self.searches}, lowest {self.lowest}, "
                f"highest {self.highest}; allowed are steps, memory and searches >= 1, 0 < lowest <= highest"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random; `seed` is not used."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()

            seen = _Nearest(logits, images, labels, self.criterion)

            def attempt(weight: Tensor) -> tuple[Tensor, Tensor]:
                seen.weight = weight
                end = minimise(seen, images, self.steps, self.memory)
                with torch.no_grad():
                    return end, self.criterion.met(logits(as_stored(end)), labels)

            least(images, attempt, self.lowest, self.highest, self.searches)
        return seen.best


class _Nearest:
    """The objective, which remembers the nearest of the points that it was asked about and that meet the criterion."""

    def __init__(self, logits: Logits, images: Tensor, labels: Tensor, criterion: Criterion) -> None:
        self.logits, self.images, self.labels, self.criterion = logits, images, labels, criterion
        self.best = images.clone()
        self.distance = torch.full_like(labels, torch.inf, dtype=images.dtype)
        self.weight = torch.ones_like(self.distance)

    def __call__(self, point: Tensor) -> tuple[Tensor, Tensor]:
        point = point.detach().requires_grad_()
        # What is stored is judged, but the way there is smooth: rounding would break the Armijo rule.
        values = self.logits(point)
        objective = (point - self.images).square().flatten(1).sum(1)
        objective = objective + self.weight * self.criterion.loss(values, self.labels)
        (gradient,) = torch.autograd.grad(objective.sum(), point)
        met = self.criterion.met(values, self.labels)
        if bool(met.any()):
            with torch.no_grad():
                seen = as_stored(point)
                distance = (seen - self.images).flatten(1).norm(dim=1)
                better = met & (distance < self.distance)
                better &= self.criterion.met(self.logits(seen), self.labels)
            self.best[better], self.distance[better] = seen.detach()[better], distance[better]
        return objective.detach(), gradient


def minimise(objective: Objective, start: Tensor, steps: int, memory: int) -> Tensor:
    """A point of the box 0..1 at which each image's objective is about least.

    Args:
        objective: Points (N, C, H, W) -> values (N,) and gradients (N, C, H, W).
        start: Float (N, C, H, W) in 0..1.
        steps: How many steps, 1 or more.
        memory: Pairs of changes that are kept, 1 or more.

    Returns:
        Float (N, C, H, W) in 0..1.
    """
    point = start.clone()
    value, gradient = objective(point)
    history: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=memory)
    reach = torch.ones_like(value)  # L2 length of a step where nothing is known of the curvature
    for _ in range(steps):
        held = ((point <= 0) & (gradient > 0)) | ((point >= 1) & (gradient < 0))
        free = gradient.masked_fill(held, 0)
        direction = -_times_inverse(free, history).masked_fill(held, 0)
        known = torch.stack([inverse > 0 for *_, inverse in history]).any(0) if history else value > torch.inf
        # Without a history, or uphill, as happens when other values are held than before: down the gradient.
        plain = ~known | (_dot(direction, free) >= 0)
        steepest = free * along(-reach / _dot(free, free).sqrt().clamp_min(1e-20), free)
        direction = torch.where(along(plain, direction), steepest, direction)
        new, new_value, new_gradient = _shortened(objective, point, value, gradient, direction)
        change, turn = new - point, new_gradient - gradient
        curvature, stuck = _dot(change, turn), _dot(change, change) == 0
        # Pairs of no positive curvature would spoil the approximation: weight 0 leaves them out, for their image.
        history.append((change, turn, torch.where(curvature > 1e-10, 1 / curvature.clamp_min(1e-10), 0)))
        # The objective has kinks, and past one what was learnt before leads nowhere: begin again, with less.
        history = deque(((c, t, inverse.masked_fill(stuck, 0)) for c, t, inverse in history), maxlen=memory)
        reach = torch.where(stuck & plain, reach / 64, reach)
        point, value, gradient = new, new_value, new_gradient
    return point


def _shortened(
    objective: Objective, point: Tensor, value: Tensor, gradient: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The first of the steps 1, 1/4, 1/16, 1/64 that lowers the objective enough; else the point itself."""
    new, new_value, new_gradient = point.clone(), value.clone(), gradient.clone()
    open_ = torch.ones_like(value, dtype=torch.bool)
    for turn in range(4):
        tried = torch.where(along(open_, point), (point + 0.25**turn * direction).clamp(0, 1), new)
        tried_value, tried_gradient = objective(tried)
        good = open_ & (tried_value <= value + 1e-4 * _dot(gradient, tried - point))
        new = torch.where(along(good, new), tried, new)
        new_value = torch.where(good, tried_value, new_value)
        new_gradient = torch.where(along(good, new), tried_gradient, new_gradient)
        open_ = open_ & ~good
        if not bool(open_.any()):
            break
    return new, new_value, new_gradient


def _times_inverse(gradient: Tensor, history: deque[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """The two loops of L-BFGS: the gradient times the approximate inverse Hessian, each image's own."""
    result, shares = gradient.clone(), []
    for change, turn, inverse in reversed(history):
        share = inverse * _dot(change, result)
        result = result - along(share, result) * turn
        shares.append(share)
    if history:
        change, turn, inverse = history[-1]
        scale = _dot(change, turn) / _dot(turn, turn).clamp_min(1e-20)
        result = result * along(torch.where(inverse > 0, scale, 1.0), result)
    for (change, turn, inverse), share in zip(history, reversed(shares), strict=True):
        result = result + along(share - inverse * _dot(turn, result), result) * change
    return result


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).flatten(1).sum(1)
