"""Train the statistics detector on a database: `firewall lab train statistics`.

As the paper (Nguyen H., Kuribayashi et al., sections 3.2 and 3.3): features of the first five labels under the
operations, four kinds of classifier, trained on the train split, measured on the eval split; and the correction, on the
whole database. What the paper doesn't have is kept apart: figures by attack.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from firewall.detectors.statistics import corrected, counting, differences, families, top_labels
from firewall.errors import DataError, UsageError
from firewall.export.tabular import to_onnx
from firewall.lab import metrics
from firewall.lab.database import Database
from firewall.lab.database.card import Split
from firewall.lab.database.seen import seen
from firewall.lab.database.shards import write_file
from firewall.lab.database.variants import Variants, of_database
from firewall.lab.models import Protected
from firewall.transforms import OPERATIONS_38

__all__ = ["FEATURES", "GROUPS", "MODELS", "Settings", "train"]

FEATURES = ("counting", "differences")

#: The paper's choices of operations (table 4).
GROUPS: dict[str, tuple[str, ...]] = {
    "jpeg": tuple(name for name in OPERATIONS_38 if name.startswith("jpeg:")),
    "scaling": tuple(name for name in OPERATIONS_38 if name.startswith("scale:")),
    "blur": tuple(name for name in OPERATIONS_38 if name.startswith("blur:")),
    "rotation": tuple(name for name in OPERATIONS_38 if name.startswith("rotate:")),
    "jpeg+scaling": tuple(name for name in OPERATIONS_38 if name.startswith(("jpeg:", "scale:"))),
    "all": OPERATIONS_38,
}

#: The paper's classifiers, with scikit-learn's defaults where it names no parameter.
MODELS = ("svm", "forest", "lda", "mlp")


@dataclass(frozen=True, slots=True)
class Settings:
    """model: of MODELS. feature: of FEATURES. operations: of GROUPS. table: measure all 48 of table 4 too."""

    model: str = "svm"
    feature: str = "differences"
    operations: str = "all"
    seed: int = 0
    table: bool = False

    def __post_init__(self) -> None:
        for option, value, allowed in (
            ("--model", self.model, MODELS),
            ("--feature", self.feature, FEATURES),
            ("--operations", self.operations, tuple(GROUPS)),
        ):
            if value not in allowed:
                raise UsageError(f"{option} must be one of {', '.join(allowed)}, got {value!r}")


@dataclass(frozen=True, eq=False)
class _Material:
    """Of normal images and of all attacks' together. attack: "" where normal. split: train, dev or eval."""

    variants: Variants
    labels: npt.NDArray[np.int64]
    attack: npt.NDArray[np.str_]
    split: npt.NDArray[np.str_]

    @property
    def adversarial(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.attack != "")


