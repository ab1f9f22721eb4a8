"""`firewall lab tracks` and `firewall lab drift`: databases in, specifications and measurements out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from firewall.bundle import Bundle
from firewall.bundle.certificate import judges
from firewall.bundle.numerics import FUSED
from firewall.decision.drift import DriftSpec
from firewall.decision.tracks import TracksSpec
from firewall.errors import DataError, UsageError
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.calibration.tracks import Sighting, calibrate_tracks, halves, in_tracks, usable_groups
from firewall.lab.database import Database
from firewall.lab.datasets import open_dataset
from firewall.lab.datasets.shifts import shifted
from firewall.lab.evaluation.drift import drift_spec, one_a_track, streams
from firewall.lab.evaluation.tracks import either, judge_tracks, rules
from firewall.lab.measurement.screened import Screened, screen_all
from firewall.lab.models import Protected
from firewall.screening import Firewall

__all__ = ["Frames", "drift_report", "normal_frames", "tracks_report", "with_file"]


#: What readers of the reports have to know of how the defaults came about.
_TRACK_NOTES = (
    (
        "cap, flip and allowance were chosen by looking at the tracks of GTSRB's part kept-out, under fgsm, "
        "deepfool, pgd, pgd-high-confidence, gradient, newtonfool and l2-bim, with a bundle of agreement, "
        "confidence and a residual detector; that database is therefore no untouched test. GTSRB's test images "
        "took no part in the choice; they were looked at four times since, with three forms of the report, and "
        "nothing was chosen by it."
    ),
    "A database's own thresholds may have been set on the same tracks: the default bundle's were, on kept-out.",
    (
        "Groups of GTSRB's test images are near duplicates in no known order, all rightly classified, so that "
        "labels of normal ones can't change."
    ),
    ("An attack that succeeds on few frames has few tracks of many frames, and these are the ones that it finds easy."),
)
_DRIFT_NOTES = (
    (
        "First only the suspicion, the confidence and the label were watched: darkness and rain were found after "
        "96 and 80 signs (median), blur and noise not at all within 197. All detectors' scores were added after "
        "that was seen on this very stream."
    ),
    "The orders of a stream are drawn from the same images: its repeats are not independent of each other.",
    "Each group of the stream gives one image; groups of GTSRB's test images are near duplicates.",
)


@dataclass(frozen=True, eq=False)
class Frames:
    """Normal images and what the edge says of each. every: all frames of the tracks, also those that the classifier
    gets wrong; otherwise the database's own, which it gets right."""

    found: Screened
    groups: npt.NDArray[np.int64]
    sources: tuple[str, ...]
    every: bool


def normal_frames(
    guard: Firewall, classifier: Protected, database: Database, data: Path | None, *, every: bool
) -> Frames:
    """The normal images of a database that were attacked, or (`every`) all of the part of the data set that it was made
    of. data: folder of the data sets."""
    if not every:
        entries = database.card.normal
        found = screen_all(guard, database, database.normal, classifier, "normal images")
        sources = tuple(entry.source for entry in entries)
        return Frames(found, np.array([entry.group for entry in entries], np.int64), sources, False)
    card = database.card.dataset
    dataset = open_dataset(card.spec, data, part=card.part)
    images = np.stack([classifier.prepare(image) for image in dataset.images])
    found = screen_all(guard, database, images, classifier, f"every frame of {card.spec} {card.part}")
    return Frames(found, np.asarray(dataset.groups, np.int64), tuple(dataset.sources), True)


def tracks_report(
    guard: Firewall,
    classifier: Protected,
    database: Database,
    others: Sequence[Database] = (),
    *,
    data: Path | None = None,
    every: bool = True,
    rate: float = 0.05,
    attacks: Sequence[str] = (),
    seed: int = 0,
) -> tuple[TracksSpec, dict[str, Any]]:
    """Set the limit on a database's normal tracks, and judge it there and on `others`; ready for JSON.

    The specification is of all tracks; where the database itself is judged, each half of the tracks by the limits that
    were set on the other half. every: normal tracks are all frames of the data set (of `database`; of others the
    database's own). attacks: to judge on, all that are complete if none is named. rate: false alarms a track. Raises
    UsageError for an attack that isn't there, DataError for databases of another classifier or with too few tracks.
    """
    frames = normal_frames(guard, classifier, database, data, every=every)
    free = usable_groups(guard.bundle, database, frames.groups.tolist())
    normal = _within(in_tracks(frames.found, frames.groups.tolist(), frames.sources), free)
    first, second = halves([track.group for track in normal], seed)
    numerics = guard.bundle.manifest.numerics
    margin = 0.0 if numerics is None else numerics.margin.get(FUSED, max(numerics.margin.values(), default=0.0))
    spec = calibrate_tracks(normal, rate, margin=margin)
    # The limits that judge a half were set on the other half, which has to be enough by itself.
    note = f" in a half of the {len(normal)}: each half is judged by the limits of the other"
    crossed = []
    for calibrating in (second, first):  # who judges the first half was set on the second
        half = _within(normal, calibrating)
        crossed.append(rules(calibrate_tracks(half, rate, margin=margin, note=note), half))
    report: dict[str, Any] = {
        "bundle": guard.bundle.manifest.name,
        "bundle_sha256": guard.bundle.sha256,
        "judges": judges(guard.bundle.manifest),
        "rate_a_track": rate,
        "seed": seed,
        "spec": spec.model_dump(mode="json"),
        "calibration": {"tracks": len(normal), "frames": sum(map(len, normal)), "every_frame": frames.every},
        "judged": {},
        "notes": list(_TRACK_NOTES),
    }
    attacked = _attacked(guard, classifier, database, attacks, free)
    report["judged"][database.folder.name] = judge_tracks(either(first, *crossed), normal, attacked) | {
        "about": _about(database),
        "limits": "of the other half of the tracks",
    }
    chosen = rules(spec, normal)
    for other in others:
        usual = normal_frames(guard, classifier, other, data, every=False)
        kept = set(usable_groups(guard.bundle, other)) - (set(free) if _same(database, other) else set())
        judged = _within(in_tracks(usual.found, usual.groups.tolist(), usual.sources), kept)
        attacked = _attacked(guard, classifier, other, attacks, kept)
        report["judged"][other.folder.name] = judge_tracks(chosen, judged, attacked) | {
            "about": _about(other),
            "limits": f"of all tracks of {database.folder.name}",
        }
    return spec, report


