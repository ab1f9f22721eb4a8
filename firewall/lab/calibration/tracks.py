"""The limit of a track's evidence, set on benign tracks alone.

The unit is the track. Of each benign track its largest sum of evidence counts, once, and the limit is the
split-conformal quantile of these. Of further tracks that are *exchangeable* with them, at most the given share then has
a frame withheld for its evidence. Longer tracks have more chances to exceed the limit: the rate is that of tracks of
these lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.decision.tracks import TracksSpec, running_sums
from firewall.errors import DataError, UsageError
from firewall.lab.database import Database
from firewall.lab.database.seen import seen_groups
from firewall.lab.measurement.conformal import check_count, conformal_threshold
from firewall.lab.measurement.screened import Screened

__all__ = ["Sighting", "calibrate_tracks", "check_track_rate", "halves", "in_tracks", "usable_groups"]


@dataclass(frozen=True, eq=False)
class Sighting:
    """The N frames of one track in order, as the edge judged each by itself.

    Attributes:
        group: The track's number.
        suspicion: float64 (N,).
        label: int64 (N,).
        released: bool (N,).
        hostile: bool (N,), the frame is attacked and its label wrong.
    """

    group: int
    suspicion: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]
    released: npt.NDArray[np.bool_]
    hostile: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.suspicion)

    def first(self, count: int) -> Sighting:
        """The first `count` frames."""
        return Sighting(
            self.group, self.suspicion[:count], self.label[:count], self.released[:count], self.hostile[:count]
        )


def in_tracks(
    found: Screened, groups: Sequence[int], sources: Sequence[str], hostile: npt.NDArray[np.bool_] | None = None
) -> list[Sighting]:
    """Sort images into tracks, in the order of their sources' names, in which frames are numbered.

    Args:
        found: Verdicts on N images.
        groups: The track of each, (N,).
        sources: The name of each, N.
        hostile: bool (N,), see `Sighting`; None: no image is.

    Returns:
        The tracks in the order of their numbers.
    """
    rows: dict[int, list[int]] = {}
    # The folder in front is the pack that an image came in, and one track may lie in two.
    for row in sorted(range(len(found)), key=lambda row: sources[row].partition("/")[2] or sources[row]):
        rows.setdefault(int(groups[row]), []).append(row)
    marks = np.zeros(len(found), bool) if hostile is None else hostile
    return [
        Sighting(group, found.suspicion[index], found.label[index], found.released[index], marks[index])
        for group, index in sorted(rows.items())
    ]


def usable_groups(bundle: Bundle, database: Database, groups: Iterable[int] = ()) -> list[int]:
    """The groups that no detector of a bundle was fitted to.

    A trained detector without a record of its images is assumed to have seen the train split. Then only groups of the
    database are known to be free.

    Args:
        bundle: The bundle.
        database: Its groups are looked at.
        groups: Further groups of its data set.
    """
    trained = [spec.fitted for spec in bundle.manifest.detectors if "file" in spec.parameters]
    taken = seen_groups([fitted for fitted in trained if fitted is not None], database.card.dataset)
    known = {entry.group: entry.split for entry in database.card.normal}
    if any(fitted is None for fitted in trained):
        return sorted(group for group, split in known.items() if split != "train" and group not in taken)
    return sorted((set(known) | {int(group) for group in groups}) - taken)


def halves(groups: Sequence[int], seed: int = 0) -> tuple[set[int], set[int]]:
    """Divide tracks at random into those to calibrate on and those to judge.

    Args:
        groups: The tracks' numbers, two or more.
        seed: Of the draw.

    Raises:
        DataError: There are fewer than two.
    """
    if len(groups) < 2:
        raise DataError(
            f"{len(groups)} benign tracks that no detector was fitted to can't be split into those that calibrate and "
            "those that judge; at least 2 are needed, name a database with more"
        )
    order = np.random.default_rng(seed).permutation(sorted(groups)).tolist()
    half = (len(order) + 1) // 2
    return set(order[:half]), set(order[half:])


def check_track_rate(rate: float) -> None:
    """Raises UsageError unless `rate`, of tracks, lies between 0 and 1."""
    if not 0 < rate < 1:
        raise UsageError(f"a false-alarm rate a track must lie between 0 and 1, got {rate}")


def calibrate_tracks(
    normal: Sequence[Sighting], rate: float = 0.05, *, margin: float = 0.0, note: str = "", **fields: Any
) -> TracksSpec:
    """Set the limit of a track's evidence.

    Args:
        normal: Benign tracks, as the bundle judged their frames.
        rate: Share of benign tracks that may have a frame withheld for their evidence, between 0 and 1.
        margin: By how much a suspicion may differ with other arithmetic. The limit leaves room for that in every frame
            of the longest track.
        note: For the message about too few tracks, see `check_count`.
        **fields: Further fields of the specification.

    Raises:
        UsageError: The rate is out of range.
        DataError: There are too few tracks for it, or most frames of benign tracks are withheld.
    """
    check_track_rate(rate)
    if not normal:
        raise DataError(
            "there are no benign tracks to set the limit on: the detectors were fitted to all, or the database has "
            "none; name another database"
        )
    check_count(len(normal), rate, "benign tracks", option="--rate", note=note)
    frames = np.concatenate([track.suspicion for track in normal])
    typical = float(np.median(np.where(np.isnan(frames), np.inf, frames)))
    if not typical < 0:
        raise DataError(
            f"half of the frames of benign tracks have a suspicion of {typical:.3g} or more, above 0 all are "
            "withheld; calibrate the bundle on such images first"
        )
    draft = TracksSpec(typical=typical, limit=0.0, false_alarm_rate=rate, tracks=len(normal), **fields)
    highest = np.array([running_sums(draft, track.suspicion, track.label)[0].max() for track in normal])
    # No frame's evidence changes by more than margin / -typical, nor does what is taken off afterwards change more.
    # The last factor is for the rounding of the sums themselves.
    leaves = max(map(len, normal)) * margin / -typical * (1 + 1e-6)
    limit = conformal_threshold(highest, rate, unit="benign tracks", option="--rate")
    return draft.model_copy(update={"limit": limit + leaves})
