"""Train the statistics detector on a database: `firewall lab train statistics`.

As the paper (Nguyen H., Kuribayashi et al., sections 3.2 and 3.3): features of the first five labels under the
operations, four kinds of classifier, trained on the train split, measured on the eval split; and the correction, on the
whole database. What the paper doesn't have is kept apart: figures by attack, and the odds feature, whose classifiers
have their parameters chosen on the dev split.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from firewall.detectors.statistics import counting, differences, families, label_odds, top_labels
from firewall.errors import UsageError
from firewall.export.tabular import to_onnx
from firewall.lab.database import Database
from firewall.lab.database.seen import seen
from firewall.lab.database.shards import write_file
from firewall.lab.database.swept import Swept, sweep
from firewall.lab.database.variants import Variants
from firewall.lab.measurement import metrics
from firewall.lab.models import Protected
from firewall.lab.training.detectors.correction import corrected_rates
from firewall.transforms import OPERATIONS_38

__all__ = ["FEATURES", "FEW", "GROUPS", "MODELS", "Features", "Fitted", "Settings", "accuracies", "fit", "train"]

Floats = npt.NDArray[np.float64]

#: The paper's two, and ours.
FEATURES = ("counting", "differences", "odds")

#: The paper's choices of operations (table 4).
GROUPS: dict[str, tuple[str, ...]] = {
    "jpeg": tuple(name for name in OPERATIONS_38 if name.startswith("jpeg:")),
    "scaling": tuple(name for name in OPERATIONS_38 if name.startswith("scale:")),
    "blur": tuple(name for name in OPERATIONS_38 if name.startswith("blur:")),
    "rotation": tuple(name for name in OPERATIONS_38 if name.startswith("rotate:")),
    "jpeg+scaling": tuple(name for name in OPERATIONS_38 if name.startswith(("jpeg:", "scale:"))),
    "all": OPERATIONS_38,
}

#: Few copies, for odds: found on the dev split of a database of signs by adding what helps most, one after the other.
#: "alone" is no copy at all, to compare with: what the classifier's confidence tells by itself.
FEW: dict[str, tuple[str, ...]] = {
    "alone": (),
    "two": ("scale:1.15", "blur:3"),
    "four": ("scale:1.15", "blur:3", "scale:1.05", "blur:2"),
}

#: The paper's classifiers, with scikit-learn's defaults where it names no parameter.
MODELS = ("svm", "forest", "lda", "mlp")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is trained.

    Args:
        model: One of MODELS.
        feature: One of FEATURES.
        operations: A key of GROUPS, or with odds of FEW.
        seed: What the models' random numbers depend on.
        table: Measure every combination of the paper's table 4 too.
        attacks: Names; none: all that the database has images of.

    Raises:
        UsageError: A setting is not allowed.
    """

    model: str = "svm"
    feature: str = "differences"
    operations: str = "all"
    seed: int = 0
    table: bool = False
    attacks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for option, value, allowed in (
            ("--model", self.model, MODELS),
            ("--feature", self.feature, FEATURES),
            ("--operations", self.operations, (*GROUPS, *(FEW if self.feature == "odds" else ()))),
        ):
            if value not in allowed:
                raise UsageError(f"{option} must be one of {', '.join(allowed)}, got {value!r}")

    @property
    def names(self) -> tuple[str, ...]:
        """The operations."""
        return {**GROUPS, **FEW}[self.operations]


