"""An attack on the classifier alone, which comes first: it gives near wrong classes and points to start from.

It costs a fraction of an attack on the whole firewall, and where it fails no wrong label can be released.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.descent import MOMENTUM, lengths
from firewall.lab.attacks.adaptive.picture import Picture
from firewall.lab.attacks.criteria import margin

__all__ = ["Fooled", "fool"]

#: Steps away from the label, which show the near classes, and then towards each of them.
_AWAY, _TOWARDS = 12, 70
#: Steps that are enough where one class is reached clearly.
_ENOUGH = 30
#: At least so many classes are tried, however many the caller wants.
_TRIED = 6
#: How far beyond the boundary is far enough, in logits.
_LEAD = 1.0


@dataclass(frozen=True, eq=False)
class Fooled:
    """Result of the attack on the classifier.

    Args:
        aims: Int64 (K,), wrong classes to target, the nearest first.
        points: Float (K, 3, h, w), the point in the ball where each of them is most likely.
        any: Whether the classifier gives a wrong class at any point that was tried.
    """

    aims: Tensor
    points: Tensor
    any: bool


def fool(picture: Picture, centre: Tensor, label: int, ball: Ball, count: int) -> Fooled:
    """Attack the classifier alone.

    Args:
        picture: The bundle.
        centre: Float (1, 3, h, w) in 0..1, the original.
        label: Its class.
        ball: What is allowed.
        count: How many classes are wanted.

    Returns:
        The classes; fewer where the classifier has fewer.
    """
    right, point, fooled = torch.tensor([label]), centre, False
    for turn in range(_AWAY + 1):
        point = point.detach().requires_grad_()
        logits = picture.classify(point)
        gap = margin(logits, right)
        fooled |= bool(gap > 0)
        if turn < _AWAY:
            (slope,) = torch.autograd.grad(gap.sum(), point)
            point = ball.project(point.detach() + ball.eps * ball.direction(slope) / (1 + turn / 3), centre)
    others = logits.detach()[0].clone()
    others[label] = -torch.inf
    aims = others.topk(min(max(count, _TRIED), len(others) - 1)).indices
    best, behind, won = _towards(picture, centre, aims, ball, point.detach())
    order = behind.argsort()[:count]
    return Fooled(aims[order], best[order], fooled or won)


def _towards(picture: Picture, centre: Tensor, aims: Tensor, ball: Ball, start: Tensor) -> tuple[Tensor, Tensor, bool]:
    """The best points for each class, by how much it is behind the others there, and whether any was not behind."""
    points = start.expand(len(aims), -1, -1, -1)
    best, least, speed = points.clone(), torch.full((len(aims),), torch.inf), torch.zeros_like(points)
    for turn, length in zip(range(_TOWARDS), lengths(), strict=False):
        points = points.detach().requires_grad_()
        behind = margin(picture.classify(points), aims)
        (slope,) = torch.autograd.grad(behind.clamp_min(-_LEAD).sum(), points)
        behind, points = behind.detach(), points.detach()
        nearer = behind < least
        best[nearer], least = points[nearer], torch.minimum(least, behind)
        clear = least < -_LEAD
        if bool(clear.all()) or (turn >= _ENOUGH and bool(clear.any())):
            break
        speed = MOMENTUM * speed + slope / slope.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        points = ball.project(points - length * ball.eps * ball.direction(speed), centre)
    return best, least, bool((least < 0).any())
