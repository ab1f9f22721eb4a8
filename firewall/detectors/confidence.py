"""Confidence: whether the classifier is as sure of this image as it is of normal ones.

Too little confidence marks images of nothing the classifier knows (Hendrycks and Gimpel 2017) and examples that barely
cross a decision boundary; too much marks examples that were driven far past it. Costs nothing beyond the one
classification, so it is asked first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.evidence import Evidence

__all__ = ["Confidence", "ConfidenceParameters", "log_odds"]


def log_odds(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """log(p / (1 - p)) of the top-1 class's softmax probability p, in float64; logits (..., classes) -> (...)."""
    ordered = np.sort(np.asarray(logits, np.float64), axis=-1)
    top, rest = ordered[..., -1], ordered[..., :-1]
    highest = rest[..., -1:]
    odds: npt.NDArray[np.float64] = top - (highest[..., 0] + np.log(np.exp(rest - highest).sum(axis=-1)))
    return odds


class ConfidenceParameters(Strict):
    """Of the log-odds on normal calibration images: median, and how far below and above it the usual range reaches."""

    median: float
    below: float = Field(gt=0)
    above: float = Field(gt=0)


class Confidence:
    """The detector; `parameters` as in ConfidenceParameters. Raises BundleError if they don't fit."""

    name = "confidence"
    operations: Sequence[str] = ()

    def __init__(self, parameters: dict[str, object]) -> None:
        self.parameters = parameters_of(ConfidenceParameters, parameters, "detector 'confidence'")

    def score(self, evidence: Evidence) -> float:
        """Distance of the log-odds from the normal median, in units of the usual range on that side; 0 = the median."""
        distance = float(log_odds(evidence.logits)) - self.parameters.median
        return distance / self.parameters.above if distance > 0 else -distance / self.parameters.below
