"""The scores that a fusion is fitted to, and those that its threshold is set on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.bundle import Seen
from firewall.errors import DataError
from firewall.lab.calibration.fusion_fit import ScoreTable
from firewall.lab.database import Database
from firewall.lab.database.normals import calibration_mask, normal_entries
from firewall.lab.database.seen import record, unseen
from firewall.lab.datasets.shifts import SHIFTS, shifted
from firewall.lab.measurement.bundle_verdicts import Judge, trained_detectors
from firewall.lab.measurement.edge import Measured
from firewall.lab.measurement.metrics import FEW

__all__ = ["Normals", "calibration_scores", "score_table"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Normals:
    """Benign images that a threshold is set on.

    Attributes:
        measured: What the edge's classifier says of the N images.
        scores: float64 (N, D).
        tracks: Their groups, int64 (N,).
        seen: Which images these are.
        shifted: Shift of `firewall.lab.datasets.shifts` -> scores, float64 (M, D), and groups, int64 (M,), of some of
            the images under that shift.
    """

    measured: Measured
    scores: Floats
    tracks: npt.NDArray[np.int64]
    seen: Seen
    shifted: dict[str, tuple[Floats, npt.NDArray[np.int64]]]


def score_table(
    judge: Judge, database: Database, *, shift: int = 0, seed: int = 0, without: Collection[str] = ()
) -> tuple[ScoreTable, Seen]:
    """Scores on the images of a database that no detector of the bundle was fitted to.

    Args:
        judge: The bundle.
        database: Attacks on its classifier.
        shift: Up to how many benign images, drawn by `seed`, come a second time under each shift, so that the fusion
            doesn't take rain or a noisy sensor for an attack.
        seed: Draws them.
        without: Attacks to leave out. Those with fewer than `FEW` images are left out too.

    Returns:
        The scores, and the record of the benign images.

    Raises:
        DataError: No benign or no attacked image is left.
    """
    entries = normal_entries(database)
    where, _ = calibration_mask(database, trained_detectors(judge.bundle.manifest), ())
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
    """Scores on benign images that neither the detectors nor the fusion were fitted to.

    Args:
        judge: The bundle.
        calibration: The database of the images.
        fitted: What the fusion was fitted to.
        names: The detectors, in the order of the columns.
        splits: Of the database.
        shift: Up to how many of the images, drawn by `seed`, come once more under each shift.
        seed: Draws them.

    Raises:
        DataError: No image is left.
    """
    entries = normal_entries(calibration)
    where, _ = calibration_mask(calibration, trained_detectors(judge.bundle.manifest), ())
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


def _columns(judge: Judge, measured: Measured) -> Floats:
    return np.stack(list(judge.own_scores(measured).values()), axis=1)


def _shifted(
    judge: Judge, database: Database, where: npt.NDArray[np.bool_], count: int, seed: int
) -> dict[str, tuple[Floats, npt.NDArray[np.int64]]]:
    """Shift -> scores and groups of up to `count` of the benign images in the mask."""
    if count == 0:
        return {}
    places = np.flatnonzero(where)
    if len(places) > count:
        places = np.sort(np.random.default_rng(seed).choice(places, count, replace=False))
    images = np.concatenate([database.normal, database.reserve])[places]
    groups = np.array([entry.group for entry in normal_entries(database)], np.int64)[places]
    return {
        name: (_columns(judge, judge.measured(database, shifted(images, name, seed), f"benign images, {name}")), groups)
        for name in SHIFTS
    }
