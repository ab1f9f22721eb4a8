"""What happens to honest images on their way, and how a bundle takes it: JPEG, blur, darkness, noise, rain, fog.

A detector that takes every change for an attack withholds normal images as soon as the weather turns. So the normal
images are judged once more under each shift, and attacked images after the same JPEG compression, which may as well
undo the attack. Every shift has one fixed strength, so that two bundles are judged by the same images.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, UsageError
from firewall.lab.database import Database
from firewall.lab.database.card import Split
from firewall.lab.database.normals import normal_entries
from firewall.lab.measurement import metrics
from firewall.lab.measurement.judge import Judge
from firewall.transforms import apply_operations

__all__ = ["JPEG", "SHIFTS", "shifted", "under_shift"]

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def _operation(name: str) -> Callable[[Pixels, np.random.Generator], Pixels]:
    """One of the firewall's own operations."""
    return lambda image, _: apply_operations(image, [name])[0]


def _dark(image: Pixels, _: np.random.Generator) -> Pixels:
    """Dusk: gamma 2, and 40 % less light."""
    return _bytes(0.6 * 255 * (image / 255.0) ** 2)


def _noise(image: Pixels, generator: np.random.Generator) -> Pixels:
    """A sensor's: independent, standard deviation 6 grey levels."""
    return _bytes(image + generator.normal(0, 6, image.shape))


def _rain(image: Pixels, generator: np.random.Generator) -> Pixels:
    """Slanted, blurred streaks, some 25 for 48 x 48 pixels, and a little less contrast."""
    height, width = image.shape[:2]
    streaks = np.zeros((height, width), np.float32)
    slant = generator.uniform(-0.3, 0.3)
    for _ in range(max(5, round(25 * height * width / 48**2))):
        x, y = generator.uniform(0, width), generator.uniform(-0.2 * height, height)
        length = generator.uniform(0.1, 0.25) * height
        ends = (round(x), round(y)), (round(x + slant * length), round(y + length))
        cv2.line(streaks, *ends, float(generator.uniform(40, 100)), 1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(streaks, (0, 0), 0.6)
    return _bytes(0.85 * image + 15 + soft[:, :, np.newaxis])


def _fog(image: Pixels, generator: np.random.Generator) -> Pixels:
    """Half of the light is scattered, more at the top than at the bottom, in drifts."""
    height, width = image.shape[:2]
    coarse = generator.uniform(-0.1, 0.1, (4, 4)).astype(np.float32)
    drifts = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    density = np.linspace(0.6, 0.4, height)[:, np.newaxis] + drifts
    return _bytes(image * (1 - density[:, :, np.newaxis]) + 200 * density[:, :, np.newaxis])


def _bytes(values: npt.NDArray[np.floating]) -> Pixels:
    rounded: Pixels = (np.clip(values, 0, 255) + 0.5).astype(np.uint8)
    return rounded


#: By name, from (H, W, 3) uint8 to the same.
SHIFTS: MappingProxyType[str, Callable[[Pixels, np.random.Generator], Pixels]] = MappingProxyType(
    {
        "jpeg-95": _operation("jpeg:95"),
        "jpeg-85": _operation("jpeg:85"),
        "jpeg-70": _operation("jpeg:70"),
        "blur": _operation("blur:1"),
        "dark": _dark,
        "noise": _noise,
        "rain": _rain,
        "fog": _fog,
    }
)
#: The shifts that attacked images are judged under as well.
JPEG = ("jpeg-95", "jpeg-85", "jpeg-70")


def shifted(images: Pixels, name: str, seed: int = 0) -> Pixels:
    """Each of `images`, (N, H, W, 3) uint8, under the shift of that name; the same for the same seed.

    Raises UsageError for a name that SHIFTS doesn't have.
    """
    if name not in SHIFTS:
        raise UsageError(f"unknown shift {name!r}; known: {', '.join(SHIFTS)}")
    number = list(SHIFTS).index(name)
    parts = [SHIFTS[name](image, np.random.default_rng([seed, number, i])) for i, image in enumerate(images)]
    return np.stack(parts) if parts else images.copy()


def under_shift(
    judge: Judge, database: Database, splits: tuple[Split, ...], limit: int, seed: int = 0
) -> dict[str, Any]:
    """Normal images of the splits under each shift, and attacked ones under JPEG, ready for JSON.

    limit: images of each kind, drawn by `seed`. accuracy: share that the classifier still names rightly; withheld: by
    the bundle; wrong_released: named wrongly and released. fooled: attacked images that are still named wrongly.
    Raises DataError for grey images.
    """
    entries = normal_entries(database)
    if database.card.classifier.channels != 3:
        raise DataError(f"{database.folder} holds grey images; shifts are for RGB images")
    labels = np.array([entry.label for entry in entries], np.int64) + database.card.classifier.offset
    tracks = np.array([entry.group for entry in entries], np.int64)
    splits_of = np.array([entry.split for entry in entries])
    chosen = _drawn(np.flatnonzero(np.isin(splits_of, splits)), limit, seed)
    images = np.concatenate([database.normal, database.reserve])[chosen]
    result: dict[str, Any] = {"limit": limit, "seed": seed, "normal": {}, "attacks": {}}
    for name in ("none", *SHIFTS):
        found = _judged(judge, database, images if name == "none" else shifted(images, name, seed), name)
        result["normal"][name] = _rates(*found, labels[chosen], tracks[chosen], right="accuracy")
    for attack in database.card.attacks:
        attacked = database.attacked(attack)
        normal = np.array([entry.normal for entry in attacked.entries], np.int64)
        places = _drawn(np.flatnonzero(np.isin(splits_of[normal], splits)), limit, seed) if len(normal) else normal
        if len(places) == 0:
            continue
        own = normal[places]
        result["attacks"][attack] = {}
        for name in ("none", *JPEG):
            pixels = attacked.images[places]
            found = _judged(
                judge, database, pixels if name == "none" else shifted(pixels, name, seed), f"{attack}, {name}"
            )
            result["attacks"][attack][name] = _rates(*found, labels[own], tracks[own], wrong="fooled")
    return result


def _drawn(places: npt.NDArray[np.intp], limit: int, seed: int) -> npt.NDArray[np.intp]:
    """At most `limit` of the places, in order."""
    if len(places) <= limit:
        return places
    return np.sort(np.random.default_rng(seed).choice(places, limit, replace=False))


def _judged(
    judge: Judge, database: Database, images: Pixels, what: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
    """Which are withheld, and what the classifier names them."""
    measured = judge.changed(database, images, what)
    return judge.verdicts(judge.scores(measured))[0], measured.labels


def _rates(
    withheld: npt.NDArray[np.bool_],
    named: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    tracks: npt.NDArray[np.int64],
    *,
    right: str = "",
    wrong: str = "",
) -> dict[str, Any]:
    wrongly = named != labels
    masks = {"withheld": withheld, "wrong_released": wrongly & ~withheld}
    masks |= {right: ~wrongly} if right else {wrong: wrongly}
    entry: dict[str, Any] = {"n": len(labels)}
    intervals = {}
    for name, mask in masks.items():
        point = metrics.operating_point(mask, mask, 0.5, normal_tracks=tracks, adversarial_tracks=tracks)
        entry[name] = point.true_positives.value
        intervals[name] = [point.true_positives.low, point.true_positives.high]
    return {**entry, "ci95": intervals}
