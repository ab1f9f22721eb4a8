"""Data sets by name."""

from __future__ import annotations

import os
from pathlib import Path

from firewall.errors import DataError, UsageError
from firewall.lab.datasets.cifar10 import open_cifar10
from firewall.lab.datasets.dataset import Dataset
from firewall.lab.datasets.folder import open_folder
from firewall.lab.datasets.gtsdb import open_gtsdb
from firewall.lab.datasets.gtsrb import open_gtsrb
from firewall.lab.datasets.imagenet import open_imagenet
from firewall.lab.datasets.mnist import open_mnist
from firewall.lab.datasets.nips17 import open_nips17

__all__ = ["NAMES", "data_root", "open_dataset"]

#: Data sets by name; besides them `folder:PATH`.
NAMES = ("gtsrb", "gtsdb", "mnist", "cifar10", "imagenet", "nips17")

_VARIABLE = "FIREWALL_DATA"
_USUAL = ("data", "../shared/data")


def open_dataset(spec: str, root: Path | None = None, *, part: str = "test") -> Dataset:
    """Open a data set. Nothing is downloaded.

    Args:
        spec: gtsrb, gtsdb, mnist, cifar10, imagenet, nips17, or folder:PATH with a sub-folder for each class.
        root: The folder that holds data sets; None: see `data_root`.
        part: "train" or "test". CIFAR-10 also has "lossless"; GTSRB "kept-out", training tracks that the default
            classifier has not seen, and "fitted", the others. GTSDB, whose images are the
            signs in its frames, ImageNet, NIPS 2017 and folders have one part, "test".

    Returns:
        The data set.

    Raises:
        UsageError: The name or the part is unknown.
        DataError: Data is missing or damaged.
    """
    name, _, path = spec.partition(":")
    if name == "folder" and path:
        _one_part(spec, part)
        return open_folder(Path(path))
    if spec not in NAMES:
        raise UsageError(f"unknown data set {spec!r}; known: {', '.join(NAMES)}, folder:PATH")
    if spec == "cifar10":
        return open_cifar10(data_root(root), part)
    if spec in ("gtsrb", "mnist"):
        parts = ("train", "test", "kept-out", "fitted") if spec == "gtsrb" else ("train", "test")
        if part not in parts:
            raise UsageError(f"{spec} has the parts {', '.join(parts)}, not {part!r}")
        return (open_gtsrb if spec == "gtsrb" else open_mnist)(data_root(root), part)
    _one_part(spec, part)
    others = {"gtsdb": open_gtsdb, "imagenet": open_imagenet, "nips17": open_nips17}
    return others[spec](data_root(root))


def data_root(root: Path | None = None) -> Path:
    """The folder of data sets.

    Args:
        root: What the user names; None: the variable FIREWALL_DATA, else `data` or `../shared/data` from here.

    Returns:
        An existing folder.

    Raises:
        DataError: There is none.
    """
    if root is None and os.environ.get(_VARIABLE):
        root = Path(os.environ[_VARIABLE])
    if root is not None:
        if not root.is_dir():
            raise DataError(f"the data folder {root} is not there; name another with --data or {_VARIABLE}")
        return root
    found = next((Path(name) for name in _USUAL if Path(name).is_dir()), None)
    if found is None:
        raise DataError(f"no data folder ({' or '.join(_USUAL)}) here; name one with --data or {_VARIABLE}")
    return found


def _one_part(spec: str, part: str) -> None:
    if part != "test":
        raise UsageError(f"{spec} has no part {part!r}, only 'test'")
