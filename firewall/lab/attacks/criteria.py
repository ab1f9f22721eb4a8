"""What an attack works towards: a wrong class, a certain class, and by how far."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["margin", "opposite", "wrong_classes"]


def margin(logits: Tensor, classes: Tensor) -> Tensor:
    """By how much the largest other logit exceeds that of `classes`, above 0 if another wins: (N, K), (N,) -> (N,)."""
    own = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], -torch.inf)
    return others.amax(1) - own


def wrong_classes(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The `count` most likely classes other than the label, the most likely first: int64 (N, count).

    Fewer columns where the network hasn't that many classes.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices


def opposite(labels: Tensor, classes: int) -> Tensor:
    """The target 100 classes to the right, or half the classes where there are fewer than 200 (Nguyen et al.)."""
    return (labels + (100 if classes >= 200 else classes // 2)) % classes
