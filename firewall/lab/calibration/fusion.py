"""Fit the fused suspicion: how much each detector counts, in which order they are asked, and when to stop asking.

Scales, weights and early exits come from a database of attacks; the threshold comes from other normal images alone, so
what the attacks were can't touch the false-positive rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from firewall.bundle import FusionSpec, FusionTerm
from firewall.bundle.numerics import FUSED
from firewall.errors import DataError, UsageError
from firewall.lab.measurement.conformal import track_threshold

__all__ = [
    "RULES",
    "ScoreTable",
    "excess",
    "fit",
    "rise",
    "with_early_exits",
    "with_limits",
    "with_margin",
    "with_threshold",
]

#: How weights are found, and the power to which what lies beyond normal is raised.
RULES = {"sum": 1.0, "squares": 2.0, "logistic": 1.0, "logistic-squares": 2.0}

_CAP = 8.0
_PULL = 1e-3
#: Of normal scores: from the median to here is the unit.
_UPPER = 0.99


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of all detectors, (N, D) in the order of `names`: on normal images of tracks (N,), and by attack.

    shifted: how many of the normal ones, at the end, are images met once more in other weather.
    """

    names: tuple[str, ...]
    normal: npt.NDArray[np.float64]
    tracks: npt.NDArray[np.int64]
    attacks: Mapping[str, npt.NDArray[np.float64]]
    shifted: int = 0

    @property
    def clean(self) -> npt.NDArray[np.float64]:
        """Of the normal images as they came."""
        return self.normal[: len(self.normal) - self.shifted]

    def without(self, attacks: Sequence[str]) -> ScoreTable:
        """The table less some attacks: what is known when they have never been seen."""
        left = {name: scores for name, scores in self.attacks.items() if name not in attacks}
        return ScoreTable(self.names, self.normal, self.tracks, left, self.shifted)


def fit(table: ScoreTable, rule: str = "logistic") -> FusionSpec:
    """Scales and weights by `rule`, one of RULES; threshold 0, no early exits.

    sum, squares: every detector counts alike. logistic: weights, none negative, that part normal from adversarial
    images best; all attacks count alike, and so do all tracks. Raises UsageError for another rule, DataError for
    scores that are not finite or a table without attacks.
    """
    if rule not in RULES:
        raise UsageError(f"the rule of a fusion must be one of {', '.join(RULES)}, got {rule!r}")
    if not table.attacks:
        raise DataError("a fusion is fitted on attacks, and there are none; attack images with 'firewall lab attack'")
    if not all(np.isfinite(scores).all() for scores in (table.normal, *table.attacks.values())):
        raise DataError("a detector gave a score that is not finite; a fusion can't be fitted")
    centres, uppers = (np.quantile(table.normal, level, axis=0) for level in (0.5, _UPPER))
    units = np.maximum(uppers - centres, 1e-6)
    weights = np.ones(len(table.names))
    if rule.startswith("logistic"):
        weights = _logistic(table, centres, units, RULES[rule])
    terms = tuple(
        FusionTerm(detector=name, centre=float(centre), unit=float(unit), weight=float(weight))
        for name, centre, unit, weight in zip(table.names, centres, units, weights, strict=True)
    )
    return FusionSpec(terms=terms, cap=_CAP, power=RULES[rule], threshold=0.0)