def train(database: Database, classifier: Protected, out: Path, settings: Settings) -> dict[str, Any]:
    """Train, measure, and write `detector.json` and `detector.onnx` to `out`; returns what the former says.

    Raises DataError if a split lacks normal or adversarial images, or the database was made on another classifier.
    """
    material = _gathered(database, classifier)
    for split in ("train", "eval"):
        for kind, there in (("normal", ~material.adversarial), ("adversarial", material.adversarial)):
            if not (there & (material.split == split)).any():
                raise DataError(f"{database.folder} has no {kind} images in its split {split!r}; attack more images")
    operations = GROUPS[settings.operations]
    model, scores = _fitted(material, settings.model, settings.feature, operations, settings.seed)
    info = database.info()
    report: dict[str, Any] = {
        "name": "statistics",
        "parameters": {"file": "detector.onnx", "feature": settings.feature, "operations": list(operations)},
        "classifier_sha256": classifier.sha256,
        "fitted": seen(database, ("train",)).model_dump(mode="json"),
        "model": settings.model,
        "seed": settings.seed,
        "database": {key: info[key] for key in ("dataset", "classifier", "normal", "adversarial", "splits", "seed")},
        "eval": _measured(material, model, scores, "eval"),
        "correction": {
            name: _correction(material, GROUPS[name]) for name in ("jpeg", "scaling", "jpeg+scaling", "all")
        },
    }
    if settings.table:
        report["table"] = _table(material, settings.seed)
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "detector.onnx", to_onnx(model, metadata={"detector": "statistics"}))
    write_file(out / "detector.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def _gathered(database: Database, classifier: Protected) -> _Material:
    card = database.card
    parts = [of_database(database, classifier, OPERATIONS_38)]
    labels = [[entry.label for entry in card.normal]]
    attacks = [[""] * len(card.normal)]
    splits: list[list[Split]] = [[entry.split for entry in card.normal]]
    for name in card.attacks:
        attacked = database.attacked(name)
        parts.append(of_database(database, classifier, OPERATIONS_38, name))
        labels.append([card.normal[entry.normal].label for entry in attacked.entries])
        attacks.append([name] * len(attacked.entries))
        splits.append([database.split_of(entry) for entry in attacked.entries])
    variants = Variants(
        tuple(OPERATIONS_38),
        np.concatenate([part.original for part in parts]),
        np.concatenate([part.copies for part in parts]),
    )
    flat = np.array([label for part in labels for label in part], np.int64) + classifier.offset
    names, sides = (np.array([value for part in lists for value in part]) for lists in (attacks, splits))
    return _Material(variants, flat, names, sides)


def _features(variants: Variants, feature: str) -> npt.NDArray[np.float32]:
    original, copies = top_labels(variants.original), top_labels(variants.copies)
    if feature == "differences":
        return differences(original, copies)
    return counting(original, copies, families(variants.operations))


def _model(name: str, seed: int) -> Any:
    if name == "svm":
        return SVC()
    if name == "forest":
        return RandomForestClassifier(n_estimators=100, max_depth=2, random_state=seed)
    if name == "lda":
        return LinearDiscriminantAnalysis()
    return MLPClassifier(max_iter=1000, early_stopping=True, random_state=seed)


def _fitted(
    material: _Material, name: str, feature: str, operations: tuple[str, ...], seed: int
) -> tuple[Any, npt.NDArray[np.float64]]:
    """A model trained on the train split, and its score of every image."""
    features = _features(material.variants.select(operations), feature)
    chosen = material.split == "train"
    model = _model(name, seed).fit(features[chosen], material.adversarial[chosen].astype(np.int64))
    if hasattr(model, "decision_function"):
        return model, np.asarray(model.decision_function(features), np.float64)
    return model, np.asarray(model.predict_proba(features)[:, 1], np.float64)


def _boundary(model: Any) -> float:
    return 0.0 if hasattr(model, "decision_function") else 0.5


def _measured(material: _Material, model: Any, scores: npt.NDArray[np.float64], split: str) -> dict[str, Any]:
    where = material.split == split
    said = scores > _boundary(model)
    right = said == material.adversarial
    normal = where & ~material.adversarial
    result: dict[str, Any] = {
        "accuracy": float(right[where].mean()),
        "accuracy_ci95": metrics.rate_interval(int(right[where].sum()), int(where.sum())),
        "n": int(where.sum()),
        "normal": {"n": int(normal.sum()), "false_positive_rate": float(said[normal].mean())},
        "attacks": {},
    }
    for attack in dict.fromkeys(material.attack[material.adversarial].tolist()):
        here = where & (material.attack == attack)
        if not here.any():
            continue
        result["attacks"][attack] = {
            "n": int(here.sum()),
            "true_positive_rate": float(said[here].mean()),
            "auroc": metrics.auroc(scores[normal], scores[here]),
            "auroc_ci95": metrics.auroc_interval(scores[normal], scores[here]),
        }
    return result


def _correction(material: _Material, operations: tuple[str, ...]) -> dict[str, Any]:
    """Section 3.3 of the paper on the whole database. right: the true label is among the corrected five (as there), or
    is the first of them. Repaired and harmed are of the classifier's first label."""
    copies = top_labels(material.variants.select(operations).copies)
    fixed = np.stack([corrected(labels) for labels in copies])
    top5, top1 = (fixed == material.labels[:, np.newaxis]).any(axis=1), fixed[:, 0] == material.labels
    bad = material.adversarial
    return {
        "normal_top5": float(top5[~bad].mean()),
        "adversarial_top5": float(top5[bad].mean()),
        "repaired_top1": float(top1[bad].mean()),
        "harmed_top1": float(1 - top1[~bad].mean()),
        "by_attack_top1": {
            attack: float(top1[material.attack == attack].mean())
            for attack in dict.fromkeys(material.attack[bad].tolist())
        },
    }


def _table(material: _Material, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy on the eval split: model -> operations -> feature, the paper's table 4."""
    where = material.split == "eval"
    table: dict[str, dict[str, dict[str, float]]] = {}
    for name in MODELS:
        table[name] = {}
        for group, operations in GROUPS.items():
            table[name][group] = {}
            for feature in FEATURES:
                model, scores = _fitted(material, name, feature, operations, seed)
                right = (scores > _boundary(model)) == material.adversarial
                table[name][group][feature] = float(right[where].mean())
    return table
