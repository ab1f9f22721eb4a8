"""Which images a bundle is evaluated on, and on which thresholds are set.

The two sets share no group with each other, nor with what a detector was fitted to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.errors import DataError
from firewall.lab.database import Database
from firewall.lab.database.card import Split
from firewall.lab.database.normals import CalibrationNormals, calibration_mask, calibration_normals, normal_entries
from firewall.lab.database.seen import record, seen_groups
from firewall.lab.measurement.bundle_verdicts import trained_detectors

__all__ = ["Protocol", "protocol_of"]

#: With fewer benign images a false-positive rate of 1 % can't be measured.
_ENOUGH = 100


@dataclass(frozen=True, eq=False)
class Protocol:
    """The two sets of images.

    Attributes:
        splits: Those that are judged.
        judged: Which of `normal_entries` are judged, bool (N,).
        calibration: What thresholds are set on.
        other: These are of another database than the judged ones.
        notes: What readers of the result have to know.
    """

    splits: tuple[Split, ...]
    judged: npt.NDArray[np.bool_]
    calibration: CalibrationNormals
    other: bool
    notes: tuple[str, ...]

    def described(self) -> dict[str, Any]:
        """The calibration images, for JSON."""
        seen = self.calibration.seen
        return {
            "other_database": self.other,
            "dataset": seen.dataset,
            "part": seen.part,
            "splits": list(seen.splits),
            "images": int(self.calibration.where.sum()),
            "groups": len(seen.groups.split()),
        }


def protocol_of(
    bundle: Bundle, database: Database, splits: Sequence[Split], calibration: Database | None = None
) -> Protocol:
    """Choose the images to judge and those to set thresholds on.

    Args:
        bundle: Says what its parts were fitted to.
        database: Its images are judged.
        splits: Those of its splits.
        calibration: Another database, for the thresholds; None: the other splits of `database`.

    Raises:
        DataError: No image is left for one of the two, or a group would be on two sides.
    """
    entries = normal_entries(database)
    judged = np.array([entry.split in splits for entry in entries], bool)
    if not judged.any():
        raise DataError(f"{database.folder} has no benign images in its splits {', '.join(splits)}; attack more images")
    groups = {entry.group for entry, here in zip(entries, judged, strict=True) if here}
    trained = trained_detectors(bundle.manifest)
    fusion = bundle.manifest.fusion
    if fusion is not None and fusion.fitted is not None:
        trained.append(("fusion", fusion.fitted))
    for name, fitted in trained:
        known = set() if fitted is None else seen_groups([fitted], database.card.dataset) & groups
        if known:
            who = "the fusion" if name == "fusion" else f"the detector {name}"
            raise DataError(
                f"{who} was fitted to {len(known)} of the {len(groups)} groups of the splits {', '.join(splits)}; "
                "judge it on others with --split, or on another database"
            )
    if calibration is None:
        where, note = calibration_mask(database, trained, splits)
        if not where.any():
            raise DataError(
                f"the splits {', '.join(splits)} leave {database.folder} no benign images to set thresholds on; name "
                "another database for them with --calibration"
            )
        kept = [entry for entry, here in zip(entries, where, strict=True) if here]
        chosen = CalibrationNormals(database, where, record(database.card, kept), note)
    else:
        chosen = calibration_normals(calibration, trained)
        shared = seen_groups([chosen.seen], database.card.dataset) & groups
        if shared:
            raise DataError(
                f"{len(shared)} of the {len(groups)} judged groups are also among those of --calibration "
                f"{calibration.folder}; thresholds are set on images that are not judged: name another database"
            )
    notes = _notes(bundle, database, chosen, groups)
    unknown = [name for name, fitted in trained if fitted is None]
    if unknown and "train" in splits:
        note = (
            f"{', '.join(unknown)} doesn't say what it was fitted to, so that judged images of the train split may be "
            "among them: train it again, and calibrate again."
        )
        notes = (note, *notes)
    return Protocol(tuple(splits), judged, chosen, calibration is not None, notes)


def _notes(bundle: Bundle, database: Database, chosen: CalibrationNormals, groups: set[int]) -> tuple[str, ...]:
    notes = [chosen.notes] if chosen.notes else []
    count = int(chosen.where.sum())
    if count < _ENOUGH:
        notes.append(
            f"The thresholds for 1 % were set on {count} benign images, too few for 1 %: none of them lies above, and "
            "the rate on others may be several per cent."
        )
    held, attacks = database.info()["adversarial"], database.card.attacks
    stopped = [name for name, facts in attacks.items() if held[name] and _aimed_probability(facts) is not None]
    if stopped and any(spec.name == "confidence" for spec in bundle.manifest.detectors):
        notes.append(
            f"{', '.join(stopped)} stop as soon as the wrong class has a set probability, and the detector confidence "
            "recognises that very number: its rates on them tell nothing of an attacker who stops elsewhere."
        )
    card = bundle.manifest.calibration
    own = card.seen
    if own is None and {"calibration_share", "seed"} <= card.split.keys() and database.card.dataset.spec == "gtsrb":
        if database.card.dataset.part in ("train", "kept-out"):
            notes.append(_OPTIMISTIC.format("some"))
    elif own is not None:
        shared = seen_groups([own], database.card.dataset) & groups
        if shared:
            notes.append(_OPTIMISTIC.format(f"{len(shared)} of {len(groups)}"))
    return tuple(notes)


def _aimed_probability(attack: dict[str, Any]) -> float | None:
    """The probability of the wrong class at which an attack ends, by its entry in the card."""
    criterion = attack.get("criterion")
    return criterion.get("probability") if isinstance(criterion, dict) else None


_OPTIMISTIC = (
    "The bundle's own thresholds were set on benign images of {} of the judged groups: what is said of them here, the "
    "false-positive rate above all, is better than on images that nothing was set on."
)
