"""The classifier that a certificate is of, on the edge's own engine, and the images that it is asked about."""

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

#: index, pixels at the input's size, label.
Images = Iterator[tuple[int, npt.NDArray[np.uint8], int]]


@dataclass(frozen=True, eq=False)
class Subject:
    """engine: the classifier. labels: its classes. height, width: of its input. about: for a result's card.
    masked: what a bundle asks about masked images in the classifier's place, if it has a classifier for that."""

    engine: Engine
    labels: tuple[str, ...]
    height: int
    width: int
    about: dict[str, Any]
    masked: Engine | None = None

    @property
    def under_masks(self) -> Engine:
        """Who is asked about masked images."""
        return self.engine if self.masked is None else self.masked


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
) -> tuple[dict[str, Any], Journal]:
    """What `certify` (of a subject, images, their number and a journal) says of a classifier and `limit` images of a
    data set, with what both are; and the journal, to be closed once that is written to `result`. Raises as the two
    functions below."""
    subject = open_subject(name, threads)
    about, images = classified(subject, dataset, part, limit, seed, data)
    # Of a larger limit are the same rows: every image's depends on it and on these alone.
    fixed = {key: about[key] for key in ("dataset", "part", "of")}
    journal = Journal(result, {**subject.about, **fixed, **certify.keywords})
    found = certify(subject, images, about["images"], journal=journal)
    return {**found, "about": {**found["about"], **about}}, journal


def open_subject(name: str, threads: int = 1) -> Subject:
    """`default`, a bundle's folder, a classifier's folder or an ONNX file. Raises DataError for anything else."""
    bundle = load_bundle(name) if name == "default" or (Path(name) / MANIFEST).is_file() else None
    if bundle is None:
        _, spec, content = load_card(Path(name))
    else:
        spec = bundle.manifest.classifier
        content = bundle.files[spec.file]
    about = {"classifier": name, "classifier_sha256": hashlib.sha256(content).hexdigest()}
    engine, masked = engine_for(spec, content, threads), None
    if bundle is not None and (own := bundle.manifest.masked_classifier) is not None:
        about["masked_classifier_sha256"] = bundle.manifest.files[own.file].sha256
        masked = engine_for(own, bundle.files[own.file], threads)
    return Subject(engine, spec.labels, spec.input.height, spec.input.width, about, masked)


def classified(
    subject: Subject, dataset: str, part: str, limit: int, seed: int, data: Path | None
) -> tuple[dict[str, Any], Images]:
    """What is known of the images, and `limit` of them, drawn by `seed`.

    Raises UsageError for a limit below 1, DataError for a data set of other classes than the classifier's.
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
            yield index, resize(colour, subject.width, subject.height), int(opened.labels[index])

    return about, images()
