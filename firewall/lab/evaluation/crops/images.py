"""Which crops are attacked and judged, and on which others thresholds are set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, Seen
from firewall.errors import DataError, UsageError
from firewall.lab.database.seen import known_groups
from firewall.lab.datasets import Dataset, open_dataset
from firewall.lab.datasets.catalogue import NAMES
from firewall.lab.datasets.classes import matched
from firewall.lab.datasets.splits import split
from firewall.lab.measurement.bundle_verdicts import trained_detectors
from firewall.lab.models import Protected

__all__ = ["Crops", "Sets", "open_sets"]

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

#: Of GTSRB's test images those of the split "train" set thresholds, as in the databases that bundles are made with.
_SHARES = {"gtsrb/test": (0.70, 0.15, 0.15)}
_HALVES = (0.5, 0.0, 0.5)


@dataclass(frozen=True, eq=False)
class Crops:
    """N crops, each at its own size.

    Attributes:
        images: Uint8 (h, w, 3) RGB each.
        labels: The true classes as the classifier counts them, int64 (N,).
        groups: Images of one track, frame or near duplicate share a group, int64 (N,).
        sources: A name for each that is the same on every machine.
    """

    images: list[Pixels]
    labels: Integers
    groups: Integers
    sources: list[str]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: npt.ArrayLike) -> Crops:
        """Those at `places`, ints (M,), in that order."""
        where = np.asarray(places, np.int64)
        return Crops(
            [self.images[place] for place in where],
            self.labels[where],
            self.groups[where],
            [self.sources[place] for place in where],
        )

    def drawn(self, seed: int) -> Crops:
        """All, in a random order that takes one image of each group before it takes a second of any.

        So the first n are of as many groups as n can be, and the first n of a longer draw are those of a shorter one.
        """
        order = np.random.default_rng(seed).permutation(len(self))
        met: dict[int, int] = {}
        turns = []
        for group in self.groups[order].tolist():
            turns.append(met.get(group, 0))
            met[group] = turns[-1] + 1
        return self.take(order[np.argsort(turns, kind="stable")])


@dataclass(frozen=True, eq=False)
class Sets:
    """The crops of an evaluation. No group is in both sets.

    Attributes:
        judged: To be attacked and judged.
        calibration: Benign images for thresholds at equal shares of benign images withheld.
        about: What a reader has to know of them, ready for JSON.
    """

    judged: Crops
    calibration: Crops
    about: dict[str, Any]


def open_sets(
    spec: str, bundle: Bundle, classifier: Protected, data: Path | None = None, calibration: str | None = None
) -> Sets:
    """The crops of a data set, divided by group.

    Groups that a part of the bundle was fitted to are not judged, unless that leaves none: then a note says so.

    Args:
        spec: `gtsrb/kept-out`, `gtsrb/test`, `gtsdb`, another data set's name and perhaps part, or a folder with a
            sub-folder for each class.
        bundle: Says what its parts were fitted to.
        classifier: The bundle's.
        data: Folder of the data sets; None: the usual places.
        calibration: Another data set for thresholds, named the same way; None: other groups of the same one.

    Raises:
        UsageError: There is no such data set.
        DataError: It is missing or damaged, its images are grey, or too few groups are left.
    """
    name, whole = _opened(spec, data, classifier)
    if calibration is None:
        parts = split(whole, _SHARES.get(name, _HALVES), seed=0)
        judged, others, other = parts > 0, whole, name
        setting = parts == 0
    else:
        other, others = _opened(calibration, data, classifier)
        judged, setting = np.ones(len(whole), bool), np.ones(len(others), bool)
        if _numbered(other) == _numbered(name):
            setting = ~np.isin(others.groups, np.unique(whole.groups))
    notes = [note for note in (whole.notes,) if note]
    known = known_groups(_records(bundle), *_numbered(name))
    fresh = judged & ~np.isin(whole.groups, list(known))
    if fresh.any():
        judged = fresh
    elif judged.any():
        notes.append(
            f"a part of the bundle was fitted to, or its thresholds were set on, every judged group of {name}: its "
            "figures are better here than on other images"
        )
    for which, left in (("judge", judged), ("set thresholds on", setting)):
        if len(np.unique((whole if which == "judge" else others).groups[left])) < 2:
            raise DataError(
                f"{name} leaves fewer than two groups to {which}; name more images with --images, or others for the "
                "thresholds with --calibration"
            )
    about = {
        "images": name,
        "judged_groups": len(np.unique(whole.groups[judged])),
        "calibration_images": other,
        "calibration_groups": len(np.unique(others.groups[setting])),
        "notes": notes,
    }
    return Sets(_crops(whole, judged, classifier), _crops(others, setting, classifier), about)


def _opened(spec: str, root: Path | None, classifier: Protected) -> tuple[str, Dataset]:
    """The public name of a data set, and the data set."""
    name, _, part = spec.partition("/")
    folder = Path(spec.removeprefix("folder:"))
    if name in NAMES:
        found = open_dataset(name, root, part=part or "test")
        shown = f"{name}/{part or 'test'}" if name in ("gtsrb", "mnist", "cifar10") else name
    elif folder.is_dir():
        found, shown = open_dataset(f"folder:{folder}", root), f"folder:{folder.name}"
    else:
        raise UsageError(
            f"unknown images {spec!r}; name gtsrb/kept-out, gtsrb/test, gtsdb, another of {', '.join(NAMES)}, or a "
            "folder with a sub-folder of images for each class"
        )
    if len(found.class_names) + classifier.offset > len(classifier.labels):
        raise UsageError(
            f"the classifier {classifier.name} knows {len(classifier.labels)} classes, {shown} has "
            f"{len(found.class_names)}; name images made for it with --images"
        )
    return shown, matched(found, classifier.labels[classifier.offset :])


def _numbered(name: str) -> tuple[str, str]:
    """A data set's name and part, as records of seen groups have them; training parts number their groups alike."""
    dataset, _, part = name.partition("/")
    return dataset, "test" if part in ("", "test") else "train"


def _records(bundle: Bundle) -> list[Seen]:
    manifest = bundle.manifest
    fusion = None if manifest.fusion is None else manifest.fusion.fitted
    fitted = [record for _, record in trained_detectors(manifest)]
    return [record for record in (*fitted, fusion, manifest.calibration.seen) if record is not None]


def _crops(data: Dataset, where: npt.NDArray[np.bool_], classifier: Protected) -> Crops:
    places = np.flatnonzero(where).tolist()
    images = [data.images[place] for place in places]
    if any(image.shape[2] != 3 for image in images):
        raise DataError(f"{data.name} holds grey images; the firewall judges RGB images")
    return Crops(
        images,
        data.labels[places] + classifier.offset,
        data.groups[places],
        [data.sources[place] for place in places],
    )
