"""Which images are attacked: correctly classified ones, in an order that the seed alone decides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import get_args

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from firewall.errors import DataError
from firewall.lab.database.card import NormalImage, Split
from firewall.lab.datasets import Dataset, split
from firewall.lab.datasets.classes import doubt
from firewall.lab.datasets.notice import say
from firewall.lab.models import Protected

__all__ = ["choose", "top_classes"]

_BATCH = 64


def choose(
    data: Dataset, classifier: Protected, limit: int, seed: int, *, start: int = 0
) -> tuple[list[NormalImage], npt.NDArray[np.uint8], int]:
    """Choose images that the classifier names correctly.

    The order is that of a hash of seed and source, so a larger limit begins with the same images.

    Args:
        data: Where they come from.
        classifier: Whose labels count.
        limit: How many at most.
        seed: What the order depends on.
        start: How many images of that order are skipped.

    Returns:
        What is known of each image; their pixels at the classifier's input size, uint8 (N, H, W, C); and how many
        images were classified.

    Raises:
        DataError: The classifier names none of them correctly.
    """
    splits = split(data, seed=seed)
    entries: list[NormalImage] = []
    said: list[int] = []
    pictures: list[npt.NDArray[np.uint8]] = []
    looked_at = 0
    order = sorted(range(len(data.labels)), key=lambda index: _rank(seed, data.sources[index]))[start:]
    batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    for batch in _progress(batches):
        if len(entries) == limit:
            break
        images = np.stack([classifier.prepare(data.images[index]) for index in batch])
        best = top_classes(classifier.logits(images), classifier.offset)
        for index, image, top in zip(batch, images, best, strict=True):
            if len(entries) == limit:
                break
            looked_at += 1
            said.append(int(top[0]))
            if top[0] != data.labels[index]:
                continue
            name: Split = get_args(Split)[int(splits[index])]
            entries.append(
                NormalImage(
                    source=data.sources[index],
                    index=index,
                    group=int(data.groups[index]),
                    split=name,
                    label=int(data.labels[index]),
                    top5=tuple(int(label) for label in top),
                )
            )
            pictures.append(image)
    places = np.array(order[:looked_at], np.int64)
    doubts = doubt(data, classifier.labels[classifier.offset :], places, np.array(said, np.int64)) if not start else ""
    if doubts and entries:
        say(doubts)
    if not entries:
        raise DataError(
            f"the classifier {classifier.name} names none of the {looked_at} images of {data.name} correctly, so there "
            f"is nothing to attack; {doubts}"
            if start == 0
            else f"{data.name} has no further images that {classifier.name} names correctly, so there is nothing to "
            "reserve; leave out --reserve, or name a smaller --limit and another --out"
        )
    return entries, np.stack(pictures), looked_at


def top_classes(logits: npt.NDArray[np.float32], offset: int, count: int = 5) -> npt.NDArray[np.int64]:
    """The most likely classes, best first, as the data set counts them. Equal logits keep the order of the classes.

    Args:
        logits: (N, classes).
        offset: The network's class of the data set's class 0.
        count: How many.

    Returns:
        Int64 (N, min(count, classes)).
    """
    best = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    return best.astype(np.int64) - offset


def _rank(seed: int, source: str) -> bytes:
    # Not the hash that splits go by: the images that come first by that one are all of one split.
    return hashlib.sha256(f"order of attack:{seed}:{source}".encode()).digest()


def _progress(batches: list[list[int]]) -> Iterator[list[int]]:
    console = Console(stderr=True)
    yield from track(batches, "choosing normal images", transient=True, console=console)