def shares(spec: FusionSpec, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What each score adds, (N, D), as the edge computes it."""
    centres = np.array([term.centre for term in spec.terms])
    units = np.array([term.unit for term in spec.terms])
    weights = np.array([term.weight for term in spec.terms])
    added: npt.NDArray[np.float64] = weights * np.clip((scores - centres) / units, 0, spec.cap) ** spec.power
    return added


def excess(spec: FusionSpec, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """By how much the suspicion with all detectors asked, or a score, exceeds its limit, (N,); above 0 withholds."""
    total: npt.NDArray[np.float64] = np.maximum(
        shares(spec, scores).sum(axis=1) - spec.threshold, (scores - _limits(spec)).max(axis=1)
    )
    return total


def _limits(spec: FusionSpec) -> npt.NDArray[np.float64]:
    """Above which each score withholds alone, (D,); infinite where it doesn't."""
    return np.array([np.inf if term.withhold_above is None else term.withhold_above for term in spec.terms])


def with_limits(
    spec: FusionSpec, normal: npt.NDArray[np.float64], tracks: npt.NDArray[np.int64], rate: float, alone: Sequence[str]
) -> FusionSpec:
    """`spec`, whose threshold keeps the rate, with limits of their own for the detectors `alone`: each the smallest one
    with which the same threshold still keeps it.

    What shows no sign at all is no attack that a fusion is fitted on, and the other scores may well call it harmless.
    Tracks come in whole numbers, so that a threshold leaves some of the rate over; limits live on that.
    """
    for place, term in enumerate(spec.terms):
        if term.detector not in alone:
            continue
        tried = np.unique(normal[:, place])  # none lies above the last one, so that it costs nothing
        low, high = 0, len(tried) - 1
        while low < high:
            middle = (low + high) // 2
            kept = with_threshold(_limited(spec, place, float(tried[middle])), normal, tracks, rate)
            low, high = (low, middle) if kept.threshold <= spec.threshold else (middle + 1, high)
        spec = _limited(spec, place, float(tried[low]))
    return spec


def _limited(spec: FusionSpec, place: int, limit: float) -> FusionSpec:
    terms = list(spec.terms)
    terms[place] = terms[place].model_copy(update={"withhold_above": limit})
    return spec.model_copy(update={"terms": tuple(terms)})


def with_threshold(
    spec: FusionSpec, normal: npt.NDArray[np.float64], tracks: npt.NDArray[np.int64], rate: float
) -> FusionSpec:
    """`spec` with the threshold that keeps `rate` on new tracks, from normal images (N, D) that it wasn't fitted on.

    What a score's own limit withholds counts; where that alone is more than the rate, no sum is below the threshold
    that is left.
    """
    alone = (normal > _limits(spec)).any(axis=1)
    most = spec.cap**spec.power * sum(term.weight for term in spec.terms) + 1
    sums = np.where(alone, most, shares(spec, normal).sum(axis=1))
    return spec.model_copy(update={"threshold": track_threshold(sums, tracks, rate)})


def rise(spec: FusionSpec, total: float, spread: Mapping[str, float], stop: int | None = None) -> float:
    """By how much, at the most, a sum of `total` or less grows when each score grows by its `spread`. stop: how many
    scores are added up, None for all. No share can be more than the sum, and where it is largest it grows fastest."""
    grown = 0.0
    for term in spec.terms[:stop]:
        if term.weight > 0:
            beyond = min(spec.cap, (max(total, 0.0) / term.weight) ** (1 / spec.power))
            grown += term.weight * ((beyond + spread[term.detector] / term.unit) ** spec.power - beyond**spec.power)
    return grown


def with_margin(spec: FusionSpec, margin: Mapping[str, float]) -> FusionSpec:
    """`spec` with every limit above which is withheld raised by its margin. margin: by detector, and FUSED."""
    terms = [
        term
        if term.withhold_above is None
        else term.model_copy(update={"withhold_above": term.withhold_above + margin[term.detector]})
        for term in spec.terms
    ]
    return spec.model_copy(update={"threshold": spec.threshold + margin[FUSED], "terms": tuple(terms)})


def with_early_exits(
    spec: FusionSpec, table: ScoreTable, loss: float = 0.005, spread: Mapping[str, float] | None = None
) -> FusionSpec:
    """`spec` with limits below which the detectors that are left need not be asked.

    At each stop at most `loss`, shared out over the stops, of any one attack's images leave that would have been
    withheld in the end. The limits only ever release more, so the false-positive rate stays what it was. spread: by
    how much each score may be lower with other arithmetic; no more images than those leave early there.
    """
    stops = len(spec.terms) - 1
    limits: list[float | None] = []
    for stop in range(stops):
        limit = np.inf
        for scores in table.attacks.values():
            added = shares(spec, scores)
            over = (scores > _limits(spec))[:, : stop + 1].any(axis=1)  # they are withheld by then
            caught = (excess(spec, scores) > 0) & ~over
            partial = np.sort(added[:, : stop + 1].sum(axis=1)[caught])
            allowed = int(len(scores) * loss / stops)
            if len(partial) > allowed:
                limit = min(limit, float(partial[allowed]))
        if spread is not None and limit < np.inf:
            limit -= rise(spec, limit, spread, stop + 1)
        limits.append(limit if 0 < limit < np.inf else None)
    terms = [
        term.model_copy(update={"release_below": limit})
        for term, limit in zip(spec.terms, [*limits, None], strict=True)
    ]
    return spec.model_copy(update={"terms": tuple(terms)})


def _logistic(
    table: ScoreTable, centres: npt.NDArray[np.float64], units: npt.NDArray[np.float64], power: float
) -> npt.NDArray[np.float64]:
    def beyond(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values: npt.NDArray[np.float64] = np.clip((scores - centres) / units, 0, _CAP) ** power
        return values

    inputs = np.concatenate([beyond(table.normal), *(beyond(scores) for scores in table.attacks.values())])
    signs = np.concatenate([-np.ones(len(table.normal)), np.ones(len(inputs) - len(table.normal))])
    _, place, frames = np.unique(table.tracks, return_inverse=True, return_counts=True)
    counts = np.concatenate(
        [
            1 / (len(frames) * frames[place]),
            *(np.full(len(scores), 1 / (len(scores) * len(table.attacks))) for scores in table.attacks.values()),
        ]
    )

    def loss(values: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        margins = signs * (inputs @ values[:-1] + values[-1])
        pull = -signs * counts / (1 + np.exp(np.clip(margins, -50, 50)))
        gradient = np.append(inputs.T @ pull + 2 * _PULL * values[:-1], pull.sum())
        return float((counts * np.logaddexp(0, -margins)).sum() + _PULL * (values[:-1] ** 2).sum()), gradient

    start = np.append(np.ones(inputs.shape[1]), -1.0)
    bounds = [(0, None)] * inputs.shape[1] + [(None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    weights: npt.NDArray[np.float64] = found.x[:-1]
    return weights
