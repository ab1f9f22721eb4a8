"""Attacked tracks, frame by frame through the firewall and its track policy: `firewall lab evaluate tracks`.

A track counts as lost if a wrong label goes out at any of its frames, whatever is said later.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.bundle.certificate import judges
from firewall.decision.over_time import over_time, served
from firewall.decision.tracks import Tracks, TracksSpec
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import DataError, UsageError
from firewall.lab.database.building import alone
from firewall.lab.datasets import data_root, open_dataset
from firewall.lab.datasets.classes import matched
from firewall.lab.datasets.gtsdb import load_scenes
from firewall.lab.evaluation.attacked_images import rate_json
from firewall.lab.evaluation.crops.track_attacks import attacked_tracks, check_tracks
from firewall.lab.evaluation.crops.track_images import FRAMES, FrameTracks, made_tracks, real_tracks
from firewall.lab.evaluation.crops.verdicts import Row, judge_key, verdicts
from firewall.lab.measurement.intervals import rate_of
from firewall.lab.models import Protected, open_classifier
from firewall.verdict import Reason, Verdict

__all__ = ["SOURCES", "USUAL", "TrackSettings", "followed", "measure_tracks"]

#: Where tracks come from.
SOURCES = ("real", "made")
#: Attacks that are tried if none is named.
USUAL = ("linf-8@jpeg-90", "linf-8@jpeg-90@aimed", "blurred-8@aimed", "shadow", "two-bars")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TrackSettings:
    """The options of `firewall lab evaluate tracks`.

    Args:
        attacks: Names, see `firewall.lab.evaluation.crops.track_attacks`.
        sources: Of SOURCES.
        limit: Tracks of each source that are attacked.
        frames: Of a track, 1 or more.
        draws: N of "the most confident of N", 1 or more.
        confirm: Frames that have to agree; None: as the firewall has it when it guards a stream.
        data: Folder of the data sets; None: the usual places.
        seed: Of all random choices.

    Raises:
        UsageError: A source is unknown.
    """

    attacks: tuple[str, ...] = USUAL
    sources: tuple[str, ...] = SOURCES
    limit: int = 60
    frames: int = FRAMES
    draws: int = 300
    confirm: int | None = None
    data: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.sources if name not in SOURCES]
        if unknown or not self.sources or len(set(self.sources)) < len(self.sources):
            raise UsageError(f"--sources takes {' and '.join(SOURCES)}, each once; got {', '.join(self.sources)!r}")


def measure_tracks(bundle: str, settings: TrackSettings, work: Path) -> dict[str, Any]:
    """Attack tracks, and judge them frame by frame.

    Args:
        bundle: `default`, or a bundle's folder.
        settings: What is attacked, and how.
        work: Folder in which attacked images and verdicts are kept; a run that was stopped goes on there.

    Returns:
        Ready for JSON, the worst attack first.

    Raises:
        UsageError: An attack is unknown, or needs gradients that the classifier doesn't give.
        DataError: Images are missing or damaged, no track is named right, or there is no room.
        BundleError: The bundle is damaged.
        EngineError: A network can't be run.
    """
    loaded = load_bundle(bundle)
    classifier = open_classifier(bundle, settings.data)
    check_tracks(settings.attacks, classifier)
    guard = Firewall(loaded, OnnxRuntimeEngine(loaded, threads=1), exhaustive=True, threads=1)
    spec = served(over_time(loaded)[0], settings.confirm)
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"can't make the folder {work}: {error.strerror}; name another --work") from error
    attacks: list[dict[str, Any]] = []
    benign = {}
    with alone(work, "--work"):
        for source in settings.sources:
            place = work / "track-verdicts" / judge_key(guard) / source
            whole = _opened(source, classifier, settings)
            rows = verdicts(guard, whole.crops, place / f"{settings.seed}-benign.jsonl", f"{source}, benign")
            benign[source] = _of_benign(spec, whole, rows)
            victims = whole.take(_right(whole, rows)[: settings.limit])
            if not len(victims):
                raise DataError(f"the classifier names no {source} track of {len(whole)} right in all of its frames")
            for name in settings.attacks:
                folder = work / "attacked-tracks" / source / name
                made = attacked_tracks(name, classifier, victims, folder, settings.seed, settings.draws)
                judged = verdicts(guard, made.crops, place / f"{settings.seed}-{name}.jsonl", f"{source}, {name}")
                attacks.append({"source": source, "attack": name, **_of_attack(spec, made, judged)})
    attacks.sort(key=lambda entry: -entry["wrong_at_any_frame"]["rate"])
    return {
        "worst": {key: attacks[0][key] for key in ("source", "attack", "wrong_at_any_frame")},
        "attacks": attacks,
        "benign": benign,
        "policy": spec.model_dump(mode="json"),
        "about": {
            "bundle": loaded.manifest.name,
            "bundle_sha256": loaded.sha256,
            "judges": judges(loaded.manifest),
            "frames": settings.frames,
            "draws": settings.draws,
            "seed": settings.seed,
            "attacker": "knows the classifier, not the firewall",
            "tracks": "attacked are tracks that the classifier names right in all frames; real: GTSRB tracks that no "
            "network was trained on, their last frames, on which benign limits were set; made: signs of GTSDB, moved, "
            "brought to growing sizes, with light and noise: no real approach",
        },
    }


def followed(spec: TracksSpec, rows: list[Row]) -> list[Verdict]:
    """What the track policy says of the frames of one sign, one after the other.

    Args:
        spec: How evidence adds up, and how many frames have to agree.
        rows: What the firewall says of each frame by itself.
    """
    tracks = Tracks(spec)
    return [tracks.judge([_verdict(row, number)])[0] for number, row in enumerate(rows)]


def _verdict(row: Row, number: int) -> Verdict:
    return Verdict(
        source=row.source,
        sequence=number,
        region=(0, 0, row.side, row.side),
        released=row.released,
        label=row.released_label,
        reason=Reason(row.reason),
        suspicion=row.suspicion,
        suspected_label=row.named,
    )


def _opened(source: str, classifier: Protected, settings: TrackSettings) -> FrameTracks:
    """All real tracks, in random order; of made ones three times as many as are attacked."""
    root = data_root(settings.data)
    if source == "made":
        return made_tracks(load_scenes(root), 3 * settings.limit, settings.seed, classifier.offset, settings.frames)
    data = matched(open_dataset("gtsrb", root, part="kept-out"), classifier.labels[classifier.offset :])
    found = real_tracks(data, classifier.offset, settings.frames)
    return found.take(np.random.default_rng(settings.seed).permutation(len(found)))


def _right(tracks: FrameTracks, rows: list[Row]) -> npt.NDArray[np.int64]:
    """The tracks whose frames the classifier names right, all of them."""
    right = np.array([row.named == row.label for row in rows], bool).reshape(len(tracks), tracks.length)
    return np.flatnonzero(right.all(axis=1))


def _of_attack(spec: TracksSpec, tracks: FrameTracks, rows: list[Row]) -> dict[str, Any]:
    alone_wrong, out_wrong, _ = _outcomes(spec, tracks, rows)
    named = np.array([row.named is not None and row.named != row.label for row in rows]).reshape(alone_wrong.shape)
    return {
        "n": len(tracks),
        "scenes": len(np.unique(tracks.scenes)),
        "wrong_at_any_frame": _rate(out_wrong.any(axis=1), tracks),
        "wrong_at_last_frame": _rate(out_wrong[:, -1], tracks),
        "each_frame_alone": {
            "wrong_at_any_frame": _rate(alone_wrong.any(axis=1), tracks),
            "wrong_at_last_frame": _rate(alone_wrong[:, -1], tracks),
        },
        "classifier_fooled": {
            "any_frame": _rate(named.any(axis=1), tracks),
            "all_frames": _rate(named.all(axis=1), tracks),
            "share_of_frames": float(named.mean()),
        },
    }


def _of_benign(spec: TracksSpec, tracks: FrameTracks, rows: list[Row]) -> dict[str, Any]:
    _, wrong, right = _outcomes(spec, tracks, rows)
    released = np.array([row.released for row in rows], bool)
    return {
        "n": len(tracks),
        "scenes": len(np.unique(tracks.scenes)),
        "right_by_the_end": _rate(right.any(axis=1), tracks),
        "right_at_last_frame": _rate(right[:, -1], tracks),
        "wrong_at_any_frame": _rate(wrong.any(axis=1), tracks),
        "frames_withheld_alone": float(1 - released.mean()),
        "tracks_named_right": len(_right(tracks, rows)),
    }


def _outcomes(spec: TracksSpec, tracks: FrameTracks, rows: list[Row]) -> tuple[Mask, Mask, Mask]:
    """Bool (T, length) each: a wrong label goes out where each frame stands alone; with tracks; the right one does."""
    shape = (len(tracks), tracks.length)
    alone_wrong = np.array([row.released and row.released_label != row.label for row in rows], bool).reshape(shape)
    wrong, right = np.zeros(shape, bool), np.zeros(shape, bool)
    for number in range(len(tracks)):
        own = rows[number * tracks.length : (number + 1) * tracks.length]
        for frame, verdict in enumerate(followed(spec, own)):
            wrong[number, frame] = verdict.released and verdict.label != own[frame].label
            right[number, frame] = verdict.released and verdict.label == own[frame].label
    return alone_wrong, wrong, right


def _rate(hits: npt.ArrayLike, tracks: FrameTracks) -> dict[str, Any]:
    return rate_json(rate_of(np.asarray(hits, bool), tracks.scenes))
