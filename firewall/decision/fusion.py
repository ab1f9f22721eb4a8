"""Many scores -> one suspicion: how far each score lies above those of benign images, weighted and added.

    suspicion = sum over detectors of weight * clip((score - centre) / unit, 0, cap) ** power - threshold

No term falls when a score rises, so no detector can cancel another one's alarm. Weights and thresholds are in the
bundle; `firewall lab fuse` sets them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from firewall.bundle import FusionSpec, FusionTerm

__all__ = ["Fusion", "excess_of", "limits_of", "shares_of"]

Floats = npt.NDArray[np.float64]
_Beyond = TypeVar("_Beyond", float, Floats)


class Fusion:
    """The fusion of a bundle. Detectors that it doesn't name don't count."""

    def __init__(self, spec: FusionSpec) -> None:
        """Take a bundle's fusion.

        Args:
            spec: Terms, cap, power and threshold.
        """
        self.spec = spec
        #: The detectors in the order in which they are asked.
        self.order = tuple(term.detector for term in spec.terms)

    def shares(self, scores: Mapping[str, float]) -> dict[str, float]:
        """What each score adds to the suspicion.

        Args:
            scores: Detector -> score, of the detectors that were asked.

        Returns:
            Detector -> share, 0 or more; NaN for a score that is not finite.
        """
        shares = {}
        for term in self.spec.terms:
            if term.detector in scores:
                score = scores[term.detector]
                beyond = min(max(_beyond(term, score), 0.0), self.spec.cap)
                shares[term.detector] = _share(term, beyond, self.spec.power) if math.isfinite(score) else math.nan
        return shares

    def excess(self, scores: Mapping[str, float]) -> float:
        """The suspicion so far: above 0 withholds, and no further score can change that.

        Args:
            scores: Detector -> score, of the detectors that were asked.

        Returns:
            The larger of two numbers: the sum of the shares less the threshold, and by how much a score exceeds the
            detector's own limit `withhold_above`.
        """
        shares = self.shares(scores)
        known = {name: share for name, share in shares.items() if not math.isnan(share)}
        return max(
            math.fsum(known.values()) - self.spec.threshold,
            *(
                scores[term.detector] - term.withhold_above
                for term in self.spec.terms
                if term.withhold_above is not None and term.detector in known
            ),
            -math.inf,
        )

    def exceeded(self, scores: Mapping[str, float]) -> tuple[str, ...]:
        """The detectors whose score lies above their own limit `withhold_above`."""
        return tuple(
            term.detector
            for term in self.spec.terms
            if term.withhold_above is not None and scores.get(term.detector, math.nan) > term.withhold_above
        )

    def complete(self, scores: Mapping[str, float]) -> bool:
        """Whether enough is known to release.

        Args:
            scores: Detector -> score, of the detectors that were asked.

        Returns:
            True if every detector has given a finite score, or if the sum lies below `release_below` of a detector
            that was asked after all those before it.
        """
        known, shares = 0.0, self.shares(scores)
        for term in self.spec.terms:
            share = shares.get(term.detector, math.nan)
            if math.isnan(share):
                return False
            known += share
            if term.release_below is not None and known < term.release_below:
                return True
        return True


def _beyond(term: FusionTerm, score: _Beyond) -> _Beyond:
    return (score - term.centre) / term.unit


def _share(term: FusionTerm, beyond: _Beyond, power: float) -> _Beyond:
    share: _Beyond = term.weight * beyond**power
    return share


def shares_of(spec: FusionSpec, scores: Floats) -> Floats:
    """`Fusion.shares` of many images at once.

    Args:
        spec: The fusion.
        scores: Finite scores of all its detectors in the order of its terms, float64 (..., D).

    Returns:
        What each score adds to the suspicion, 0 or more, float64 (..., D).
    """
    columns = (
        _share(term, np.clip(_beyond(term, scores[..., place]), 0.0, spec.cap), spec.power)
        for place, term in enumerate(spec.terms)
    )
    return np.stack(list(columns), axis=-1)


def limits_of(spec: FusionSpec) -> Floats:
    """The limits above which a detector's score withholds by itself, float64 (D,); infinite where it has none."""
    return np.array([np.inf if term.withhold_above is None else term.withhold_above for term in spec.terms])


def excess_of(spec: FusionSpec, scores: Floats) -> Floats:
    """`Fusion.excess` of many images at once, with all detectors asked.

    Args:
        spec: The fusion.
        scores: As of `shares_of`, float64 (..., D).

    Returns:
        float64 (...,); above 0 withholds.
    """
    total: Floats = np.maximum(
        shares_of(spec, scores).sum(axis=-1) - spec.threshold, (scores - limits_of(spec)).max(axis=-1)
    )
    return total
