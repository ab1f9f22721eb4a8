"""Benign images of a database, attacked or in reserve, and those of them that thresholds may be set on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np
import numpy.typing as npt

from firewall.bundle import Seen
from firewall.errors import DataError, UsageError
from firewall.lab.database.card import NormalImage, Split
from firewall.lab.database.database import Database
from firewall.lab.database.seen import record, unseen

__all__ = ["CalibrationNormals", "calibration_mask", "calibration_normals", "named_splits", "normal_entries"]

#: A detector of a bundle, and what it was fitted to; None where that isn't known.
Fitted = tuple[str, Seen | None]


@dataclass(frozen=True, eq=False)
class CalibrationNormals:
    """The benign images that thresholds are set on.

    Args:
        database: Where they come from.
        where: Bool (N,), which of `normal_entries`.
        seen: The record of them.
        notes: What a reader of the thresholds has to know; may be empty.
    """

    database: Database
    where: npt.NDArray[np.bool_]
    seen: Seen
    notes: str

    @cached_property
    def images(self) -> npt.NDArray[np.uint8]:
        """Uint8 (N, H, W, C), in the order of `normal_entries`."""
        return np.concatenate([self.database.normal, self.database.reserve])[self.where]


def normal_entries(database: Database) -> tuple[NormalImage, ...]:
    """All benign images: first those that are attacked, then the reserve.

    Args:
        database: Any.

    Returns:
        What is known of each.
    """
    return (*database.card.normal, *database.reserve_entries)


def named_splits(text: str, option: str = "--split") -> tuple[Split, ...]:
    """The splits that a text names.

    Args:
        text: Such as "dev,eval" or "all".
        option: How errors call it.

    Returns:
        The splits, in the order train, dev, eval.

    Raises:
        UsageError: The text names no split, or an unknown one.
    """
    known: tuple[Split, ...] = get_args(Split)
    asked = known if text == "all" else tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not asked or not set(asked) <= set(known):
        raise UsageError(f"{option} must be one of {', '.join(known)}, several with commas, or all; got {text!r}")
    return tuple(split for split in known if split in asked)


def calibration_mask(
    database: Database, fitted: Sequence[Fitted], judged: Collection[str]
) -> tuple[npt.NDArray[np.bool_], str]:
    """Which benign images thresholds may be set on: of no judged split, and of no group that a detector was fitted to.

    A detector that doesn't say what it was fitted to is assumed to have been fitted to the train split.

    Args:
        database: Any.
        fitted: Name and record of each trained detector.
        judged: Splits that are kept for judging.

    Returns:
        Bool (N,), of `normal_entries`, and a note, which may be empty.
    """
    entries = normal_entries(database)
    where = np.array([entry.split not in judged for entry in entries], bool)
    where &= unseen(entries, [seen for _, seen in fitted if seen is not None], database.card.dataset)
    unknown = [name for name, seen in fitted if seen is None]
    if not unknown:
        return where, ""
    where &= np.array([entry.split != "train" for entry in entries], bool)
    return where, (
        f"{', '.join(unknown)} doesn't say what it was fitted to; the train split was taken to be it: train it again "
        "to be sure"
    )


def calibration_normals(
    database: Database, fitted: Sequence[Fitted], judged: Collection[str] = ("eval",)
) -> CalibrationNormals:
    """The benign images, attacked or in reserve, that thresholds may be set on.

    Args:
        database: Any.
        fitted: Name and record of each trained detector of the bundle.
        judged: Splits that are kept for judging.

    Returns:
        At least one image.

    Raises:
        DataError: There is none.
    """
    where, notes = calibration_mask(database, fitted, judged)
    if not where.any():
        raise DataError(
            f"{database.folder} has no normal images to set thresholds on: the splits {', '.join(judged)} are kept for "
            "judging and the detectors were fitted to the others; add some with 'firewall lab attack --reserve', or "
            "name another database"
        )
    kept = [entry for entry, here in zip(normal_entries(database), where, strict=True) if here]
    return CalibrationNormals(database, where, record(database.card, kept), notes)
