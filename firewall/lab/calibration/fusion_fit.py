"""Fit a bundle's fusion: how much each detector counts, and when to stop asking.

Scales, weights and early exits come from a database of attacks. The threshold comes from other benign images alone, so
that the choice of attacks can't change the false-positive rate. What a fusion's numbers mean, and its arithmetic, are
in `firewall.decision.fusion`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from firewall.bundle import FusionSpec, FusionTerm
from firewall.bundle.numerics import FUSED
from firewall.decision.fusion import excess_of, limits_of, shares_of
from firewall.errors import DataError, UsageError
from firewall.lab.measurement.conformal import track_threshold

__all__ = [
    "RULES",
    "ScoreTable",
    "fit",
    "rise",
    "with_early_exits",
    "with_limits",
    "with_margin",
    "with_threshold",
]

#: How weights are found -> the power to which a score's distance beyond the usual is raised.
RULES = {"sum": 1.0, "squares": 2.0, "logistic": 1.0, "logistic-squares": 2.0}

_CAP = 8.0
_PULL = 1e-3
#: Quantile of the benign scores; from their median to here is a detector's unit.
_UPPER = 0.99


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores of D detectors on N benign images and on the images of attacks.

    Attributes:
        names: The detectors, in the order of the columns.
        normal: Benign images, float64 (N, D).
        tracks: The track of each benign image, int64 (N,).
        attacks: Attack -> its images, float64 (M, D).
        shifted: How many rows at the end of `normal` are benign images under shift, which come a second time.
    """

    names: tuple[str, ...]
    normal: npt.NDArray[np.float64]
    tracks: npt.NDArray[np.int64]
    attacks: Mapping[str, npt.NDArray[np.float64]]
    shifted: int = 0

    @property
    def clean(self) -> npt.NDArray[np.float64]:
        """The benign images without those under shift, float64 (N - shifted, D)."""
        return self.normal[: len(self.normal) - self.shifted]

    def without(self, attacks: Sequence[str]) -> ScoreTable:
        """The table without some attacks, as if they had never been seen."""
        left = {name: scores for name, scores in self.attacks.items() if name not in attacks}
        return ScoreTable(self.names, self.normal, self.tracks, left, self.shifted)


def fit(table: ScoreTable, rule: str = "logistic") -> FusionSpec:
    """Scales and weights, with a threshold of 0 and no early exits.

    Args:
        table: Scores to fit to.
        rule: One of RULES. "sum" and "squares" give every detector a weight of 1. "logistic" and "logistic-squares"
            give the non-negative weights of a logistic regression, benign images against attacked ones, in which all
            attacks count alike and all tracks count alike.

    Raises:
        UsageError: There is no such rule.
        DataError: A score is not finite, or the table has no attacks.
    """
    if rule not in RULES:
        raise UsageError(f"the rule of a fusion must be one of {', '.join(RULES)}, got {rule!r}")
    if not table.attacks:
        raise DataError("a fusion is fitted on attacks, and there are none; attack images with 'firewall lab attack'")
    if not all(np.isfinite(scores).all() for scores in (table.normal, *table.attacks.values())):
        raise DataError("a detector gave a score that is not finite; a fusion can't be fitted")
    centres, uppers = (np.quantile(table.normal, level, axis=0) for level in (0.5, _UPPER))
    units = np.maximum(uppers - centres, 1e-6)
    terms = tuple(
        FusionTerm(detector=name, centre=float(centre), unit=float(unit), weight=1.0)
        for name, centre, unit in zip(table.names, centres, units, strict=True)
    )
    spec = FusionSpec(terms=terms, cap=_CAP, power=RULES[rule], threshold=0.0)
    if not rule.startswith("logistic"):
        return spec
    weighed = zip(terms, _logistic(table, spec), strict=True)
    weights = tuple(term.model_copy(update={"weight": float(weight)}) for term, weight in weighed)
    return spec.model_copy(update={"terms": weights})


