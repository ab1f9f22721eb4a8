"""The classifier that a certificate is about, on the edge's own engine, and the images that it classifies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import MANIFEST, load_bundle
from firewall.engines import Engine
from firewall.errors import DataError, UsageError
from firewall.lab.certification.journal import Journal
from firewall.lab.datasets import Dataset, open_dataset
from firewall.lab.datasets.classes import matched
from firewall.lab.measurement.edge import engine_for
from firewall.lab.models.classifier_folder import load_card
from firewall.transforms import resize

__all__ = ["Images", "Subject", "certified", "classified", "open_subject"]

#: index, pixels, at the input's size if nothing else is said, label.
Images = Iterator[tuple[int, npt.NDArray[np.uint8], int]]


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier to certify.

    Args:
        engine: The classifier.
        labels: Its classes.
        height: Of its input, in pixels.
        width: Of its input, in pixels.
        about: For a result's card.
        masked: The classifier that a bundle uses for masked images, if it has one of its own.
        masked_size: Height and width of its input in pixels; None: those of the classifier.
    """

    engine: Engine
    labels: tuple[str, ...]
    height: int
    width: int
    about: dict[str, Any]
    masked: Engine | None = None
    masked_size: tuple[int, int] | None = None

    @property
    def under_masks(self) -> Engine:
        """The engine that classifies masked images."""
        return self.engine if self.masked is None else self.masked

    @property
    def size_under_masks(self) -> tuple[int, int]:
        """Height and width of its input in pixels."""
        return (self.height, self.width) if self.masked_size is None else self.masked_size


def certified(
    name: str,
    certify: partial[dict[str, Any]],
    dataset: str,
    part: str,
    limit: int,
    seed: int,
    data: Path | None,
    *,
    threads: int,
    result: Path | None,
    own_pixels: bool = False,
) -> tuple[dict[str, Any], Journal]:
    """Certificates of a classifier on some images of a data set.

    Args:
        name: As of `open_subject`.
        certify: A function of a subject, images, their number and a journal.
        dataset: As of `classified`.
        part: As of `classified`.
        limit: As of `classified`.
        seed: As of `classified`.
        data: As of `classified`.
        threads: Of the engine.
        result: File that the result will be written to; rows are kept beside it. None: nothing is kept.
        own_pixels: As of `classified`.

    Returns:
        The result, with what classifier and images are, and the journal, to be closed once the result is written.

    Raises:
        UsageError: The limit is below 1.
        DataError: The classifier or the data set can't be used.
    """
    subject = open_subject(name, threads)
    about, images = classified(subject, dataset, part, limit, seed, data, own_pixels=own_pixels)
    # Of a larger limit are the same rows: every image's depends on it and on these alone.
    fixed = {key: about[key] for key in ("dataset", "part", "of")}
    journal = Journal(result, {**subject.about, **fixed, **certify.keywords})
    found = certify(subject, images, about["images"], journal=journal)
    return {**found, "about": {**found["about"], **about}}, journal


def open_subject(name: str, threads: int = 1) -> Subject:
    """A classifier to certify.

    Args:
        name: `default`, a bundle's folder, a classifier's folder or an ONNX file.
        threads: Of the engine.

    Returns:
        The classifier.

    Raises:
        DataError: It is anything else.
    """
    bundle = load_bundle(name) if name == "default" or (Path(name) / MANIFEST).is_file() else None
    if bundle is None:
        _, spec, content = load_card(Path(name))
    else:
        spec = bundle.manifest.classifier
        content = bundle.files[spec.file]
    about = {"classifier": name, "classifier_sha256": hashlib.sha256(content).hexdigest()}
    engine, masked, size = engine_for(spec, content, threads), None, None
    if bundle is not None and (own := bundle.manifest.masked_classifier) is not None:
        about["masked_classifier_sha256"] = bundle.manifest.files[own.file].sha256
        masked, size = engine_for(own, bundle.files[own.file], threads), (own.input.height, own.input.width)
    return Subject(engine, spec.labels, spec.input.height, spec.input.width, about, masked, size)


def classified(
    subject: Subject, dataset: str, part: str, limit: int, seed: int, data: Path | None, *, own_pixels: bool = False
) -> tuple[dict[str, Any], Images]:
    """Some images of a data set, at the classifier's input size.

    Args:
        subject: The classifier.
        dataset: As of `open_dataset`.
        part: The data set's part.
        limit: How many images, 1 or more.
        seed: What their choice depends on.
        data: Folder of the data sets; None: the usual places.
        own_pixels: Images of their own size, not at the input's.

    Returns:
        What is known of the images, and the images.

    Raises:
        UsageError: The limit is below 1.
        DataError: The data set has other classes than the classifier.
    """
    if limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}")
    opened: Dataset = open_dataset(dataset, data, part=part)
    if len(opened.class_names) > len(subject.labels):
        raise DataError(
            f"{dataset} has {len(opened.class_names)} classes, the classifier {len(subject.labels)}: name a data set "
            "of the classifier's own"
        )
    opened = matched(opened, subject.labels)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(opened))[:limit])
    about = {"dataset": dataset, "part": part, "images": len(chosen), "of": len(opened), "seed": seed}

    def images() -> Images:
        for index in chosen.tolist():
            pixels = opened.images[index]
            colour = pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)
            shown = colour if own_pixels else resize(colour, subject.width, subject.height)
            yield index, shown, int(opened.labels[index])

    return about, images()
