"""Correction: the label that an image would probably have had without the attack.

Nguyen H., Kuribayashi et al. (section 3.3) take the five labels that are most frequent among the top five of the
transformed copies (`firewall.detectors.statistics.corrected`): a vote in which every operation counts the same. Here
the copies vote with their log-probabilities, and each operation has its own weight, learnt from benign and attacked
images. Weights may be negative. Those of the operations that change an image least usually are: a label that stays the
same under all of them and is lost only under blur is the attacker's.

The corrected label is only for the operator and is never released: an image that needs it is withheld.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from firewall.bundle.strict import Strict, parameters_of

__all__ = ["Correction", "CorrectionParameters", "log_probabilities", "weighted_votes"]

Logits = npt.NDArray[np.floating]
Votes = npt.NDArray[np.float64]


def log_probabilities(logits: Logits) -> Votes:
    """Log softmax over the last axis.

    Args:
        logits: (..., classes).

    Returns:
        float64 of the same shape, at most 0.
    """
    values = np.asarray(logits, np.float64)
    shifted = values - values.max(axis=-1, keepdims=True)
    found: Votes = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def weighted_votes(original: Logits, variants: Logits, original_weight: float, weights: npt.ArrayLike) -> Votes:
    """Log-probability of each class after the vote.

    Args:
        original: Logits (..., classes) of the image as it came.
        variants: Logits (..., n, classes) of its copies.
        original_weight: Weight of the image as it came.
        weights: (n,), weight of each copy.

    Returns:
        float64 (..., classes): the log softmax of
        original_weight * log p(original) + sum over copies of weight * log p(copy).
    """
    total = original_weight * log_probabilities(original)
    total += np.einsum("n,...nc->...c", np.asarray(weights), log_probabilities(variants))
    return log_probabilities(total)


class CorrectionParameters(Strict):
    """Parameters of the vote.

    Attributes:
        operations: The operations whose copies vote.
        weights: Weight of each operation, of any sign.
        original_weight: Weight of the image as it came.
        margin: By how much the first class's log-probability must exceed the second's. If it is less, there is no
            corrected label.
    """

    operations: tuple[str, ...] = Field(min_length=1, max_length=200)
    weights: tuple[float, ...]
    original_weight: float = 0.0
    margin: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> CorrectionParameters:
        if len(self.weights) != len(self.operations):
            raise ValueError("every operation needs one weight")
        return self


class Correction:
    """The vote.

    Attributes:
        parameters: What it was made with.
        operations: Names of the copies that have to be classified first.
    """

    def __init__(self, parameters: Mapping[str, object]) -> None:
        """Check the parameters.

        Args:
            parameters: As in CorrectionParameters.

        Raises:
            BundleError: If they don't fit.
        """
        self.parameters = parameters_of(CorrectionParameters, parameters, "the correction")
        self.operations = self.parameters.operations

    def label(self, logits: Logits, variants: Mapping[str, Logits]) -> int | None:
        """The corrected class.

        Args:
            logits: (classes,) of the image as it came.
            variants: Operation -> logits (classes,), at least for `operations`.

        Returns:
            The class, 0-based. None if the vote is not clear, or a copy is missing or not finite.
        """
        votes = self._votes(logits, variants)
        if votes is None:
            return None
        best = int(votes.argmax())
        second = np.delete(votes, best).max(initial=-np.inf)
        return best if votes[best] - second >= self.parameters.margin else None

    def top(self, logits: Logits, variants: Mapping[str, Logits], count: int = 5) -> list[int]:
        """The best classes after the vote.

        Args:
            logits: (classes,) of the image as it came.
            variants: Operation -> logits (classes,), at least for `operations`.
            count: How many classes.

        Returns:
            Classes, best first. Empty if a copy is missing or not finite.
        """
        votes = self._votes(logits, variants)
        return [] if votes is None else sorted(range(len(votes)), key=lambda label: -votes[label])[:count]

    def _votes(self, logits: Logits, variants: Mapping[str, Logits]) -> Votes | None:
        if any(operation not in variants for operation in self.operations):
            return None
        copies = np.stack([variants[operation] for operation in self.operations])
        if not (np.isfinite(copies).all() and np.isfinite(logits).all()):
            return None
        return weighted_votes(logits, copies, self.parameters.original_weight, self.parameters.weights)