def drift_report(
    guard: Firewall,
    classifier: Protected,
    database: Database,
    stream: Database,
    *,
    data: Path | None = None,
    every: bool = True,
    shifts: Sequence[str] = ("blur", "noise", "dark"),
    before: int = 100,
    repeats: int = 20,
    run_length: float = 10_000.0,
    seed: int = 0,
) -> tuple[DriftSpec, dict[str, Any]]:
    """A reference from the tracks of `database`, and how long it takes on `stream`, another database's normal images,
    one of each track, without and with each shift; ready for JSON."""
    frames = normal_frames(guard, classifier, database, data, every=every)
    free = usable_groups(guard.bundle, database, frames.groups.tolist())
    where = np.flatnonzero(np.isin(frames.groups, free))
    reference = frames.found.take(where[one_a_track(frames.groups[where], seed)])
    classes = len(guard.bundle.manifest.classifier.labels)
    entries = stream.card.normal
    kept = set(usable_groups(guard.bundle, stream)) - (set(free) if _same(database, stream) else set())
    places = np.flatnonzero([entry.group in kept for entry in entries])
    if len(places) == 0:
        raise DataError(f"{stream.folder} has no tracks that are not in the reference; name another with --stream")
    chosen = places[one_a_track([entries[place].group for place in places], seed)]
    images = stream.normal[chosen]
    usual = screen_all(guard, stream, images, classifier, "the stream")
    changed = {
        name: screen_all(guard, stream, shifted(images, name, seed), classifier, f"the stream, {name}")
        for name in shifts
    }
    spec = drift_spec(reference, classes, run_length=run_length, seed=seed)
    unlabelled = drift_spec(reference, classes, run_length=run_length, labels=False, seed=seed)
    report: dict[str, Any] = {
        "bundle": guard.bundle.manifest.name,
        "bundle_sha256": guard.bundle.sha256,
        "judges": judges(guard.bundle.manifest),
        "reference": {**_about(database), "tracks": len(reference), "every_frame": frames.every},
        "stream": _about(stream),
        "run_length": run_length,
        "seed": seed,
        "all": streams(spec, usual, changed, before=before, repeats=repeats, seed=seed),
        "notes": list(_DRIFT_NOTES),
        "without_labels": streams(unlabelled, usual, changed, before=before, repeats=repeats, seed=seed),
    }
    return spec, report


def with_file(bundle: Bundle, out: Path, name: str, spec: BaseModel) -> Bundle:
    """Write `bundle` to `out` with a specification as its file `name`, in place of one of that name. `out` may be the
    bundle's own folder."""
    return rewritten(bundle, out, {name: (spec.model_dump_json(indent=1) + "\n").encode()})


def _attacked(
    guard: Firewall, classifier: Protected, database: Database, names: Sequence[str], groups: Collection[int]
) -> dict[str, list[Sighting]]:
    """The successful frames of each attack by track. Attacks that are not named have to be complete."""
    unknown = [name for name in names if name not in database.card.attacks]
    if unknown:
        raise UsageError(
            f"{database.folder} has no attack {', '.join(unknown)}; it has {', '.join(database.card.attacks)}"
        )
    normal = database.card.normal
    found: dict[str, list[Sighting]] = {}
    for name in names or database.card.attacks:
        attack = database.attacked(name)
        if (not names and attack.attempted < len(normal)) or not attack.entries:
            continue
        screened = screen_all(guard, database, attack.images, classifier, name)
        own = [normal[entry.normal] for entry in attack.entries]
        sources = [entry.source for entry in own]
        tracks = in_tracks(screened, [entry.group for entry in own], sources, np.ones(len(own), bool))
        found[name] = _within(tracks, groups)
    return found


def _within(tracks: Sequence[Sighting], groups: Collection[int]) -> list[Sighting]:
    kept = set(groups)
    return [track for track in tracks if track.group in kept]


def _about(database: Database) -> dict[str, Any]:
    card = database.card
    return {
        "database": database.folder.name,
        "dataset": card.dataset.spec,
        "part": card.dataset.part,
        "normal": len(card.normal),
        "groups": "near duplicates" if card.dataset.part == "test" else "tracks",
    }


def _same(one: Database, other: Database) -> bool:
    """Whether the two number their groups alike."""
    first, second = one.card.dataset, other.card.dataset
    return first.spec == second.spec and (first.part == "test") == (second.part == "test")
