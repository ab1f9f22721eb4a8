"""CIFAR-10 (Krizhevsky 2009): 32x32 colour images of 10 classes, 50,000 + 10,000.

Read from the official *binary* version (`cifar-10-batches-bin/data_batch_1.bin` ... `test_batch.bin`) or from packs.
The official Python version is pickled, and reading a pickle can run whatever its author wished: it is not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, UsageError
from firewall.lab.datasets.dataset import Dataset, Pixels, checked_labels
from firewall.lab.datasets.packs import open_pack

__all__ = ["CLASS_NAMES", "open_cifar10"]

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_WHERE = (
    "get cifar-10-binary.tar.gz from the data set's page and unpack it, so that cifar-10-batches-bin lies in the data "
    "folder; name that folder with --data or FIREWALL_DATA"
)
_ROW = 1 + 3 * 32 * 32
_BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
_PACKS = {
    "train": ("cifar10_train_jpeg75.npz", "already JPEG at quality 75: a JPEG-based detector can't be judged on them"),
    "test": ("cifar10_test_jpeg75.npz", "already JPEG at quality 75: a JPEG-based detector can't be judged on them"),
    "lossless": (
        "cifar10_lossless4k.npz",
        "lossless, but the first 4,000 of the training images: a classifier trained on CIFAR-10 has seen them",
    ),
}


def open_cifar10(root: Path, part: str) -> Dataset:
    """A part of CIFAR-10. The official files are taken before a pack.

    Args:
        root: Folder of the data sets.
        part: "train", "test", or "lossless" (the first 4,000 training images, never JPEG).

    Returns:
        The data set.

    Raises:
        UsageError: There is no such part.
        DataError: Files are missing or damaged.
    """
    if part not in _PACKS:
        raise UsageError(f"CIFAR-10 has the parts {', '.join(_PACKS)}, not {part!r}")
    for folder in (root / "cifar-10-batches-bin", root / "cifar10" / "cifar-10-batches-bin", root / "cifar10", root):
        batches = [folder / f"{name}.bin" for name in _BATCHES["test" if part == "test" else "train"]]
        if batches[0].is_file():
            return _official(batches, part)
    name, note = _PACKS[part]
    path = next((folder / name for folder in (root, root / "cifar10") if (folder / name).is_file()), None)
    if path is None:
        pickled = next(root.glob("**/cifar-10-batches-py/data_batch_1"), None)
        hint = "" if pickled is None else f" ({pickled.parent.name} is the pickled version, which is not read)"
        raise DataError(f"no CIFAR-10 {part} images under {root}{hint}; {_WHERE}")
    images, columns = open_pack(path)
    if "label" not in columns:
        raise DataError(f"{path} has no column 'label'; it is not a CIFAR-10 pack")
    labels = checked_labels(columns["label"], len(CLASS_NAMES), path)
    return _dataset(images, labels, _names(path.stem, len(images)), note)


def _official(batches: list[Path], part: str) -> Dataset:
    if part == "lossless":
        batches = batches[:1]  # the first 4,000 training images lie in the first batch
    images: list[Pixels] = []
    labels: list[npt.NDArray[np.int64]] = []
    sources: list[str] = []
    for path in batches:
        try:
            rows = np.fromfile(path, np.uint8)
        except OSError as error:
            raise DataError(f"{path} can't be read ({error.strerror}); {_WHERE}") from error
        if len(rows) == 0 or len(rows) % _ROW or (rows[::_ROW] >= len(CLASS_NAMES)).any():
            raise DataError(f"{path} is not a batch of the binary CIFAR-10 (records of {_ROW} bytes); get it again")
        rows = rows.reshape(-1, _ROW)[: 4000 if part == "lossless" else None]
        labels.append(rows[:, 0].astype(np.int64))
        images.extend(np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)))
        sources += _names(path.stem, len(rows))
    note = _PACKS["lossless"][1] if part == "lossless" else ""
    return _dataset(images, np.concatenate(labels), sources, note)


def _names(stem: str, count: int) -> list[str]:
    return [f"{stem}/{index:05d}" for index in range(count)]


def _dataset(images: Sequence[Pixels], labels: npt.NDArray[np.int64], sources: list[str], notes: str) -> Dataset:
    return Dataset(
        name="cifar10",
        images=images,
        labels=labels,
        groups=np.arange(len(labels), dtype=np.int64),
        sources=tuple(sources),
        class_names=CLASS_NAMES,
        licence="free for research, to be cited; no licence is stated",
        citation="A. Krizhevsky. Learning multiple layers of features from tiny images. Technical report, University "
        "of Toronto, 2009.",
        notes=notes,
    )
