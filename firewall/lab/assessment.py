"""Judge a bundle on an adversarial database: `firewall lab evaluate --database`.

Every detector, and the verdict of all together, on every attack, on images of one split. Two kinds of thresholds are
kept apart: the bundle's own, which are what a user gets, and thresholds set on the database's normal images of the
*other* splits, at which detectors can be compared at equal false-positive rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.detectors import Detector, build
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import DataError, UsageError
from firewall.lab import metrics
from firewall.lab.database import Database
from firewall.lab.database.card import Split
from firewall.lab.database.variants import of_database
from firewall.lab.measurement import Measured
from firewall.lab.models import Protected
from firewall.policy import Policy

__all__ = ["RATES", "Assessment", "Scores", "assess"]

#: False-positive rates at which detectors are compared.
RATES = (0.01, 0.05)


@dataclass(frozen=True, eq=False)
class Scores:
    """Of one detector: on normal images of the split, on normal images of the others, and by attack; each (N,)."""

    normal: npt.NDArray[np.float64]
    calibration: npt.NDArray[np.float64]
    attacks: dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Assessment:
    """summary: as `--json` writes it. scores: by detector, for pictures."""

    summary: dict[str, Any]
    scores: dict[str, Scores]


def assess(bundle: Bundle, database: Database, classifier: Protected, split: str = "eval") -> Assessment:
    """Judge `bundle` on the images of `split` (train, dev or eval).

    Raises UsageError for a split that isn't, DataError for a database of another classifier than the bundle's or
    without images in the split.
    """
    if split not in get_args(Split):
        raise UsageError(f"--split must be one of {', '.join(get_args(Split))}, got {split!r}")
    detectors = [_detector(bundle, index) for index in range(len(bundle.manifest.detectors))]
    operations = list(dict.fromkeys(name for detector in detectors for name in detector.operations))
    inside = np.array([entry.split == split for entry in database.card.normal])
    if not inside.any() or inside.all():
        raise DataError(
            f"{database.folder} has no normal images in its split {split!r}, or no others; attack more images"
        )
    everything = _measured(database, classifier, operations, None)
    normal, others = everything.subset(inside), everything.subset(~inside)
    groups = np.array([entry.group for entry in database.card.normal])
    attacked: dict[str, Measured] = {}
    tracks: dict[str, npt.NDArray[np.int64]] = {}
    for name in database.card.attacks:
        entries = database.attacked(name).entries
        chosen = np.array([database.split_of(entry) == split for entry in entries], bool)
        if chosen.any():
            attacked[name] = _measured(database, classifier, operations, name).subset(chosen)
            tracks[name] = groups[[entry.normal for entry, here in zip(entries, chosen, strict=True) if here]]
    scores = {
        detector.name: Scores(
            normal.scores(detector),
            others.scores(detector),
            {name: part.scores(detector) for name, part in attacked.items()},
        )
        for detector in detectors
    }
    thresholds = {spec.name: spec.threshold for spec in bundle.manifest.detectors}
    summary: dict[str, Any] = {
        name: {
            attack: _separation(entry, attack, groups[inside], tracks[attack], thresholds[name]) for attack in attacked
        }
        for name, entry in scores.items()
    }
    withheld, classified = _verdicts(detectors, thresholds, {name: entry.normal for name, entry in scores.items()})
    summary["normal"] = {
        "n": len(normal),
        "false_positive_rate": float(withheld.mean()),
        "ci95": metrics.rate_interval(int(withheld.sum()), len(withheld)),
        "mean_classified": float(classified.mean()),
    }
    summary["bundle"] = {
        attack: _withheld(
            _verdicts(detectors, thresholds, {name: entry.attacks[attack] for name, entry in scores.items()})[0]
        )
        for attack in attacked
    }
    summary["about"] = {
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "split": split,
        "database": database.info(),
        "calibration_normals": len(others),
    }
    return Assessment(summary, scores)


def _detector(bundle: Bundle, index: int) -> Detector:
    return build(bundle.manifest.detectors[index], lambda file: OnnxRuntimeNetwork(bundle.files[file], file, threads=1))


def _measured(database: Database, classifier: Protected, operations: list[str], attack: str | None) -> Measured:
    variants = of_database(database, classifier, operations, attack)
    images = database.normal if attack is None else database.attacked(attack).images
    return Measured(images, variants.original, variants.operations, variants.copies)


def _separation(
    scores: Scores,
    attack: str,
    normal_tracks: npt.NDArray[np.int64],
    tracks: npt.NDArray[np.int64],
    threshold: float,
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
        scores.normal,
        scores.attacks[attack],
        threshold,
        normal_tracks=normal_tracks,
        adversarial_tracks=tracks,
    )
    first, second = found.calibrated
    return {
        "n": found.adversarial,
        "auroc": found.auroc.value,
        "eer": found.eer.value,
        "tpr_at_1fpr": first.true_positives.value,
        "tpr_at_5fpr": second.true_positives.value,
        "fpr_at_1fpr": first.false_positives.value,
        "fpr_at_5fpr": second.false_positives.value,
        "tpr_at_own_threshold": own.true_positives.value,
        "ci95": {
            "auroc": [found.auroc.low, found.auroc.high],
            "eer": [found.eer.low, found.eer.high],
            "tpr_at_1fpr": [first.true_positives.low, first.true_positives.high],
            "tpr_at_5fpr": [second.true_positives.low, second.true_positives.high],
        },
    }


def _verdicts(
    detectors: list[Detector], thresholds: dict[str, float], scores: dict[str, npt.NDArray[np.float64]]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which images the bundle withholds, and how many images the classifier sees for each, as on the edge."""
    policy = Policy(thresholds)
    order = sorted(detectors, key=lambda detector: len(detector.operations))
    count = len(next(iter(scores.values())))
    withheld, classified = np.zeros(count, bool), np.ones(count, np.int64)
    for index in range(count):
        known: dict[str, float] = {}
        seen: set[str] = set()
        for detector in order:
            if policy.excess(known) > 0:
                break
            seen.update(detector.operations)
            known[detector.name] = float(scores[detector.name][index])
        withheld[index] = not policy.judge(known).released
        classified[index] += len(seen)
    return withheld, classified


def _withheld(verdicts: npt.NDArray[np.bool_]) -> dict[str, Any]:
    hits = int(verdicts.sum())
    return {"n": len(verdicts), "withheld": hits / len(verdicts), "ci95": metrics.rate_interval(hits, len(verdicts))}
