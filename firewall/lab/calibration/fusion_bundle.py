"""Give a bundle a fusion: `firewall lab fuse`.

Two sets of images take part. They share no track with each other, nor with what a detector was fitted to. Weights and
early exits are fitted to the first, benign and attacked; the threshold is set on the second, benign images alone. All
scores are those of the bundle's own engine. Each limit gets a margin for what another processor may compute.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from firewall.bundle import Bundle, FusionSpec
from firewall.bundle.numerics import FUSED, Numerics
from firewall.decision.fusion import Fusion, excess_of, shares_of
from firewall.decision.policy import Policy
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import UsageError
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.calibration.fusion_data import Normals, calibration_scores, score_table
from firewall.lab.calibration.fusion_fit import (
    RULES,
    ScoreTable,
    fit,
    rise,
    with_early_exits,
    with_limits,
    with_margin,
    with_threshold,
)
from firewall.lab.database import Database
from firewall.lab.database.card import Split
from firewall.lab.database.variants import same_classifier
from firewall.lab.measurement.bundle_verdicts import Judge, early_verdicts, judge_of
from firewall.lab.measurement.conformal import track_threshold
from firewall.lab.measurement.numerics import leeway, rescore, sampled
from firewall.lab.models import Protected

__all__ = ["Fused", "FusionSettings", "fuse"]

#: By how much a more elaborate rule has to raise the true-positive rate on its worst unseen attack to be chosen.
_WORTH_IT = 0.01


@dataclass(frozen=True)
class FusionSettings:
    """How a fusion is fitted and calibrated.

    Attributes:
        rate: Share of the frames of new tracks that may be withheld, between 0 and 1.
        rule: One of RULES; or "auto", the simplest rule whose true-positive rate on the worst attack, which was left
            out of the fit, is within 0.01 of the best.
        loss: Share of an attack's images, 0 to 1, that early exits may release although all detectors together would
            withhold them.
        shift: Up to how many benign images come once more under each shift of `firewall.lab.datasets.shifts`, when
            weights are fitted and when the threshold is set; 0 for none.
        shift_rate: The threshold rises until at most this share of them is withheld under each shift; below 1. With 0
            it stays where `rate` puts it.
        splits: Splits of the calibration database to use; the others are kept for evaluation.
        without: Attacks to leave out of the fit.
        alone: Detectors that get a limit of their own, above which they withhold whatever the others say; see
            `with_limits`.

    Raises:
        UsageError: A value is outside of what is stated here.
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
        if not 0 <= self.loss <= 1:
            raise UsageError(f"--loss must be a share, 0 to 1, got {self.loss}")
        if not 0 <= self.shift_rate < 1:
            raise UsageError(f"--shift-rate must be 0 (not looked at) or a share below 1, got {self.shift_rate}")
        if self.shift < 0:
            raise UsageError(f"--shift must be 0 or more images, got {self.shift}")


@dataclass(frozen=True, eq=False)
class Fused:
    """What `fuse` makes.

    Attributes:
        bundle: The bundle that was written.
        report: How its fusion came about, ready for JSON.
    """

    bundle: Bundle
    report: dict[str, Any]


