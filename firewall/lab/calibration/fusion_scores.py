"""What a fusion is fitted and calibrated on: the scores of a bundle's detectors on databases."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.bundle import Seen
from firewall.errors import DataError
from firewall.lab.calibration.fusion import ScoreTable
from firewall.lab.database import Database
from firewall.lab.database.normals import calibration_mask, normal_entries
from firewall.lab.database.seen import record, unseen
from firewall.lab.datasets.shifts import SHIFTS, shifted
from firewall.lab.measurement.edge import Measured
from firewall.lab.measurement.judge import Judge
from firewall.lab.measurement.metrics import FEW

__all__ = ["Normals", "calibration_scores", "score_table"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Normals:
    """measured: normal images. scores: (N, D), tracks: their groups (N,), seen: the record of them. shifted: of some of
    them under each shift of firewall.lab.datasets.shifts, by its name: scores (M, D) and groups (M,)."""

    measured: Measured
    scores: Floats
    tracks: npt.NDArray[np.int64]
    seen: Seen
    shifted: dict[str, tuple[Floats, npt.NDArray[np.int64]]]


def score_table(
    judge: Judge, database: Database, *, shift: int = 0, seed: int = 0, without: Collection[str] = ()
) -> tuple[ScoreTable, Seen]:
    """Scores on the images of a database that no detector of the bundle was fitted to, and the record of these images.

    shift: up to how many normal images, drawn by `seed`, count once more under each shift of normal traffic, so that
    what rain or a noisy sensor does is not held to be an attack. without: attacks to leave out; those with fewer than
    10 images are left out too. Raises DataError if nothing is left.
    """
    entries = normal_entries(database)
    where, _ = calibration_mask(database, trained(judge), ())
    groups = np.array([entry.group for entry in entries], np.int64)
    free = set(groups[where].tolist())
    attacks = {}
    for name in database.card.attacks:
        attacked = database.attacked(name)
        chosen = np.array([int(groups[entry.normal]) in free for entry in attacked.entries], bool)
        if chosen.sum() >= FEW and name not in without:
            attacks[name] = _columns(judge, judge.attacked(database, name).subset(chosen))
    if not where.any() or not attacks:
        raise DataError(
            f"{database.folder} has no normal or no attacked images that the bundle's detectors were not fitted to; "
            "attack more images, or name another database"
        )
    under = _shifted(judge, database, where, shift, seed)
    table = ScoreTable(
        tuple(detector.name for detector in judge.detectors),
        np.concatenate([_columns(judge, judge.normals(database).subset(where)), *(rows for rows, _ in under.values())]),
        np.concatenate([groups[where], *(tracks for _, tracks in under.values())]),
        attacks,
        sum(len(rows) for rows, _ in under.values()),
    )
    return table, record(database.card, [entry for entry, here in zip(entries, where, strict=True) if here])


def calibration_scores(
    judge: Judge,
    calibration: Database,
    fitted: Seen,
    names: tuple[str, ...],
    splits: Collection[str],
    *,
    shift: int = 0,
    seed: int = 0,
) -> Normals:
    """Scores, columns in the order of `names`, of the calibration database's normal images of `splits` that neither the
    detectors nor the fusion were fitted to. Raises DataError if there is none."""
    entries = normal_entries(calibration)
    where, _ = calibration_mask(calibration, trained(judge), ())
    where &= np.array([entry.split in splits for entry in entries], bool)
    where &= unseen(entries, [fitted], calibration.card.dataset)
    if not where.any():
        raise DataError(
            f"{calibration.folder} has no normal images but those that the detectors or the fusion were fitted to; "
            "name another database with --calibration"
        )
    measured = judge.normals(calibration).subset(where)
    scores = _columns(judge, measured)
    places = [[detector.name for detector in judge.detectors].index(name) for name in names]
    kept = [entry for entry, here in zip(entries, where, strict=True) if here]
    under = _shifted(judge, calibration, where, shift, seed)
    return Normals(
        measured,
        scores[:, places],
        np.array([entry.group for entry in kept], np.int64),
        record(calibration.card, kept),
        {name: (rows[:, places], tracks) for name, (rows, tracks) in under.items()},
    )


def trained(judge: Judge) -> list[tuple[str, Seen | None]]:
    """The detectors that learnt from images, and from which."""
    specs = judge.bundle.manifest.detectors
    return [(spec.name, spec.fitted) for spec in specs if spec.fitted is not None or "file" in spec.parameters]


def _columns(judge: Judge, measured: Measured) -> Floats:
    return np.stack([measured.scores(detector) for detector in judge.detectors], axis=1)


def _shifted(
    judge: Judge, database: Database, where: npt.NDArray[np.bool_], count: int, seed: int
) -> dict[str, tuple[Floats, npt.NDArray[np.int64]]]:
    """Scores and groups of up to `count` of the normal images in the mask, by shift."""
    if count == 0:
        return {}
    places = np.flatnonzero(where)
    if len(places) > count:
        places = np.sort(np.random.default_rng(seed).choice(places, count, replace=False))
    images = np.concatenate([database.normal, database.reserve])[places]
    groups = np.array([entry.group for entry in normal_entries(database)], np.int64)[places]
    return {
        name: (_columns(judge, judge.changed(database, shifted(images, name, seed), f"normal images, {name}")), groups)
        for name in SHIFTS
    }
