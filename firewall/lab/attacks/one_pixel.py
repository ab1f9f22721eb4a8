"""The one-pixel attack: one pixel, or a few, of any colour, found by differential evolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import ScoreBased, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.rounding import as_stored

__all__ = ["OnePixel"]


@dataclass(frozen=True)
class OnePixel(ScoreBased):
    """The one-pixel attack. Black box by scores, L0.

    Su, Vargas, Sakurai: "One pixel attack for fooling deep neural networks", 2019. A candidate is a place and a colour
    for each of `pixels` pixels. In each generation every candidate is challenged by a + factor (b - c) of three others
    and is replaced unless the criterion's gap becomes smaller; there is no crossover, as in the paper. An image is done
    when it meets the criterion as stored; the others come back with the best candidate. The paper has 400 candidates
    and up to 100 generations; the defaults are lower, for the time that takes.

    Args:
        pixels: How many pixels may change, 1 or more.
        candidates: How many candidates each image has, 4 or more.
        generations: How many generations, 1 or more.
        factor: Weight of the difference, 0..2, above 0.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    pixels: int = 1
    candidates: int = 64
    generations: int = 20
    factor: float = 0.5
    criterion: Criterion = TOP_1
    name: str = "one-pixel"

    chunk: ClassVar[int] = 8

    def __post_init__(self) -> None:
        if self.candidates < 4 or min(self.pixels, self.generations) < 1 or not 0 < self.factor <= 2:
            raise UsageError(
                f"one-pixel: pixels {self.pixels}, candidates {self.candidates}, generations {self.generations}, "
                f"factor {self.factor}; allowed are pixels and generations >= 1, candidates >= 4, 0 < factor <= 2"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. What is drawn depends on the seed and on the image's place in the batch."""
        generator = torch.Generator().manual_seed(seed)
        with under_attack(model, images, labels, gradients=False) as logits:
            images = images.detach()
            count, channels = images.shape[:2]
            # For each pixel row and column as shares of the height and width, then the colour: all in 0..1. Colours
            # begin around the middle, as far apart as the paper's.
            shape = (count, self.candidates, self.pixels, 2 + channels)
            drawn = torch.rand(shape, generator=generator)
            drawn[..., 2:] = 0.5 + 0.5 * torch.randn(drawn[..., 2:].shape, generator=generator)
            pool = drawn.clamp(0, 1).to(images)

            def gaps(chosen: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
                painted = as_stored(_painted(images[places], chosen)).flatten(0, 1)
                names = labels[places].repeat_interleave(self.candidates)
                values = logits(painted)
                both = self.criterion.gap(values, names), self.criterion.met(values, names)
                return both[0].reshape(-1, self.candidates), both[1].reshape(-1, self.candidates)

            every = torch.arange(count, device=images.device)
            score, met = gaps(pool, every) if count else (pool[..., 0, 0], pool[..., 0, 0] > 0)
            for _ in range(self.generations):
                # Drawn for all images, open or not: nobody's luck depends on how the others fare.
                order = torch.rand(count, self.candidates, self.candidates, generator=generator).argsort(2)[..., :3]
                open_ = every[~met.any(1)]
                if len(open_) == 0:
                    break
                a, b, c = (_taken(pool, order.to(pool.device)[..., i])[open_] for i in range(3))
                tried = (a + self.factor * (b - c)).clamp(0, 1)
                new, success = gaps(tried, open_)
                better = new >= score[open_]
                pool[open_] = torch.where(better[..., None, None], tried, pool[open_])
                score[open_] = torch.where(better, new, score[open_])
                met[open_] = torch.where(better, success, met[open_])
            best = torch.where(met, torch.inf, score).argmax(1) if count else every
            return as_stored(_painted(images, _taken(pool, best[:, None]))[:, 0])


def _taken(pool: Tensor, order: Tensor) -> Tensor:
    """The candidates (N, M, pixels, P) in another order, (N, K) -> (N, K, pixels, P)."""
    return pool.gather(1, order[..., None, None].expand(-1, -1, *pool.shape[2:]))


def _painted(images: Tensor, chosen: Tensor) -> Tensor:
    """Each image with each of its candidates' pixels: (N, C, H, W), (N, M, pixels, 2 + C) -> (N, M, C, H, W)."""
    (channels, height, width), count = images.shape[1:], chosen.shape[1]
    row = (chosen[..., 0] * height).long().clamp_max(height - 1)
    column = (chosen[..., 1] * width).long().clamp_max(width - 1)
    result = images[:, None].repeat(1, count, 1, 1, 1).flatten(3)
    for pixel in range(chosen.shape[2]):  # one after the other: two may fall on the same place
        here = (row * width + column)[:, :, pixel, None, None].expand(-1, -1, channels, 1)
        result.scatter_(3, here, chosen[:, :, pixel, 2:, None])
    return result.reshape(*result.shape[:3], height, width)
