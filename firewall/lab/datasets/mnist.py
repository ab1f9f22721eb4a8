"""MNIST, handwritten digits (LeCun et al. 1998): 28x28 grey images of 10 classes, 60,000 + 10,000.

Read from the official idx files, plain or compressed by gzip, or from `mnist.npz` with x_train, y_train, x_test and
y_test.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError
from firewall.lab.datasets.dataset import Dataset, Pixels, checked_labels

__all__ = ["open_mnist"]

_WHERE = (
    "get train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
    "t10k-labels-idx1-ubyte.gz (or mnist.npz) from a mirror of the data set, put them into the data folder or its "
    "sub-folder mnist, and name that folder with --data or FIREWALL_DATA"
)
_FOLDERS = (".", "mnist", "MNIST", "MNIST/raw")
_LARGEST = 1 << 30


def open_mnist(root: Path, part: str) -> Dataset:
    """A part of MNIST.

    Args:
        root: Folder of the data sets.
        part: "train" or "test".

    Returns:
        The data set.

    Raises:
        DataError: Files are missing or damaged.
    """
    images, labels, (path, labels_path) = _read(root, part)
    if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) != len(labels) or images.dtype != np.uint8:
        raise DataError(f"{path} holds {images.dtype} {images.shape} and {len(labels)} labels; that is not MNIST")
    return Dataset(
        name="mnist",
        images=list(images[..., None]),
        labels=checked_labels(labels, 10, labels_path),
        groups=np.arange(len(labels), dtype=np.int64),
        sources=tuple(f"mnist_{part}/{index:05d}" for index in range(len(labels))),
        class_names=tuple(str(digit) for digit in range(10)),
        licence="free for research; Creative Commons BY-SA 3.0 as published by its authors",
        citation="Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. Gradient-based learning applied to document recognition. "
        "Proceedings of the IEEE 86(11), 1998.",
    )


def _read(root: Path, part: str) -> tuple[Pixels, npt.NDArray[np.uint8], tuple[Path, Path]]:
    prefix = "train" if part == "train" else "t10k"
    for folder in _FOLDERS:
        images = _find(root / folder, f"{prefix}-images", "idx3-ubyte")
        labels = _find(root / folder, f"{prefix}-labels", "idx1-ubyte")
        if images is not None and labels is not None:
            return _read_idx(images, 3), _read_idx(labels, 1), (images, labels)
        pack = root / folder / "mnist.npz"
        if pack.is_file():
            try:
                with pack.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                    return arrays[f"x_{part}"], arrays[f"y_{part}"], (pack, pack)
            except (OSError, ValueError, KeyError, BadZipFile, EOFError, zlib.error) as error:
                raise DataError(f"{pack} is not a readable mnist.npz ({error}); copy it again") from error
    raise DataError(f"no MNIST {part} images under {root}; {_WHERE}")


def _find(folder: Path, first: str, last: str) -> Path | None:
    names = (f"{first}{mark}{last}{suffix}" for mark in "-." for suffix in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """An idx file of bytes: two zeros, 0x08 for uint8, the number of dimensions, each as big-endian int32, the data."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as file:
                content = file.read(_LARGEST)
        else:
            content = path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be read ({error}); get it again") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{path} is not an idx file of {dimensions} dimensions; get it again")
    shape = tuple(int(size) for size in np.frombuffer(content, ">i4", dimensions, 4))
    if min(shape) < 1 or len(content) != header + int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"{path} has {len(content)} bytes, its header promises {shape}; get it again")
    values: npt.NDArray[np.uint8] = np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
    return values
