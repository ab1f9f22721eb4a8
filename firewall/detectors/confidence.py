"""Confidence: is the classifier as sure of this image as it is of benign ones? Hendrycks and Gimpel 2017.

Too little confidence marks images of things that the classifier doesn't know, and attacked images that barely cross a
decision boundary. Too much marks images that were driven far past it. The detector needs only the one classification,
so it is asked first.
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
    """Log-odds of the most likely class: log(p / (1 - p)) of its softmax probability p.

    Args:
        logits: (..., classes).

    Returns:
        float64 (...).
    """
    ordered = np.sort(np.asarray(logits, np.float64), axis=-1)
    top, rest = ordered[..., -1], ordered[..., :-1]
    highest = rest[..., -1:]
    odds: npt.NDArray[np.float64] = top - (highest[..., 0] + np.log(np.exp(rest - highest).sum(axis=-1)))
    return odds


class ConfidenceParameters(Strict):
    """The log-odds of benign calibration images.

    Attributes:
        median: Their median.
        below: How far the usual range reaches below the median.
        above: How far the usual range reaches above the median.
    """

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
        """Distance of the log-odds from the benign median, in units of the usual range on that side; 0 = the median."""
        distance = float(log_odds(evidence.logits)) - self.parameters.median
        return distance / self.parameters.above if distance > 0 else -distance / self.parameters.below
