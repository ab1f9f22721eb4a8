"""The semidefinite certificate: how much a flow can lower one margin of a two-layer network, by a proved dual bound.

For one pair of classes the margin is f(x) = v . relu(W x + b) + c. A change d of the pixels moves unit k by
h_k = (W d)_k, and relu(z + h) - relu(z) = s h with a slope s between 0 and 1 (narrower where h is bounded). With
|d_i| <= g_i |r_i| and |r|_2 <= R = B / 8 the margin falls by at most

    max over s, d of -sum_k v_k s_k (W d)_k = R max over s of |diag(g) W^T diag(v) s|_2,

and with s = middle + half * t, |t_k| <= 1, this is R max |F z|_2 over signs z = (z_0, t), z_0 standing for the constant
column F_0 = diag(g) W^T (v middle), the row that the thesis's equation 11 drops (Raghunathan, Steinhardt and Liang 2018
have it). Relaxed as in its equations 12 and 13 to max <F^T F, Z>, Z >= 0, diag(Z) = 1.

z need not be that of one image: if it lies between two bounds, as it does for all shifts of a cell, the slopes s of all
these z do too. So `raised_margins` bounds a whole cell: what the network says without the flow, at the worst of the
cell's shifts, less the drop.

Proof that counts: for any weights e_i > 0, |F z|^2 = |F E^(-1/2) E^(1/2) z|^2 <= lambda_max(E^(-1/2) F^T F E^(-1/2))
sum e_i. It is the value of a feasible point of the dual, so it holds whether or not any solver converged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from firewall.lab.certification.flow_bounds import Changes, Slopes
from firewall.lab.certification.flow_budget import Floats, Grid, reach
from firewall.lab.certification.linear import Hidden, Region, hidden_bounds, margin_bounds
from firewall.lab.certification.mixing import mix
from firewall.lab.certification.two_layer import TwoLayer

__all__ = ["Dual", "certify_pair", "largest_norm", "raised_margins", "slopes"]

#: Tolerance of the search and the share of all columns that is kept out of the program, of a bound and of a quick one.
_EXACT, _QUICK = (1e-7, 0.0), (1e-4, 1e-3)


@dataclass(frozen=True)
class Dual:
    """A solved program.

    Args:
        upper: Proved upper bound on |F z| over all |z_i| <= 1.
        primal: Root of the relaxation's value where the search stopped; below its optimum but for rounding.
        size: Of the program.
        steps: Of the search.
        converged: Whether the search had converged.
    """

    upper: float
    primal: float
    size: int
    steps: int
    converged: bool


def largest_norm(
    factor: Floats, *, steps: int = 3000, tolerance: float = 1e-7, apart: float = 0.0, beyond: float = np.inf
) -> Dual:
    """A proved upper bound on |factor @ z|_2 over all z with |z_i| <= 1.

    Args:
        factor: (m, n).
        steps: Largest number of steps of the search.
        tolerance: Of the search.
        apart: The shortest columns, up to this share of the sum of all lengths, are kept out of the program: by the
            triangle inequality they cost their lengths. Most columns are next to nothing.
        beyond: A bound above this is of no use, so the search ends where none below it can come out any more.

    Returns:
        The bound.
    """
    lengths = np.sqrt(np.square(factor).sum(axis=0))
    order = np.argsort(lengths)
    out = np.cumsum(lengths[order]) <= apart * float(lengths.sum())
    kept, charged = factor[:, np.sort(order[~out])], float(lengths[order[out]].sum()) * (1 + 1e-12)
    kept = kept[:, np.abs(kept).sum(axis=0) > 0]
    if kept.shape[1] == 0:
        return Dual(charged, 0.0, 0, 0, converged=True)
    gram = kept.T @ kept
    found = mix(gram, steps=steps, tolerance=tolerance, beyond=beyond**2)
    weights = np.maximum(found.lengths, 1e-9 * float(found.lengths.max()))
    upper = _bounded(kept, weights)
    if not found.converged:
        upper = min(upper, _bounded(kept, np.sqrt(np.diag(gram)) + 1e-9 * float(np.sqrt(gram.max()))))
    primal = float(np.sqrt(max(found.value, 0.0)))
    return Dual((upper + charged) * (1 + 1e-12), primal, kept.shape[1], found.steps, found.converged)


def _bounded(factor: Floats, weights: Floats) -> float:
    """The dual value for these weights, rounded up."""
    scaled = factor / np.sqrt(weights)
    smaller = scaled.T @ scaled if scaled.shape[1] <= scaled.shape[0] else scaled @ scaled.T
    largest = float(np.linalg.eigvalsh(smaller)[-1])
    # Forming the product and a backward stable eigenvalue solver each err by less than (m + n) units in the last place
    # of the squared Frobenius norm; eight times that is allowed for.
    error = 8 * sum(factor.shape) * np.finfo(np.float64).eps * float(np.square(scaled).sum())
    return float(np.sqrt((largest + error) * float(weights.sum()) * (1 + 1e-12)) * (1 + 1e-12))


def slopes(value: Hidden, reached: Hidden) -> tuple[Floats, Floats]:
    """The least and the largest slope (relu(z + h) - relu(z)) / h, both of which grow with z.

    Args:
        value: Bounds on z.
        reached: Bounds on z + h.

    Returns:
        Two arrays (units,), in 0..1.
    """
    low, high, lowest, highest = value.lowest, value.highest, reached.lowest, reached.highest
    least = np.where(low > 0, np.where(lowest >= 0, 1.0, low / np.maximum(low - lowest, 1e-300)), 0.0)
    most = np.where(high < 0, np.where(highest <= 0, 0.0, highest / np.maximum(highest - high, 1e-300)), 1.0)
    # At z = 0 itself either line may be met.
    return np.clip(least - 1e-12, 0, 1), np.clip(most + 1e-12, 0, 1)


def certify_pair(
    network: TwoLayer,
    weights: Floats,
    slope: Floats,
    budget: float,
    spans: tuple[Floats, Floats],
    *,
    noise: float = 0.0,
    quickly: bool = False,
    beyond: float = np.inf,
) -> tuple[float, Dual]:
    """An upper bound on how much flows of a budget, and noise, can lower one margin.

    Args:
        network: The network.
        weights: v, (units,): the difference of two rows of the second layer.
        slope: g, (pixels,): the most that a pixel changes per pixel of flow.
        budget: Cap on L_flow, in pixels.
        spans: The least and the largest slope of each unit; 0 and 1 for all give a bound that holds for every image.
        noise: Largest change of each pixel on top.
        quickly: Whether a slightly larger bound will do, in a fraction of the time.
        beyond: A drop above this is of no use, as of `largest_norm`.

    Returns:
        The bound, and the program that it is from.
    """
    least, most = spans
    middle, half = (least + most) / 2, (most - least) / 2
    columns = np.column_stack([network.first.T @ (weights * middle), network.first.T * (weights * half)])
    tolerance, kept_out = _QUICK if quickly else _EXACT
    dual = largest_norm(slope[:, None] * columns, tolerance=tolerance, apart=kept_out, beyond=beyond / reach(budget))
    # Noise: max over s of |W^T diag(v) s|_1 is at most what it is with every sign at its worst.
    apart = noise * (np.abs(columns[:, 0]).sum() + np.abs(columns[:, 1:]).sum()) if noise else 0.0
    # More than float64 loses in the sums of the first column.
    lost = 1e-12 * reach(budget) * float(slope.max()) * float(np.abs(weights) @ network.squares[2])
    return (reach(budget) * dual.upper + float(apart)) * (1 + 1e-12) + lost, dual


def raised_margins(network: TwoLayer, label: int, region: Region, hidden: Hidden, linear: Floats) -> Floats:
    """Lower bounds on logit(label) - logit(class) in a region, better ones where they are not above 0.

    Args:
        network: The network.
        label: The class.
        region: What may be done to the image: flows of a budget, and noise, after any shift of a cell.
        hidden: Bounds on the hidden units in it.
        linear: Bounds that are known, (classes,).

    Returns:
        (classes,), nowhere less than `linear`. Ends with the first class that stays at 0 or below: the least decides.
    """
    changes, best = region.changes, np.array(linear)
    none = Slopes(np.zeros_like(changes.lowest), np.zeros_like(changes.lowest))
    shifts = Changes(changes.corners, changes.corners.min(axis=0), changes.corners.max(axis=0), none, none)
    unmoved = Region(shifts, region.budget)
    value = hidden_bounds(network, unmoved)
    start = margin_bounds(network, label, unmoved, value, Grid.spread)
    several = len(changes.corners) > 1  # cells are many, and one that fails is cut
    slope, spans = np.maximum(changes.far.falling, changes.far.rising), slopes(value, hidden)
    for other in np.argsort(linear):
        if best[other] > 0:
            break
        if start[other] > 0:
            weights = network.second[label] - network.second[other]
            drop, _ = certify_pair(
                network, weights, slope, region.budget, spans, noise=region.noise, quickly=several, beyond=start[other]
            )
            best[other] = max(best[other], start[other] - drop)
        if best[other] <= 0:
            break
    return best
