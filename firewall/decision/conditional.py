"""Limits by the size of a region: a sign of 20 pixels and one of 200 are each compared with benign ones of their size.

Small crops are blurred, and scores on them are higher; one limit for all sizes would have to leave room for that
everywhere. So regions are grouped by their shorter side in their own pixels. In group g, with detectors d:

    S = (sum over d of max(0, (score_d - median_gd) / unit_gd) ** power) ** (1 / power)

where the sum is over the detectors that the bundle names for it: those whose scores most attacks raise. The scores of
others are high on benign images too, so they only have limits of their own.

A label is withheld if S > threshold_g, or if any score_d > limit_gd. No term falls when a score rises, so no detector
can cancel another one's alarm. A label goes out only after every detector has given a finite score, since an attacker
could aim at what is left out. It can be withheld earlier.

The numbers are in the bundle, `conditional.json`; `firewall lab conditional` sets them on benign images alone. An
attacker can choose the size, so the rule has to hold in each group: every group has a finite limit for every detector,
and its own threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall import native
from firewall.bundle.conditional import ConditionalSpec, GroupSpec
from firewall.errors import FirewallError

__all__ = ["Conditional", "GroupRule", "groups_of", "sums_in", "suspicions_of"]

Floats = npt.NDArray[np.float64]

#: No score counts as farther away than so many units: neither a power nor a sum overflows.
_FARTHEST = 1e100
#: Less than any score that counts: what 0 can be divided by.
_TINY = np.finfo(np.float64).tiny


class GroupRule:
    """The rule for the regions of one group; a firewall.decision.policy.Rule."""

    def __init__(self, spec: ConditionalSpec, group: GroupSpec) -> None:
        """Make the rule of a group.

        Args:
            spec: The specification that the group is part of.
            group: The group.
        """
        self.limits = dict(zip(spec.detectors, group.limits, strict=True))
        self.threshold, self.power = group.threshold, spec.power
        #: Detector, whether it adds to S, median, unit and limit.
        self._terms = [
            (name, adds, limit.median, limit.unit, limit.limit)
            for (name, limit), adds in zip(self.limits.items(), spec.counts(), strict=True)
        ]

    def shares(self, scores: Mapping[str, float]) -> dict[str, float]:
        """How far each score lies above the median, in units of its group.

        Args:
            scores: Detector -> score, of the detectors that were asked.

        Returns:
            Detector -> share, 0 or more, of those that add to S; NaN for a score that is not finite.
        """
        found = {}
        for name, adds, median, unit, _ in self._terms:
            if adds and name in scores:
                score = scores[name]
                found[name] = min(max(0.0, (score - median) / unit), _FARTHEST) if math.isfinite(score) else math.nan
        return found

    def excess(self, scores: Mapping[str, float]) -> float:
        """How far the scores so far lie above what is released; see Rule.

        Args:
            scores: Detector -> score, of the detectors that were asked.

        Returns:
            The larger of S - threshold and the largest (score - limit) / unit.
        """
        beyond, alone, known = [], -math.inf, False
        for name, adds, median, unit, limit in self._terms:
            score = scores.get(name, math.nan)
            if math.isnan(score):
                continue
            known = True
            alone = max(alone, (score - limit) / unit)
            if adds:
                beyond.append(min(max(0.0, (score - median) / unit), _FARTHEST))
        if not known:
            return -math.inf
        return max(_root(beyond, self.power) - self.threshold, min(alone, _FARTHEST))

    def complete(self, scores: Mapping[str, float]) -> bool:
        """Whether every detector has given a finite score: nothing is released before."""
        return all(math.isfinite(scores.get(name, math.nan)) for name in self.limits)

    def exceeded(self, scores: Mapping[str, float]) -> tuple[str, ...]:
        """The detectors whose own limit withholds."""
        return tuple(name for name, limit in self.limits.items() if scores.get(name, math.nan) > limit.limit)


class Conditional:
    """The rules of a bundle for regions of all sizes."""

    def __init__(self, spec: ConditionalSpec) -> None:
        """Take a bundle's specification.

        Args:
            spec: Groups and limits.
        """
        self.spec = spec
        self.rules = [GroupRule(spec, group) for group in spec.groups]
        #: The same rules for many regions in one call (firewall/limits.h); None where the runtime isn't built.
        self.native = _native_of(spec)

    def rule(self, side: int) -> GroupRule:
        """The rule for a region.

        Args:
            side: Its shorter side in its own pixels.

        Returns:
            That of its group.
        """
        return self.rules[self.spec.group(side)]


def _native_of(spec: ConditionalSpec) -> Any | None:
    try:
        module = native.load()
    except FirewallError:
        return None
    limits = [[(each.median, each.unit, each.limit) for each in group.limits] for group in spec.groups]
    thresholds = np.array([group.threshold for group in spec.groups], np.float64)
    return module.Limits(np.array(limits, np.float64), thresholds, np.array(spec.counts(), np.uint8), spec.power)


def groups_of(spec: ConditionalSpec, sides: npt.NDArray[np.integer]) -> npt.NDArray[np.intp]:
    """`ConditionalSpec.group` of many regions at once, (N,)."""
    return np.searchsorted(np.array(spec.edges), sides, side="right")


def sums_in(group: GroupSpec, scores: Floats, power: float, counts: Sequence[bool]) -> Floats:
    """S of many images of one group, float64 (N,).

    Args:
        group: The group; its threshold and limits are not asked.
        scores: Finite, float64 (N, D).
        power: Exponent of the sum.
        counts: Whether each detector's score adds to it, (D,); of one at least.
    """
    beyond = np.maximum(_units(group, scores, "median"), 0.0)[:, list(counts)]
    largest = beyond.max(axis=1, keepdims=True)
    scaled = beyond / np.maximum(largest, _TINY)  # no power overflows
    total: Floats = largest[:, 0] * (scaled**power).sum(axis=1) ** (1 / power)
    return total


def suspicions_of(spec: ConditionalSpec, scores: Floats, sides: npt.NDArray[np.integer]) -> Floats:
    """`GroupRule.excess` of many images at once, with all detectors asked.

    Args:
        spec: The specification.
        scores: Of its detectors in its order, float64 (N, D).
        sides: Shorter side of each region in its own pixels, (N,).

    Returns:
        float64 (N,); above 0 withholds. Infinite where a score is not finite, since no label goes out there.
    """
    found = np.full(len(scores), np.inf)
    usable = np.isfinite(scores).all(axis=1)
    groups = groups_of(spec, sides)
    for number, group in enumerate(spec.groups):
        where = usable & (groups == number)
        alone = _units(group, scores[where], "limit").max(axis=1)
        found[where] = np.maximum(sums_in(group, scores[where], spec.power, spec.counts()) - group.threshold, alone)
    return found


def _units(group: GroupSpec, scores: Floats, above: str) -> Floats:
    """How far scores lie above the detectors' `above`, median or limit, in their units."""
    start, unit = (np.array([getattr(limit, name) for limit in group.limits]) for name in (above, "unit"))
    with np.errstate(over="ignore"):
        found: Floats = np.minimum((scores - start) / unit, _FARTHEST)
    return found


def _root(beyond: Sequence[float], power: float) -> float:
    """The root of the sum of the powers, without overflow."""
    if not any(beyond):
        return 0.0
    largest = max(beyond)
    return float(largest * math.fsum((value / largest) ** power for value in beyond) ** (1 / power))
