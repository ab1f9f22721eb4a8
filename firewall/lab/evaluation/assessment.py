"""Judge a bundle on an adversarial database: `firewall lab evaluate --database`.

Every detector, and the verdict of all together, on every attack, on images of some splits. Two kinds of thresholds are
kept apart: the bundle's own, which are what a user gets, and thresholds set on normal images that are not judged and
that no detector was fitted to, at which detectors can be compared at equal false-positive rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.bundle.certificate import judges
from firewall.errors import DataError
from firewall.lab.database import Database
from firewall.lab.database.normals import named_splits, normal_entries
from firewall.lab.database.variants import same_classifier
from firewall.lab.evaluation.protocol import Protocol, protocol_of
from firewall.lab.evaluation.shifts import under_shift
from firewall.lab.measurement import metrics
from firewall.lab.measurement.by_group import by_group
from firewall.lab.measurement.edge import Measured
from firewall.lab.measurement.judge import Judge, judge_of
from firewall.lab.measurement.metrics import FEW
from firewall.lab.models import Protected
from firewall.lab.training.detectors.leave_one_out import FAMILIES

__all__ = ["RATES", "Assessment", "Judge", "Scores", "assess", "few", "judge_of", "normals"]

#: False-positive rates at which detectors are compared.
RATES = (0.01, 0.05)

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """Of one detector, or of all together: on the normal images that are judged, on those that thresholds are set on,
    and by attack; each (N,)."""

    normal: Floats
    calibration: Floats
    attacks: dict[str, Floats]


@dataclass(frozen=True, eq=False)
class Assessment:
    """summary: as `--json` writes it. scores: by detector, for pictures."""

    summary: dict[str, Any]
    scores: dict[str, Scores]


def assess(
    bundle: Bundle,
    database: Database,
    classifier: Protected,
    split: str = "eval",
    calibration: Database | None = None,
    *,
    shift: int = 0,
    seed: int = 0,
) -> Assessment:
    """Judge `bundle` on the images of `split`: train, dev or eval, several with commas, or all.

    Thresholds at equal false-positive rates are set on the normal images of the other splits, attacked or in reserve,
    or on those of `calibration`, less what a detector of the bundle was fitted to. shift: up to how many images of each
    kind are also judged under shift (see lab.evaluation.shifts), drawn by `seed`. Raises UsageError for a split that
    isn't; DataError for a database of another classifier than the bundle's, for one without images to judge or to set
    thresholds on, and if a judged group is one that a detector was fitted to or that thresholds are set on."""
    for each in (database, calibration):
        if each is not None:
            same_classifier(each, classifier)
    judge = judge_of(bundle, classifier)
    how = protocol_of(bundle, database, named_splits(split), calibration)
    every = judge.normals(database)
    normal = every.subset(how.judged)
    if calibration is None:
        reference = every.subset(how.calibration.where)
    else:
        reference = judge.normals(calibration).subset(how.calibration.where)
    groups = np.array([entry.group for entry in normal_entries(database)])
    attacked: dict[str, Measured] = {}
    tracks: dict[str, Integers] = {}
    for name in database.card.attacks:
        entries = database.attacked(name).entries
        chosen = np.array([database.split_of(entry) in how.splits for entry in entries], bool)
        if chosen.any():
            attacked[name] = judge.attacked(database, name).subset(chosen)
            tracks[name] = groups[[entry.normal for entry, here in zip(entries, chosen, strict=True) if here]]
    if not attacked:
        raise DataError(
            f"{database.folder} has no attacked images in its splits {', '.join(how.splits)}; attack more images"
        )
    by_attack = {name: judge.scores(part) for name, part in attacked.items()}
    own, others = judge.scores(normal), judge.scores(reference)
    scores = {
        name: Scores(own[name], others[name], {attack: found[name] for attack, found in by_attack.items()})
        for name in own
    }
    summary = _summary(judge, database, how, scores, groups[how.judged], tracks)
    if shift:
        summary["shift"] = under_shift(judge, database, how.splits, shift, seed)
    return Assessment(summary, scores)


def normals(judge: Judge, database: Database) -> Measured:
    """All normal images of a database, in the order of `normal_entries`."""
    return judge.normals(database)


def _summary(
    judge: Judge,
    database: Database,
    how: Protocol,
    scores: dict[str, Scores],
    normal_tracks: Integers,
    tracks: dict[str, Integers],
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        name: {
            attack: _separation(entry, attack, normal_tracks, tracks[attack], judge.thresholds[name])
            for attack in tracks
        }
        for name, entry in scores.items()
    }
    withheld, classified = judge.verdicts({name: entry.normal for name, entry in scores.items()})
    summary["bundle"] = {}
    released: dict[str, npt.NDArray[np.bool_]] = {}
    for attack, of_attack in tracks.items():
        found, _ = judge.verdicts({name: entry.attacks[attack] for name, entry in scores.items()})
        point = metrics.operating_point(withheld, found, 0.5, normal_tracks=normal_tracks, adversarial_tracks=of_attack)
        summary["bundle"][attack] = few(len(found)) | {
            "n": len(found),
            "withheld": point.true_positives.value,
            "ci95": [point.true_positives.low, point.true_positives.high],
            "accuracy": point.balanced_accuracy,
            "by_group": by_group(~found, of_attack),
        }
        released[attack] = ~found
    summary["families"] = _families(released, tracks)
    summary["normal"] = {
        "n": len(withheld),
        "groups": len(np.unique(normal_tracks)),
        "false_positive_rate": point.false_positives.value,
        "ci95": [point.false_positives.low, point.false_positives.high],
        "mean_classified": float(classified.mean()),
        "by_group": by_group(withheld, normal_tracks),
    }
    summary["worst"] = {
        "bundle": _worst(summary["bundle"], "withheld"),
        "detectors": {name: _worst(summary[name], "auroc") for name in scores},
    }
    fusion = judge.bundle.manifest.fusion
    summary["about"] = {
        "bundle": judge.bundle.manifest.name,
        "bundle_sha256": judge.bundle.sha256,
        "judges": judges(judge.bundle.manifest),
        "split": ",".join(how.splits),
        "database": database.info(),
        "calibration_normals": len(next(iter(scores.values())).calibration),
        "calibration": how.described(),
        "detectors": {
            spec.name: {"threshold": spec.threshold, "fitted": None if spec.fitted is None else _told(spec.fitted)}
            for spec in judge.bundle.manifest.detectors
        },
        "fused": fusion is not None,
        "fusion_fitted": None if fusion is None or fusion.fitted is None else _told(fusion.fitted),
        "notes": list(how.notes),
    }
    return summary


def _families(released: dict[str, npt.NDArray[np.bool_]], tracks: dict[str, Integers]) -> dict[str, Any]:
    """By family of attacks, of the images of all its attacks together: see firewall.lab.measurement.by_group."""
    found = {}
    for family, members in FAMILIES.items():
        present = [name for name in released if name in members]
        if present:
            hits, groups = ([each[name] for name in present] for each in (released, tracks))
            found[family] = {"attacks": present, **by_group(np.concatenate(hits), np.concatenate(groups))}
    return found


def _told(fitted: Any) -> dict[str, Any]:
    """A record without the list of its groups."""
    return {**fitted.model_dump(mode="json", exclude={"groups"}), "groups": len(fitted.groups.split())}


def few(count: int) -> dict[str, bool]:
    """The mark of an attack with fewer images than FEW."""
    return {"few": True} if count < FEW else {}


def _worst(entries: dict[str, dict[str, Any]], key: str) -> str | None:
    """The attack with the least of `key`; None if all have too few images."""
    enough = {attack: entry[key] for attack, entry in entries.items() if entry["n"] >= FEW}
    return min(enough, key=enough.__getitem__) if enough else None


def _separation(
    scores: Scores, attack: str, normal_tracks: Integers, tracks: Integers, threshold: float
) -> dict[str, Any]:
    found = metrics.separate(
        scores.normal,
        scores.attacks[attack],
        calibration=scores.calibration,
        rates=RATES,
        normal_tracks=normal_tracks,
        adversarial_tracks=tracks,
    )
    own = metrics.operating_point(
        scores.normal, scores.attacks[attack], threshold, normal_tracks=normal_tracks, adversarial_tracks=tracks
    )
    points = {"1fpr": found.calibrated[0], "5fpr": found.calibrated[1], "own_threshold": own}
    intervals = {"auroc": [found.auroc.low, found.auroc.high], "eer": [found.eer.low, found.eer.high]}
    entry: dict[str, Any] = {"n": found.adversarial, "auroc": found.auroc.value, "eer": found.eer.value}
    for name, point in points.items():
        entry[f"tpr_at_{name}"] = point.true_positives.value
        entry[f"fpr_at_{name}"] = point.false_positives.value
        entry[f"accuracy_at_{name}"] = point.balanced_accuracy
        for kind, rate in (("tpr", point.true_positives), ("fpr", point.false_positives)):
            intervals[f"{kind}_at_{name}"] = [rate.low, rate.high]
    return {**entry, **few(found.adversarial), "ci95": intervals}
