"""Statistics: how an image's first five labels change under many operations. Nguyen H., Kuribayashi et al.

Adversarial images lose their labels under compression, blur, rotation and scaling in other patterns than benign ones.
The paper turns the labels into one of two features and asks a small trained classifier (SVM, random forest, LDA or
MLP), which is a network of the bundle here. A third feature, odds, is ours: it keeps how sure of the label the
classifier stays, where the paper's keep only whether the label is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.evidence import Evidence, Network

__all__ = [
    "Statistics",
    "StatisticsParameters",
    "corrected",
    "counting",
    "differences",
    "families",
    "label_odds",
    "top_labels",
]

Labels = npt.NDArray[np.int64]

#: Labels that are compared: the paper's top-5.
TOP = 5


def top_labels(logits: npt.NDArray[np.float32], count: int = TOP) -> Labels:
    """The `count` most likely classes, best first, of logits (..., classes): (..., count). Ties keep the class order.

    A classifier of fewer classes has -1 in the places that are left; they never differ.
    """
    best = np.argsort(-np.asarray(logits, np.float64), axis=-1, kind="stable")[..., :count]
    missing = count - best.shape[-1]
    padding = [(0, 0)] * (best.ndim - 1) + [(0, missing)]
    return np.pad(best.astype(np.int64), padding, constant_values=-1)


def differences(original: Labels, variants: Labels) -> npt.NDArray[np.float32]:
    """The differences feature (equation 2): 1 where a variant's label differs from the original's of the same place.

    Args:
        original: (..., 5).
        variants: (..., n, 5).

    Returns:
        (..., n * 5), all places of the first operation first.
    """
    bits: npt.NDArray[np.float32] = (variants != original[..., np.newaxis, :]).astype(np.float32)
    return bits.reshape(*bits.shape[:-2], -1)


def counting(original: Labels, variants: Labels, family_of: Sequence[int]) -> npt.NDArray[np.float32]:
    """The counting feature (equation 1): how many variants keep each of the five labels in its place, by family.

    Args:
        original: (..., 5).
        variants: (..., n, 5).
        family_of: The family of each operation, 0-based.

    Returns:
        (..., families * 5), the first family's five numbers first.
    """
    kept = (variants == original[..., np.newaxis, :]).astype(np.float32)
    members = np.eye(max(family_of) + 1, dtype=np.float32)[np.asarray(family_of)]
    counts: npt.NDArray[np.float32] = np.einsum("nf,...nk->...fk", members, kept)
    return counts.reshape(*counts.shape[:-2], -1)


def label_odds(original: npt.NDArray[np.floating], variants: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """The odds feature: log(p / (1 - p)) of the original's first label, in the original and in each of its variants.

    It is not from the paper, whose features hold a bit for each place and operation. This one holds a real number for
    each operation: how far a label is from being lost, or how clearly another one has replaced it.

    Args:
        original: Logits (..., classes).
        variants: Logits (..., n, classes).

    Returns:
        (..., 1 + n), the original's first.
    """
    values = np.concatenate([original[..., np.newaxis, :], variants], axis=-2).astype(np.float64)
    label = np.broadcast_to(values[..., :1, :].argmax(axis=-1), values.shape[:-1])[..., np.newaxis]
    own = np.take_along_axis(values, label, axis=-1)
    np.put_along_axis(values, label, -np.inf, axis=-1)
    highest = values.max(axis=-1, keepdims=True)
    rest = highest + np.log(np.exp(values - highest).sum(axis=-1, keepdims=True))
    odds: npt.NDArray[np.float32] = (own - rest)[..., 0].astype(np.float32)
    return odds


def families(operations: Sequence[str]) -> list[int]:
    """Numbers the families (what stands before the colon) of operations in the order in which they first appear."""
    names = list(dict.fromkeys(operation.partition(":")[0] for operation in operations))
    return [names.index(operation.partition(":")[0]) for operation in operations]


def corrected(variants: Labels) -> Labels:
    """The paper's correction (section 3.3): the five labels that are most often among the first five of an operation.

    Args:
        variants: (n, 5).

    Returns:
        (5,), most frequent first. The paper leaves ties open: here the label nearer to the first place comes
        first, then the lower class.
    """
    classes = np.unique(variants[variants >= 0])
    places = variants[..., np.newaxis] == classes  # (n, 5, classes)
    frequency = places.sum(axis=(0, 1))
    distance = (places * np.arange(variants.shape[1])[:, np.newaxis]).sum(axis=(0, 1))
    best = classes[np.lexsort((classes, distance, -frequency))][:TOP]
    return np.pad(best, (0, TOP - len(best)), constant_values=-1)


class StatisticsParameters(Strict):
    """Parameters of the detector.

    Attributes:
        file: The trained network, feature (1, F) -> score (1,), higher = more suspicious.
        feature: Which feature the network was trained on.
        operations: In the order in which it was trained on them.
    """

    file: str
    feature: Literal["counting", "differences", "odds"]
    operations: tuple[str, ...] = Field(min_length=1, max_length=200)


class Statistics:
    """The detector; `parameters` as in StatisticsParameters. Raises BundleError if they don't fit."""

    name = "statistics"

    def __init__(self, parameters: dict[str, object], network: Network) -> None:
        self.parameters = parameters_of(StatisticsParameters, parameters, "detector 'statistics'")
        self.operations: Sequence[str] = self.parameters.operations
        self._families = families(self.operations)
        self._network = network

    def score(self, evidence: Evidence) -> float:
        """What the trained network says of the feature; its scale is the network's own."""
        return float(self._network(self.feature(evidence)[np.newaxis]).reshape(()))

    def feature(self, evidence: Evidence) -> npt.NDArray[np.float32]:
        """The feature of one image, (F,)."""
        copies = np.stack([evidence.variants[operation] for operation in self.operations])
        if self.parameters.feature == "odds":
            return label_odds(evidence.logits, copies)
        original, variants = top_labels(evidence.logits), top_labels(copies)
        if self.parameters.feature == "differences":
            return differences(original, variants)
        return counting(original, variants, self._families)
