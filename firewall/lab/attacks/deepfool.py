"""DeepFool: a step to the nearest linearised decision boundary, repeated until the class changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.bisection import along
from firewall.lab.attacks.criteria import TOP_1, TopOut, wrong_classes
from firewall.lab.attacks.rounding import as_stored

__all__ = ["DeepFool", "missing", "ranked", "unmet"]


@dataclass(frozen=True)
class DeepFool(WhiteBox):
    """DeepFool. White box, L2, least change, untargeted.

    Moosavi-Dezfooli, Fawzi, Frossard: "DeepFool: a simple and accurate method to fool deep neural networks", 2016,
    algorithm 2.

    Args:
        steps: Largest number of steps, 1 or more.
        candidates: How many of the most likely wrong classes have their boundaries examined, at least the criterion's
            k.
        overshoot: By how much the sum of the steps is stretched to get across the boundary, 0 or more; 0.02 in the
            paper.
        rounded: The network sees the image as it will be stored (uint8), so that the steps go on until rounding no
            longer undoes them; False is the paper's form, of which many results do not survive rounding.
        criterion: What counts as success. With k above 1, each step goes to the m-th nearest of the boundaries left to
            cross, where m more classes have to get ahead of the label.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    steps: int = 50
    candidates: int = 9
    overshoot: float = 0.02
    rounded: bool = True
    criterion: TopOut = TOP_1
    name: str = "deepfool"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.candidates < self.criterion.k or not self.overshoot >= 0:
            raise UsageError(
                f"deepfool: steps {self.steps}, candidates {self.candidates}, overshoot {self.overshoot}; "
                f"allowed are steps >= 1, candidates >= {self.criterion.k} (the criterion's k), overshoot >= 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Nothing is random. An image that meets the criterion already stays as it is."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            moved, result = torch.zeros_like(images), images.clone()
            with torch.no_grad():
                rivals = wrong_classes(logits(images), labels, self.candidates)
            seen = (lambda point: logits(as_stored(point))) if self.rounded else logits
            for open_, kept, values, point in unmet(seen, result, labels, self.criterion, self.steps):
                short = missing(self.criterion.k, values, labels[open_])
                moved[open_] += _step(values, point, labels[open_], rivals[open_], kept, short)
                result[open_] = (images[open_] + (1 + self.overshoot) * moved[open_]).clamp(0, 1)
        return as_stored(result) if self.rounded else result


def unmet(
    logits: Logits, result: Tensor, labels: Tensor, criterion: TopOut, steps: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Step by step the images that don't meet the criterion yet; the caller moves them in `result` between steps.

    Args:
        logits: The network.
        result: Float (N, C, H, W), the points so far.
        labels: Int64 (N,).
        criterion: What counts as success.
        steps: Largest number of steps.

    Yields:
        The M places of the images in `result`, (M,); their places in the points, (M,); their logits, (M, K); and the
        points that these have a gradient by, all images that were open before.
    """
    open_ = torch.arange(len(result), device=result.device)
    for turn in range(steps + 1):
        point = result[open_].requires_grad_()
        values = logits(point)
        kept = (~criterion.met(values, labels[open_])).nonzero()[:, 0]
        open_ = open_[kept]
        if len(open_) == 0 or turn == steps:
            return
        yield open_, kept, values[kept], point


def missing(k: int, values: Tensor, labels: Tensor) -> Tensor:
    """How many more classes have to get ahead of the label until it is out of the first k.

    Args:
        k: The criterion's.
        values: Logits (N, K).
        labels: Int64 (N,).

    Returns:
        Int64 (N,), 1 or more.
    """
    ahead = (values > values.gather(1, labels[:, None])).sum(1)
    return (k - ahead).clamp_min(1)


def ranked(lengths: Tensor, steps: Tensor, rank: Tensor) -> Tensor:
    """Of each image's steps the rank-th shortest.

    Args:
        lengths: (N, R), infinite where there is no step.
        steps: (N, R, ...).
        rank: Int64 (N,), counted from 1; where fewer steps are finite the longest of them is taken.

    Returns:
        (N, ...).
    """
    finite = lengths.isfinite().sum(1).clamp_min(1)
    place = lengths.argsort(dim=1).gather(1, (torch.minimum(rank, finite) - 1)[:, None])[:, 0]
    return steps[torch.arange(len(steps), device=steps.device), place]


def _step(values: Tensor, point: Tensor, labels: Tensor, rivals: Tensor, kept: Tensor, short: Tensor) -> Tensor:
    """The step, (len(kept), C, H, W), to the `short`-th nearest of the boundaries left to cross, linearised."""
    gaps = values.gather(1, rivals) - values.gather(1, labels[:, None])
    lengths = torch.full_like(gaps.detach(), torch.inf)
    steps = torch.zeros(*gaps.shape, *point.shape[1:]).to(point)
    for rival in range(rivals.shape[1]):
        left = gaps[:, rival] <= 0
        if not bool(left.any()):
            continue
        (gradient,) = torch.autograd.grad(gaps[:, rival].sum(), point, retain_graph=True)
        slope = gradient[kept]
        norm = slope.flatten(1).norm(dim=1).clamp_min(1e-12)
        distance = gaps[:, rival].detach().abs() / norm
        lengths[:, rival] = torch.where(left, distance, torch.inf)
        # A little further than the boundary: at a tie of two logits the step would else have no length.
        steps[:, rival] = along((distance + 1e-4) / norm, slope) * slope
    return ranked(lengths, steps, short)
