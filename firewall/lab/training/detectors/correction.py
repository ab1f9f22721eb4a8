"""The correction: how well the paper's restores true labels, and one with weighted votes.

`firewall lab train correction` learns the weights on the train split, by the likelihood of the true class. On the dev
split it chooses how much benign images count, how strongly weights are penalised, and the lead from which a corrected
label is given at all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from firewall.decision.correction import log_probabilities, weighted_votes
from firewall.detectors.statistics import TOP, corrected, top_labels
from firewall.errors import DataError, UsageError
from firewall.lab.database import Database
from firewall.lab.database.seen import seen
from firewall.lab.database.shards import write_file
from firewall.lab.database.swept import Swept, sweep
from firewall.lab.database.variants import Variants
from firewall.lab.models import Protected
from firewall.transforms import OPERATIONS_38

__all__ = ["Weights", "corrected_rates", "fit_weights", "lead", "load_correction", "repairs", "train", "true_ranks"]

Floats = npt.NDArray[np.float64]

#: Benign images' share of the likelihood, and the strength of the penalty: what is tried on the dev split.
_SHARES, _PENALTIES = (0.5, 0.8, 0.9), (1e-4, 1e-3)
_HARM = 0.015  # at most this share of benign images of the dev split may get a wrong label
MARGINS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of the votes.

    Args:
        original: Of the image as it came.
        operations: (n,), of each operation's copy.
    """

    original: float
    operations: Floats

    def votes(self, variants: Variants) -> Floats:
        """Log-probabilities, (N, classes)."""
        return weighted_votes(variants.original, variants.copies, self.original, self.operations)


