"""The limit of a track's evidence, set on normal tracks alone.

The unit is the track: of each normal track the largest sum that it comes to counts once, and the limit is the
split-conformal quantile of these. A further track *exchangeable* with them, as long as they are, then has a frame
withheld for its sum with at most the rate asked for. Longer tracks have more occasions: the rate is that of tracks of
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

__all__ = ["Sighting", "calibrate_tracks", "halves", "in_tracks", "usable_groups"]


@dataclass(frozen=True, eq=False)
class Sighting:
    """The frames of one track in order, as the edge judged each by itself: suspicion (N,) float64, label (N,) int64,
    released (N,) bool. hostile: bool (N,), the frame is attacked and its label wrong."""

    group: int
    suspicion: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]
    released: npt.NDArray[np.bool_]
    hostile: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.suspicion)

    def first(self, count: int) -> Sighting:
        """Its first frames."""
        return Sighting(
            self.group, self.suspicion[:count], self.label[:count], self.released[:count], self.hostile[:count]
        )


def in_tracks(
    found: Screened, groups: Sequence[int], sources: Sequence[str], hostile: npt.NDArray[np.bool_] | None = None
) -> list[Sighting]:
    """Images by track, in the order of their sources' names within it: frames are numbered there.

    groups, sources: of each image. hostile: bool (N,); none if it isn't given.
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
    """Groups of the database, and of `groups` of its data set, that no detector of the bundle was fitted to.

    A trained detector that doesn't say what it was fitted to is taken to have been fitted to the train split; then only
    groups of the database are known to be free.
    """
    trained = [spec.fitted for spec in bundle.manifest.detectors if "file" in spec.parameters]
    taken = seen_groups([fitted for fitted in trained if fitted is not None], database.card.dataset)
    known = {entry.group: entry.split for entry in database.card.normal}
    if any(fitted is None for fitted in trained):
        return sorted(group for group, split in known.items() if split != "train" and group not in taken)
    return sorted((set(known) | {int(group) for group in groups}) - taken)


def halves(groups: Sequence[int], seed: int = 0) -> tuple[set[int], set[int]]:
    """Tracks to calibrate on, and tracks to judge with; by chance. Raises DataError for fewer than two."""
    if len(groups) < 2:
        raise DataError(
            f"{len(groups)} normal tracks that no detector was fitted to can't be split into those that calibrate and "
            "those that judge; at least 2 are needed, name a database with more"
        )
    order = np.random.default_rng(seed).permutation(sorted(groups)).tolist()
    half = (len(order) + 1) // 2
    return set(order[:half]), set(order[half:])


def calibrate_tracks(
    normal: Sequence[Sighting], rate: float = 0.05, *, margin: float = 0.0, note: str = "", **fields: Any
) -> TracksSpec:
    """The specification for a bundle whose verdicts on normal tracks are `normal`. margin: by how much a suspicion may
    differ with other arithmetic; the limit leaves that for every frame of the longest track. fields: of TracksSpec, as
    they are. note: for the message of too few tracks, see `check_count`.

    Raises UsageError for a rate outside (0, 1), DataError if there are too few tracks for it, or if the frames of
    normal tracks are mostly withheld.
    """
    if not 0 < rate < 1:
        raise UsageError(f"a false-alarm rate a track must lie between 0 and 1, got {rate}")
    if not normal:
        raise DataError(
            "there are no normal tracks to set the limit on: the detectors were fitted to all, or the database has "
            "none; name another database"
        )
    check_count(len(normal), rate, "normal tracks", option="--rate", note=note)
    frames = np.concatenate([track.suspicion for track in normal])
    typical = float(np.median(np.where(np.isnan(frames), np.inf, frames)))
    if not typical < 0:
        raise DataError(
            f"half of the frames of normal tracks have a suspicion of {typical:.3g} or more, above 0 all are "
            "withheld; calibrate the bundle on such images first"
        )
    draft = TracksSpec(typical=typical, limit=0.0, false_alarm_rate=rate, tracks=len(normal), **fields)
    highest = np.array([running_sums(draft, track.suspicion, track.label)[0].max() for track in normal])
    # No frame's evidence changes by more than margin / -typical, nor does what is taken off afterwards change more.
    # The last factor is for the rounding of the sums themselves.
    leaves = max(map(len, normal)) * margin / -typical * (1 + 1e-6)
    limit = conformal_threshold(highest, rate, unit="normal tracks", option="--rate")
    return draft.model_copy(update={"limit": limit + leaves})
