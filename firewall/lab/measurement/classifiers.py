"""The accuracy of classifiers on images that they were not trained on: `firewall lab classifiers`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from firewall.errors import DataError, FirewallError
from firewall.lab.datasets import Dataset, open_dataset
from firewall.lab.datasets.classes import doubt, matched
from firewall.lab.datasets.notice import say
from firewall.lab.measurement.metrics import rate_interval
from firewall.lab.models.opening import PACKS, open_classifier
from firewall.lab.models.protected import Protected
from firewall.lab.models.small_networks import ARCHITECTURES

__all__ = ["measure_accuracy", "survey"]

_BATCH = 250


def survey(
    names: Sequence[str] | None, dataset: str | None, root: Path | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure the accuracy of several classifiers.

    Args:
        names: Their names; None for all that are installed or trained.
        dataset: NAME or NAME/PART; None: each on its own data set.
        root: Folder of the data sets and classifiers; None for the usual places.

    Returns:
        A row for each that was measured, and a line for each that was not.

    Raises:
        FirewallError: A classifier in `names` can't be opened, or a data set is missing.
    """
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    opened: dict[str, Dataset] = {}
    for name in names or ("default", *ARCHITECTURES, *PACKS):
        try:
            classifier = open_classifier(name, root)
            tests = []
            for wanted in [dataset] if dataset else _own(name, classifier):
                if wanted not in opened:
                    spec, _, part = (wanted, "", "") if wanted.startswith("folder:") else wanted.partition("/")
                    opened[wanted] = open_dataset(spec, root, part=part or "test")
                tests.append({**measure_accuracy(classifier, opened[wanted]), "data": wanted})
        except FirewallError as error:
            if names:
                raise
            missing.append(f"{name}: {error}")
            continue
        rows.append(
            {
                "classifier": name,
                "sha256": classifier.sha256,
                "input": [classifier.channels, classifier.height, classifier.width],
                "differentiable": classifier.differentiable,
                "test": tests,
            }
        )
    return rows, missing


def measure_accuracy(classifier: Protected, data: Dataset) -> dict[str, Any]:
    """Measure the accuracy of one classifier on stored images, resized as the edge does.

    Args:
        classifier: The classifier.
        data: The images with their classes.

    Returns:
        Number of images, top-1 accuracy with its 95 % interval (too narrow where images are frames of one sign), and
        top-5 accuracy; ready for JSON.

    Raises:
        DataError: The classes don't fit.
    """
    if len(data.class_names) + classifier.offset > len(classifier.labels):
        raise DataError(
            f"the classifier {classifier.name} knows {len(classifier.labels)} classes, {data.name} has "
            f"{len(data.class_names)}; measure it on the data it was made for"
        )
    data = matched(data, classifier.labels[classifier.offset :])
    first = within = 0
    said = [np.zeros(0, np.int64)]
    console = Console(stderr=True)
    starts = range(0, len(data), _BATCH)
    for start in track(starts, f"{classifier.name} on {data.name}", transient=True, console=console):
        images = np.stack([classifier.prepare(image) for image in data.images[start : start + _BATCH]])
        best = np.argsort(-classifier.logits(images), axis=1, kind="stable")[:, :5]
        said.append(best[:, 0] - classifier.offset)
        hits = best == (data.labels[start : start + _BATCH] + classifier.offset)[:, None]
        first, within = first + int(hits[:, 0].sum()), within + int(hits.any(axis=1).sum())
    if doubts := doubt(data, classifier.labels[classifier.offset :], np.arange(len(data)), np.concatenate(said)):
        say(doubts)
    low, high = rate_interval(first, len(data))
    return {
        "data": data.name,
        "images": len(data),
        "accuracy": round(first / len(data), 4),
        "interval": [round(low, 4), round(high, 4)],
        "top5": round(within / len(data), 4),
        "notes": data.notes,
    }


def _own(name: str, classifier: Protected) -> list[str]:
    """The data sets to measure a classifier on. If its own test images are JPEG files, lossless ones too."""
    if name in PACKS:
        return ["cifar10/test", "cifar10/lossless"] if PACKS[name].data == "cifar10" else ["nips17/test"]
    trained = str(classifier.card.get("training", {}).get("data", "")).lower()
    if name == "default" or trained == "gtsrb":
        return ["gtsrb/test"]
    if trained in ("mnist", "cifar10"):
        return [f"{trained}/test"]
    raise DataError(f"what to measure {name} on is not known; name it with --dataset")