def fuse(
    bundle: Bundle,
    classifier: Protected,
    database: Database,
    calibration: Database,
    out: Path,
    settings: FusionSettings | None = None,
    *,
    correction: tuple[dict[str, Any], dict[str, float]] | None = None,
) -> Fused:
    """Write the next version of a bundle, with a fusion.

    Args:
        bundle: Its detectors are fused.
        classifier: Its classifier.
        database: Attacks on the classifier, for weights and early exits.
        calibration: Its benign images, attacked or in reserve, set the threshold. Images of tracks that the detectors
            or the fusion were fitted to are left out.
        out: Folder of the new bundle.
        settings: None for the defaults.
        correction: Of `load_correction`; takes the place of the bundle's own. None: that is kept.

    Raises:
        DataError: A database is of another classifier, there are too few tracks for the rate, or no image is left to
            fit to or to calibrate on.
    """
    settings = settings or FusionSettings()
    for each in (database, calibration):
        same_classifier(each, classifier)
    judge = judge_of(bundle, classifier)
    table, fitted = score_table(judge, database, shift=settings.shift, without=settings.without)
    compared = {name: _left_out(table, name, settings.rate) for name in RULES} if settings.rule == "auto" else {}
    chosen = _simplest(compared) if settings.rule == "auto" else settings.rule
    table = _ordered(judge, table, fit(table, chosen))
    normals = calibration_scores(judge, calibration, fitted, table.names, settings.splits, shift=settings.shift)
    spec = _calibrated(fit(table, chosen), normals, settings)
    spec, numerics, spread = _widened(spec, judge, normals)
    spec = with_early_exits(spec, table, settings.loss, spread).model_copy(update={"fitted": fitted})
    shifts = {name: float((excess_of(spec, rows) > 0).mean()) for name, (rows, _) in normals.shifted.items()}
    above = excess_of(spec, normals.scores) > 0
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
            "rate_asked": settings.rate,
            "withheld": float(above.mean()),
            "tracks_with_a_withheld_frame": len(np.unique(tracks[above])),
            "shift_rate_asked": settings.shift_rate,
            "shifts": shifts,
        },
        "numerics": numerics.model_dump(mode="json"),
        "early": _early(spec, table, judge),
    }
    shifted = f", and on {settings.shift} of them under each shift" if settings.shift and settings.shift_rate else ""
    card = bundle.manifest.calibration.model_copy(
        update={
            "data": f"fused threshold: {len(tracks)} benign images of {len(np.unique(tracks))} groups of "
            f"{used.dataset}, part {used.part}{shifted}; detectors' own: {bundle.manifest.calibration.data}",
            "images": len(tracks),
            "tracks": len(np.unique(tracks)),
            "false_positive_rate": settings.rate,
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


def _calibrated(spec: FusionSpec, normals: Normals, settings: FusionSettings) -> FusionSpec:
    """The threshold that keeps the rate on benign images and, if asked for, the rate under each shift."""
    alone = [term.detector for term in spec.terms if term.detector in settings.alone]
    spec = with_threshold(spec, normals.scores, normals.tracks, settings.rate)
    spec = with_limits(spec, normals.scores, normals.tracks, settings.rate, alone)
    sums = {name: shares_of(spec, rows).sum(axis=1) for name, (rows, _) in normals.shifted.items()}
    if settings.shift_rate:
        limits = [
            track_threshold(
                sums[name],
                rows[1],
                settings.shift_rate,
                option="--shift-rate",
                note=f" among the {len(rows[1])} images under each shift (--shift)",
            )
            for name, rows in normals.shifted.items()
        ]
        spec = spec.model_copy(update={"threshold": max([spec.threshold, *limits])})
    return spec


def _widened(spec: FusionSpec, judge: Judge, normals: Normals) -> tuple[FusionSpec, Numerics, dict[str, float]]:
    """The limits raised by their margins, the record of these, and by how much rounding may move each score."""
    names = [term.detector for term in spec.terms]
    sums = shares_of(spec, normals.scores).sum(axis=1)
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
    varied = shares_of(spec, again.table(again.varied)).sum(axis=-1)
    margin = {name: again.margin(name, alone.get(name)) for name in names}
    margin[FUSED] = leeway(rise(spec, spec.threshold, spread), sums[chosen], varied, spec.threshold)
    return with_margin(spec, margin), again.numerics(margin, (FUSED, sums[chosen], varied)), spread


def _ordered(judge: Judge, table: ScoreTable, spec: FusionSpec) -> ScoreTable:
    """The table with its detectors in the order to ask them in: those that need no copies first, then by weight."""
    operations = {detector.name: len(detector.operations) for detector in judge.detectors}
    weight = {term.detector: term.weight for term in spec.terms}
    names = sorted(table.names, key=lambda name: (operations[name], -weight[name]))
    places = [table.names.index(name) for name in names]
    attacks = {name: scores[:, places] for name, scores in table.attacks.items()}
    return ScoreTable(tuple(names), table.normal[:, places], table.tracks, attacks, table.shifted)


def _left_out(table: ScoreTable, rule: str, rate: float) -> dict[str, Any]:
    """True-positive rates on each attack with a fit that left it out; thresholds from the same benign images."""
    found = {}
    for attack, scores in table.attacks.items():
        others = table.without([attack])
        if others.attacks:
            spec = fit(others, rule)
            limit = float(np.quantile(excess_of(spec, table.clean), 1 - rate, method="higher"))
            found[attack] = float((excess_of(spec, scores) > limit).mean())
    if not found:
        return {"worst": 0.0, "mean": 0.0, "by_attack": {}}
    return {"worst": min(found.values()), "mean": float(np.mean(list(found.values()))), "by_attack": found}


def _simplest(compared: dict[str, dict[str, Any]]) -> str:
    best = max(entry["worst"] for entry in compared.values())
    return next(name for name, entry in compared.items() if entry["worst"] >= best - _WORTH_IT)


def _early(spec: FusionSpec, table: ScoreTable, judge: Judge) -> dict[str, Any]:
    """On the images that the fusion was fitted to: the share of early verdicts that agree with those of all detectors,
    and how many images the classifier sees for a verdict on average."""
    operations = {detector.name: detector.operations for detector in judge.detectors}
    policy, result = Policy(Fusion(spec)), {}
    for name, scores in {"normal": table.clean, **table.attacks}.items():
        found = early_verdicts(policy, dict(zip(table.names, scores.T, strict=True)))
        classified = found.classified([operations[detector] for detector in table.names])
        agree = found.released == (excess_of(spec, scores) <= 0)
        result[name] = {"agree": float(agree.mean()), "mean_classified": float(classified.mean())}
    return result
