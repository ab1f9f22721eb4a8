"""The bundle's decision rule as differentiable constraints.

A *demand* is a number that has to be 0 or less for a release. The edge caps what one detector can add to the sum, and
above the cap there is no gradient. Here there is no cap, so demands are exact up to where it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from firewall.bundle import Bundle, FusionSpec, FusionTerm
from firewall.bundle.conditional import ConditionalSpec, conditional_spec

__all__ = ["Demands", "rule_of"]

#: Detector -> scores (N,), higher = more suspicious; to demands (N, M). Detectors that are missing demand nothing.
Demands = Callable[[Mapping[str, Tensor]], Tensor]

#: A demand that is none.
_NONE = -1e6
#: What keeps the root of a sum of 0 differentiable.
_LEAST = 1e-12


def rule_of(bundle: Bundle, side: int) -> Demands:
    """What the bundle demands of an image.

    Args:
        bundle: The bundle.
        side: The shorter side of the region in its own pixels; a rule may depend on it.

    Returns:
        The demands as a function of the scores.

    Raises:
        BundleError: A part of the bundle is not valid.
    """
    conditional = conditional_spec(bundle)
    if conditional is not None:
        return lambda scores: _conditional(conditional, side, scores)
    fusion = bundle.manifest.fusion
    if fusion is not None:
        return lambda scores: _fused(fusion, scores)
    limits = {spec.name: spec.threshold for spec in bundle.manifest.detectors}
    return lambda scores: torch.stack([values - limits[name] for name, values in scores.items()], 1)


def _conditional(spec: ConditionalSpec, side: int, scores: Mapping[str, Tensor]) -> Tensor:
    """The sum's demand and each limit's, in the group of the region's size; all in the detectors' benign units."""
    group = spec.groups[spec.group(side)]
    like = next(iter(scores.values()))
    beyond, alone = [torch.zeros_like(like)], []
    for name, limit, counts in zip(spec.detectors, group.limits, spec.counts(), strict=True):
        if name in scores:
            if counts:  # the others have a limit of their own and nothing else
                beyond.append(((scores[name] - limit.median) / limit.unit).clamp_min(0) ** spec.power)
            alone.append((scores[name] - limit.limit) / limit.unit)
    total = (torch.stack(beyond).sum(0) + _LEAST) ** (1 / spec.power) - group.threshold
    return torch.stack([total, *alone], 1)


def _fused(spec: FusionSpec, scores: Mapping[str, Tensor]) -> Tensor:
    """The sum's demand and each limit's, on whichever of the ways to a release demands least of an image.

    The label goes out when all detectors have been asked, or early: behind each detector with `release_below`.
    """
    like = next(iter(scores.values()))
    total, limits, ways = torch.zeros_like(like), [torch.full_like(like, _NONE)] * len(spec.terms), []
    for place, term in enumerate(spec.terms):
        if term.detector in scores:
            score = scores[term.detector]
            total = total + _share(term, score, spec.power)
            if term.withhold_above is not None:
                limits = [*limits[:place], (score - term.withhold_above) / term.unit, *limits[place + 1 :]]
        last = place == len(spec.terms) - 1
        bound = spec.threshold if last else term.release_below
        if bound is not None:
            ways.append(torch.stack([total - min(bound, spec.threshold), *limits], 1))
    every = torch.stack(ways, 1)  # (N, ways, 1 + terms)
    easiest = every.clamp_min(0).sum(2).argmin(1)
    return every[torch.arange(len(like)), easiest]


def _share(term: FusionTerm, score: Tensor, power: float) -> Tensor:
    beyond = (score - term.centre) / term.unit
    return term.weight * beyond.clamp_min(0) ** power
