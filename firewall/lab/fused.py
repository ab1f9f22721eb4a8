"""Give a bundle one fused suspicion: `firewall lab fuse`.

Two sets of images take part, and they share no track with each other nor with what a detector was fitted to. On the
first, normal and attacked, the weights and early exits are fitted; on the second, normal alone, the threshold is set.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, FusionSpec, Seen, write_bundle
from firewall.errors import DataError, UsageError
from firewall.lab.assessment import FEW
from firewall.lab.database import Database
from firewall.lab.database.card import Split
from firewall.lab.database.normals import calibration_mask, normal_entries
from firewall.lab.database.seen import record, unseen
from firewall.lab.database.variants import same_classifier
from firewall.lab.fusing import RULES, ScoreTable, excess, fit, shares, with_early_exits, with_threshold
from firewall.lab.judge import Judge, judge_of
from firewall.lab.measurement import Measured
from firewall.lab.models import Protected

__all__ = ["Fused", "fuse", "score_table"]

#: The rule is left for a more elaborate one only where its worst unseen attack gains at least this share.
_WORTH_IT = 0.01


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
    *,
    rate: float = 0.01,
    rule: str = "auto",
    loss: float = 0.005,
    splits: Collection[str] = get_args(Split),
) -> Fused:
    """Write `bundle` with a fusion to `out`.

    database: attacks on the bundle's classifier, for weights and early exits. calibration: its normal images, attacked
    or in reserve, set the threshold; images of tracks that the detectors or the fusion were fitted to are left out.
    rate: share of frames of new tracks that may be withheld. rule: one of RULES, or auto: the simplest whose worst
    attack, left out of the fit, is within 1 % of the best. loss: share of an attack's images that early exits may lose.
    splits: of the calibration database; the others are left for judging.

    Raises UsageError for an unknown rule or a rate outside (0, 1), DataError for databases of another classifier, too
    few tracks for the rate, or no images to fit or calibrate on.
    """
    if rule not in ("auto", *RULES):
        raise UsageError(f"--rule must be one of auto, {', '.join(RULES)}, got {rule!r}")
    for each in (database, calibration):
        same_classifier(each, classifier)
    judge = judge_of(bundle, classifier)
    table, fitted = score_table(judge, database)
    compared = {name: _left_out(table, name, rate) for name in RULES} if rule == "auto" else {}
    chosen = _simplest(compared) if rule == "auto" else rule
    table = _ordered(judge, table, fit(table, chosen))
    normal, tracks, used = _calibration_scores(judge, calibration, fitted, table.names, splits)
    spec = with_threshold(fit(table, chosen), normal, tracks, rate)
    spec = with_early_exits(spec, table, loss).model_copy(update={"fitted": fitted})
    above = excess(spec, normal) > 0
    report = {
        "rule": chosen,
        "rules": compared,
        "fusion": spec.model_dump(mode="json", exclude={"fitted"}),
        "fitted": {
            "database": database.info()["dataset"],
            "part": fitted.part,
            "splits": list(fitted.splits),
            "normal": len(table.normal),
            "tracks": len(np.unique(table.tracks)),
            "attacks": {name: len(scores) for name, scores in table.attacks.items()},
        },
        "calibration": {
            "part": used.part,
            "normal": len(normal),
            "tracks": len(np.unique(tracks)),
            "rate_asked": rate,
            "withheld": float(above.mean()),
            "tracks_with_a_withheld_frame": len(np.unique(tracks[above])),
        },
        "early": _early(spec, table, judge),
    }
    card = bundle.manifest.calibration.model_copy(
        update={
            "data": f"fused threshold: {len(normal)} normal images of {len(np.unique(tracks))} groups of "
            f"{used.dataset}, part {used.part}; detectors' own: {bundle.manifest.calibration.data}",
            "images": len(normal),
            "tracks": len(np.unique(tracks)),
            "false_positive_rate": rate,
            "rates": {
                **bundle.manifest.calibration.rates,
                "fused, withheld on calibration images": float(above.mean()),
            },
            "seen": used,
        }
    )
    kept = {
        name: getattr(bundle.manifest, name) for name in ("name", "created", "classifier", "detectors", "citations")
    }
    written = write_bundle(out, bundle.files, **kept, versions=bundle.manifest.versions, calibration=card, fusion=spec)
    return Fused(written, report)


def score_table(judge: Judge, database: Database) -> tuple[ScoreTable, Seen]:
    """Scores on the images of a database that no detector of the bundle was fitted to, and the record of these images.

    Attacks with fewer than 10 images are left out. Raises DataError if nothing is left.
    """
    entries = normal_entries(database)
    where, _ = calibration_mask(database, _trained(judge), ())
    groups = np.array([entry.group for entry in entries], np.int64)
    free = set(groups[where].tolist())
    attacks = {}
    for name in database.card.attacks:
        attacked = database.attacked(name)
        chosen = np.array([int(groups[entry.normal]) in free for entry in attacked.entries], bool)
        if chosen.sum() >= FEW:
            attacks[name] = _columns(judge, judge.attacked(database, name).subset(chosen))
    if not where.any() or not attacks:
        raise DataError(
            f"{database.folder} has no normal or no attacked images that the bundle's detectors were not fitted to; "
            "attack more images, or name another database"
        )
    table = ScoreTable(
        tuple(detector.name for detector in judge.detectors),
        _columns(judge, judge.normals(database).subset(where)),
        groups[where],
        attacks,
    )
    return table, record(database.card, [entry for entry, here in zip(entries, where, strict=True) if here])


def _trained(judge: Judge) -> list[tuple[str, Seen | None]]:
    """The detectors that learnt from images, and from which."""
    specs = judge.bundle.manifest.detectors
    return [(spec.name, spec.fitted) for spec in specs if spec.fitted is not None or "file" in spec.parameters]


def _columns(judge: Judge, measured: Measured) -> npt.NDArray[np.float64]:
    return np.stack([measured.scores(detector) for detector in judge.detectors], axis=1)


def _calibration_scores(
    judge: Judge, calibration: Database, fitted: Seen, names: tuple[str, ...], splits: Collection[str]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], Seen]:
    entries = normal_entries(calibration)
    where, _ = calibration_mask(calibration, _trained(judge), ())
    where &= np.array([entry.split in splits for entry in entries], bool)
    where &= unseen(entries, [fitted], calibration.card.dataset)
    if not where.any():
        raise DataError(
            f"{calibration.folder} has no normal images but those that the detectors or the fusion were fitted to; "
            "name another database with --calibration"
        )
    scores = _columns(judge, judge.normals(calibration).subset(where))
    places = [[detector.name for detector in judge.detectors].index(name) for name in names]
    kept = [entry for entry, here in zip(entries, where, strict=True) if here]
    return scores[:, places], np.array([entry.group for entry in kept], np.int64), record(calibration.card, kept)


def _ordered(judge: Judge, table: ScoreTable, spec: FusionSpec) -> ScoreTable:
    """The table with its detectors as they are best asked: those that need no copies first, then by weight."""
    operations = {detector.name: len(detector.operations) for detector in judge.detectors}
    weight = {term.detector: term.weight for term in spec.terms}
    names = sorted(table.names, key=lambda name: (operations[name], -weight[name]))
    places = [table.names.index(name) for name in names]
    attacks = {name: scores[:, places] for name, scores in table.attacks.items()}
    return ScoreTable(tuple(names), table.normal[:, places], table.tracks, attacks)


def _left_out(table: ScoreTable, rule: str, rate: float) -> dict[str, Any]:
    """True-positive rates with each attack left out of the fit; thresholds from the same normal images."""
    found = {}
    for attack, scores in table.attacks.items():
        others = table.without([attack])
        if others.attacks:
            spec = fit(others, rule)
            limit = float(np.quantile(excess(spec, table.normal), 1 - rate, method="higher"))
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
    for name, scores in {"normal": table.normal, **table.attacks}.items():
        partial = shares(spec, scores).cumsum(axis=1)
        full = partial[:, -1] > spec.threshold
        open_ = np.ones(len(scores), bool)
        early = full.copy()
        classified = np.ones(len(scores))
        seen: set[str] = set()
        for stop, term in enumerate(spec.terms):
            new = set(operations[term.detector]) - seen
            seen |= new
            classified[open_] += len(new)
            caught = open_ & (partial[:, stop] > spec.threshold)
            left = np.zeros(len(scores), bool)
            if term.release_below is not None:
                left = open_ & (partial[:, stop] < term.release_below)
            early[left] = False
            open_ &= ~caught & ~left
        result[name] = {"agree": float((early == full).mean()), "mean_classified": float(classified.mean())}
    return result
