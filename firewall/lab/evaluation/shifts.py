"""How a bundle judges images under shift: JPEG, blur, darkness, noise, rain, fog (`firewall.lab.datasets.shifts`).

A detector that takes every change for an attack withholds benign images as soon as the weather turns. So benign images
are judged again under each shift. Attacked images are judged again after JPEG compression, which may undo the attack or
hide it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError
from firewall.lab.database import Database
from firewall.lab.database.card import Split
from firewall.lab.database.normals import normal_entries
from firewall.lab.datasets.shifts import JPEG, SHIFTS, shifted
from firewall.lab.measurement.bundle_verdicts import Judge
from firewall.lab.measurement.intervals import rate_of

__all__ = ["under_shift"]

Pixels = npt.NDArray[np.uint8]


def under_shift(
    judge: Judge, database: Database, splits: tuple[Split, ...], limit: int, seed: int = 0
) -> dict[str, Any]:
    """Judge benign images under each shift, and attacked images under JPEG.

    Args:
        judge: The bundle.
        database: Attacks on its classifier.
        splits: Of the database.
        limit: Up to how many images of each kind are judged.
        seed: Draws them.

    Returns:
        Ready for JSON, shares with intervals: withheld by the bundle; wrong_released, of all images those with a wrong
        label that is released; accuracy, benign images whose label is right; fooled, attacked images whose label is
        still wrong.

    Raises:
        DataError: The images are grey.
    """
    entries = normal_entries(database)
    if database.card.classifier.channels != 3:
        raise DataError(f"{database.folder} holds grey images; shifts are for RGB images")
    labels = np.array([entry.label for entry in entries], np.int64) + database.card.classifier.offset
    tracks = np.array([entry.group for entry in entries], np.int64)
    splits_of = np.array([entry.split for entry in entries])
    chosen = _drawn(np.flatnonzero(np.isin(splits_of, splits)), limit, seed)
    images = np.concatenate([database.normal, database.reserve])[chosen]
    result: dict[str, Any] = {"limit": limit, "seed": seed, "normal": {}, "attacks": {}}
    for name in ("none", *SHIFTS):
        found = _judged(judge, database, images if name == "none" else shifted(images, name, seed), name)
        result["normal"][name] = _rates(*found, labels[chosen], tracks[chosen], right="accuracy")
    for attack in database.card.attacks:
        attacked = database.attacked(attack)
        normal = np.array([entry.normal for entry in attacked.entries], np.int64)
        places = _drawn(np.flatnonzero(np.isin(splits_of[normal], splits)), limit, seed) if len(normal) else normal
        if len(places) == 0:
            continue
        own = normal[places]
        result["attacks"][attack] = {}
        for name in ("none", *JPEG):
            pixels = attacked.images[places]
            found = _judged(
                judge, database, pixels if name == "none" else shifted(pixels, name, seed), f"{attack}, {name}"
            )
            result["attacks"][attack][name] = _rates(*found, labels[own], tracks[own], wrong="fooled")
    return result


def _drawn(places: npt.NDArray[np.intp], limit: int, seed: int) -> npt.NDArray[np.intp]:
    """At most `limit` of the places, in order."""
    if len(places) <= limit:
        return places
    return np.sort(np.random.default_rng(seed).choice(places, limit, replace=False))


def _judged(
    judge: Judge, database: Database, images: Pixels, what: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which are withheld, and their labels."""
    measured = judge.measured(database, images, what)
    return ~judge.verdicts(judge.scores(measured)).released, measured.labels


def _rates(
    withheld: npt.NDArray[np.bool_],
    named: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    tracks: npt.NDArray[np.int64],
    *,
    right: str = "",
    wrong: str = "",
) -> dict[str, Any]:
    mistaken = named != labels
    masks = {"withheld": withheld, "wrong_released": mistaken & ~withheld}
    masks |= {right: ~mistaken} if right else {wrong: mistaken}
    entry: dict[str, Any] = {"n": len(labels)}
    intervals = {}
    for name, mask in masks.items():
        rate = rate_of(mask, tracks)
        entry[name] = rate.value
        intervals[name] = [rate.low, rate.high]
    return {**entry, "ci95": intervals}
