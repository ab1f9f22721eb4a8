"""Stability: do the classifier's probabilities stay the same when the image is transformed? Our own question.

The agreement detector (Higashi, Kuribayashi et al.) asks whether the label of a copy is the same; this one, which is
ours, looks at all of its probabilities, and at other operations than JPEG. It learns nothing about attacks: what is
usual is known from benign images alone.

The distance of two distributions is Hellinger's, and it is taken at several temperatures. A low one sees labels that
change, as minimal perturbations lose theirs; a high one sees how the unlikely classes move, which betrays examples that
were driven far past the decision boundary and keep their label under most operations. At each temperature the mean over
the copies is put in units of what is usual there, and the most unusual one counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.evidence import Evidence

__all__ = ["Stability", "StabilityParameters", "StabilityScale", "hellinger", "instability"]

Floats = npt.NDArray[np.float64]


def hellinger(original: npt.NDArray[np.floating], variants: npt.NDArray[np.floating], temperature: float) -> Floats:
    """Hellinger distance, 0..1, of each variant's softmax(logits / temperature) from the original's.

    Args:
        original: Logits (..., classes).
        variants: Logits (..., n, classes).
        temperature: Divides the logits, above 0.

    Returns:
        (..., n).
    """
    first, others = (_roots(logits, temperature) for logits in (original, variants))
    overlap = np.einsum("...c,...nc->...n", first, others)
    distance: Floats = np.sqrt(np.clip(1 - overlap, 0, None))
    return distance


def _roots(logits: npt.NDArray[np.floating], temperature: float) -> Floats:
    """Square roots of softmax(logits / temperature)."""
    values = np.asarray(logits, np.float64) / temperature
    grown = np.exp((values - values.max(axis=-1, keepdims=True)) / 2)
    roots: Floats = grown / np.sqrt((grown**2).sum(axis=-1, keepdims=True))
    return roots


class StabilityScale(Strict):
    """What is usual at one temperature.

    Attributes:
        temperature: Divides the logits.
        median: Median over benign images of the mean distance.
        above: How far the usual range reaches above the median.
    """

    temperature: float = Field(gt=0)
    median: float
    above: float = Field(gt=0)


def instability(
    original: npt.NDArray[np.floating], variants: npt.NDArray[np.floating], scales: Sequence[StabilityScale]
) -> Floats:
    """The largest of (mean distance - median) / above, over the temperatures.

    Args:
        original: Logits (..., classes).
        variants: Logits (..., n, classes).
        scales: The temperatures, and what is usual at each.

    Returns:
        float64 (...).
    """
    found = [
        (hellinger(original, variants, scale.temperature).mean(axis=-1) - scale.median) / scale.above
        for scale in scales
    ]
    score: Floats = np.max(found, axis=0)
    return score


class StabilityParameters(Strict):
    """Parameters of the detector.

    Attributes:
        operations: The operations whose copies are compared with the original.
        scales: The temperatures, one at least.
    """

    operations: tuple[str, ...] = Field(min_length=1, max_length=200)
    scales: tuple[StabilityScale, ...] = Field(min_length=1, max_length=10)


class Stability:
    """The detector; `parameters` as in StabilityParameters. Raises BundleError if they don't fit."""

    name = "stability"

    def __init__(self, parameters: dict[str, object]) -> None:
        self.parameters = parameters_of(StabilityParameters, parameters, "detector 'stability'")
        self.operations: Sequence[str] = self.parameters.operations

    def score(self, evidence: Evidence) -> float:
        """0 is the median of benign images, 1 the end of their usual range; see `instability`."""
        copies = np.stack([evidence.variants[operation] for operation in self.operations])
        return float(instability(evidence.logits, copies, self.parameters.scales))
