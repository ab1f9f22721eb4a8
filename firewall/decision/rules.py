"""Which rule of a bundle decides about a region: limits by its size, a fusion, or each detector's own threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.bundle.conditional import conditional_spec
from firewall.decision.conditional import Conditional
from firewall.decision.fusion import Fusion
from firewall.decision.policy import Policy
from firewall.detectors import Detector
from firewall.frame import Region

__all__ = ["Rules"]


class Rules:
    """The rules of one bundle. Where it has conditional limits they are the rule, and its fusion is not asked."""

    def __init__(self, bundle: Bundle) -> None:
        """Take a bundle's rules.

        Args:
            bundle: A verified bundle.

        Raises:
            BundleError: If its conditional limits are not valid, or are those of other detectors.
        """
        spec, limits = bundle.manifest, conditional_spec(bundle)
        self.conditional = None if limits is None else Conditional(limits)
        self.fusion = Fusion(spec.fusion) if spec.fusion is not None and self.conditional is None else None
        self._plain = Policy(self.fusion or {detector.name: detector.threshold for detector in spec.detectors})
        self._sized = [] if self.conditional is None else [Policy(rule) for rule in self.conditional.rules]
        #: The shorter side of the classifier's input: that of images which are kept at this size only.
        self.usual = min(spec.classifier.input.width, spec.classifier.input.height)

    @property
    def fused(self) -> bool:
        """Whether one suspicion is made of all scores, instead of a threshold for each."""
        return self.conditional is not None or self.fusion is not None

    def in_order(self, detectors: Sequence[Detector]) -> list[Detector]:
        """The bundle's detectors in the order in which they are asked."""
        if self.conditional is not None:
            order: Sequence[str] = self.conditional.spec.detectors
        elif self.fusion is not None:
            order = self.fusion.order
        else:
            # Those that need only the original image come first, so most regions that aren't signs cost one
            # classification.
            return sorted(detectors, key=lambda detector: len(detector.operations))
        return sorted(detectors, key=lambda detector: order.index(detector.name))

    def policy(self, side: int | None = None) -> Policy:
        """What decides about a region.

        Args:
            side: Its shorter side in its own pixels; None: `usual`.

        Returns:
            The policy with the rule for this size.
        """
        if self.conditional is None:
            return self._plain
        return self._sized[self.conditional.spec.group(self.usual if side is None else side)]

    def limits(self, detectors: tuple[str, ...]) -> Any | None:
        """The native rule for the regions of a frame (firewall/limits.h).

        Args:
            detectors: The columns of the table of scores.

        Returns:
            What judges such a table; None where `policy` has to be asked region by region.
        """
        if self.conditional is None or detectors != self.conditional.spec.detectors:
            return None
        return self.conditional.native

    def groups(self, sides: Sequence[int]) -> npt.NDArray[np.int32]:
        """The group of each region in the native rule, (N,).

        Args:
            sides: Their shorter sides in their own pixels.
        """
        spec = None if self.conditional is None else self.conditional.spec
        return np.array([0 if spec is None else spec.group(side) for side in sides], np.int32)

    def unfit(self, region: Region) -> str:
        """Why no limits hold for a region of this shape.

        A sign of a few pixels or a stretched one reads as another one, for the jurors as for the classifier, and no
        benign image of that kind set a limit.

        Args:
            region: (x, y, width, height) in pixels.

        Returns:
            What is wrong with it and what is allowed; "" if nothing is.
        """
        if self.conditional is None:
            return ""
        spec, (short, long) = self.conditional.spec, sorted(region[2:])
        if short < spec.smallest:
            return f"its shorter side is {short} pixels; {spec.smallest} or more are judged"
        if spec.longest is not None and long > spec.longest * short:
            return f"it is {long / short:.1f} times as long as wide; up to {spec.longest:g} times is judged"
        return ""

    def shares(self, scores: Mapping[str, float], side: int) -> dict[str, float]:
        """What each score counts, for the operator.

        Args:
            scores: Detector -> score, of the detectors that were asked.
            side: The region's shorter side in its own pixels.

        Returns:
            Detector -> share, 0 or more; empty if each detector has a threshold of its own.
        """
        if self.conditional is not None:
            return self.conditional.rule(side).shares(scores)
        return {} if self.fusion is None else self.fusion.shares(scores)
