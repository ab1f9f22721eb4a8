"""FAB-T: the nearest example in L-infinity, by steps along the decision boundary that are drawn back to the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.bisection import along
from firewall.lab.attacks.criteria import TOP_1, TopOut, wrong_classes
from firewall.lab.attacks.rounding import as_stored

__all__ = ["FabT", "onto_boundary"]


@dataclass(frozen=True)
class FabT(WhiteBox):
    """Targeted fast adaptive boundary attack. White box, L-infinity, least change.

    Croce, Hein: "Minimally distorted adversarial examples with a fast adaptive boundary attack", 2020; the targeted
    form is that of AutoAttack (Croce, Hein: "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", 2020). For each of the most likely wrong classes in turn the boundary between it and the
    label is taken as a hyperplane. The current point and the image are both projected onto the part of it that lies in
    the box 0..1, and the next point is a mixture of the two, weighted by how far each had to go (equation 9). After a
    success the point goes back towards the image (equation 10).

    Args:
        eps: Radius of the L-infinity ball, in units of the full range 0..1, outside of which an example does not count;
            None: any distance counts, and the nearest example is the result.
        steps: Steps for each target class, 1 or more.
        targets: Target classes that are tried, 1 or more.
        most_bias: Largest weight of the image's own projection, 0..1 (the paper's alpha_max).
        overshoot: Factor by which both projections go beyond the boundary, 1 or more (eta).
        way_back: Share of the way from the image that is kept after a success, between 0 and 1 (beta).
        rounded: The network sees the point as it will be stored (uint8); False is the paper's form.
        criterion: What counts as success; a wrong first label.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    eps: float | None = 0.03
    steps: int = 100
    targets: int = 9
    most_bias: float = 0.1
    overshoot: float = 1.05
    way_back: float = 0.9
    rounded: bool = True
    criterion: TopOut = TOP_1
    name: str = "fab-t"

    def __post_init__(self) -> None:
        if (self.eps is not None and not 0 < self.eps <= 1) or min(self.steps, self.targets) < 1:
            raise UsageError(
                f"fab-t: eps {self.eps}, steps {self.steps}, targets {self.targets}; allowed are 0 < eps <= 1 or none, "
                "steps and targets >= 1"
            )
        if not (0 <= self.most_bias <= 1 and self.overshoot >= 1 and 0 < self.way_back < 1):
            raise UsageError(
                f"fab-t: most_bias {self.most_bias}, overshoot {self.overshoot}, way_back {self.way_back}; allowed are "
                "0 <= most_bias <= 1, overshoot >= 1, 0 < way_back < 1"
            )
        if self.criterion.k != 1:
            raise UsageError(
                f"fab-t: the criterion's k is {self.criterion.k}; allowed are criteria with k 1, a wrong first label"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random; `seed` is not used. Where no example counts the image comes back."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            with torch.no_grad():
                values = logits(self._seen(images))
                rivals = wrong_classes(values, labels, self.targets)
            best, nearest = images.clone(), torch.full_like(labels, torch.inf, dtype=images.dtype)
            nearest[self.criterion.met(values, labels)] = 0.0
            for rank in range(rivals.shape[1]):
                # Within a ball one example is enough; without one the next class may be nearer.
                open_ = (nearest > (0.0 if self.eps is None else self.eps)).nonzero()[:, 0]
                if len(open_) == 0:
                    break
                found, distance = self._walk(logits, images[open_], labels[open_], rivals[open_, rank])
                better = distance < nearest[open_]
                best[open_[better]], nearest[open_[better]] = found[better], distance[better]
            if self.eps is not None:
                best = torch.where(along(nearest <= self.eps, best), best, images)
        return best

    def _walk(self, logits: Logits, images: Tensor, labels: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest examples on the way to one target class, and their distances, infinite where there is none."""
        point = images
        best, nearest = images.clone(), torch.full_like(labels, torch.inf, dtype=images.dtype)
        for turn in range(self.steps + 1):
            place = point.detach().requires_grad_()
            values = logits(self._seen(place))
            distance = (point - images).abs().flatten(1).amax(1)
            met = self.criterion.met(values.detach(), labels)
            better = met & (distance < nearest)
            best[better], nearest[better] = point[better], distance[better]
            if turn == self.steps:
                break
            gap = (values.gather(1, target[:, None]) - values.gather(1, labels[:, None]))[:, 0]
            (slope,) = torch.autograd.grad(gap.sum(), place)
            # After a success the walk goes on from a point nearer to the image, with the plane that was found here.
            offset = gap.detach() - (slope * point).flatten(1).sum(1)
            start = torch.where(along(met, point), images + self.way_back * (point - images), point)
            own, bias = (onto_boundary(each, slope, offset) - each for each in (start, images))
            lengths = [change.abs().flatten(1).amax(1) for change in (own, bias)]
            share = (lengths[0] / (lengths[0] + lengths[1]).clamp_min(1e-12)).clamp_max(self.most_bias)
            share = along(share, point)
            mixed = (1 - share) * (start + self.overshoot * own) + share * (images + self.overshoot * bias)
            point = mixed.clamp(0, 1)
        return best, nearest

    def _seen(self, point: Tensor) -> Tensor:
        return as_stored(point) if self.rounded else point


def onto_boundary(points: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    """The nearest points, in L-infinity, at which slope . z + offset = 0 within the box 0..1.

    All values move by the same amount, each in the direction that helps, except those that the box stops. How far
    follows from the values in the order of the room that they have.

    Args:
        points: Float (N, C, H, W) in 0..1.
        slope: Of the same shape: a hyperplane for each point.
        offset: (N,): the hyperplanes' constants.

    Returns:
        Float (N, C, H, W) in 0..1; where the box holds no such point, the corner that comes nearest to the plane.
    """
    flat, weights = points.flatten(1), slope.flatten(1)
    missing = -((flat * weights).sum(1) + offset)
    way = weights.sign() * missing.sign()[:, None]
    room = torch.where(way > 0, 1 - flat, flat)
    order = room.argsort(dim=1)
    sorted_room, gain = room.gather(1, order), weights.abs().gather(1, order)
    stopped = (gain * sorted_room).cumsum(1)  # gained by the values that the box stops, up to each
    moving = gain.flip(1).cumsum(1).flip(1) - gain  # gained per unit of length by those with more room
    reached = stopped + sorted_room * moving  # if all move by as much room as this value has
    wanted = missing.abs()[:, None]
    place = torch.searchsorted(reached, wanted).clamp_max(reached.shape[1] - 1)
    before = (stopped - gain * sorted_room).gather(1, place)
    length = (wanted - before).clamp_min(0) / (moving + gain).gather(1, place).clamp_min(1e-12)
    return (flat + way * torch.minimum(length, room)).clamp(0, 1).reshape(points.shape)
