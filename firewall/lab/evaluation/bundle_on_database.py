"""Evaluate a bundle on an adversarial database: `firewall lab evaluate --database`.

What counts first is the wrong-release rate: the share of an attack's images for which a wrong label is released. Beside
it stand the share withheld and, for each detector, how well its scores separate attacked from benign images.

Two kinds of thresholds are kept apart. The bundle's own are what a user gets. Others are set on benign images that are
not judged and that no detector was fitted to; with these, detectors are compared at equal false-positive rates.
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
from firewall.lab.evaluation.attacked_images import AttackedImages, attacked_images, rate_json
from firewall.lab.evaluation.protocol import Protocol, protocol_of
from firewall.lab.evaluation.shifts import under_shift
from firewall.lab.measurement import metrics
from firewall.lab.measurement.bundle_verdicts import Judge, judge_of
from firewall.lab.measurement.by_group import by_group
from firewall.lab.measurement.intervals import rate_of
from firewall.lab.measurement.metrics import FEW
from firewall.lab.measurement.wrong_release import WronglyReleased, limits_at
from firewall.lab.models import Protected
from firewall.lab.training.detectors.leave_one_out import FAMILIES

__all__ = ["RATES", "Evaluation", "Scores", "evaluate_on_database", "few"]

#: False-positive rates at which detectors are compared.
RATES = (0.01, 0.05)
#: Wrongly released images of each attack that the page shows.
_SHOWN = 6

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of one detector, or the suspicion of all together.

    Attributes:
        normal: Of the benign images that are judged, (N,).
        calibration: Of those that thresholds are set on, (M,).
        attacks: Attack -> its images, (K,).
    """

    normal: Floats
    calibration: Floats
    attacks: dict[str, Floats]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of an evaluation.

    Attributes:
        summary: As `--json` writes it.
        scores: By detector, for pictures.
        wrong: Attack -> images for which a wrong label is released, for pictures.
    """

    summary: dict[str, Any]
    scores: dict[str, Scores]
    wrong: dict[str, tuple[WronglyReleased, ...]]


def evaluate_on_database(
    bundle: Bundle,
    database: Database,
    classifier: Protected,
    split: str = "eval",
    calibration: Database | None = None,
    *,
    shift: int = 0,
    seed: int = 0,
) -> Evaluation:
    """Evaluate a bundle on the images of some splits of a database.

    Args:
        bundle: The bundle.
        database: Attacks on its classifier.
        classifier: What the database was made on.
        split: train, dev or eval, several with commas, or all.
        calibration: Thresholds at equal false-positive rates are set on its benign images; None: on those of the other
            splits, attacked or in reserve. Images that a detector of the bundle was fitted to are left out.
        shift: Up to how many images of each kind are also judged under shift, see `firewall.lab.evaluation.shifts`.
        seed: Draws them.

    Raises:
        UsageError: There is no such split.
        DataError: A database is of another classifier; there are no images to judge or to set thresholds on; or a
            judged group is one that a detector was fitted to or that thresholds are set on.
    """
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
    found = {name: attacked_images(judge, database, name, how.splits) for name in database.card.attacks}
    attacked = {name: images for name, images in found.items() if images is not None}
    if not attacked:
        raise DataError(
            f"{database.folder} has no attacked images in its splits {', '.join(how.splits)}; attack more images"
        )
    by_attack = {name: judge.scores(images.measured) for name, images in attacked.items()}
    own, others = judge.scores(normal), judge.scores(reference)
    scores = {
        name: Scores(own[name], others[name], {attack: found[name] for attack, found in by_attack.items()})
        for name in own
    }
    summary = _summary(judge, database, how, scores, groups[how.judged], attacked)
    if shift:
        summary["shift"] = under_shift(judge, database, how.splits, shift, seed)
    return Evaluation(summary, scores, _examples(judge, scores, attacked))


def _summary(
    judge: Judge,
    database: Database,
    how: Protocol,
    scores: dict[str, Scores],
    normal_tracks: Integers,
    attacked: dict[str, AttackedImages],
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        name: {
            attack: _separation(entry, attack, normal_tracks, images.tracks, judge.thresholds[name])
            for attack, images in attacked.items()
        }
        for name, entry in scores.items()
    }
    verdicts = judge.verdicts({name: entry.normal for name, entry in scores.items()})
    withheld = ~verdicts.released
    false_positives = rate_of(withheld, normal_tracks)
    released = {
        attack: judge.verdicts({name: entry.attacks[attack] for name, entry in scores.items()}).released
        for attack in attacked
    }
    summary["bundle"] = {
        attack: _of_attack(images, released[attack], false_positives.value) for attack, images in attacked.items()
    }
    limits = limits_at(_suspicion(judge, {name: entry.calibration for name, entry in scores.items()}))
    for attack, images in attacked.items():
        found = _suspicion(judge, {name: entry.attacks[attack] for name, entry in scores.items()})
        summary["bundle"][attack]["wrong_release_at"] = {
            rate: images.wrong_release(found <= limit) for rate, limit in limits.items()
        }
    benign = _suspicion(judge, {name: entry.normal for name, entry in scores.items()})
    summary["families"] = _families(released, {attack: images.tracks for attack, images in attacked.items()})
    summary["normal"] = {
        "n": len(withheld),
        "groups": len(np.unique(normal_tracks)),
        "false_positive_rate": false_positives.value,
        "ci95": [false_positives.low, false_positives.high],
        "mean_classified": float(judge.classified(verdicts).mean()),
        "by_group": by_group(withheld, normal_tracks),
        "withheld_at": {rate: rate_json(rate_of(benign > limit, normal_tracks)) for rate, limit in limits.items()},
    }
    summary["worst"] = {
        "wrong_release": _worst(
            {
                name: {"n": entry["n"], "kept": -entry["wrong_release"]["rate"]}
                for name, entry in summary["bundle"].items()
            },
            "kept",
        ),
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
            spec.name: {
                "threshold": spec.threshold,
                "fitted": None if spec.fitted is None else _without_groups(spec.fitted),
            }
            for spec in judge.bundle.manifest.detectors
        },
        "fused": fusion is not None,
        "fusion_fitted": None if fusion is None or fusion.fitted is None else _without_groups(fusion.fitted),
        "notes": list(how.notes),
    }
    return summary


def _suspicion(judge: Judge, scores: dict[str, Floats]) -> Floats:
    """Of all detectors together, float64 (N,); `scores` may hold others' names too."""
    return judge.suspicion({detector.name: scores[detector.name] for detector in judge.detectors})


