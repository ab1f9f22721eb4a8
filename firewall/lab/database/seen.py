"""Which images a detector was fitted to, so that no threshold is set on them and no rate is measured on them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt

from firewall.bundle import Seen
from firewall.lab.database.card import Card, DatasetEntry, NormalImage
from firewall.lab.database.database import Database

__all__ = ["known_groups", "seen", "seen_groups", "unseen"]


def seen(database: Database, splits: Collection[str] = ("train",)) -> Seen:
    """The record of a detector that learns from these splits: of the benign images, attacked or in reserve.

    `detector.json` holds it as "fitted", and a bundle takes it over.

    Args:
        database: What the detector learns from.
        splits: Names of splits.

    Returns:
        The record.
    """
    entries = [entry for entry in (*database.card.normal, *database.reserve_entries) if entry.split in splits]
    return record(database.card, entries)


def record(card: Card, entries: Iterable[NormalImage]) -> Seen:
    """The record of some of a database's benign images.

    Args:
        card: The database's.
        entries: Some of its images.

    Returns:
        The record.
    """
    entries = list(entries)
    return Seen(
        dataset=card.dataset.spec,
        part=card.dataset.part,
        database=card.normal_shard,
        splits=tuple(sorted({entry.split for entry in entries})),
        groups=" ".join(map(str, sorted({entry.group for entry in entries}))),
    )


def seen_groups(records: Iterable[Seen], data: DatasetEntry) -> set[int]:
    """The groups of the data set that any of the records holds.

    Args:
        records: What detectors were fitted to.
        data: The data set.

    Returns:
        Numbers of groups.
    """
    return known_groups(records, data.spec, data.part)


def known_groups(records: Iterable[Seen], dataset: str, part: str) -> set[int]:
    """As `seen_groups`, of a data set by its name and part."""
    own = _numbering(dataset, part)
    return {
        group
        for record in records
        if _numbering(record.dataset, record.part) == own
        for group in map(int, record.groups.split())
    }


def unseen(entries: Iterable[NormalImage], records: Iterable[Seen], data: DatasetEntry) -> npt.NDArray[np.bool_]:
    """Which benign images share no group with any of the records.

    Args:
        entries: Images of the data set.
        records: What detectors were fitted to.
        data: The data set.

    Returns:
        Bool (N,).
    """
    taken = seen_groups(records, data)
    return np.array([entry.group not in taken for entry in entries], bool)


def _numbering(dataset: str, part: str) -> tuple[str, bool]:
    """What makes two groups of the same number the same group. All parts of a data set but its test part are taken from
    its training images and number their groups alike."""
    return dataset, part == "test"
