"""Attacks by flow within a threat (certificate.py) that is certified against: what a certificate has to withstand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from firewall.errors import DataError, UsageError
from firewall.lab.attacks.criteria import margin
from firewall.lab.attacks.flow import deform, total_variation
from firewall.lab.attacks.stadv import StAdv
from firewall.lab.certification.flow_budget import Floats, flow_variation
from firewall.lab.certification.image_certificate import Threat
from firewall.lab.certification.two_layer import TwoLayer

__all__ = ["Attempt", "Reached", "Search", "attempts", "moved", "strongest", "thesis_attack", "within"]

Labels = npt.NDArray[np.int64]
#: The cap in float32, in which flows are searched, and in float64, in which they are judged and stored.
_INSIDE, _KEPT = 1 - 1e-5, 1 - 1e-9


@dataclass(frozen=True, eq=False)
class Attempt:
    """The best flow found for an image.

    Args:
        flow: Float64 (2, H, W), right and down, in pixels, the shift included.
        shift: (2,), right and down, in pixels.
        noise: (H, W), added after the flow.
        gap: logit(target) - the largest other logit, in float64; the other way round for an attack away from a label.
        total_variation: L_flow of the flow less its shift, which is what the outside moves by; for the thesis's attack
            equation 6 over the image's own pairs alone.
    """

    flow: Floats
    shift: Floats
    noise: Floats
    gap: float
    total_variation: float

    @property
    def success(self) -> bool:
        """Whether the target comes first, or the attacked label no longer does."""
        return self.gap > 0


@dataclass(frozen=True)
class Reached:
    """The criterion (see attacks/criteria.py) that a given target, in place of the label, comes first."""

    def met(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Whether the target has the largest logit."""
        return self.gap(logits, labels) > 0

    def gap(self, logits: Tensor, labels: Tensor) -> Tensor:
        """By how much it exceeds the others."""
        return -margin(logits, labels)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the gap, to be minimised."""
        return margin(logits, labels)


@dataclass(frozen=True)
class Search:
    """Projected gradient ascent (Adam) on the gap.

    It goes over the shift, over flows as sums of fields of 1x1, 2x2, ... vectors, scaled onto the cap whenever they
    exceed it, and over the noise if the threat has any. The first start is the unmoved image, the second the best of a
    grid of shifts, the others are random.

    Args:
        steps: From each start, 1 or more.
        restarts: How many starts, 1 or more.
        rate: Adam's learning rate, above 0.
        seed: What the random starts depend on.

    Raises:
        UsageError: A parameter is out of range.
    """

    steps: int = 80
    restarts: int = 4
    rate: float = 0.4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.restarts < 1 or not self.rate > 0:
            raise UsageError(
                f"steps {self.steps}, restarts {self.restarts}, rate {self.rate}; allowed are >= 1, >= 1, > 0"
            )


def attempts(
    network: TwoLayer, images: Floats, targets: Labels, threat: Threat, search: Search, *, away: bool = False
) -> list[Attempt]:
    """The best attempt for each image.

    Args:
        network: The network.
        images: (N, H, W) in 0..1.
        targets: Int64 (N,).
        threat: What an attack may do.
        search: How it searches.
        away: Attack away from the targets, to any other class.

    Returns:
        One attempt for each image, successful or not.

    Raises:
        DataError: Images or targets don't fit.
    """
    pixels, logits, labels = _ready(network, images, targets)
    flows, shifts, noises = strongest(logits, pixels, labels, threat, search, away=away)
    return [
        _judged(network, image, int(target), flow, shift, threat.budget, noise, away=away)
        for image, target, flow, shift, noise in zip(images, targets, flows, shifts, noises[:, 0], strict=True)
    ]


def strongest(
    logits: Callable[[Tensor], Tensor],
    pixels: Tensor,
    labels: Tensor,
    threat: Threat,
    search: Search,
    *,
    away: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """What a search finds, of any network, in float32: its total variation may lie above the budget by rounding.

    Args:
        logits: Float32 (N, C, H, W) in 0..1 -> (N, classes), with gradients.
        pixels: Float32 (N, C, H, W) in 0..1.
        labels: Int64 (N,), the targets.
        threat: What an attack may do.
        search: How it searches.
        away: Attack away from the targets, to any other class.

    Returns:
        Flows (N, 2, H, W), right and down, in pixels, the shifts included; shifts (N, 2); noise (N, C, H, W).
    """
    count, size = len(pixels), max(pixels.shape[2:])
    sides = [side for side in (1, 2, 4, 7, 14) if side < size] + [size]
    best, sign = torch.full((count,), -torch.inf), 1.0 if away else -1.0
    flows, shifts, noises = torch.zeros(count, 2, *pixels.shape[2:]), torch.zeros(count, 2), torch.zeros_like(pixels)
    generator = torch.Generator().manual_seed(search.seed)
    for turn in range(search.restarts):
        shift, levels = _start(
            turn, pixels, lambda batch: sign * margin(logits(batch), labels), threat, sides, generator
        )
        groups = [{"params": [level], "lr": search.rate / side} for level, side in zip(levels, sides, strict=True)]
        noise = torch.zeros_like(pixels, requires_grad=threat.noise > 0)
        adam = torch.optim.Adam([*groups, {"params": [shift], "lr": 0.15 * max(threat.shift, 1e-9)}])
        for _ in range(search.steps):
            enlarged = [interpolate(level, pixels.shape[2:], mode="bilinear", align_corners=True) for level in levels]
            field = torch.stack(enlarged).sum(0)
            share = (threat.budget * _INSIDE / total_variation(pad(field, (1, 1, 1, 1))).detach()).clamp_max(1)
            kept = shift.clamp(-threat.shift, threat.shift)
            shown = share[:, None, None, None] * field + kept[..., None, None]
            gap = sign * margin(logits(deform(pixels, shown) + noise), labels)
            better = gap.detach() > best
            best = torch.where(better, gap.detach(), best)
            for found, now in ((flows, shown), (shifts, kept), (noises, noise)):
                found[better] = now.detach()[better]
            variables = [*levels, shift, *([noise] if threat.noise else [])]
            for variable, gradient in zip(variables, torch.autograd.grad(-gap.sum(), variables), strict=True):
                variable.grad = gradient
            adam.step()
            with torch.no_grad():
                shift.clamp_(-threat.shift, threat.shift)
                if noise.grad is not None:  # small noise is at its worst at a corner
                    noise.sub_(noise.grad.sign(), alpha=threat.noise).clamp_(-threat.noise, threat.noise)
    if threat.noise:  # the best flow may have been seen before its noise was found
        noise = torch.zeros_like(pixels, requires_grad=True)
        gap = sign * margin(logits(deform(pixels, flows) + noise), labels)
        noise = threat.noise * torch.autograd.grad(gap.sum(), noise)[0].sign()
        better = sign * margin(logits(deform(pixels, flows) + noise), labels) > best
        noises[better] = noise[better]
    return flows, shifts, noises


def thesis_attack(
    network: TwoLayer, images: Floats, targets: Labels, budget: float, *, steps: int = 40
) -> list[Attempt]:
    """The thesis's attack: stAdv with a binary search for tau in 0..1000 and equation 14.

    L_flow <= budget is by equation 6 over the image's own pairs: an even shift of the image costs nothing and has no
    bound, so that no threat that can be certified contains this attack.

    Args:
        network: The network.
        images: (N, H, W) in 0..1.
        targets: Int64 (N,).
        budget: Cap on L_flow, in pixels.
        steps: Of Adam for each tau.

    Returns:
        One attempt for each image, successful or not.
    """
    pixels, logits, labels = _ready(network, images, targets)
    flows = StAdv(cap=budget, criterion=Reached(), steps=steps).fields(logits, pixels, labels)
    free = total_variation(flows)
    found = []
    for image, target, flow, variation in zip(images, targets, flows, free, strict=True):
        judged = _judged(network, image, int(target), flow, torch.zeros(2), np.inf, torch.zeros(image.shape))
        found.append(replace(judged, total_variation=float(variation)))
    return found


def within(flow: Floats, budget: float) -> Floats:
    """A flow without its shift, scaled onto the budget where it exceeds it.

    Args:
        flow: (2, H, W), in pixels.
        budget: Cap on L_flow, in pixels.

    Returns:
        (2, H, W).
    """
    return np.asarray(flow * min(1.0, _KEPT * budget / max(flow_variation(flow), 1e-300)))


def moved(image: Floats, flow: Floats) -> Floats:
    """An image under a flow, in float64.

    Args:
        image: (H, W).
        flow: (2, H, W), right and down, in pixels.

    Returns:
        (H, W).
    """
    pixels = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float64))[None, None]
    return np.asarray(deform(pixels, torch.from_numpy(flow)[None])[0, 0].numpy())


def _judged(
    network: TwoLayer,
    image: Floats,
    target: int,
    found: Tensor,
    shift: Tensor,
    budget: float,
    noise: Tensor,
    *,
    away: bool = False,
) -> Attempt:
    """What a flow that was found in float32 does in float64, scaled onto the budget where rounding has left it."""
    moving = shift.double().numpy()[:, None, None]
    flow = moving + within(found.double().numpy() - moving, budget)
    added = noise.double().numpy() * (1 - 1e-6)  # float32 may lie above the cap
    logits = network.logits((moved(image, flow) + added)[None])[0]
    gap = float(logits[target] - np.delete(logits, target).max()) * (-1 if away else 1)
    return Attempt(flow, moving[:, 0, 0], added, gap, flow_variation(flow - moving))


def _ready(network: TwoLayer, images: Floats, targets: Labels) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor]:
    """The images as float32 (N, 1, H, W), the network as a function of such, the targets as a tensor."""
    if images.ndim != 3 or images.shape[1:] != (network.height, network.width) or targets.shape != images.shape[:1]:
        raise DataError(f"images {images.shape} and targets {targets.shape} don't fit {network.name}")
    if len(images) and not (images.min() >= 0 and images.max() <= 1):
        raise DataError(f"images lie in {images.min():.3g}..{images.max():.3g}; scale them to 0..1")
    if len(targets) and not (targets.min() >= 0 and targets.max() < len(network.second)):
        raise DataError(f"targets must lie in 0..{len(network.second) - 1}")
    first, first_bias, second, second_bias = (
        torch.from_numpy(getattr(network, name)).float() for name in ("first", "first_bias", "second", "second_bias")
    )

    def logits(batch: Tensor) -> Tensor:
        return torch.relu(batch.flatten(1) @ first.T + first_bias) @ second.T + second_bias

    return torch.from_numpy(images).float()[:, None], logits, torch.from_numpy(targets.astype(np.int64))


def _start(
    turn: int,
    pixels: Tensor,
    gaps: Callable[[Tensor], Tensor],
    threat: Threat,
    sides: list[int],
    generator: torch.Generator,
) -> tuple[Tensor, list[Tensor]]:
    """A shift (N, 2) and the levels of a flow, each (N, 2, side, side), to start from."""
    count = len(pixels)
    shift = torch.zeros(count, 2)
    levels = [torch.zeros(count, 2, side, side) for side in sides]
    if turn == 1 and threat.shift > 0:
        highest = torch.full((count,), -torch.inf)
        steps = torch.linspace(-threat.shift, threat.shift, 2 * int(np.ceil(2 * threat.shift)) + 1)
        for right in steps:
            for down in steps:
                here = torch.stack([right, down]).expand(count, 2)
                gap = gaps(deform(pixels, here[..., None, None].expand(-1, -1, *pixels.shape[2:])))
                shift[gap > highest] = here[gap > highest]
                highest = torch.maximum(highest, gap)
    elif turn > 1 or (turn == 1 and threat.shift == 0):
        shift = (torch.rand(count, 2, generator=generator) * 2 - 1) * threat.shift
        levels = [torch.randn(level.shape, generator=generator) * 0.1 for level in levels]
    return shift.requires_grad_(), [level.requires_grad_() for level in levels]
