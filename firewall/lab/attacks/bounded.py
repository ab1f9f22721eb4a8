"""The most confident wrong image within a bound, anywhere or in a subspace that channels let through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import WhiteBox, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.rounding import as_stored
from firewall.lab.attacks.subspaces import SUBSPACES, change_in, roughness

__all__ = ["Bounded"]

#: Images in parts of one size each -> logits (N, classes) of all.
_Answer = Callable[[Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Bounded(WhiteBox):
    """PGD that keeps the best image that it meets. White box, L-infinity, bounded.

    Madry et al. 2018 (see Pgd) on the criterion's gap: for a wrong label, by how much another class leads. The images
    are rounded to uint8 in every step, and the one where the gap is largest is the result: the attack doesn't stop at
    the first wrong label, but makes it as certain as it can. In a subspace the steps are taken on the numbers that the
    change is made of: low frequencies as Guo et al. 2018 and Sharma et al. 2019 have them.

    Args:
        eps: Radius of the ball, in units of the full range 0..1, above 0; held by the stored image too, where it is a
            multiple of 1/255.
        steps: How many steps, 1 or more.
        step: Length of a step; None: 2.5 eps / steps.
        restarts: How many random starts, 1 or more.
        subspace: Where the change lies: `pixels` (anywhere), `blurred` or `low-frequency`.
        sigma: Of the blur, in pixels, above 0.
        frequencies: Low frequencies along each side, 1 or more.
        total_variation: Logits that are paid for a change whose neighbours differ by eps, 0 or more. Success comes
            first: nothing is paid until then, and from there on the gap less this is made as large as it can be.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    eps: float = 8 / 255
    steps: int = 40
    step: float | None = None
    restarts: int = 1
    subspace: str = "pixels"
    sigma: float = 1.0
    frequencies: int = 12
    total_variation: float = 0.0
    criterion: Criterion = TOP_1
    name: str = "bounded"

    def __post_init__(self) -> None:
        if (
            not 0 < self.eps <= 1
            or min(self.steps, self.restarts, self.frequencies) < 1
            or (self.step is not None and not self.step > 0)
            or not 0 < self.sigma <= 20
            or not 0 <= self.total_variation < float("inf")
        ):
            raise UsageError(
                f"bounded: eps {self.eps}, steps {self.steps}, step {self.step}, restarts {self.restarts}, sigma "
                f"{self.sigma}, frequencies {self.frequencies}, total_variation {self.total_variation}; allowed are "
                "0 < eps <= 1, steps, restarts and frequencies >= 1, step > 0, 0 < sigma <= 20, total_variation >= 0"
            )
        if self.subspace not in SUBSPACES:
            raise UsageError(f"bounded: subspace {self.subspace!r}; allowed are {', '.join(SUBSPACES)}")

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The random starts depend on the seed and on the image's place in the batch."""
        with under_attack(model, images, labels) as logits:
            return self._best(lambda parts: logits(parts[0]), [images.detach()], labels, [seed])[0]

    def run_parts(
        self,
        model: nn.Module,
        parts: Sequence[Tensor],
        labels: Tensor,
        seeds: Sequence[int],
        seen: Callable[[Tensor], Tensor],
    ) -> list[Tensor]:
        """Attack images of several sizes together: the network, which costs most, is asked about all at once.

        Args:
            model: As in `run`.
            parts: Float (n, C, h, w) in 0..1 each, of any h and w; one or more.
            labels: Int64, of all the parts' images in order.
            seeds: One for each part: as if it were attacked alone.
            seen: From a part to what the network is given of it, (n, C, H, W), with a gradient.

        Returns:
            Of each part what `run` gives.

        Raises:
            DataError: The images or labels don't fit each other or the network.
            EngineError: The network gives no usable logits or gradients.
        """
        with torch.no_grad():
            first = torch.cat([seen(part) for part in parts])
        with under_attack(model, first, labels) as logits:
            return self._best(lambda now: logits(torch.cat([seen(part) for part in now])), parts, labels, seeds)

    def _best(self, answer: _Answer, parts: Sequence[Tensor], labels: Tensor, seeds: Sequence[int]) -> list[Tensor]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        best, highest = [part.clone() for part in parts], _lowest_of(parts)
        for _ in range(self.restarts if len(labels) else 0):
            starts = [self._start(part, generator) for part, generator in zip(parts, generators, strict=True)]
            found, worth = self._climb(answer, parts, labels, starts)
            _keep(best, highest, found, worth)
        return best

    def _start(self, part: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.rand(part.shape, generator=generator, dtype=part.dtype).to(part.device)
        return self.eps * (2 * drawn - 1)

    def _climb(
        self, answer: _Answer, parts: Sequence[Tensor], labels: Tensor, free: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The best images on the way from a start, as stored, and what they are worth."""
        step = 2.5 * self.eps / self.steps if self.step is None else self.step
        counts = [len(part) for part in parts]
        best, highest = [part.clone() for part in parts], _lowest_of(parts)
        for turn in range(self.steps + 1):
            for numbers in free:
                numbers.requires_grad_()
            changes = [
                change_in(self.subspace, numbers, self.eps, sigma=self.sigma, frequencies=self.frequencies)
                for numbers in free
            ]
            moved = [part + change for part, change in zip(parts, changes, strict=True)]
            stored = [as_stored(point + (point.clamp(0, 1) - point).detach()) for point in moved]
            values = answer(stored)
            gap, met = self.criterion.gap(values, labels), self.criterion.met(values.detach(), labels)
            aim = gap
            if self.total_variation:
                rough = torch.cat([roughness(change, self.eps) for change in changes])
                aim = gap - met * self.total_variation * rough
            # A success beats whatever is none, even one that costs more than it leads by.
            worth = (aim - 1e4 * ~met).detach().split(counts)
            _keep(best, highest, [point.detach() for point in stored], worth)
            if turn < self.steps:
                slopes = torch.autograd.grad(aim.sum(), free)
                free = [
                    (numbers.detach() + step * slope.sign()).clamp(-self.eps, self.eps)
                    for numbers, slope in zip(free, slopes, strict=True)
                ]
        return best, highest


def _lowest_of(parts: Sequence[Tensor]) -> list[Tensor]:
    return [torch.full((len(part),), -torch.inf).to(part) for part in parts]


def _keep(best: list[Tensor], highest: list[Tensor], found: Sequence[Tensor], worth: Sequence[Tensor]) -> None:
    """Put what is worth more in the place of what was best."""
    for place, value in enumerate(worth):
        better = value > highest[place]
        best[place][better], highest[place][better] = found[place][better], value[better]