def true_ranks(votes: Floats, labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The place of the true class, 0 = first; equal votes keep the order of the classes.

    Args:
        votes: (N, classes).
        labels: Int64 (N,).

    Returns:
        Int64 (N,).
    """
    order = np.argsort(-votes, axis=1, kind="stable")
    return np.asarray((order == labels[:, np.newaxis]).argmax(axis=1), np.int64)


def lead(votes: Floats) -> Floats:
    """By how much the first class's log-probability exceeds the second's.

    Args:
        votes: (N, classes).

    Returns:
        (N,).
    """
    best = np.sort(votes, axis=1)
    gap: Floats = best[:, -1] - best[:, -2]
    return gap


def corrected_rates(swept: Swept, operations: Sequence[str]) -> dict[str, Any]:
    """Section 3.3 of the paper, on all images: the true label is among the corrected five (as there), or is the first.

    Args:
        swept: The images.
        operations: Which copies vote.

    Returns:
        Shares, as JSON has them; repaired and harmed are of the classifier's first label.
    """
    top5, top1 = repairs(swept, operations)
    bad = swept.adversarial
    return {
        "normal_top5": float(top5[~bad].mean()),
        "adversarial_top5": float(top5[bad].mean()),
        "repaired_top1": float(top1[bad].mean()),
        "harmed_top1": float(1 - top1[~bad].mean()),
        "by_attack_top1": {attack: float(top1[swept.attack == attack].mean()) for attack in swept.attacks},
    }


def repairs(swept: Swept, operations: Sequence[str]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The paper's correction.

    Args:
        swept: The images.
        operations: Which copies vote.

    Returns:
        Whether the true label is among the corrected five, and whether it is the first; bool (N,) each.
    """
    copies = top_labels(swept.variants.select(operations).copies)
    fixed = np.stack([corrected(labels) for labels in copies])
    return (fixed == swept.labels[:, np.newaxis]).any(axis=1), fixed[:, 0] == swept.labels


def fit_weights(swept: Swept, where: npt.NDArray[np.bool_], normal_share: float, penalty: float) -> Weights:
    """Weights with the highest likelihood of the true classes.

    Args:
        swept: The images.
        where: Bool (N,), those that are learnt from.
        normal_share: Share of the likelihood that benign images make up, 0..1; attacked ones make up the rest.
        penalty: On the squares of the weights, each in units of its operation's spread.

    Returns:
        The weights.
    """
    part = swept.subset(where)
    bad = part.adversarial
    counts = np.where(bad, (1 - normal_share) / max(bad.sum(), 1), normal_share / max((~bad).sum(), 1))
    logs = log_probabilities(np.concatenate([part.variants.original[:, np.newaxis], part.variants.copies], axis=1))
    spread = np.maximum(logs.std(axis=(0, 2)), 1e-6)
    rows, labels = np.arange(len(part)), part.labels

    def loss(scaled: Floats) -> tuple[float, Floats]:
        votes = log_probabilities(np.einsum("k,nkc->nc", scaled / spread, logs))
        slopes = np.exp(votes) * counts[:, np.newaxis]
        slopes[rows, labels] -= counts
        value = -float((counts * votes[rows, labels]).sum()) + penalty * float((scaled**2).sum())
        return value, np.einsum("nc,nkc->k", slopes, logs) / spread + 2 * penalty * scaled

    found = minimize(loss, np.zeros(len(spread)), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x / spread
    return Weights(float(found[0]), np.asarray(found[1:], np.float64))


def train(
    database: Database, classifier: Protected, out: Path, attacks: Sequence[str] = (), precision: float = 0.9
) -> dict[str, Any]:
    """Learn the weights and write `correction.json`.

    Args:
        database: Whose images are used.
        classifier: The one that the database was made on.
        out: Folder of the file.
        attacks: Names; none: all of the database's.
        precision: Share, between 0 and 1, of the labels given to attacked images of the dev split that have to be
            correct; the lead, one of MARGINS, follows from it.

    Returns:
        What the file says.

    Raises:
        UsageError: The precision is out of range.
        DataError: A split lacks benign or attacked images.
    """
    if not 0 < precision < 1:
        raise UsageError(f"--precision must lie between 0 and 1, got {precision}")
    swept = sweep(database, classifier, OPERATIONS_38, attacks or None)
    every = ("train", "dev", "eval")
    swept.require(str(database.folder), normal=every, adversarial=every)
    weights, chosen = choose(swept)
    votes = weights.votes(swept.variants)
    margin = _margin(swept, votes, precision)
    report: dict[str, Any] = {
        "parameters": {
            "operations": list(OPERATIONS_38),
            "weights": weights.operations.tolist(),
            "original_weight": weights.original,
            "margin": margin,
        },
        "classifier_sha256": classifier.sha256,
        "fitted": seen(database, ("train",)).model_dump(mode="json"),
        "chosen": chosen,
        "attacks": swept.attacks,
        "eval": measured(swept, votes, margin, swept.split == "eval"),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "correction.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def load_correction(folder: Path, classifier: Protected) -> tuple[dict[str, Any], dict[str, float]]:
    """Read what `train` wrote.

    Args:
        folder: Where `correction.json` lies.
        classifier: The one that it has to be of.

    Returns:
        The parameters for a bundle, and the rates measured on its eval split, of labels that it gives.

    Raises:
        DataError: The file is something else, or of another classifier.
    """
    file = folder / "correction.json"
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        parameters, found = dict(report["parameters"]), report["eval"]["with_margin"]
        rates = {
            "corrected label right, of attacked images": float(found["repaired_top1"]),
            "corrected label wrong, of attacked images": float(found["wrong_top1"]),
            "corrected label wrong, of normal images": float(found["harmed_top1"]),
        }
        sha256 = str(report["classifier_sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is not a correction ({error}); make one with 'firewall lab train correction'"
        ) from error
    if sha256 != classifier.sha256:
        raise DataError(
            f"{file} was learnt on another classifier (SHA-256 {sha256[:12]}, this one is {classifier.sha256[:12]}); "
            "learn it on a database of this one"
        )
    return parameters, rates


def choose(swept: Swept) -> tuple[Weights, dict[str, float]]:
    """The weights, learnt on the train split, that restore most first labels on the dev split and harm few there.

    Args:
        swept: The images.

    Returns:
        The weights, and what was chosen.
    """
    dev, bad = swept.split == "dev", swept.adversarial
    tried: list[tuple[bool, float, Weights, dict[str, float]]] = []
    for share in _SHARES:
        for penalty in _PENALTIES:
            weights = fit_weights(swept, swept.split == "train", share, penalty)
            right = true_ranks(weights.votes(swept.variants.subset(dev)), swept.labels[dev]) == 0
            repaired, harmed = float(right[bad[dev]].mean()), float(1 - right[~bad[dev]].mean())
            facts = {"normal_share": share, "penalty": penalty, "dev_repaired": repaired, "dev_harmed": harmed}
            tried.append((harmed <= _HARM, repaired if harmed <= _HARM else -harmed, weights, facts))
    best = max(tried, key=lambda entry: entry[:2])
    return best[2], best[3]


def measured(swept: Swept, votes: Floats, margin: float, where: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Shares of restored and harmed labels, of the first label and of the first five, and with abstention.

    Args:
        swept: The images.
        votes: (N, classes).
        margin: The lead from which a label is given.
        where: Bool (N,), the images that are measured.

    Returns:
        What JSON holds.
    """
    ranks, gap = true_ranks(votes, swept.labels), lead(votes)
    bad, normal = where & swept.adversarial, where & ~swept.adversarial
    given = gap >= margin
    return {
        "n": {"adversarial": int(bad.sum()), "normal": int(normal.sum())},
        "repaired_top1": float((ranks[bad] == 0).mean()),
        "harmed_top1": float((ranks[normal] > 0).mean()),
        "repaired_top5": float((ranks[bad] < TOP).mean()),
        "harmed_top5": float((ranks[normal] >= TOP).mean()),
        "with_margin": {
            "margin": margin,
            "repaired_top1": float((given & (ranks == 0))[bad].mean()),
            "wrong_top1": float((given & (ranks > 0))[bad].mean()),
            "harmed_top1": float((given & (ranks > 0))[normal].mean()),
            "abstained": float((~given)[bad].mean()),
            "abstained_normal": float((~given)[normal].mean()),
        },
        "by_attack_top1": {
            attack: float((ranks[where & (swept.attack == attack)] == 0).mean())
            for attack in swept.attacks
            if (where & (swept.attack == attack)).any()
        },
    }


def _margin(swept: Swept, votes: Floats, precision: float) -> float:
    """The least of MARGINS at which enough of the labels given on the dev split are right; the last if none is."""
    dev = (swept.split == "dev") & swept.adversarial
    right, gap = true_ranks(votes, swept.labels)[dev] == 0, lead(votes)[dev]
    for margin in MARGINS:
        given = gap >= margin
        if given.any() and right[given].mean() >= precision:
            return margin
    return MARGINS[-1]