def _examples(
    judge: Judge, scores: dict[str, Scores], attacked: dict[str, AttackedImages]
) -> dict[str, tuple[WronglyReleased, ...]]:
    labels = judge.bundle.manifest.classifier.labels
    found = {}
    for attack, images in attacked.items():
        released = judge.verdicts({name: entry.attacks[attack] for name, entry in scores.items()}).released
        named = images.measured.labels
        places = np.flatnonzero(released & (named != images.labels))[:_SHOWN]
        found[attack] = tuple(
            WronglyReleased(images.measured.images[place], labels[images.labels[place]], labels[named[place]])
            for place in places
        )
    return found


def _of_attack(images: AttackedImages, released: npt.NDArray[np.bool_], false_positive_rate: float) -> dict[str, Any]:
    """What the bundle's own policy makes of an attack's images."""
    withheld = rate_of(~released, images.tracks)
    success = {} if images.success is None else {"attack_success": rate_json(images.success)}
    return {
        **few(len(images)),
        "n": len(images),
        "wrong_release": images.wrong_release(released),
        **success,
        "withheld": withheld.value,
        "ci95": [withheld.low, withheld.high],
        "accuracy": (withheld.value + 1 - false_positive_rate) / 2,
        "by_group": by_group(released, images.tracks),
    }


def _families(released: dict[str, npt.NDArray[np.bool_]], tracks: dict[str, Integers]) -> dict[str, Any]:
    """Family of attacks -> counts over the images of all its attacks; see `firewall.lab.measurement.by_group`."""
    found = {}
    for family, members in FAMILIES.items():
        present = [name for name in released if name in members]
        if present:
            hits, groups = ([each[name] for name in present] for each in (released, tracks))
            found[family] = {"attacks": present, **by_group(np.concatenate(hits), np.concatenate(groups))}
    return found


def _without_groups(fitted: Any) -> dict[str, Any]:
    """A record with the number of its groups instead of their list."""
    return {**fitted.model_dump(mode="json", exclude={"groups"}), "groups": len(fitted.groups.split())}


def few(count: int) -> dict[str, bool]:
    """The mark of an attack whose `count` of images is less than FEW; empty for others."""
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
