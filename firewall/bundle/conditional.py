"""Limits by the size of a region: `conditional.json`, a file of the bundle, and what it may hold.

How they decide: firewall.decision.conditional. `firewall lab conditional` makes them.
"""

from __future__ import annotations

import bisect

from pydantic import Field, model_validator

from firewall.bundle.loading import Bundle
from firewall.bundle.manifest import CONDITIONAL_FILE, Seen
from firewall.bundle.strict import Strict
from firewall.errors import BundleError

__all__ = ["CONDITIONAL_FILE", "ConditionalSpec", "CoverageSpec", "GroupSpec", "LimitSpec", "conditional_spec"]

_REMEDY = "firewall lab conditional"


class LimitSpec(Strict):
    """What is usual for one detector in one group.

    Attributes:
        median: Median score of benign images; what lies below counts nothing.
        unit: How far above it the 95 % quantile lies.
        limit: A score above this withholds by itself.
    """

    median: float
    unit: float = Field(gt=0)
    limit: float

    @model_validator(mode="after")
    def _in_order(self) -> LimitSpec:
        if self.limit < self.median:
            raise ValueError(f"the limit {self.limit:g} lies below the median {self.median:g} of benign images")
        return self


class GroupSpec(Strict):
    """One group of sizes.

    Attributes:
        threshold: S above it withholds.
        limits: Of each detector, in the order of the specification.
    """

    threshold: float = Field(ge=0)
    limits: tuple[LimitSpec, ...] = Field(min_length=1)


class CoverageSpec(Strict):
    """What was measured in one group, on tracks that took no part in setting its limits. A report, it decides nothing.

    Attributes:
        part: Which images: "clean", or the name of a shift or another change.
        group: Number of the group, 0-based; None: all sizes.
        tracks: Tracks that the images are of.
        images: How many images.
        withheld: Share of them that is withheld; each track counts once.
        low: 95 % interval of that share, over tracks.
        high: Its upper end.
        fitted: Whether images under this change, of other tracks, took part in setting the limits.
    """

    part: str = "clean"
    group: int | None = Field(None, ge=0)
    tracks: int = Field(ge=1)
    images: int = Field(ge=1)
    withheld: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    fitted: bool = True


class ConditionalSpec(Strict):
    """The content of `conditional.json`.

    Attributes:
        detectors: The detectors in the order in which they are asked.
        edges: Shorter sides in pixels, ascending. Group 0 is below the first, group k from edges[k - 1] on, and the
            last has no end.
        power: Exponent of the sum.
        summed: The detectors whose scores add up to S; empty: all.
        groups: One more than edges.
        rate: Share of benign images that may be withheld, for which all this was set.
        level: Share that each limit alone withholds.
        smallest: The least shorter side, in pixels, that the limits hold for.
        longest: The longer side may be so many times the shorter one.
        coverage: What was measured.
        fitted: The images that took part.
    """

    detectors: tuple[str, ...] = Field(min_length=1, max_length=64)
    edges: tuple[int, ...] = Field((), max_length=64)
    power: float = Field(ge=1, le=64)
    summed: tuple[str, ...] = ()
    groups: tuple[GroupSpec, ...]
    rate: float = Field(gt=0, lt=1)
    level: float = Field(ge=0, lt=1)
    smallest: int = Field(1, ge=1)
    longest: float | None = Field(None, ge=1)
    coverage: tuple[CoverageSpec, ...] = Field((), max_length=4096)
    fitted: tuple[Seen, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> ConditionalSpec:
        if len(set(self.detectors)) < len(self.detectors):
            raise ValueError(f"each detector is named once, got {', '.join(self.detectors)}")
        if unknown := sorted(set(self.summed) - set(self.detectors)):
            raise ValueError(f"{', '.join(unknown)} can't be summed: known are {', '.join(self.detectors)}")
        if self.edges and (list(self.edges) != sorted(set(self.edges)) or self.edges[0] < 1):
            raise ValueError(f"edges must ascend from 1 pixel on, got {', '.join(map(str, self.edges))}")
        if len(self.groups) != len(self.edges) + 1:
            raise ValueError(f"{len(self.edges)} edges make {len(self.edges) + 1} groups, got {len(self.groups)}")
        for number, group in enumerate(self.groups):
            if len(group.limits) != len(self.detectors):
                raise ValueError(
                    f"group {number} has limits for {len(group.limits)} detectors; {len(self.detectors)} are named"
                )
        return self

    def counts(self) -> tuple[bool, ...]:
        """Whether each detector's score adds to S, in their order."""
        return tuple(not self.summed or name in self.summed for name in self.detectors)

    def group(self, side: int) -> int:
        """The number of the group that a region with this shorter side, in pixels, belongs to."""
        return bisect.bisect_right(self.edges, side)


def conditional_spec(bundle: Bundle) -> ConditionalSpec | None:
    """The conditional limits in a bundle.

    Args:
        bundle: A verified bundle.

    Returns:
        Its limits, or None if it has no such file.

    Raises:
        BundleError: If the file is not valid, or names other detectors than the bundle has.
    """
    spec = bundle.part(CONDITIONAL_FILE, ConditionalSpec, _REMEDY)
    there = [detector.name for detector in bundle.manifest.detectors]
    if spec is not None and sorted(spec.detectors) != sorted(there):
        raise BundleError(
            f"{CONDITIONAL_FILE} of bundle {bundle.path} has limits for {', '.join(spec.detectors)}, but the bundle's "
            f"detectors are {', '.join(there)}; make it again with '{_REMEDY}'"
        )
    return spec
