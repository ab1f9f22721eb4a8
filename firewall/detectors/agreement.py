"""Agreement: do JPEG-compressed copies get the same label? Higashi, Kuribayashi et al.

Adversarial perturbations are weaker than an image's own features: compression at falling quality factors removes
them, and the label falls back. The paper counts the qualities whose top-1 label equals the uncompressed image's and
calls an image adversarial if the count is *below* a threshold T.

High-confidence examples can do the opposite and agree *more* than benign images. So the two-sided form scores how rare
a count is among benign images, in either direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.evidence import Evidence

__all__ = ["Agreement", "AgreementParameters", "agreement_count", "one_sided_score", "two_sided_score"]


def agreement_count(label: int, variant_labels: npt.NDArray[np.integer]) -> int:
    """How many copies get the label of the uncompressed image.

    Args:
        label: Class of the uncompressed image.
        variant_labels: (n,), class of each copy.

    Returns:
        0..n.
    """
    return int(np.count_nonzero(np.asarray(variant_labels) == label))


def one_sided_score(count: int, total: int) -> float:
    """The paper's score: its rule `count < T` is `score > (total - T) / total`.

    Args:
        count: Copies that agree.
        total: All copies.

    Returns:
        Share of copies that disagree, 0..1.
    """
    return (total - count) / total


def two_sided_score(count: int, normal_counts: Sequence[int]) -> float:
    """How rare a count is among benign images.

    Args:
        count: Copies that agree.
        normal_counts: How many benign images had 0, 1, ... total agreements.

    Returns:
        0 (usual) to almost 1 (never seen): 1 - 2 min(p_low, p_high), with the conformal tail shares
        p = (1 + number of benign images at least as extreme) / (1 + number of benign images).
    """
    histogram = np.asarray(normal_counts)
    normal = int(histogram.sum())
    low = (1 + int(histogram[: count + 1].sum())) / (1 + normal)
    high = (1 + int(histogram[count:].sum())) / (1 + normal)
    return 1 - min(1.0, 2 * min(low, high))


class AgreementParameters(Strict):
    """Parameters of the detector.

    Attributes:
        qualities: The sweep's JPEG quality factors.
        sides: "one" as the paper, or "two".
        normal_counts: For two sides, the histogram of counts on benign calibration images, one entry for each count
            0..len(qualities).
    """

    qualities: tuple[int, ...] = Field(min_length=1, max_length=100)
    sides: Literal["one", "two"] = "one"
    normal_counts: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _fits(self) -> AgreementParameters:
        if not all(1 <= quality <= 100 for quality in self.qualities):
            raise ValueError("qualities must lie in 1..100")
        if self.sides == "two" and (len(self.normal_counts) != len(self.qualities) + 1 or min(self.normal_counts) < 0):
            raise ValueError("two sides need normal_counts with one entry for each count 0..number of qualities")
        return self


class Agreement:
    """The detector over one sweep; `parameters` as in AgreementParameters. Raises BundleError if they don't fit."""

    name = "agreement"

    def __init__(self, parameters: dict[str, object]) -> None:
        self.parameters = parameters_of(AgreementParameters, parameters, "detector 'agreement'")
        self.operations: Sequence[str] = tuple(f"jpeg:{quality}" for quality in self.parameters.qualities)

    def score(self, evidence: Evidence) -> float:
        """0..1, see one_sided_score and two_sided_score."""
        labels = np.array([evidence.variants[operation].argmax() for operation in self.operations])
        count = agreement_count(int(evidence.logits.argmax()), labels)
        if self.parameters.sides == "one":
            return one_sided_score(count, len(labels))
        return two_sided_score(count, self.parameters.normal_counts)
