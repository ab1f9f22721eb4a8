"""The bounds of a margin that a two-layer network is trained with: those of linear.py and dual.py, as torch functions.

They are guides and no proofs (first-order slopes, float32, an eigenvalue by a few power iterations). What a trained
network is worth, `firewall lab certify spatial` computes by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

__all__ = ["Case", "Dual", "case_of", "linear_margins"]

#: Changes of sign vectors and power iterations before an eigenvector counts as found.
_SIGNS, _POWERS = 3, 4


@dataclass(frozen=True, eq=False)
class Case:
    """A batch of images, and what a flow of radius |r|_2 <= `radius` does to the first layer.

    Args:
        first: Weights (units, pixels).
        slopes: The most that a pixel changes per pixel of flow, (N, pixels).
        radius: budget / 8.
        value: The units' inputs, (N, units).
        low: The least that they can become, at most 0, (N, units).
        high: The largest that they can become, at least 0, (N, units).
    """

    first: Tensor
    slopes: Tensor
    radius: float
    value: Tensor
    low: Tensor
    high: Tensor


def case_of(first: nn.Linear, images: Tensor, budget: float) -> Case:
    """The case of a batch of images.

    Args:
        first: The first layer.
        images: (N, 1, H, W) in 0..1.
        budget: Cap on L_flow, in pixels.

    Returns:
        The case.
    """
    slopes, radius = _slopes(images), budget / 8
    value = first(images.flatten(1))
    spread = radius * (slopes.square() @ first.weight.square().T + 1e-12).sqrt()
    return Case(first.weight, slopes, radius, value, (value - spread).clamp_max(0), (value + spread).clamp_min(0))


def linear_margins(case: Case, weights: Tensor) -> Tensor:
    """Least values of weights . relu(units): section 4 of the derivation in closed form.

    Args:
        case: The images.
        weights: (N, pairs, units).

    Returns:
        (N, pairs).
    """
    above = case.high / (case.high - case.low).clamp_min(1e-9)
    below = (case.high > -case.low).to(above.dtype)
    through = weights * torch.where(weights >= 0, below[:, None], above[:, None])
    start = (through * case.value[:, None]).sum(2) + relu(-weights).mul((above * case.low)[:, None]).sum(2)
    charge = (through @ case.first) * case.slopes[:, None]
    loss: Tensor = case.radius * (charge.square().sum(2) + 1e-12).sqrt()
    return start - loss


class Dual(nn.Module):
    """The dual of the semidefinite bound (section 5 of the derivation), its variables learned with the weights.

    Raghunathan, Steinhardt and Liang (2018) learn theirs so: one vector for each ordered pair of classes. Theirs bounds
    every image alike. Here each image has its own F, from its slopes and the slopes that its units can have, and the
    pair's vector says by how much the dual variables differ from the lengths of F's columns.

    Args:
        classes: How many.
        units: Of the hidden layer.
    """

    def __init__(self, classes: int, units: int) -> None:
        super().__init__()
        self.variables = nn.Parameter(torch.zeros(classes, classes, units + 1))

    def margins(self, case: Case, weights: Tensor, labels: Tensor, others: Tensor) -> Tensor:
        """Least values of weights . relu(units).

        Args:
            case: The images.
            weights: (N, pairs, units), of the labels less the other classes.
            labels: Int64 (N,).
            others: Int64 (N, pairs).

        Returns:
            (N, pairs).
        """
        least = torch.where(case.value > 0, case.value / (case.value - case.low).clamp_min(1e-9), 0.0)
        most = torch.where(case.value < 0, case.high / (case.high - case.value).clamp_min(1e-9), 1.0)
        middle, half = ((most + least) / 2)[:, None] * weights, ((most - least) / 2)[:, None] * weights

        def applied(z: Tensor) -> Tensor:  # F z
            return ((middle * z[..., :1] + half * z[..., 1:]) @ case.first) * case.slopes[:, None]

        def returned(y: Tensor) -> Tensor:  # F^T y
            back = (y * case.slopes[:, None]) @ case.first.T
            return torch.cat([(middle * back).sum(2, keepdim=True), half * back], dim=2)

        with torch.no_grad():
            rows = (case.slopes.square() @ case.first.square().T).sqrt()[:, None]
            constant = applied(torch.cat([torch.ones_like(half[..., :1]), torch.zeros_like(half)], 2)).norm(dim=2)
            lengths = torch.cat([constant[..., None], half.abs() * rows], dim=2)
            lengths = lengths + 1e-3 * lengths.mean(dim=2, keepdim=True) + 1e-9
        e = lengths * self.variables[labels[:, None], others].clamp(-6, 6).exp()
        root = e.sqrt()
        with torch.no_grad():
            z = torch.ones_like(e)
            for _ in range(_SIGNS):  # never lowers |F z|
                z = torch.where(returned(applied(z)) >= 0, 1.0, -1.0)
            u = root * z
            for _ in range(_POWERS):
                u = u / u.norm(dim=2, keepdim=True).clamp_min(1e-12)
                u = returned(applied(u / root)) / root
            u = u / u.norm(dim=2, keepdim=True).clamp_min(1e-12)
        largest = applied(u / root).square().sum(2)
        drop: Tensor = case.radius * (largest * e.sum(2) + 1e-12).sqrt()
        return (weights * relu(case.value)[:, None]).sum(2) - drop


def _slopes(images: Tensor) -> Tensor:
    """How much a pixel changes at the most per pixel of flow, to first order: (N, pixels)."""
    around = pad(images, (1, 1, 1, 1), mode="replicate")
    across = (around[:, 0, 1:-1, 1:] - around[:, 0, 1:-1, :-1]).abs()
    along = (around[:, 0, 1:, 1:-1] - around[:, 0, :-1, 1:-1]).abs()
    right = torch.maximum(across[:, :, 1:], across[:, :, :-1])
    down = torch.maximum(along[:, 1:], along[:, :-1])
    return (right.square() + down.square()).sqrt().flatten(1)
