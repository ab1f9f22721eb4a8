"""Give a bundle limits by size: `firewall lab conditional`. Benign images alone take part; no attack is seen."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from firewall.bundle import Bundle, Seen
from firewall.bundle.certificate import CERTIFICATE_FILE
from firewall.bundle.conditional import CONDITIONAL_FILE, ConditionalSpec
from firewall.decision.over_time import DRIFT_FILE, TRACKS_FILE
from firewall.detectors.juror import is_juror
from firewall.detectors.keyed import Keyed
from firewall.detectors.rejection import OBSTRUCTED
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import DataError, UsageError
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.calibration.conditional_fit import CLEAN, Fitted, Scored, fit_conditional
from firewall.lab.calibration.settings import check_rate
from firewall.lab.datasets import PARTS, Dataset, open_dataset, split
from firewall.lab.datasets.classes import matched
from firewall.lab.datasets.shifts import KINDS, SHIFTS
from firewall.screening import Firewall
from firewall.sweep.keyed import key_of
from firewall.transforms import resize

__all__ = ["EDGES", "ConditionalSettings", "Written", "benign_images", "conditional", "scored"]

#: Borders between groups of sizes, pixels of the shorter side.
EDGES = (20, 24, 32, 40, 55, 80)

Pixels = npt.NDArray[np.uint8]
#: What may happen to an image: (pixels uint8 (h, w, 3), generator) -> pixels.
Change = Callable[[Pixels, np.random.Generator], Pixels]


@dataclass(frozen=True)
class ConditionalSettings:
    """How limits by size are set.

    Attributes:
        rate: Share of benign images that may be withheld, between 0 and 1.
        power: Exponent of the sum, 1 to 64.
        summed: Detectors that add to it; None: the jurors, `stability`, `keyed` and `obstructed`, or all where the
            bundle has none of these.
        edges: Borders between groups of sizes, ascending.
        least: The fewest tracks of a group.
        frames: The most frames of a track that are used, evenly spaced.
        far: Copies of each frame that are shrunk to a random smaller size, as the sign is seen from farther away.
        shifts: Shifts of firewall.lab.datasets.shifts; each changes one image of each track.
        shifted: Share of a track's weight that its shifted images have together, 0 to 1.
        seed: Of all draws.
        smallest: The least shorter side, in pixels, that is judged; smaller benign images lower it.
        longest: Regions are judged whose longer side is up to so many times the shorter one; longer benign images raise
            it.

    Raises:
        UsageError: A value is outside of what is stated here.
    """

    rate: float = 0.01
    power: float = 1.0
    summed: Sequence[str] | None = None
    edges: Sequence[int] = EDGES
    least: int = 20
    frames: int = 6
    far: int = 2
    shifts: Sequence[str] = tuple(SHIFTS)
    shifted: float = 0.2
    seed: int = 0
    smallest: int = 16
    longest: float = 2.0

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if not 1 <= self.power <= 64:
            raise UsageError(f"--power must lie between 1 and 64, got {self.power:g}")
        if list(self.edges) != sorted(set(self.edges)) or any(edge < 1 for edge in self.edges):
            raise UsageError(f"--edges must ascend from 1 pixel on, got {', '.join(map(str, self.edges))}")
        if not 0 <= self.shifted < 1:
            raise UsageError(f"--shift-share must be 0 or more and below 1, got {self.shifted:g}")
        if min(self.least, self.frames) < 1 or self.far < 0:
            raise UsageError(
                f"--least-tracks and --frames must be at least 1 and --far at least 0, got {self.least}, {self.frames} "
                f"and {self.far}"
            )
        if self.smallest < 1 or self.longest < 1:
            raise UsageError(f"--smallest and --longest must be at least 1, got {self.smallest} and {self.longest:g}")
        unknown = [name for name in self.shifts if name not in SHIFTS]
        if unknown:
            raise UsageError(f"unknown shift {', '.join(unknown)}; known: {', '.join(SHIFTS)}, or none")


@dataclass(frozen=True, eq=False)
class Benign:
    """Benign images of one data set.

    Attributes:
        spec: As it was asked for: NAME, NAME@PART or NAME@PART/SPLIT.
        data: The whole data set.
        where: The places of the images to use, in the order of their tracks and sources.
        seen: The record of them.
    """

    spec: str
    data: Dataset
    where: npt.NDArray[np.int64]
    seen: Seen


@dataclass(frozen=True, eq=False)
class Written:
    """What `conditional` makes.

    Attributes:
        bundle: The bundle that was written.
        spec: Its limits.
        report: How they came about, ready for JSON.
    """

    bundle: Bundle
    spec: ConditionalSpec
    report: dict[str, Any]


def benign_images(bundle: Bundle, spec: str, root: Path | None) -> Benign:
    """The images of a data set that no trained detector of a bundle has learnt from.

    Args:
        bundle: The bundle.
        spec: NAME, NAME@PART or NAME@PART/SPLIT; see `open_dataset` and `split`. Without a part it is "test".
        root: Folder of the data sets; None for the usual places.

    Raises:
        UsageError: There is no such data set, part or split, or it has other classes than the bundle.
        DataError: No image is left.
    """
    name, _, rest = spec.partition("@")
    part, _, chosen = rest.partition("/")
    if chosen and chosen not in PARTS:
        raise UsageError(f"--images {spec}: there is no split {chosen!r}; known: {', '.join(PARTS)}")
    labels = bundle.manifest.classifier.labels
    offset = int(len(labels) == 1001)  # ImageNet's networks with a class for the background
    data = matched(open_dataset(name, root, part=part or "test"), labels[offset:])
    if len(data.class_names) != len(labels) - offset:
        raise UsageError(
            f"--images {spec} has {len(data.class_names)} classes, but the bundle's classifier has "
            f"{len(labels) - offset}; name a data set of its classes"
        )
    data = replace(data, labels=data.labels + offset, class_names=labels)
    mask = np.ones(len(data), bool) if not chosen else split(data) == PARTS.index(chosen)
    # The two or three numbers that a detector without a network takes from benign images tell it no single one.
    learnt = [each.fitted for each in bundle.manifest.detectors if each.fitted and "file" in each.parameters]
    for seen in learnt:
        same = (seen.part == "test") == ((part or "test") == "test")  # all other parts number their tracks alike
        if same and seen.dataset == name:
            mask &= ~np.isin(data.groups, np.array([int(group) for group in seen.groups.split()], np.int64))
    where = np.flatnonzero(mask)
    if not len(where):
        raise DataError(f"--images {spec}: no image is left that no detector of the bundle has learnt from")
    order = sorted(where.tolist(), key=lambda place: (int(data.groups[place]), data.sources[place]))
    groups = " ".join(map(str, np.unique(data.groups[where]).tolist()))
    seen = Seen(dataset=name, part=part or "test", splits=(chosen,) if chosen else (), groups=groups)
    return Benign(spec, data, np.array(order, np.int64), seen)


def conditional(
    bundle: Bundle,
    benign: Sequence[Benign],
    out: Path,
    settings: ConditionalSettings | None = None,
    *,
    also: Mapping[str, Change] | None = None,
    progress: bool = True,
) -> Written:
    """Write a bundle with limits by size.

    Its tracks, drift and certificate were set with the rule that it had, and are left out.

    Args:
        bundle: Its detectors get limits.
        benign: Images of whole tracks.
        out: Folder of the new bundle; may be the bundle's own.
        settings: None for the defaults.
        also: Further changes by name, (pixels uint8 (h, w, 3), generator) -> pixels: one image of each track is judged
            under each. They take no part in the limits; the bundle tells what is withheld of them.
        progress: Show a bar.

    Raises:
        DataError: There are too few tracks for the rate, or a detector gives no score on a benign image.
    """
    settings = settings or ConditionalSettings()
    changes = dict(also or {})
    if twice := sorted({CLEAN, *settings.shifts} & set(changes)):
        raise UsageError(f"{twice[0]} takes part in the limits already; leave it out of --also")
    whole = scored(bundle, benign, settings, changes, progress=progress)
    beside = np.isin(whole.parts, list(changes))
    data = whole.take(~beside)
    if not len(data):
        raise DataError("the classifier gets none of the benign images right; name images of its classes")
    margin = {} if bundle.manifest.numerics is None else bundle.manifest.numerics.margin
    found = fit_conditional(
        data,
        settings.edges,
        settings.rate,
        power=settings.power,
        summed=_summed(data.detectors, settings.summed),
        shifted=settings.shifted,
        least=settings.least,
        margins=[margin.get(name, 0.0) for name in data.detectors],
        aside=whole.take(beside),
        seed=settings.seed,
    )
    shapes = [sorted(each.data.images[place].shape[:2]) for each in benign for place in each.where]
    known = {
        "fitted": tuple(each.seen for each in benign),
        "smallest": min(settings.smallest, *(short for short, _ in shapes)),
        "longest": max(settings.longest, *(long / short for short, long in shapes)),
    }
    spec = found.spec.model_copy(update=known)
    left_out = [name for name in (TRACKS_FILE, DRIFT_FILE, CERTIFICATE_FILE) if name in bundle.files]
    kept = {name: content for name, content in bundle.files.items() if name not in left_out}
    text = spec.model_dump_json(indent=1) + "\n"
    written = rewritten(replace(bundle, files=kept), out, {CONDITIONAL_FILE: text.encode()})
    return Written(written, spec, _report(written, data, found, settings, left_out))


def _summed(detectors: Sequence[str], asked: Sequence[str] | None) -> tuple[str, ...]:
    if asked is None:
        return tuple(name for name in detectors if is_juror(name) or name in ("stability", Keyed.name, OBSTRUCTED))
    if unknown := [name for name in asked if name not in detectors]:
        raise UsageError(f"--sum names {', '.join(unknown)}; the bundle has {', '.join(detectors)}")
    return tuple(asked)


def scored(
    bundle: Bundle,
    benign: Sequence[Benign],
    settings: ConditionalSettings,
    also: Mapping[str, Change] | None = None,
    progress: bool = True,
) -> Scored:
    """The scores of all images that the classifier gets right, each as the edge gives it.

    Args:
        bundle: Its detectors are asked. Keyed sweeps are drawn by a key that follows from the seed.
        benign: Images of whole tracks.
        settings: Which of them, and how they are changed.
        also: Further changes by name; each changes one image of each track.
        progress: Show a bar.

    Raises:
        DataError: A detector gives no score, or the classifier gets no image right.
    """
    plain = bundle.manifest.model_copy(update={"correction": None, "patches": None, "fusion": None})
    files = {name: content for name, content in bundle.files.items() if name != CONDITIONAL_FILE}
    bare = replace(bundle, manifest=plain, files=files)
    guard = Firewall(
        bare, OnnxRuntimeEngine(bare, threads=1), exhaustive=True, threads=1, sweep_key=key_of(settings.seed)
    )
    names = tuple(detector.name for detector in guard.detectors)
    scores, sides, tracks, parts = [], [], [], []
    jobs = [(number, images, group) for number, images in enumerate(benign) for group in _by_track(images)]
    console = Console(stderr=True)
    for number, images, places in track(jobs, "scoring tracks", disable=not progress, transient=True, console=console):
        drawn = np.random.default_rng([settings.seed, number, int(images.data.groups[places[0]])])
        label = int(images.data.labels[places[0]])
        versions = _variants([images.data.images[place] for place in places], settings, drawn)
        for pixels, part in [*versions, *_changed(versions, also or {}, drawn)]:
            verdict = guard.screen(pixels)
            if verdict.suspected_label is None or set(verdict.scores) != set(names):
                raise DataError(
                    f"an image of {images.spec} could not be judged ({verdict.reason}: {verdict.detail}); the bundle "
                    "can't be calibrated on it"
                )
            if verdict.suspected_label == label:
                scores.append([verdict.scores[name] for name in names])
                sides.append(min(pixels.shape[:2]))
                tracks.append((number << 40) + int(images.data.groups[places[0]]))
                parts.append(part)
    if not scores:
        raise DataError("the classifier gets none of the benign images right; name images of its classes")
    return Scored(names, np.array(scores, np.float64), np.array(sides), np.array(tracks, np.int64), np.array(parts))


def _by_track(images: Benign) -> list[npt.NDArray[np.int64]]:
    """The places of each track's images."""
    groups = images.data.groups[images.where]
    starts = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
    return np.split(images.where, starts[1:])


