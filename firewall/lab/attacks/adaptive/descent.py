"""Gradient methods: five ways to combine the losses of the classifier and of the detectors.

hinge        all that is missed, added up; a step is halved where it has led nowhere for a while, and the descent goes
             back to its best point (as APGD does, Croce and Hein 2020)
sum          both losses; weight moves to the one that is not yet satisfied
orthogonal   the loss that is not satisfied, in directions orthogonal to the other's gradient (Bryniarski et al. 2022)
selective    the loss that is not satisfied (Bryniarski et al. 2022)
worst        the single demand that is missed most: of the classifier, a detector or a juror

In the last four, step lengths fall within a cycle, and each cycle is twice as long as the one before. In none do they
depend on the number of steps, so a longer attack begins with the same steps as a shorter one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from firewall.errors import EngineError
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.picture import Picture, Seen
from firewall.lab.attacks.adaptive.wants import missed_of
from firewall.lab.attacks.criteria import margin

__all__ = ["WAYS", "Descent", "Turn"]

WAYS = ("hinge", "sum", "orthogonal", "selective", "worst")

#: By how much classifier and detectors are to be satisfied, in logits and in the demands' own units.
_LEAD, _SLACK = 0.5, 0.1
_FIRST_CYCLE, _LONGEST, _SHORTEST = 10, 0.5, 0.02
_MOMENTUM = 0.6
#: Of `hinge`: momentum; the first step as a share of the radius, and the step it goes on with once it would be shorter
#: than the shortest; after so many turns without a better point it is halved.
_HEAVY, _FIRST, _AGAIN, _LEAST, _PATIENCE = 0.75, 0.5, 0.33, 0.05, 10


@dataclass(frozen=True, eq=False)
class Turn:
    """State of all candidates before a step.

    Args:
        points: Float (N, 3, h, w), within the ball.
        fooled: Bool (N,), whether the classifier gives the target class.
        alarm: (N,), the largest demand; above 0 withholds. An estimate where only some copies are classified.
    """

    points: Tensor
    fooled: Tensor
    alarm: Tensor


class Descent:
    """Several candidates, each a target class and a point, that go down together.

    Args:
        picture: The bundle.
        way: One of WAYS.
        ball: What is allowed.
        centre: Float (1, 3, h, w) in 0..1, the original.
        aims: Int64 (N,), target classes.
        starts: Float (N, 3, h, w), within the ball.
        most: Of `Picture.see`.
        generator: Samples the copies.

    Attributes:
        aims: Int64 (N,), of the candidates that are left.
        least: (N,), what each one missed at its best point so far.
        best: Float (N, 3, h, w), these points.
    """

    def __init__(
        self,
        picture: Picture,
        way: str,
        ball: Ball,
        centre: Tensor,
        aims: Tensor,
        starts: Tensor,
        *,
        most: int,
        generator: torch.Generator,
    ) -> None:
        self.picture, self.way, self.ball, self.centre = picture, way, ball, centre
        self.most, self.generator, self._lengths = most, generator, _lengths()
        self.aims, self._points, self.best = aims, starts, starts.clone()
        self._speed, count = torch.zeros_like(starts), len(starts)
        self.least = torch.full((count,), torch.inf)
        self._share, self._length = torch.full((count, 1, 1, 1), 0.5), torch.full((count,), _FIRST)
        self._idle = torch.zeros(count)

    def keep(self, places: Tensor) -> None:
        """Go on with some candidates only; places: int64, of the candidates that are left."""
        self.aims, self.least, self.best = self.aims[places], self.least[places], self.best[places]
        self._points, self._speed = self._points[places], self._speed[places]
        self._share, self._length, self._idle = self._share[places], self._length[places], self._idle[places]

    def turn(self) -> Turn:
        """Look at all candidates, and take a step with each.

        Returns:
            The state before the step.

        Raises:
            EngineError: A gradient is not finite.
        """
        points = self._points.detach().requires_grad_()
        seen = self.picture.see(points, self.aims, most=self.most, generator=self.generator)
        missed, alarm = missed_of(seen, self.aims), seen.demands.amax(1)
        state = Turn(points.detach(), margin(seen.logits.detach(), self.aims) < 0, alarm.detach())
        better = missed.detach() < self.least
        self.least = torch.where(better, missed.detach(), self.least)
        self.best = torch.where(better[:, None, None, None], state.points, self.best)
        if self.way == "hinge":
            self._halved(_gradient(missed.sum(), points, last=True), better)
        else:
            self._combined(seen, points)
        return state

    def _halved(self, gradient: Tensor, better: Tensor) -> None:
        """A step of `hinge`."""
        self._idle = torch.where(better, 0.0, self._idle + 1)
        stuck = self._idle >= _PATIENCE
        shorter = torch.where(self._length / 2 < _LEAST, _AGAIN, self._length / 2)
        self._length = torch.where(stuck, shorter, self._length)
        self._idle = torch.where(stuck, 0.0, self._idle)
        self._speed = _HEAVY * self._speed + gradient
        step = self._length[:, None, None, None] * self.ball.eps * self.ball.direction(self._speed)
        moved = self.ball.project(self._points.detach() - step, self.centre)
        back = stuck[:, None, None, None]
        self._points, self._speed = torch.where(back, self.best, moved), torch.where(back, 0.0, self._speed)

    def _combined(self, seen: Seen, points: Tensor) -> None:
        """A step of the other ways."""
        behind, alarm = margin(seen.logits, self.aims), seen.demands.amax(1)
        fooled, quiet = behind < 0, alarm <= 0
        missed = alarm if self.way == "worst" else (seen.demands + _SLACK).clamp_min(0).sum(1)
        first = _gradient(behind.clamp_min(-_LEAD).sum(), points)
        second = _gradient(missed.sum(), points, last=True)
        if self.way == "sum":
            towards = ((~fooled).float() - (fooled & ~quiet).float())[:, None, None, None]
            self._share = (self._share + 0.05 * towards).clamp(0.1, 0.9)
            step = self._share * first + (1 - self._share) * second
        else:
            on_classifier = (behind > alarm) if self.way == "worst" else ~(behind < -_LEAD * quiet.float())
            if self.way == "orthogonal":
                first, second = _beside(first, second), _beside(second, first)
            step = torch.where(on_classifier[:, None, None, None], first, second)
        self._speed = _MOMENTUM * self._speed + step
        length = next(self._lengths) * self.ball.eps
        self._points = self.ball.project(points.detach() - length * self.ball.direction(self._speed), self.centre)


def _lengths() -> Iterator[float]:
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
