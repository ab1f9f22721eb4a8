"""Set up the agreement detector on a database: `firewall lab train agreement`.

As in the paper (Higashi, Kuribayashi et al.) nothing is learnt but the count above which an image counts as benign, and
for the two-sided form the counts that benign images have. Attacked images only measure how well that does and, if asked
for, which of the two forms to use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.detectors.agreement import one_sided_score, two_sided_score
from firewall.errors import DataError, UsageError
from firewall.lab.database import Database
from firewall.lab.database.seen import seen
from firewall.lab.database.shards import write_file
from firewall.lab.database.swept import Swept, sweep
from firewall.lab.measurement import metrics
from firewall.lab.measurement.conformal import conformal_threshold
from firewall.lab.measurement.edge import SWEEPS
from firewall.lab.models import Protected
from firewall.lab.training.detectors.by_attack import RATES, rates_by_attack, worst_auroc
from firewall.transforms import OPERATIONS_38

__all__ = ["PAPER_THRESHOLDS", "SIDES", "Settings", "agreement_counts", "agreement_scores", "train"]

#: T of the paper's table 1, of 76 qualities.
PAPER_THRESHOLDS = (10, 15, 20)
SIDES = ("one", "two", "auto")

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the detector is set up.

    Args:
        sweep: JPEG qualities: 76 (the paper) or 16.
        sides: One of SIDES; `auto` takes the form whose lowest AUROC over the attacks is higher, on the dev split.
        attacks: Names; none: all of the database's.
        limit: Images of each attack at most.

    Raises:
        UsageError: `sweep` or `sides` is not allowed.
    """

    sweep: int = 76
    sides: str = "one"
    attacks: tuple[str, ...] = ()
    limit: int = 250

    def __post_init__(self) -> None:
        if self.sweep not in SWEEPS:
            raise UsageError(f"--sweep must be one of {', '.join(map(str, SWEEPS))}, got {self.sweep}")
        if self.sides not in SIDES:
            raise UsageError(f"--sides must be one of {', '.join(SIDES)}, got {self.sides!r}")


def agreement_counts(swept: Swept) -> Integers:
    """How many of the copies keep each image's label.

    Args:
        swept: What the classifier says.

    Returns:
        Int64 (N,).
    """
    labels = swept.variants.original.argmax(axis=1)
    counts: Integers = (swept.variants.copies.argmax(axis=2) == labels[:, np.newaxis]).sum(axis=1)
    return counts


def agreement_scores(counts: Integers, total: int, normal_counts: Integers | None = None) -> Floats:
    """Scores as the detector gives them.

    Args:
        counts: Int64 (N,), of copies that agree.
        total: How many copies there are.
        normal_counts: Histogram of benign images' counts, for the two-sided form; None: one-sided.

    Returns:
        (N,), higher = more suspicious.
    """
    if normal_counts is None:
        table = [one_sided_score(count, total) for count in range(total + 1)]
    else:
        histogram = normal_counts.tolist()
        table = [two_sided_score(count, histogram) for count in range(total + 1)]
    return np.array(table)[counts]


def train(database: Database, classifier: Protected, out: Path, settings: Settings) -> dict[str, Any]:
    """Set up the detector and measure it; writes `detector.json`. The threshold is set on benign images of the train
    split.

    Args:
        database: Whose images are used.
        classifier: The one that the database was made on.
        out: Folder of the detector.
        settings: How it is set up.

    Returns:
        What `detector.json` says.

    Raises:
        DataError: The train or the eval split has no benign images, or the database is of another classifier.
    """
    qualities = SWEEPS[settings.sweep]
    operations = tuple(f"jpeg:{quality}" for quality in qualities)
    # The 16 are among the 38 that other detectors ask for: these copies are likely to have been classified already.
    every = OPERATIONS_38 if set(operations) <= set(OPERATIONS_38) else operations
    swept = sweep(database, classifier, every, settings.attacks or None, settings.limit)
    swept = replace(swept, variants=swept.variants.select(operations))
    counts, total, normal = agreement_counts(swept), len(qualities), ~swept.adversarial
    fitting, evaluating = normal & (swept.split == "train"), swept.split == "eval"
    swept.require(str(database.folder), normal=("train", "eval"), adversarial=())
    histogram = np.bincount(counts[fitting], minlength=total + 1)
    forms = {"one": agreement_scores(counts, total), "two": agreement_scores(counts, total, histogram)}
    sides = _better(swept, forms) if settings.sides == "auto" else settings.sides
    parameters: dict[str, Any] = {"qualities": list(qualities), "sides": sides}
    if sides == "two":
        parameters["normal_counts"] = histogram.tolist()
    report: dict[str, Any] = {
        "name": "agreement",
        "parameters": parameters,
        "classifier_sha256": classifier.sha256,
        "fitted": seen(database, ("train",)).model_dump(mode="json"),
        "thresholds": {
            f"{rate:g}": found for rate in RATES if (found := _threshold(forms["one"][fitting], rate, total))
        },
        "train_normals": int(fitting.sum()),
        "attacks": swept.attacks,
        "eval": {form: rates_by_attack(swept, scores, evaluating, scores[fitting]) for form, scores in forms.items()},
        "paper_thresholds": {
            str(limit): _at(swept, counts, evaluating, limit * total / max(SWEEPS)) for limit in PAPER_THRESHOLDS
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "detector.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def _threshold(scores: Floats, rate: float, total: int) -> int | None:
    """T: fewer agreements are withheld. None where there are too few images for the rate."""
    try:
        return round(total - conformal_threshold(scores, rate) * total)
    except DataError:
        return None


def _better(swept: Swept, forms: dict[str, Floats]) -> str:
    dev = swept.split == "dev"
    if not (dev & swept.adversarial).any() or not (dev & ~swept.adversarial).any():
        raise DataError("--sides auto needs normal and adversarial images in the dev split; name one or two instead")
    return max(forms, key=lambda form: worst_auroc(swept, forms[form], dev))


def _at(swept: Swept, counts: Integers, where: npt.NDArray[np.bool_], limit: float) -> dict[str, Any]:
    """What the paper's rule does at one threshold: the share withheld, by attack and of benign images."""
    below = counts < limit
    normal = where & ~swept.adversarial
    rates = {"normal": normal} | {attack: where & (swept.attack == attack) for attack in swept.attacks}
    return {
        name: {
            "n": int(mask.sum()),
            "withheld": float(below[mask].mean()),
            "ci95": metrics.rate_interval(int(below[mask].sum()), int(mask.sum())),
        }
        for name, mask in rates.items()
        if mask.any()
    }