def _variants(
    frames: Sequence[Pixels], settings: ConditionalSettings, generator: np.random.Generator
) -> list[tuple[Pixels, str]]:
    """Some frames of a track, also from farther away; and one of all these under each shift."""
    places = np.unique(np.linspace(0, len(frames) - 1, settings.frames).round().astype(int))
    clean: list[Pixels] = []
    for place in places.tolist():
        frame = frames[place]
        pixels = frame if frame.shape[2] == 3 else np.repeat(frame, 3, axis=2)
        clean += [pixels, *_farther(pixels, settings, generator)]
    found = [(pixels, CLEAN) for pixels in clean]
    for name in settings.shifts:
        kind, strength = SHIFTS[name]
        pixels = clean[int(generator.integers(len(clean)))]
        found.append((KINDS[kind].physics(pixels, generator, **strength), name))
    return found


def _changed(
    versions: Sequence[tuple[Pixels, str]], also: Mapping[str, Change], generator: np.random.Generator
) -> list[tuple[Pixels, str]]:
    """One of a track's clean images under each further change. Drawn last: what the limits see doesn't depend on it."""
    clean = [pixels for pixels, part in versions if part == CLEAN]
    return [(change(clean[int(generator.integers(len(clean)))], generator), name) for name, change in also.items()]


