"""HopSkipJump: along the decision boundary towards the image, by labels alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import DecisionBased, under_attack
from firewall.lab.attacks.bisection import along
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.rounding import as_stored

__all__ = ["HopSkipJump"]

#: Places of images (M,) and a point for each (M, C, H, W) -> whether it meets the criterion as stored (M,).
Decision = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class HopSkipJump(DecisionBased):
    """HopSkipJump. Black box by labels, L2, least change.

    Chen, Jordan, Wainwright: "HopSkipJumpAttack: a query-efficient decision-based attack", 2020, algorithm 2. It starts
    from noise that meets the criterion and goes by bisection to the boundary. Then, in each round, it estimates the
    boundary's normal from the decisions about random points around, takes a step along it, shortened until the
    criterion is met, and returns to the boundary by bisection towards the image. An image for which no noise is found
    comes back unchanged.

    Args:
        rounds: How many rounds, 1 or more.
        samples: Random points in the first round, 1 or more; the number grows with the root of the round's number.
        tries: How many noise images are tried as a start, 1 or more.
        bisections: Halvings of the way to the boundary, 1 or more.
        batch: How many points go through the network at a time, 1 or more.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    rounds: int = 8
    samples: int = 60
    tries: int = 50
    bisections: int = 8
    batch: int = 256
    criterion: Criterion = TOP_1
    name: str = "hopskipjump"

    chunk: ClassVar[int] = 16

    def __post_init__(self) -> None:
        if min(self.rounds, self.samples, self.tries, self.bisections, self.batch) < 1:
            raise UsageError(
                f"hopskipjump: rounds {self.rounds}, samples {self.samples}, tries {self.tries}, bisections "
                f"{self.bisections}, batch {self.batch}; allowed are numbers >= 1"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. What is drawn depends on the seed and on the images of the batch."""
        generator = torch.Generator().manual_seed(seed)
        with under_attack(model, images, labels, gradients=False) as logits:
            images = images.detach()

            def decide(places: Tensor, points: Tensor) -> Tensor:
                answers = [
                    self.criterion.met(logits(as_stored(part)), labels[names])
                    for part, names in zip(points.split(self.batch), places.split(self.batch), strict=True)
                ]
                return torch.cat(answers) if answers else torch.zeros_like(places, dtype=torch.bool)

            every = torch.arange(len(images), device=images.device)
            met = decide(every, images)
            start, found = self._noise(decide, images, generator)
            open_ = every[found & ~met]
            result = images.clone()
            if len(open_):
                result[open_] = self._approach(decide, images, start, open_, generator)
        return as_stored(result)

    def _noise(self, decide: Decision, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Uniform noise that meets the criterion, for each image, and whether any did."""
        found = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        result, every = images.clone(), torch.arange(len(images), device=images.device)
        for turn in range(self.tries):
            drawn = torch.rand(images.shape, generator=generator, dtype=images.dtype).to(images.device)
            # Pure noise may have but one class. Later tries keep more and more of the image.
            share = (turn // 2) / self.tries
            drawn = share * images + (1 - share) * drawn
            open_ = every[~found]
            if len(open_) == 0:
                break
            good = open_[decide(open_, drawn[open_])]
            result[good], found[good] = drawn[good], True
        return result, found

    def _approach(
        self, decide: Decision, images: Tensor, start: Tensor, open_: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The nearest boundary points met on the way from `start`, for the images at the places `open_`."""
        centre = images[open_]
        point = self._to_boundary(decide, open_, centre, start[open_])
        best, nearest = point, (point - centre).flatten(1).norm(dim=1)
        for turn in range(1, self.rounds + 1):
            distance = (point - centre).flatten(1).norm(dim=1)
            normal = self._normal(decide, open_, point, distance, round(self.samples * turn**0.5), generator)
            step = distance / turn**0.5
            waiting = torch.ones_like(step, dtype=torch.bool)
            moved = point
            for _ in range(10):
                tried = (point + along(step, point) * normal).clamp(0, 1)
                good = waiting & decide(open_, tried)
                moved = torch.where(along(good, moved), tried, moved)
                waiting &= ~good
                if not bool(waiting.any()):
                    break
                step = torch.where(waiting, step / 2, step)
            point = self._to_boundary(decide, open_, centre, moved)
            distance = (point - centre).flatten(1).norm(dim=1)
            best = torch.where(along(distance < nearest, best), point, best)
            nearest = torch.minimum(nearest, distance)
        return best

    def _to_boundary(self, decide: Decision, open_: Tensor, centre: Tensor, point: Tensor) -> Tensor:
        """The point nearest to `centre` on the line to `point`, which meets the criterion, that still meets it."""
        low, high = torch.zeros(len(open_)).to(centre), torch.ones(len(open_)).to(centre)
        for _ in range(self.bisections):
            middle = (low + high) / 2
            met = decide(open_, centre + along(middle, centre) * (point - centre))
            low, high = torch.where(met, low, middle), torch.where(met, middle, high)
        return centre + along(high, centre) * (point - centre)

    def _normal(
        self, decide: Decision, open_: Tensor, point: Tensor, distance: Tensor, count: int, generator: torch.Generator
    ) -> Tensor:
        """An estimate of the boundary's unit normal, towards success."""
        shape = (len(point), count, *point.shape[1:])
        directions = torch.randn(shape, generator=generator, dtype=point.dtype).to(point.device)
        directions = directions / directions.flatten(2).norm(dim=2)[..., None, None, None]
        # Far enough for rounding to uint8 not to swallow it: about a level a value.
        radius = torch.maximum(distance / 10, torch.full_like(distance, point[0].numel() ** 0.5 / 255))
        tried = (point[:, None] + radius.reshape(-1, 1, 1, 1, 1) * directions).clamp(0, 1)
        answers = decide(open_.repeat_interleave(count), tried.flatten(0, 1)).reshape(len(point), count).to(point)
        weights = 2 * answers - 1
        # The mean is taken off, as in the paper, unless all decisions are the same.
        mean = weights.mean(1, keepdim=True)
        weights = torch.where(mean.abs() < 1, weights - mean, weights)
        normal = torch.einsum("nk,nkchw->nchw", weights, directions)
        return normal / along(normal.flatten(1).norm(dim=1).clamp_min(1e-12), normal)
