"""Give a bundle one fused suspicion: `firewall lab fuse`.

Two sets of images take part, and they share no track with each other nor with what a detector was fitted to. On the
first, normal and attacked, the weights and early exits are fitted; on the second, normal alone, the threshold is set.
All scores are those of the bundle's own engine; what another processor may make of them is left to each limit as a
margin.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from firewall.bundle import Bundle, FusionSpec
from firewall.bundle.numerics import FUSED, Numerics
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import UsageError
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.calibration.fusion import (
    RULES,
    ScoreTable,
    excess,
    fit,
    rise,
    shares,
    with_early_exits,
    with_limits,
    with_margin,
    with_threshold,
)
from firewall.lab.calibration.fusion_scores import Normals, calibration_scores, score_table
from firewall.lab.database import Database
from firewall.lab.database.card import Split
from firewall.lab.database.variants import same_classifier
from firewall.lab.measurement.conformal import track_threshold
from firewall.lab.measurement.judge import Judge, judge_of
from firewall.lab.measurement.numerics import leeway, rescore, sampled
from firewall.lab.models import Protected

__all__ = ["Fused", "Options", "fuse"]

#: The rule is left for a more elaborate one only where its worst unseen attack gains at least this share.
_WORTH_IT = 0.01


@dataclass(frozen=True)
class Options:
    """rate: share of frames of new tracks that may be withheld. rule: one of RULES, or auto: the simplest whose worst
    attack, left out of the fit, is within 1 % of the best. loss: share of an attack's images that early exits may lose.
    shift: up to how many normal images are met once more under each shift of normal traffic, when weights are fitted
    and the threshold is set. shift_rate: the threshold rises until no more than this share of them is withheld under
    any shift; 0 leaves it where `rate` puts it. splits: of the calibration database; the others are left for judging.
    without: attacks that nothing is to know of. alone: detectors of the bundle whose score may withhold without the
    others', from a limit on that costs the threshold nothing.

    Raises UsageError for values outside these.
    """

    rate: float = 0.01
    rule: str = "auto"
    loss: float = 0.005
    shift: int = 0
    shift_rate: float = 0.0
    splits: Collection[str] = get_args(Split)
    without: tuple[str, ...] = ()
    alone: tuple[str, ...] = ("confidence",)

    def __post_init__(self) -> None:
        if self.rule not in ("auto", *RULES):
            raise UsageError(f"--rule must be one of auto, {', '.join(RULES)}, got {self.rule!r}")
        if not 0 < self.rate < 1:
            raise UsageError(f"--false-positive-rate must lie between 0 and 1, got {self.rate}")
        if not 0 <= self.shift_rate < 1:
            raise UsageError(f"--shift-rate must be 0 (not looked at) or a share below 1, got {self.shift_rate}")
        if self.shift < 0:
            raise UsageError(f"--shift must be 0 or more images, got {self.shift}")


@dataclass(frozen=True, eq=False)
class Fused:
    """The bundle, and how its fusion came about, as `fusion.json` has it."""

    bundle: Bundle
    report: dict[str, Any]


def fuse(
    bundle: Bundle,
    classifier: Protected,
    database: Database,
    calibration: Database,
    out: Path,
    options: Options | None = None,
    *,
    correction: tuple[dict[str, Any], dict[str, float]] | None = None,
) -> Fused:
    """Write `bundle` with a fusion to `out`, as its next version.

    database: attacks on the bundle's classifier, for weights and early exits. calibration: its normal images, attacked
    or in reserve, set the threshold; images of tracks that the detectors or the fusion were fitted to are left out.
    correction: of `load_correction`, to go into the bundle instead of its own.

    Raises DataError for databases of another classifier, too few tracks for the rate, or no images to fit or calibrate
    on.
    """
    options = options or Options()
    for each in (database, calibration):
        same_classifier(each, classifier)
    judge = judge_of(bundle, classifier)
    table, fitted = score_table(judge, database, shift=options.shift, without=options.without)
    compared = {name: _left_out(table, name, options.rate) for name in RULES} if options.rule == "auto" else {}
    chosen = _simplest(compared) if options.rule == "auto" else options.rule
    table = _ordered(judge, table, fit(table, chosen))
    normals = calibration_scores(judge, calibration, fitted, table.names, options.splits, shift=options.shift)
    spec = _calibrated(fit(table, chosen), normals, options)
    spec, numerics, spread = _widened(spec, judge, normals)
    spec = with_early_exits(spec, table, options.loss, spread).model_copy(update={"fitted": fitted})
    shifts = {name: float((excess(spec, rows) > 0).mean()) for name, (rows, _) in normals.shifted.items()}
    above = excess(spec, normals.scores) > 0
    tracks, used = normals.tracks, normals.seen
    report = {
        "rule": chosen,
        "rules": compared,
        "fusion": spec.model_dump(mode="json", exclude={"fitted"}),
        "fitted": {
            "database": database.info()["dataset"],
            "part": fitted.part,
            "splits": list(fitted.splits),
            "normal": len(table.normal) - table.shifted,
            "shifted": table.shifted,
            "tracks": len(np.unique(table.tracks)),
            "attacks": {name: len(scores) for name, scores in table.attacks.items()},
        },
        "calibration": {
            "part": used.part,
            "normal": len(tracks),
            "tracks": len(np.unique(tracks)),
            "rate_asked": options.rate,
            "withheld": float(above.mean()),
            "tracks_with_a_withheld_frame": len(np.unique(tracks[above])),
            "shift_rate_asked": options.shift_rate,
            "shifts": shifts,
        },
        "numerics": numerics.model_dump(mode="json"),
        "early": _early(spec, table, judge),
    }
    shifted = f", and on {options.shift} of them under each shift" if options.shift and options.shift_rate else ""
    card = bundle.manifest.calibration.model_copy(
        update={
            "data": f"fused threshold: {len(tracks)} normal images of {len(np.unique(tracks))} groups of "
            f"{used.dataset}, part {used.part}{shifted}; detectors' own: {bundle.manifest.calibration.data}",
            "images": len(tracks),
            "tracks": len(np.unique(tracks)),
            "false_positive_rate": options.rate,
            "rates": {
                "withheld on calibration images": float(above.mean()),
                **({} if correction is None else correction[1]),
            },
            "seen": used,
        }
    )
    changed: dict[str, Any] = {"version": bundle.manifest.version + 1, "calibration": card, "fusion": spec}
    changed["numerics"] = numerics
    if correction is not None:
        changed["correction"] = correction[0]
    return Fused(rewritten(bundle, out, {}, **changed), report)


def _calibrated(spec: FusionSpec, normals: Normals, options: Options) -> FusionSpec:
    """The threshold that keeps the rate on normal images as they come and, if asked for, that of shifts under each
    shift."""
    alone = [term.detector for term in spec.terms if term.detector in options.alone]
    spec = with_threshold(spec, normals.scores, normals.tracks, options.rate)
    spec = with_limits(spec, normals.scores, normals.tracks, options.rate, alone)
    sums = {name: shares(spec, rows).sum(axis=1) for name, (rows, _) in normals.shifted.items()}
    if options.shift_rate:
        limits = [
            track_threshold(
                sums[name],
                rows[1],
                options.shift_rate,
                option="--shift-rate",
                note=f" among the {len(rows[1])} that are met under each shift (--shift)",
            )
            for name, rows in normals.shifted.items()
        ]
        spec = spec.model_copy(update={"threshold": max([spec.threshold, *limits])})
    return spec


def _widened(spec: FusionSpec, judge: Judge, normals: Normals) -> tuple[FusionSpec, Numerics, dict[str, float]]:
    """The limits with their margins; what these are and rest on; and by how much each score may move by rounding."""
    names = [term.detector for term in spec.terms]
    sums = shares(spec, normals.scores).sum(axis=1)
    alone = {term.detector: term.withhold_above for term in spec.terms if term.withhold_above is not None}
    near = [(normals.scores[:, names.index(name)], limit) for name, limit in alone.items()]
    chosen = np.zeros(len(sums), bool)
    chosen[sampled(len(sums), [(sums, spec.threshold), *near])] = True
    again = rescore(
        normals.measured.subset(chosen),
        dict(zip(names, normals.scores[chosen].T, strict=True)),
        [next(each for each in judge.bundle.manifest.detectors if each.name == name) for name in names],
        judge.bundle.manifest.classifier,
        judge.bundle.files,
        lambda how: OnnxRuntimeEngine(judge.bundle, threads=how.threads, optimisation=how.optimisation),
    )
    spread = {name: again.spread(name) for name in names}
    varied = shares(spec, again.table(again.varied)).sum(axis=-1)
    margin = {name: again.margin(name, alone.get(name)) for name in names}
    margin[FUSED] = leeway(rise(spec, spec.threshold, spread), sums[chosen], varied, spec.threshold)
    return with_margin(spec, margin), again.numerics(margin, (FUSED, sums[chosen], varied)), spread


def _ordered(judge: Judge, table: ScoreTable, spec: FusionSpec) -> ScoreTable:
    """The table with its detectors as they are best asked: those that need no copies first, then by weight."""
    operations = {detector.name: len(detector.operations) for detector in judge.detectors}
    weight = {term.detector: term.weight for term in spec.terms}
    names = sorted(table.names, key=lambda name: (operations[name], -weight[name]))
    places = [table.names.index(name) for name in names]
    attacks = {name: scores[:, places] for name, scores in table.attacks.items()}
    return ScoreTable(tuple(names), table.normal[:, places], table.tracks, attacks, table.shifted)


def _left_out(table: ScoreTable, rule: str, rate: float) -> dict[str, Any]:
    """True-positive rates with each attack left out of the fit; thresholds from the same normal images."""
    found = {}
    for attack, scores in table.attacks.items():
        others = table.without([attack])
        if others.attacks:
            spec = fit(others, rule)
            limit = float(np.quantile(excess(spec, table.clean), 1 - rate, method="higher"))
            found[attack] = float((excess(spec, scores) > limit).mean())
    if not found:
        return {"worst": 0.0, "mean": 0.0, "by_attack": {}}
    return {"worst": min(found.values()), "mean": float(np.mean(list(found.values()))), "by_attack": found}


def _simplest(compared: dict[str, dict[str, Any]]) -> str:
    best = max(entry["worst"] for entry in compared.values())
    return next(name for name, entry in compared.items() if entry["worst"] >= best - _WORTH_IT)


def _early(spec: FusionSpec, table: ScoreTable, judge: Judge) -> dict[str, Any]:
    """How often early verdicts are those of all detectors, and how many images the classifier sees, on the images that
    the fusion was fitted on."""
    operations = {detector.name: detector.operations for detector in judge.detectors}
    result: dict[str, Any] = {}
    for name, scores in {"normal": table.clean, **table.attacks}.items():
        partial = shares(spec, scores).cumsum(axis=1)
        full = excess(spec, scores) > 0
        open_ = np.ones(len(scores), bool)
        early = full.copy()
        classified = np.ones(len(scores))
        seen: set[str] = set()
        for stop, term in enumerate(spec.terms):
            new = set(operations[term.detector]) - seen
            seen |= new
            classified[open_] += len(new)
            over = term.withhold_above is not None and scores[:, stop] > term.withhold_above
            caught = open_ & ((partial[:, stop] > spec.threshold) | over)
            left = np.zeros(len(scores), bool)
            if term.release_below is not None:
                left = open_ & (partial[:, stop] < term.release_below)
            early[left] = False
            open_ &= ~caught & ~left
        result[name] = {"agree": float((early == full).mean()), "mean_classified": float(classified.mean())}
    return result
