"""Which wrong labels are nearest to being released: by all that the firewall demands, not by the classifier alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.picture import Picture
from firewall.lab.attacks.adaptive.wants import missed_of
from firewall.lab.attacks.criteria import margin

__all__ = ["Aims", "aims_of"]

#: Steps away from the label on the classifier alone: another place to look at the wrong labels from.
_AWAY = 12
#: Of more wrong labels than these, those that the classifier finds most likely are ranked.
_RANKED = 48
#: Labels that go through the networks together.
_BLOCK = 24


@dataclass(frozen=True, eq=False)
class Aims:
    """Wrong labels in the order in which they are worth aiming at, each with a point to start from.

    Args:
        labels: Int64 (K,); a label stands there once for each point it was looked at from.
        points: Float (K, 3, h, w), the image itself, or a point that leads away from the right label.
        missed: (K,), how much of the firewall's demands is missed there; see `wants.missed_of`.
    """

    labels: Tensor
    points: Tensor
    missed: Tensor


def aims_of(picture: Picture, centre: Tensor, label: int, ball: Ball, *, most: int, generator: torch.Generator) -> Aims:
    """Rank the wrong labels at the image itself and at a point away from its label.

    Args:
        picture: The bundle.
        centre: Float (1, 3, h, w) in 0..1, the original.
        label: Its class.
        ball: What is allowed.
        most: Of `Picture.see`.
        generator: Samples the copies.

    Returns:
        The labels; none where the classifier knows one class.
    """
    labels, points, missed = [], [], []
    for point in (centre, _away(picture, centre, label, ball)):
        with torch.no_grad():
            logits = picture.classify(point)[0]
            logits[label] = -torch.inf
            wrong = logits.topk(min(_RANKED, len(logits) - 1)).indices
            for block in wrong.split(_BLOCK):
                seen = picture.see(point.expand(len(block), -1, -1, -1), block, most=most, generator=generator)
                labels.append(block)
                missed.append(missed_of(seen, block))
                points.append(point.expand(len(block), -1, -1, -1))
    order = torch.cat(missed).argsort()
    return Aims(torch.cat(labels)[order], torch.cat(points)[order], torch.cat(missed)[order])


def _away(picture: Picture, centre: Tensor, label: int, ball: Ball) -> Tensor:
    right, point = torch.tensor([label]), centre
    for turn in range(_AWAY):
        point = point.detach().requires_grad_()
        (slope,) = torch.autograd.grad(margin(picture.classify(point), right).sum(), point)
        point = ball.project(point.detach() + ball.eps * ball.direction(slope) / (1 + turn / 3), centre)
    return point.detach()