def _farther(pixels: Pixels, settings: ConditionalSettings, generator: np.random.Generator) -> list[Pixels]:
    """The same at smaller sizes that are judged, each in another group than its own."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    borders = [settings.smallest, *(edge for edge in settings.edges if settings.smallest < edge <= side)]
    below = list(itertools.pairwise(borders))
    drawn = generator.permutation(len(below))[: settings.far]
    smaller = []
    for low, high in (below[int(index)] for index in drawn):
        share = int(generator.integers(low, high)) / side
        smaller.append(resize(pixels, max(1, round(share * width)), max(1, round(share * height))))
    return smaller


def _report(
    written: Bundle, data: Scored, found: Fitted, settings: ConditionalSettings, left_out: Sequence[str]
) -> dict[str, Any]:
    spec = found.spec
    starts = [1, *spec.edges]
    return {
        "bundle": {"name": written.manifest.name, "sha256": written.sha256},
        "images": len(data),
        "tracks": len(np.unique(data.tracks)),
        "asked": settings.rate,
        "level": spec.level,
        "detectors": list(spec.detectors),
        "summed": list(spec.summed or spec.detectors),
        "groups": [
            {"from": start, "depth": depth, "threshold": group.threshold}
            for start, depth, group in zip(starts, found.depths, spec.groups, strict=True)
        ],
        "coverage": [entry.model_dump(mode="json") for entry in spec.coverage],
        "left_out": list(left_out),
        "about_coverage": "each image is judged by limits that were drawn on other tracks; only images whose label the "
        "classifier gets right count",
    }
