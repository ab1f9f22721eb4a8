"""What the protected classifier says of a database's images and of their transformed copies, computed once and kept."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from firewall.errors import DataError
from firewall.lab.database.database import Database
from firewall.lab.database.shards import write_file
from firewall.transforms import OPERATIONS_38, apply_operations

__all__ = ["BLOCK", "Answering", "Variants", "of_database", "of_images", "same_classifier"]

_FOLDER = "measured"
#: Images that are kept together: what a killed run loses at most.
BLOCK = 250


class Answering(Protocol):
    """A classifier that gives logits: `Protected`, in torch, or `EdgeClassifier`, as a bundle runs it."""

    @property
    def name(self) -> str:
        """How it was asked for."""

    @property
    def sha256(self) -> str:
        """Of the file that defines it."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes."""

    @property
    def arithmetic(self) -> str:
        """What computes its logits; empty for torch. Those of one are not kept as those of another."""

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits, float32 (N, classes), of stored pixels, uint8 (N, height, width, channels)."""


@dataclass(frozen=True, eq=False)
class Variants:
    """Logits of N images and of their copies.

    Args:
        operations: Names of the copies.
        original: Float32 (N, classes).
        copies: Float32 (N, len(operations), classes).
    """

    operations: tuple[str, ...]
    original: npt.NDArray[np.float32]
    copies: npt.NDArray[np.float32]

    def select(self, operations: Sequence[str]) -> Variants:
        """The same images under some of the operations."""
        places = [self.operations.index(operation) for operation in operations]
        return Variants(tuple(operations), self.original, self.copies[:, places])

    def subset(self, where: npt.NDArray[np.bool_]) -> Variants:
        """Some of the images."""
        return Variants(self.operations, self.original[where], self.copies[where])


def of_database(
    database: Database, classifier: Answering, operations: Sequence[str], attack: str | None = None
) -> Variants:
    """Of the benign images that are attacked, or of an attack's images.

    Kept in the database's folder, by a hash of all that it depends on.

    Args:
        database: Any.
        classifier: The one that it was made on.
        operations: Which copies.
        attack: A name; None: the benign images.

    Returns:
        The logits.

    Raises:
        DataError: The database was made on another classifier.
    """
    images = database.normal if attack is None else database.attacked(attack).images
    return of_images(database, images, classifier, operations, attack or "normal images")


def of_images(
    database: Database, images: npt.NDArray[np.uint8], classifier: Answering, operations: Sequence[str], what: str
) -> Variants:
    """Of any images, such as changed ones of the database; otherwise as `of_database`.

    Args:
        database: Where the result is kept.
        images: Uint8 (N, H, W, C).
        classifier: The one that the database was made on.
        operations: Which copies.
        what: Label of the progress bar.

    Returns:
        The logits.

    Raises:
        DataError: The database was made on another classifier.
    """
    same_classifier(database, classifier)
    label = f"sweeping {what}"
    blocks = [images[start : start + BLOCK] for start in range(0, len(images), BLOCK)]
    kept = _kept(operations)
    parts = [
        _block(database.folder, block, classifier, kept)
        for block in track(blocks, label, transient=True, console=Console(stderr=True))
    ]
    empty = np.zeros((0, 1 + len(kept), len(classifier.labels)), np.float32)
    logits = np.concatenate([empty, *parts])
    return Variants(kept, logits[:, 0], logits[:, 1:]).select(operations)


def _kept(operations: Sequence[str]) -> tuple[str, ...]:
    """What is swept and kept when these operations are asked for.

    Where they are a good part of the papers' 38, all 38 are kept, so that detectors that ask for others find them
    there.
    """
    many = len(set(operations)) >= len(OPERATIONS_38) // 3 and set(operations) <= set(OPERATIONS_38)
    return tuple(OPERATIONS_38) if many else tuple(operations)


def same_classifier(database: Database, classifier: Answering) -> None:
    """Check that a database was made on a classifier.

    Args:
        database: Any.
        classifier: Any.

    Raises:
        DataError: It was made on another one.
    """
    if classifier.sha256 != database.card.classifier.sha256:
        raise DataError(
            f"{database.folder} was made on the classifier {database.card.classifier.name} "
            f"({database.card.classifier.sha256[:12]}), not on {classifier.name} ({classifier.sha256[:12]}): "
            "adversarial examples of one tell nothing sure of another"
        )


def _block(
    folder: Path, images: npt.NDArray[np.uint8], classifier: Answering, operations: Sequence[str]
) -> npt.NDArray[np.float32]:
    """(N, 1 + operations, classes) logits of a block, computed or read."""
    other = [classifier.arithmetic] if classifier.arithmetic else []
    key = hashlib.sha256(json.dumps([classifier.sha256, list(operations), images.shape, *other]).encode())
    key.update(np.ascontiguousarray(images).tobytes())
    path = folder / _FOLDER / f"{key.hexdigest()}.npz"
    if path.exists():
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                kept: npt.NDArray[np.float32] = file["logits"]
                return kept
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            path.unlink()  # damaged: it is computed again
    # The image by itself and its copies together: so the edge asks.
    logits = np.stack(
        [
            np.concatenate([classifier.logits(image[np.newaxis]), classifier.logits(_copies(image, operations))])
            for image in images
        ]
    )
    content = io.BytesIO()
    np.savez(content, logits=logits)
    path.parent.mkdir(exist_ok=True)
    write_file(path, content.getvalue())
    return logits


def _copies(image: npt.NDArray[np.uint8], operations: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Transformed copies (n, H, W, C); a grey image is transformed as three equal channels."""
    if image.shape[2] == 3:
        return apply_operations(image, operations)
    return apply_operations(np.repeat(image, 3, axis=2), operations)[..., :1]
