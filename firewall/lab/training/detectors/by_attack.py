"""How well a detector that was fitted to one split separates another, attack by attack."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.lab.database.swept import Swept
from firewall.lab.measurement import metrics

__all__ = ["RATES", "rates_by_attack", "worst_auroc"]

#: False-positive rates, on the calibration images, of the thresholds at which attacks are counted.
RATES = (0.01, 0.05)


def rates_by_attack(
    swept: Swept, scores: npt.NDArray[np.float64], where: npt.NDArray[np.bool_], calibration: npt.NDArray[np.float64]
) -> dict[str, Any]:
    """Area under the ROC curve, and true-positive rates, of each attack.

    Intervals are of 95 % and count a group as one draw. Attacks without images are left out; without benign images the
    result is empty.

    Args:
        swept: The images.
        scores: (N,), of all of them.
        where: Bool (N,), those that are measured.
        calibration: Scores of other benign images, which the thresholds for RATES are set on.

    Returns:
        What JSON holds, by attack.
    """
    normal = where & ~swept.adversarial
    result: dict[str, Any] = {}
    for attack in swept.attacks:
        here = where & (swept.attack == attack)
        if not here.any() or not normal.any():
            continue
        found = metrics.separate(
            scores[normal],
            scores[here],
            calibration=calibration,
            rates=RATES,
            normal_tracks=swept.group[normal],
            adversarial_tracks=swept.group[here],
        )
        result[attack] = {
            "n": int(here.sum()),
            "normal": int(normal.sum()),
            "auroc": found.auroc.value,
            "auroc_ci95": [found.auroc.low, found.auroc.high],
            "at": {f"{point.asked:g}": point.to_json() for point in found.calibrated},
        }
    return result


def worst_auroc(swept: Swept, scores: npt.NDArray[np.float64], where: npt.NDArray[np.bool_]) -> float:
    """The lowest area under the ROC curve over the attacks.

    Args:
        swept: The images.
        scores: (N,), of all of them.
        where: Bool (N,), those that are measured; there must be benign and attacked ones.

    Returns:
        0..1.
    """
    normal = scores[where & ~swept.adversarial]
    areas = [
        metrics.auroc(normal, scores[where & (swept.attack == attack)])
        for attack in swept.attacks
        if (where & (swept.attack == attack)).any()
    ]
    return min(areas)