class Features:
    """The features of many images, for any choice of operations; what they share is computed once.

    Args:
        variants: What the classifier says of the images and their copies.
    """

    def __init__(self, variants: Variants) -> None:
        self.operations = variants.operations
        self._first, self._others = top_labels(variants.original), top_labels(variants.copies)
        self._odds = label_odds(variants.original, variants.copies)

    def of(self, feature: str, operations: Sequence[str]) -> npt.NDArray[np.float32]:
        """The features under some operations.

        Args:
            feature: One of FEATURES.
            operations: Names.

        Returns:
            Float32 (N, F).
        """
        places = [self.operations.index(name) for name in operations]
        if feature == "odds":
            return self._odds[:, [0, *(1 + place for place in places)]]
        if feature == "differences":
            return differences(self._first, self._others[:, places])
        return counting(self._first, self._others[:, places], families(operations))


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model and what it uses.

    Args:
        model: Of scikit-learn.
        feature: One of FEATURES.
        operations: Names.
    """

    model: Any
    feature: str
    operations: tuple[str, ...]

    @property
    def boundary(self) -> float:
        """The score above which the model itself says adversarial."""
        return 0.0 if hasattr(self.model, "decision_function") else 0.5

    def scores(self, features: Features) -> Floats:
        """(N,), higher = more suspicious."""
        values = features.of(self.feature, self.operations)
        if hasattr(self.model, "decision_function"):
            return np.asarray(self.model.decision_function(values), np.float64)
        return np.asarray(self.model.predict_proba(values)[:, 1], np.float64)


def fit(
    swept: Swept,
    features: Features,
    settings: Settings,
    where: npt.NDArray[np.bool_] | None = None,
    *,
    choose: bool = True,
) -> Fitted:
    """Train a model on the train split.

    With the paper's features the parameters are scikit-learn's. With odds they are those, of a few, with the highest
    balanced accuracy on the dev split.

    Args:
        swept: The images.
        features: Of the same images.
        settings: What is trained.
        where: Bool (N,), images that may be used at all; None: all of them.
        choose: False: the first parameters are taken without choosing.

    Returns:
        The model.
    """
    allowed = np.ones(len(swept), bool) if where is None else where
    operations = settings.names
    values, truth = features.of(settings.feature, operations), swept.adversarial.astype(np.int64)
    train, dev = (allowed & (swept.split == split) for split in ("train", "dev"))
    candidates = _candidates(settings.model, settings.feature, settings.seed)
    found = [
        Fitted(model.fit(values[train], truth[train]), settings.feature, operations)
        for model in (candidates if choose else candidates[:1])
    ]
    if len(found) == 1 or len(np.unique(truth[dev])) < 2:
        return found[0]
    said = [each.scores(features) > each.boundary for each in found]
    return found[int(np.argmax([_balanced(guess[dev], truth[dev] == 1) for guess in said]))]


def train(database: Database, classifier: Protected, out: Path, settings: Settings) -> dict[str, Any]:
    """Train, measure, and write `detector.json` and `detector.onnx`.

    Args:
        database: Whose images are used.
        classifier: The one that the database was made on.
        out: Folder of the detector.
        settings: What is trained.

    Returns:
        What `detector.json` says.

    Raises:
        UsageError: The operations are "alone", which needs no training.
        DataError: A split lacks benign or adversarial images, or the database is of another classifier.
    """
    if not settings.names:
        raise UsageError("--operations alone is only to compare with: the detector 'confidence' needs no training")
    swept = sweep(database, classifier, OPERATIONS_38, settings.attacks or None)
    swept.require(str(database.folder), normal=("train", "eval"), adversarial=("train", "eval"))
    features = Features(swept.variants)
    fitted = fit(swept, features, settings)
    info = database.info()
    report: dict[str, Any] = {
        "name": "statistics",
        "parameters": {
            "file": "detector.onnx",
            "feature": settings.feature,
            "operations": list(settings.names),
        },
        "classifier_sha256": classifier.sha256,
        "fitted": seen(database, ("train",)).model_dump(mode="json"),
        "model": settings.model,
        "model_parameters": _described(fitted.model),
        "seed": settings.seed,
        "attacks": swept.attacks,
        "database": {key: info[key] for key in ("dataset", "classifier", "normal", "adversarial", "splits", "seed")},
        "eval": _measured(swept, fitted, fitted.scores(features), "eval"),
        "correction": {
            name: corrected_rates(swept, GROUPS[name]) for name in ("jpeg", "scaling", "jpeg+scaling", "all")
        },
    }
    if settings.table:
        report["table"] = {
            model: {
                group: {feature: float(right.mean()) for feature, right in row.items()} for group, row in rows.items()
            }
            for model, rows in accuracies(swept, features, swept, features, "eval", settings.seed).items()
        }
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "detector.onnx", to_onnx(fitted.model, metadata={"detector": "statistics"}))
    write_file(out / "detector.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def accuracies(
    swept: Swept, features: Features, judged: Swept, judged_features: Features, split: str | None, seed: int
) -> dict[str, dict[str, dict[str, npt.NDArray[np.bool_]]]]:
    """Which images are classified correctly by models trained on others: the paper's table 4, and our feature.

    Args:
        swept: What the models are trained on.
        features: Of the same images.
        judged: What they are measured on.
        judged_features: Of the same images.
        split: Of `judged`; None: all.
        seed: What the models' random numbers depend on.

    Returns:
        model -> operations -> feature -> bool (M,).
    """
    where = np.ones(len(judged), bool) if split is None else judged.split == split
    table: dict[str, dict[str, dict[str, npt.NDArray[np.bool_]]]] = {}
    for name in MODELS:
        table[name] = {}
        for group in GROUPS:
            table[name][group] = {}
            for feature in FEATURES if group == "all" else FEATURES[:2]:
                fitted = fit(swept, features, Settings(name, feature, group, seed), choose=False)
                said = fitted.scores(judged_features) > fitted.boundary
                table[name][group][feature] = (said == judged.adversarial)[where]
    return table


def _candidates(name: str, feature: str, seed: int) -> list[Any]:
    if feature != "odds":
        return [_model(name, seed)]
    # Odds are real numbers of very different spread, which a scaler makes alike.
    if name == "svm":
        models: list[Any] = [SVC(C=penalty, gamma=gamma) for penalty in (1.0, 10.0) for gamma in ("scale", 0.01)]
    elif name == "mlp":
        sizes = ((32,), (64, 32))
        models = [
            MLPClassifier(layers, alpha=1e-2, max_iter=500, early_stopping=True, random_state=seed) for layers in sizes
        ]
    else:
        models = [_model(name, seed)]
    return [make_pipeline(StandardScaler(), model) for model in models]


def _model(name: str, seed: int) -> Any:
    if name == "svm":
        return SVC()
    if name == "forest":
        return RandomForestClassifier(n_estimators=100, max_depth=2, random_state=seed)
    if name == "lda":
        return LinearDiscriminantAnalysis()
    return MLPClassifier(max_iter=1000, early_stopping=True, random_state=seed)


def _described(model: Any) -> dict[str, Any]:
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    return {key: value for key, value in last.get_params().items() if isinstance(value, (int, float, str, tuple))}


def _balanced(said: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def _measured(swept: Swept, fitted: Fitted, scores: Floats, split: str) -> dict[str, Any]:
    where = swept.split == split
    said = scores > fitted.boundary
    right = said == swept.adversarial
    normal = where & ~swept.adversarial
    result: dict[str, Any] = {
        "accuracy": float(right[where].mean()),
        "accuracy_ci95": metrics.rate_interval(int(right[where].sum()), int(where.sum())),
        "balanced_accuracy": _balanced(said[where], swept.adversarial[where]),
        "n": int(where.sum()),
        "normal": {"n": int(normal.sum()), "false_positive_rate": float(said[normal].mean())},
        "attacks": {},
    }
    for attack in swept.attacks:
        here = where & (swept.attack == attack)
        if not here.any():
            continue
        found = metrics.separate(
            scores[normal],
            scores[here],
            normal_tracks=swept.group[normal],
            adversarial_tracks=swept.group[here],
            rates=(),
        )
        result["attacks"][attack] = {
            "n": int(here.sum()),
            "true_positive_rate": float(said[here].mean()),
            "auroc": found.auroc.value,
            "auroc_ci95": [found.auroc.low, found.auroc.high],
        }
    return result
