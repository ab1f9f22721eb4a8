"""The 299x299 ImageNet-like images of the NIPS 2017 contest on adversarial attacks and defences (Kurakin et al. 2018).

Read from the official layout (a folder `images` and `images.csv` or `dev_dataset.csv` with ImageId and TrueLabel, where
1 is ImageNet's first class) or from the pack `nips17_dev.npz`.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firewall.errors import DataError
from firewall.lab.datasets.dataset import Dataset, Pixels, checked_labels
from firewall.lab.datasets.packs import open_pack
from firewall.sources.folder import FileImages

__all__ = ["imagenet_names", "open_nips17"]

_WHERE = (
    "get the DEV set of the contest (images and images.csv), put both into a sub-folder nips17 of the data folder and "
    "name that folder with --data or FIREWALL_DATA"
)
_CLASSES = 1000
#: Images, labels from 1, sources, and the file that the labels come from.
_Found = tuple[Sequence[Pixels], list[int], list[str], Path]


def open_nips17(root: Path) -> Dataset:
    """All images; labels 0..999 in ImageNet's order, so a network of 1001 classes has the offset 1.

    Args:
        root: Folder of the data sets.

    Returns:
        The data set.

    Raises:
        DataError: Files are missing or damaged.
    """
    found = _official(root) or _pack(root)
    if found is None:
        raise DataError(f"no NIPS 2017 images under {root}; {_WHERE}")
    images, labels, sources, path = found
    return Dataset(
        name="nips17",
        images=images,
        labels=checked_labels(np.array(labels, np.int64) - 1, _CLASSES, path),
        groups=np.arange(len(labels), dtype=np.int64),
        sources=tuple(sources),
        class_names=imagenet_names(root),
        licence="CC-BY 2.0, photographers in the attribution file beside the images",
        citation="A. Kurakin et al. Adversarial attacks and defences competition. The NIPS '17 Competition: Building "
        "Intelligent Systems, 2018.",
    )


def imagenet_names(root: Path) -> tuple[str, ...]:
    """ImageNet's 1000 class names.

    Args:
        root: Folder of `imagenet_labels.txt` (a line for each class, the first may be "background").

    Returns:
        The names; numbered ones where there is no such file.

    Raises:
        DataError: The file has another number of lines.
    """
    for path in (root / "imagenet_labels.txt", root / "models" / "imagenet_labels.txt"):
        if path.is_file():
            names = path.read_text(encoding="utf-8").splitlines()
            if len(names) not in (_CLASSES, _CLASSES + 1):
                raise DataError(f"{path} has {len(names)} lines, 1000 or 1001 were expected; get it again")
            return tuple(names[-_CLASSES:])
    return tuple(f"class {number}" for number in range(_CLASSES))


def _official(root: Path) -> _Found | None:
    for folder in (root / "nips17", root):
        tables = [folder / name for name in ("images.csv", "dev_dataset.csv") if (folder / name).is_file()]
        if tables and (folder / "images").is_dir():
            return _table(tables[0], folder / "images")
    return None


def _table(table: Path, folder: Path) -> _Found:
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = [(row["ImageId"], int(row["TrueLabel"])) for row in csv.DictReader(file)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{table} is not the contest's table with ImageId and TrueLabel ({error}); {_WHERE}") from error
    files = [folder / f"{name}.png" for name, _ in rows]
    missing = [path for path in files if not path.is_file()]
    if missing or not rows:
        raise DataError(f"{table} names {len(missing)} of {len(rows)} images that are not in {folder}; {_WHERE}")
    return FileImages(files), [label for _, label in rows], [f"nips17/{name}" for name, _ in rows], table


def _pack(root: Path) -> _Found | None:
    path = next(
        (folder / "nips17_dev.npz" for folder in (root, root / "nips17") if (folder / "nips17_dev.npz").is_file()), None
    )
    if path is None:
        return None
    images, columns = open_pack(path)
    if not {"id", "label1001"} <= set(columns):
        raise DataError(f"{path} has no columns 'id' and 'label1001'; it is not the pack of NIPS 2017")
    sources = [f"nips17/{name}" for name in columns["id"].tolist()]
    return images, columns["label1001"].astype(int).tolist(), sources, path
