"""From verdicts to figures: wrong-release rates first, each with its number of images and its 95 % interval."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.lab.evaluation.attacked_images import rate_json
from firewall.lab.evaluation.crops.families import families_of
from firewall.lab.evaluation.crops.verdicts import Row, suspicions
from firewall.lab.measurement import metrics
from firewall.lab.measurement.intervals import rate_of
from firewall.lab.measurement.metrics import FEW
from firewall.lab.measurement.wrong_release import finite

__all__ = ["SIDES", "means", "of_attack", "of_benign", "ranked"]

Mask = npt.NDArray[np.bool_]

#: Bounds between groups of crops, by their shorter side in pixels.
SIDES = (20, 24, 32, 40, 55, 80)


def of_attack(name: str, rows: list[Row], limits: Mapping[str, float], benign: list[Row]) -> dict[str, Any]:
    """Everything that is said of one attack.

    Args:
        name: The attack.
        rows: Of its images, all of them named right before they were attacked, whether it fooled the classifier or not.
        limits: Of `limits_at`.
        benign: Rows of the benign images that are judged.

    Returns:
        Ready for JSON.
    """
    groups = _groups(rows)
    wrong, released = _mistaken(rows), np.array([row.released for row in rows], bool)
    found = suspicions(rows)
    entry: dict[str, Any] = {
        "families": list(families_of(name)),
        **({"few": True} if len(rows) < FEW else {}),
        "n": len(rows),
        "groups": len(np.unique(groups)),
        "wrong_release": _rate(wrong & released, groups),
        "wrong_release_at": {rate: _rate(wrong & (found <= limit), groups) for rate, limit in limits.items()},
        "attack_success": _rate(wrong, groups),
        "released_right": _rate(~wrong & released, groups),
        "withheld": _rate(~released, groups),
        "reasons": dict(sorted(Counter(row.reason for row in rows if not row.released).items())),
    }
    if wrong.any():
        entry["wrong_release_of_successes"] = _rate(released[wrong], groups[wrong])
        fooling = [row for row, one in zip(rows, wrong, strict=True) if one]
        entry["detection"] = _detection(fooling, limits, benign)
    return entry


def of_benign(rows: list[Row], limits: Mapping[str, float], *, sizes: bool = False) -> dict[str, Any]:
    """What happens to benign images.

    Args:
        rows: Of the images.
        limits: Of `limits_at`.
        sizes: Also by the crop's own size.

    Returns:
        Ready for JSON. `right_of_released`: of the labels that go out, how many are right.
    """
    groups = _groups(rows)
    wrong, released = _mistaken(rows), np.array([row.released for row in rows], bool)
    found = suspicions(rows)
    entry: dict[str, Any] = {
        "n": len(rows),
        "groups": len(np.unique(groups)),
        "withheld": _rate(~released, groups),
        "withheld_at": {rate: _rate(found > limit, groups) for rate, limit in limits.items()},
        "wrong_release": _rate(wrong & released, groups),
        "classifier_right": _rate(~wrong, groups),
        "reasons": dict(sorted(Counter(row.reason for row in rows if not row.released).items())),
    }
    if released.any():
        entry["right_of_released"] = _rate(~wrong[released], groups[released])
    if sizes:
        sides = np.array([row.side for row in rows])
        place = np.searchsorted(SIDES, sides, side="right")
        entry["by_side"] = {
            _between(number): _rate(~released[place == number], groups[place == number])
            for number in range(len(SIDES) + 1)
            if (place == number).any()
        }
    return entry


def ranked(entries: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Attacks, the highest wrong-release rate first, those with too few images last."""
    order = sorted(
        entries,
        key=lambda name: ("few" in entries[name], -entries[name]["wrong_release"]["rate"], -_at(entries[name]), name),
    )
    return {name: entries[name] for name in order}


def means(entries: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Family -> its attacks, the mean of their wrong-release rates and the worst of them."""
    found: dict[str, dict[str, Any]] = {}
    for family in sorted({family for entry in entries.values() for family in entry["families"]}):
        rates = {name: entry["wrong_release"]["rate"] for name, entry in entries.items() if family in entry["families"]}
        worst = max(rates, key=rates.__getitem__)
        found[family] = {"attacks": len(rates), "mean": float(np.mean(list(rates.values()))), "worst": worst}
        found[family]["worst_rate"] = rates[worst]
    return found


def _at(entry: dict[str, Any]) -> float:
    """What is released wrongly at all thresholds together, which tells attacks of one rate apart."""
    return float(sum(rate["rate"] for rate in entry["wrong_release_at"].values()))


def _mistaken(rows: list[Row]) -> Mask:
    """Which images the bare classifier names wrong; one that it could not name is not fooled."""
    return np.array([row.named is not None and row.named != row.label for row in rows], bool)


def _groups(rows: list[Row]) -> npt.NDArray[np.int64]:
    return np.array([row.group for row in rows], np.int64)


def _rate(mask: Mask, groups: npt.NDArray[np.int64]) -> dict[str, Any]:
    return rate_json(rate_of(mask, groups))


def _detection(fooling: list[Row], limits: Mapping[str, float], benign: list[Row]) -> dict[str, Any]:
    """How well the suspicion separates images that fool the classifier from benign ones."""
    high, low = suspicions(fooling), suspicions(benign)
    high, low = finite(high, low), finite(low, high)
    found = metrics.separate(low, high, rates=(), normal_tracks=_groups(benign), adversarial_tracks=_groups(fooling))
    return {
        "n": len(fooling),
        "auroc": found.auroc.value,
        "ci95": [found.auroc.low, found.auroc.high],
        "tpr_at": {rate: _rate(high > limit, _groups(fooling)) for rate, limit in limits.items()},
    }


def _between(number: int) -> str:
    if number == 0:
        return f"under {SIDES[0]}"
    return f"{SIDES[number - 1]} and more" if number == len(SIDES) else f"{SIDES[number - 1]} to {SIDES[number] - 1}"
