"""A bundle attacked as a whole, image by image: which images, the rows, and the wrong-release rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.bundle import Bundle
from firewall.errors import DataError, UsageError
from firewall.lab.attacks.adaptive import Attacker, Plan
from firewall.lab.attacks.channels import Channel
from firewall.lab.datasets import open_dataset
from firewall.lab.datasets.classes import matched
from firewall.lab.datasets.dataset import Dataset
from firewall.lab.measurement.intervals import rate_interval
from firewall.lab.models import open_classifier

__all__ = ["attack_bundle", "open_images", "received", "settings_of", "victims"]

Row = dict[str, Any]
Pixels = npt.NDArray[np.uint8]
#: The number of an image, and what makes its row; gives the row, made now or known from before.
Journal = Callable[[int, Callable[[], Row]], Row]

#: After so many images shown to the firewall the query curve has a point.
_CURVE = (1, 3, 10, 30, 100, 300, 1000, 3000, 10000)


def open_images(spec: str, root: Path | None = None) -> Dataset:
    """A data set, or a part of one.

    Args:
        spec: As for `open_dataset`, perhaps with a part behind it: `gtsrb/kept-out`.
        root: Folder of the data sets.

    Raises:
        UsageError: It is unknown.
        DataError: It is missing or damaged.
    """
    if spec.startswith("folder:"):
        return open_dataset(spec, root)
    name, _, part = spec.partition("/")
    return open_dataset(name, root, part=part or "test")


class _Received(Sequence[Pixels]):
    """Images after a channel, each sent when it is looked at."""

    def __init__(self, images: Sequence[Pixels], channel: Channel, seed: int) -> None:
        self._images, self._channel, self._seed = images, channel, seed

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pixels]: ...
    def __getitem__(self, index: int | slice) -> Pixels | Sequence[Pixels]:
        if isinstance(index, slice):
            raise TypeError("images are looked at one by one")
        draws = np.random.default_rng([self._seed, int(index), 29])
        return self._channel.through(_colour(self._images[index]), draws)


def received(data: Dataset, channel: Channel, seed: int) -> Dataset:
    """A data set whose images have gone through a channel, before anything is done to them.

    Args:
        data: The data set.
        channel: What they go through.
        seed: What its random choices depend on, with an image's number.
    """
    return replace(data, images=_Received(data.images, channel, seed))


def victims(bundle: Bundle, data: Dataset, limit: int, seed: int, least: int = 0) -> tuple[Dataset, list[int]]:
    """The images to attack: drawn at random, one of each track before a second of any, right without an attack.

    Args:
        bundle: Its classifier has to be right; whether the firewall withholds the image doesn't matter.
        data: The data set.
        limit: How many are wanted, 1 or more; there may be fewer.
        seed: What the choice depends on.
        least: The shorter side has at least so many pixels.

    Returns:
        The data set with the classifier's classes, and the numbers of the images in the order in which they were drawn.

    Raises:
        DataError: No image is left, or the classes don't fit.
    """
    classifier = open_classifier(str(bundle.path))
    data = matched(data, classifier.labels[classifier.offset :])
    if len(data.class_names) > len(classifier.labels):
        raise DataError(
            f"{data.name} has {len(data.class_names)} classes, the classifier of {bundle.manifest.name} has "
            f"{len(classifier.labels)}; name a data set of its classes with --dataset"
        )
    order = np.random.default_rng([seed, 17]).permutation(len(data))
    turns: dict[int, int] = {}
    ranked = []
    for place, index in enumerate(order.tolist()):
        group = int(data.groups[index])
        turns[group] = turns.get(group, -1) + 1
        ranked.append((turns[group], place, index))
    chosen: list[int] = []
    for _, _, index in sorted(ranked):
        if len(chosen) == limit:
            break
        pixels = _colour(data.images[index])
        if min(pixels.shape[:2]) < least:
            continue
        if int(classifier.logits(np.array([classifier.prepare(pixels)]))[0].argmax()) == int(data.labels[index]):
            chosen.append(index)
    if not chosen:
        raise DataError(
            f"the classifier of {bundle.manifest.name} is right on no image of {data.name} whose sides have at least "
            f"{least} pixels; name another data set, or a smaller --min-side"
        )
    return data, chosen


def settings_of(bundle: Bundle, dataset: str, plan: Plan, least: int, through: str = "") -> Row:
    """What rows depend on, ready for JSON.

    Args:
        bundle: The bundle.
        dataset: As it was named.
        plan: What is done.
        least: See `victims`.
        through: The channel that the images have gone through before, see `received`; empty: none.
    """
    return {
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "dataset": dataset,
        "min_side": least,
        "through": through,
        **asdict(plan),
    }


def attack_bundle(
    attacker: Attacker,
    data: Dataset,
    chosen: Sequence[int],
    journal: Journal,
    folder: Path | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Row:
    """Attack images one after the other.

    Args:
        attacker: Of the bundle.
        data: The data set.
        chosen: Numbers of its images, see `victims`.
        journal: Keeps the rows.
        folder: Where attacked images are stored, losslessly; None: nowhere.
        report: Is told after each image how many are done and how many were released wrongly.

    Returns:
        The rows in the order of the images' numbers, the wrong-release rate and the query curve.
    """
    rows: list[Row] = []
    for index in chosen:

        def make(index: int = index) -> Row:
            keep = None if folder is None else lambda pixels: _stored(folder, index, pixels)
            others = _others(data, index, attacker.plan.seed)
            return attacker.row(index, _colour(data.images[index]), int(data.labels[index]), keep, others)

        rows.append(journal(index, make))
        if report is not None:
            report(len(rows), sum(row["wrong"] for row in rows))
    return {**_summary(rows), "rows": sorted(rows, key=lambda row: int(row["index"]))}


def _summary(rows: Sequence[Row]) -> Row:
    won, count = sum(row["wrong"] for row in rows), len(rows)
    ways = sorted({row["method"] for row in rows if row["wrong"]})
    most = max(row["queries"] for row in rows)
    curve = [[at, sum(row["wrong"] and row["queries"] <= at for row in rows) / count] for at in _CURVE if at <= most]
    return {
        "images": count,
        "wrong_release": {"rate": won / count, "n": count, "ci95": list(rate_interval(won, count))},
        "won_by": {way: sum(row["wrong"] and row["method"] == way for row in rows) for way in ways},
        "query_curve": [*curve, [most, won / count]] if most not in _CURVE else curve,
    }


def _others(data: Dataset, index: int, seed: int) -> Iterator[Pixels]:
    """Images of other classes in random order, each looked at when it is asked for."""
    places = np.flatnonzero(data.labels != data.labels[index])
    for place in np.random.default_rng([seed, index, 23]).permutation(places).tolist():
        yield _colour(data.images[place])


def _colour(pixels: Pixels) -> Pixels:
    return np.array(np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels)


def _stored(folder: Path, index: int, pixels: Pixels) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{index:05d}.png"
    try:
        Image.fromarray(pixels).save(folder / name)
    except OSError as error:
        raise UsageError(f"can't write {folder / name}: {error.strerror}; name another place with --json") from error
    return f"{folder.name}/{name}"