def with_limits(
    spec: FusionSpec, normal: npt.NDArray[np.float64], tracks: npt.NDArray[np.int64], rate: float, alone: Sequence[str]
) -> FusionSpec:
    """Give some detectors a limit above which their score withholds by itself.

    An image that shows no sign is no attack that a fusion is fitted to, and the other scores may find it harmless. A
    threshold rests on a whole number of tracks and so leaves a little of the rate unused; the limits use that up. Each
    is the smallest with which the same threshold still keeps the rate.

    Args:
        spec: Its threshold keeps `rate`.
        normal: Scores of benign images that `spec` wasn't fitted to, float64 (N, D).
        tracks: Their tracks, int64 (N,).
        rate: Share of the frames of new tracks that may be withheld, 0 to 1.
        alone: The detectors.
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
    """Set the threshold that keeps a rate on new tracks; see `firewall.lab.measurement.conformal`.

    Images that a detector's own limit withholds count. Where these alone are more than the rate, the threshold is so
    high that no sum reaches it.

    Args:
        spec: Without a threshold, or with one to be replaced.
        normal: Scores of benign images that `spec` wasn't fitted to, float64 (N, D).
        tracks: Their tracks, int64 (N,).
        rate: Share of the frames of new tracks that may be withheld, 0 to 1.

    Raises:
        UsageError: The rate is not between 0 and 1.
        DataError: There are too few tracks for the rate, or a score is not finite.
    """
    alone = (normal > limits_of(spec)).any(axis=1)
    most = spec.cap**spec.power * sum(term.weight for term in spec.terms) + 1
    sums = np.where(alone, most, shares_of(spec, normal).sum(axis=1))
    return spec.model_copy(update={"threshold": track_threshold(sums, tracks, rate)})


def rise(spec: FusionSpec, total: float, spread: Mapping[str, float], stop: int | None = None) -> float:
    """The most by which a sum can grow when each score grows a little.

    No share can be more than the sum, and where a share is largest it grows fastest.

    Args:
        spec: The fusion.
        total: The largest sum that is looked at.
        spread: Detector -> by how much its score grows.
        stop: How many detectors are added up; None for all.
    """
    grown = 0.0
    for term in spec.terms[:stop]:
        if term.weight > 0:
            beyond = min(spec.cap, (max(total, 0.0) / term.weight) ** (1 / spec.power))
            grown += term.weight * ((beyond + spread[term.detector] / term.unit) ** spec.power - beyond**spec.power)
    return grown


def with_margin(spec: FusionSpec, margin: Mapping[str, float]) -> FusionSpec:
    """Raise the threshold and every detector's own limit by a margin.

    Args:
        spec: The fusion.
        margin: By detector; FUSED for the threshold.
    """
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
    """Set sums below which an image is released without asking the detectors that are left.

    Such limits only release more, so the false-positive rate is kept.

    Args:
        spec: With its threshold.
        table: Scores of attacked images.
        loss: Share of any one attack's images, 0 to 1, that may be released early although all detectors together
            would withhold them. It is divided evenly among the places where asking may stop.
        spread: Detector -> by how much its score may be lower with other arithmetic; the limits leave room for that.
    """
    stops = len(spec.terms) - 1
    limits: list[float | None] = []
    for stop in range(stops):
        limit = np.inf
        for scores in table.attacks.values():
            added = shares_of(spec, scores)
            over = (scores > limits_of(spec))[:, : stop + 1].any(axis=1)  # withheld by then
            caught = (excess_of(spec, scores) > 0) & ~over
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


def _logistic(table: ScoreTable, scales: FusionSpec) -> npt.NDArray[np.float64]:
    """The weights, 0 or more (D,), of a logistic regression on the shares that `scales`, with weights of 1, gives."""
    inputs = np.concatenate([shares_of(scales, scores) for scores in (table.normal, *table.attacks.values())])
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
