"""Fit the stability detector to a database: `firewall lab train stability`.

The scales, which say what is usual at each temperature, come from the benign images of the train split alone.
Operations and temperatures are chosen on the dev split: those with the highest AUROC on the attack that they separate
worst.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.detectors.stability import StabilityScale, hellinger, instability
from firewall.lab.database import Database
from firewall.lab.database.seen import seen
from firewall.lab.database.shards import write_file
from firewall.lab.database.swept import Swept, sweep
from firewall.lab.models import Protected
from firewall.lab.training.detectors.by_attack import rates_by_attack, worst_auroc
from firewall.transforms import OPERATIONS_38

__all__ = ["GROUPS", "TEMPERATURES", "choose", "train", "usual"]

Floats = npt.NDArray[np.float64]

_MOVING = tuple(name for name in OPERATIONS_38 if name.startswith(("rotate:", "scale:")))
_JPEG = tuple(name for name in OPERATIONS_38 if name.startswith("jpeg:"))

#: Choices of operations that are tried.
GROUPS: dict[str, tuple[str, ...]] = {
    "jpeg": _JPEG,
    "scaling": tuple(name for name in _MOVING if name.startswith("scale:")),
    "rotation+scaling": _MOVING,
    "blur:2+rotation+scaling": ("blur:2", *_MOVING),
    "jpeg+blur:2+rotation+scaling": (*_JPEG, "blur:2", *_MOVING),
    "all": OPERATIONS_38,
}
#: Pairs of a low and a high temperature that are tried; one that is None stands for the other alone.
TEMPERATURES: tuple[tuple[float | None, float | None], ...] = tuple(
    product((None, 0.25, 0.5, 1.0), (None, 2.0, 3.0, 4.0))
)

_USUAL = 0.95  # share of benign images that the usual range holds


def train(database: Database, classifier: Protected, out: Path, attacks: Sequence[str] = ()) -> dict[str, Any]:
    """Fit, choose, measure on the eval split, and write `detector.json`.

    Args:
        database: Whose images are used.
        classifier: The one that the database was made on.
        out: Folder of the detector.
        attacks: Names; none: all of the database's.

    Returns:
        What `detector.json` says.

    Raises:
        DataError: A split lacks benign or adversarial images.
    """
    swept = sweep(database, classifier, OPERATIONS_38, attacks or None)
    swept.require(str(database.folder), normal=("train", "dev", "eval"), adversarial=("dev", "eval"))
    group, scales, tried = choose(swept)
    operations = GROUPS[group]
    found = swept.variants.select(operations)
    scores = instability(found.original, found.copies, scales)
    calibration = scores[(swept.split == "dev") & ~swept.adversarial]
    report: dict[str, Any] = {
        "name": "stability",
        "parameters": {"operations": list(operations), "scales": [scale.model_dump() for scale in scales]},
        "classifier_sha256": classifier.sha256,
        "fitted": seen(database, ("train",)).model_dump(mode="json"),
        "chosen": group,
        "dev_worst_auroc": tried,
        "attacks": swept.attacks,
        "eval": rates_by_attack(swept, scores, swept.split == "eval", calibration),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "detector.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def choose(swept: Swept) -> tuple[str, list[StabilityScale], dict[str, float]]:
    """The operations and scales that do best on the dev split.

    Args:
        swept: The images.

    Returns:
        A key of GROUPS, the scales, and for each choice its lowest AUROC over the attacks.
    """
    part = swept.subset((swept.split == "dev") | ((swept.split == "train") & ~swept.adversarial))
    fitting, dev = part.split == "train", part.split == "dev"
    values = sorted({value for pair in TEMPERATURES for value in pair if value is not None})
    distances = {value: hellinger(part.variants.original, part.variants.copies, value) for value in values}
    best: tuple[float, str, list[StabilityScale]] = (-1.0, "", [])
    tried: dict[str, float] = {}
    for name, operations in GROUPS.items():
        places = [OPERATIONS_38.index(operation) for operation in operations]
        means = {value: found[:, places].mean(axis=1) for value, found in distances.items()}
        scales = {value: _scale(value, mean[fitting]) for value, mean in means.items()}
        for pair in TEMPERATURES:
            taken = [value for value in pair if value is not None]
            if not taken:
                continue
            units = [(means[value] - scales[value].median) / scales[value].above for value in taken]
            area = worst_auroc(part, np.max(units, axis=0), dev)
            tried[f"{name} at {' and '.join(f'{value:g}' for value in taken)}"] = area
            if area > best[0]:
                best = (area, name, [scales[value] for value in taken])
    return best[1], best[2], tried


def usual(original: npt.NDArray[np.float32], copies: npt.NDArray[np.float32], temperature: float) -> StabilityScale:
    """The scale that benign images have.

    Args:
        original: Logits (N, classes).
        copies: Logits of their copies (N, n, classes).
        temperature: Of the softmax.

    Returns:
        The scale.
    """
    return _scale(temperature, hellinger(original, copies, temperature).mean(axis=1))


def _scale(temperature: float, means: Floats) -> StabilityScale:
    median, upper = np.quantile(means, [0.5, _USUAL])
    # On a saturated classifier nothing moves at all; a tiny range keeps the score finite.
    return StabilityScale(temperature=temperature, median=float(median), above=max(float(upper - median), 1e-6))
