"""The attacked images of a database that a bundle is evaluated on, and how often the attack succeeded at all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.lab.database import Database
from firewall.lab.database.jobs import finished, jobs_of
from firewall.lab.measurement.bundle_verdicts import Judge
from firewall.lab.measurement.edge import Measured
from firewall.lab.measurement.intervals import Rate, rate_of

__all__ = ["AttackedImages", "attacked_images", "rate_json"]


@dataclass(frozen=True, eq=False)
class AttackedImages:
    """What one attack made of the images of some splits, N images that fooled the classifier when they were made.

    Attributes:
        measured: What the edge's classifier says of them.
        tracks: The group of each, int64 (N,).
        labels: The true class of each, as the classifier counts them, int64 (N,).
        success: Of the benign images of these splits that the attack was tried on: how many it turned into images that
            fool the bare classifier. None if the database doesn't say what was tried.
    """

    measured: Measured
    tracks: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    success: Rate | None

    def __len__(self) -> int:
        return len(self.tracks)

    def wrong_release(self, released: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """The wrong-release rate: the share of the images for which a wrong label is released.

        Args:
            released: bool (N,), the labels that go out.

        Returns:
            rate, n and ci95 (which takes a track as one draw), ready for JSON.
        """
        return rate_json(rate_of(released & (self.measured.labels != self.labels), self.tracks))


def attacked_images(judge: Judge, database: Database, attack: str, splits: Collection[str]) -> AttackedImages | None:
    """The images of an attack in some splits; None if there are none.

    Args:
        judge: The bundle.
        database: Made on its classifier.
        attack: One of the database's.
        splits: Of the database.

    Raises:
        UsageError: The database has no such attack.
        DataError: It was made on another classifier, or a file is damaged.
    """
    card = database.card
    normals = np.array([entry.normal for entry in database.attacked(attack).entries], np.int64)
    inside = np.array([entry.split in splits for entry in card.normal], bool)
    chosen = inside[normals]
    if not chosen.any():
        return None
    groups = np.array([entry.group for entry in card.normal], np.int64)
    labels = np.array([entry.label for entry in card.normal], np.int64) + card.classifier.offset
    tried, fooled = _tried(database, attack) & inside, np.isin(np.arange(len(inside)), normals)
    return AttackedImages(
        judge.attacked(database, attack).subset(chosen),
        groups[normals[chosen]],
        labels[normals[chosen]],
        rate_of(fooled[tried], groups[tried]) if tried.any() else None,
    )


def rate_json(rate: Rate) -> dict[str, Any]:
    """rate, n and ci95, ready for JSON."""
    return {"rate": rate.value, "n": rate.total, "ci95": [rate.low, rate.high]}


def _tried(database: Database, attack: str) -> npt.NDArray[np.bool_]:
    """Which benign images the attack was tried on, bool (N,)."""
    tried = np.zeros(len(database.card.normal), bool)
    for job in jobs_of(database.card, attack):
        record = finished(database.folder, job)
        if record is not None and record.attempted == job.stop - job.start:
            tried[job.start : job.stop] = True
    return tried
