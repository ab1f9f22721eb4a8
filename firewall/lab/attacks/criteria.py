"""What counts as success: the label no longer comes first (or among the first k), or a certain class is reached.

A criterion is asked twice: by the attack, while it searches, and by whoever stores the result, about the logits of the
image as stored (uint8). Only the second answer counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from firewall.errors import DataError, UsageError

__all__ = ["TARGET_99", "TOP_1", "TOP_5", "Criterion", "Target", "TopOut", "margin", "opposite", "wrong_classes"]


class Criterion(Protocol):
    """A frozen dataclass. Each method takes logits (N, K) and the attacked labels, int64 (N,), and returns (N,)."""

    def met(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Whether the attack has succeeded: bool. Logits that are not finite numbers are never a success."""

    def gap(self, logits: Tensor, labels: Tensor) -> Tensor:
        """How far beyond success, in logits: negative before, rising towards it. Has a gradient."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of each image that an attack by gradient minimises: a cross-entropy with its sign."""


@dataclass(frozen=True)
class TopOut:
    """The label is not among the first `k` classes.

    Args:
        k: 1 for a wrong first label; 5 in the statistics paper. The labels may be the true ones, or those that the
            classifier gives the unchanged images.

    Raises:
        UsageError: k is below 1.
    """

    k: int = 1

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"criterion: k is {self.k}; it must lie in 1.. and below the number of classes")

    def met(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See Criterion. A tie with the k-th class is no success."""
        return (self.gap(logits, labels) > 0) & torch.isfinite(logits).all(1)

    def gap(self, logits: Tensor, labels: Tensor) -> Tensor:
        """By how much the k-th largest of the other logits exceeds the label's."""
        if self.k >= logits.shape[1]:
            raise DataError(f"no label can leave the first {self.k} of {logits.shape[1]} classes; choose a smaller k")
        if self.k == 1:
            return margin(logits, labels)
        others = logits.scatter(1, labels[:, None], -torch.inf)
        return others.topk(self.k, dim=1).values[:, -1] - logits.gather(1, labels[:, None])[:, 0]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Minus the label's cross-entropy."""
        return -cross_entropy(logits, labels, reduction="none")


@dataclass(frozen=True)
class Target:
    """The class opposite the label (see `opposite`) has at least this probability.

    Args:
        probability: Between 0 and 1; 0.99 in the statistics paper.

    Raises:
        UsageError: The probability is out of range.
    """

    probability: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.probability < 1:
            raise UsageError(f"criterion: probability is {self.probability}; it must lie between 0 and 1")

    def met(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See Criterion."""
        return (self.gap(logits, labels) >= 0) & torch.isfinite(logits).all(1)

    def gap(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The log odds of the target class beyond those asked for."""
        target = opposite(labels, logits.shape[1])[:, None]
        others = logits.scatter(1, target, -torch.inf).logsumexp(1)
        return logits.gather(1, target)[:, 0] - others - math.log(self.probability / (1 - self.probability))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The cross-entropy of the target class."""
        return cross_entropy(logits, opposite(labels, logits.shape[1]), reduction="none")


TOP_1 = TopOut(1)
TOP_5 = TopOut(5)
TARGET_99 = Target(0.99)


def margin(logits: Tensor, classes: Tensor) -> Tensor:
    """By how much the largest other logit exceeds that of a class; above 0 if another class wins.

    Args:
        logits: (N, K).
        classes: Int64 (N,).

    Returns:
        (N,), in logits.
    """
    own = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return others.amax(1) - own


def wrong_classes(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The most likely classes other than the label.

    Args:
        logits: (N, K).
        labels: Int64 (N,).
        count: How many are wanted.

    Returns:
        Int64 (N, count), the most likely first; fewer columns where the network has fewer classes.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices


def opposite(labels: Tensor, classes: int) -> Tensor:
    """The target class of the statistics paper: 100 classes further, or half the classes where there are fewer than
    200.

    Args:
        labels: Int64 (N,).
        classes: How many classes the network has.

    Returns:
        Int64 (N,).
    """
    return (labels + (100 if classes >= 200 else classes // 2)) % classes
