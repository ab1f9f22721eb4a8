"""Gradient methods: four ways to combine the losses of the classifier and of the detectors.

sum          both losses; weight moves to the one that is not yet satisfied
orthogonal   the loss that is not satisfied, in directions orthogonal to the other's gradient (Bryniarski et al. 2022)
selective    the loss that is not satisfied (Bryniarski et al. 2022)
worst        the single demand that is missed most: of the classifier, a detector or a juror

Step lengths fall within a cycle, and each cycle is twice as long as the one before. They don't depend on the number of
steps, so a longer attack begins with the same steps as a shorter one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from firewall.errors import EngineError
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.picture import Picture

__all__ = ["MOMENTUM", "WAYS", "Turn", "descend", "lengths"]

WAYS = ("sum", "orthogonal", "selective", "worst")

#: By how much classifier and detectors are to be satisfied, in logits and in the demands' own units.
_LEAD, _SLACK = 0.5, 0.1
_FIRST_CYCLE, _LONGEST, _SHORTEST = 10, 0.5, 0.02
MOMENTUM = 0.6


@dataclass(frozen=True, eq=False)
class Turn:
    """State of all starts after some steps.

    Args:
        points: Float (N, 3, h, w), within the ball.
        fooled: Bool (N,), whether the classifier gives the target class.
        alarm: (N,), the largest demand; above 0 withholds. An estimate where only some copies are classified.
    """

    points: Tensor
    fooled: Tensor
    alarm: Tensor


def descend(
    picture: Picture,
    way: str,
    ball: Ball,
    centre: Tensor,
    aims: Tensor,
    starts: Tensor,
    *,
    most: int,
    generator: torch.Generator,
) -> Iterator[Turn]:
    """Descend from several starts at once, without end: the caller stops when it has seen enough.

    Args:
        picture: The bundle.
        way: One of WAYS.
        ball: What is allowed.
        centre: Float (1, 3, h, w) in 0..1, the original.
        aims: Int64 (N,), target classes.
        starts: Float (N, 3, h, w), within the ball.
        most: Of `Picture.see`.
        generator: Samples the copies.

    Yields:
        The state before each step.

    Raises:
        EngineError: A gradient is not finite.
    """
    points, speed = starts, torch.zeros_like(starts)
    share = torch.full((len(starts), 1, 1, 1), 0.5)
    for length in lengths():
        points = points.detach().requires_grad_()
        seen = picture.see(points, aims, most=most, generator=generator)
        own = seen.logits.gather(1, aims[:, None])[:, 0]
        behind = seen.logits.scatter(1, aims[:, None], -torch.inf).amax(1) - own
        alarm = seen.demands.amax(1)
        fooled, quiet = behind < 0, alarm <= 0
        yield Turn(points.detach(), fooled, alarm.detach())
        missed = alarm if way == "worst" else (seen.demands + _SLACK).clamp_min(0).sum(1)
        first = _gradient(behind.clamp_min(-_LEAD).sum(), points)
        second = _gradient(missed.sum(), points, last=True)
        if way == "sum":
            share = (share + 0.05 * ((~fooled).float() - (fooled & ~quiet).float())[:, None, None, None]).clamp(
                0.1, 0.9
            )
            step = share * first + (1 - share) * second
        else:
            on_classifier = (behind > alarm) if way == "worst" else ~(behind < -_LEAD * quiet.float())
            if way == "orthogonal":
                first, second = _beside(first, second), _beside(second, first)
            step = torch.where(on_classifier[:, None, None, None], first, second)
        speed = MOMENTUM * speed + step
        points = ball.project(points.detach() - length * ball.eps * ball.direction(speed), centre)


def lengths() -> Iterator[float]:
    """Lengths of steps, as shares of the ball's radius, without end."""
    cycle = _FIRST_CYCLE
    while True:
        for turn in range(cycle):
            yield _SHORTEST + (_LONGEST - _SHORTEST) * (1 + math.cos(math.pi * turn / cycle)) / 2
        cycle *= 2


def _gradient(value: Tensor, points: Tensor, *, last: bool = False) -> Tensor:
    """Unit gradients of each image, or 0 where there is none."""
    if not value.requires_grad:
        return torch.zeros_like(points)
    (found,) = torch.autograd.grad(value, points, retain_graph=not last, allow_unused=True)
    if found is None:
        return torch.zeros_like(points)
    if not bool(torch.isfinite(found).all()):
        raise EngineError("a gradient of the firewall is not finite; use --method search or decision")
    unit: Tensor = found / found.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
    return unit


def _beside(gradient: Tensor, other: Tensor) -> Tensor:
    """The part of a gradient that is orthogonal to another one of length 1 or 0."""
    along = (gradient * other).flatten(1).sum(1)[:, None, None, None]
    return gradient - along * other
