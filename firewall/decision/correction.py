"""Correction: what an image would probably have been called, had nobody attacked it.

Nguyen H., Kuribayashi et al. (section 3.3) take the five labels that are most frequent among the first five of the
transformed copies (`firewall.detectors.statistics.corrected`): a vote in which every operation counts the same. Here
the copies vote with their log-probabilities and each operation has a weight of its own, learnt from normal and attacked
images. Weights may be negative, and those of the operations that change an image least usually are: a label that stays
the same under all of them and is lost under blur alone is the attacker's.

The corrected label is for the operator alone and never released: an image that needs it is withheld.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from firewall.errors import BundleError

__all__ = ["Correction", "CorrectionParameters", "log_probabilities", "weighted_votes"]

Logits = npt.NDArray[np.floating]
Votes = npt.NDArray[np.float64]


def log_probabilities(logits: Logits) -> Votes:
    """log softmax over the last axis, in float64, at most 0."""
    values = np.asarray(logits, np.float64)
    shifted = values - values.max(axis=-1, keepdims=True)
    found: Votes = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def weighted_votes(original: Logits, variants: Logits, original_weight: float, weights: npt.ArrayLike) -> Votes:
    """Log-probability of each class after the vote.

    original: logits (..., classes). variants: logits (..., n, classes). weights: (n,). Returns (..., classes): the log
    softmax of original_weight * log p(original) + the sum of weights * log p(variant).
    """
    total = original_weight * log_probabilities(original)
    total += np.einsum("n,...nc->...c", np.asarray(weights, np.float64), log_probabilities(variants))
    return log_probabilities(total)


class CorrectionParameters(BaseModel):
    """operations: whose copies vote. weights: of each, any sign. original_weight: of the image as it came. margin: by
    how much the first class's log-probability must exceed the second's; less, and there is no corrected label."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
    """The vote; `parameters` as in CorrectionParameters. Raises BundleError if they don't fit.

    operations: names of the copies that have to be classified first, as a detector's.
    """

    def __init__(self, parameters: Mapping[str, object]) -> None:
        try:
            self.parameters = CorrectionParameters.model_validate(dict(parameters))
        except ValidationError as error:
            raise BundleError(f"parameters of the correction: {error.errors()[0]['msg']}") from error
        self.operations = self.parameters.operations

    def label(self, logits: Logits, variants: Mapping[str, Logits]) -> int | None:
        """The corrected class, 0-based; None where the vote is not clear or a copy is missing or not finite.

        logits: (classes,) of the image as it came. variants: operation -> logits (classes,), at least of `operations`.
        """
        votes = self._votes(logits, variants)
        if votes is None:
            return None
        best = np.argsort(-votes, kind="stable")
        clear = len(best) < 2 or votes[best[0]] - votes[best[1]] >= self.parameters.margin
        return int(best[0]) if clear else None

    def top(self, logits: Logits, variants: Mapping[str, Logits], count: int = 5) -> list[int]:
        """The `count` first classes after the vote, best first; none where `label` is None for want of a copy."""
        votes = self._votes(logits, variants)
        return [] if votes is None else [int(label) for label in np.argsort(-votes, kind="stable")[:count]]

    def _votes(self, logits: Logits, variants: Mapping[str, Logits]) -> Votes | None:
        if any(operation not in variants for operation in self.operations):
            return None
        copies = np.stack([variants[operation] for operation in self.operations])
        if not (np.isfinite(copies).all() and np.isfinite(logits).all()):
            return None
        return weighted_votes(logits, copies, self.parameters.original_weight, self.parameters.weights)
