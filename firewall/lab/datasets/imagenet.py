"""The validation images of ILSVRC 2012 (Russakovsky et al. 2015), 1000 classes in the order of their WordNet ids.

Two layouts: a folder for each WordNet id (`val/n01440764/*.JPEG`), or all 50,000 files in one folder with one of
* `val.txt`, a line an image: file name and class 0..999;
* `imagenet_2012_validation_synset_labels.txt`, a line an image: its WordNet id;
* the development kit's `ILSVRC2012_validation_ground_truth.txt` **and** `meta.mat`. The kit numbers the classes in an
  order of its own, which `meta.mat` alone translates: taken as they stand its numbers would be wrong classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from firewall.errors import DataError
from firewall.lab.datasets.dataset import Dataset
from firewall.lab.datasets.nips17 import imagenet_names
from firewall.sources.folder import FileImages, image_files

__all__ = ["open_imagenet"]

_WHERE = (
    "get ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz from image-net.org (an account is needed), unpack "
    "both into a sub-folder imagenet of the data folder and name that folder with --data or FIREWALL_DATA"
)
_CLASSES = 1000
_WORDNET = re.compile(r"n\d{8}")
_SYNSETS = ("LOC_synset_mapping.txt", "synset_words.txt", "synsets.txt")


def open_imagenet(root: Path) -> Dataset:
    """All validation images under `root/imagenet`, else `root`; decoded on access. Else as `nips17.open_nips17`."""
    for base in (root / "imagenet", root):
        for folder in (base / "val", base / "ILSVRC2012_img_val", base):
            if not folder.is_dir():
                continue
            classes = sorted(child for child in folder.iterdir() if child.is_dir() and _WORDNET.fullmatch(child.name))
            if classes:
                return _by_class(root, (folder, base), classes)
            files = sorted(folder.glob("ILSVRC2012_val_*.JPEG"))
            if files:
                return _flat(root, (folder, base), files)
    raise DataError(f"no ILSVRC 2012 validation images under {root}; {_WHERE}")


def _by_class(root: Path, places: tuple[Path, ...], classes: list[Path]) -> Dataset:
    order = _synsets(places) or [folder.name for folder in classes]
    if len(order) != _CLASSES:
        raise DataError(
            f"{places[0]} has {len(classes)} of ImageNet's 1000 class folders, so their numbers are unknown; put one "
            f"of {', '.join(_SYNSETS)} beside them, with all 1000 WordNet ids, a line each"
        )
    numbers = {name: number for number, name in enumerate(order)}
    files: list[Path] = []
    labels: list[int] = []
    for folder in classes:
        if folder.name not in numbers:
            raise DataError(f"{folder.name} is not one of the 1000 WordNet ids; remove the folder")
        images = sorted(image_files(folder))
        files += images
        labels += [numbers[folder.name]] * len(images)
    return _dataset(root, files, labels)


def _flat(root: Path, places: tuple[Path, ...], files: list[Path]) -> Dataset:
    simple = _first(places, ("val.txt",))
    if simple is not None:
        table = dict(line.rsplit(maxsplit=1) for line in _lines(simple))
        if any(file.name not in table for file in files):
            raise DataError(f"{simple} doesn't name every image beside it; get it again")
        return _dataset(root, files, _numbers(simple, [table[file.name] for file in files], 0))
    listed = _first(places, ("imagenet_2012_validation_synset_labels.txt",))
    if listed is not None:
        names = _for_images(listed, files)
        order = sorted(set(_lines(listed)))
        if len(order) != _CLASSES:
            raise DataError(f"{listed} names {len(order)} classes instead of 1000; get it again")
        return _dataset(root, files, [order.index(name) for name in names])
    truth = _first(places, ("ILSVRC2012_validation_ground_truth.txt",))
    meta = _first(places, ("meta.mat",))
    if truth is None or meta is None:
        missing = "the ground truth (ILSVRC2012_validation_ground_truth.txt)" if truth is None else "meta.mat"
        raise DataError(f"{places[0]} has images, but {missing} of the development kit is not beside them; {_WHERE}")
    own = _numbers(truth, _for_images(truth, files), 1)
    kit = _kit_order(meta)
    order = sorted(kit)
    return _dataset(root, files, [order.index(kit[number]) for number in own])


def _kit_order(meta: Path) -> list[str]:
    """The WordNet id of each of the development kit's classes 1..1000."""
    from scipy.io import loadmat

    try:
        rows = loadmat(str(meta), squeeze_me=True)["synsets"]
        ids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
        return [ids[number] for number in range(1, _CLASSES + 1)]
    except (OSError, ValueError, KeyError, TypeError, IndexError, NotImplementedError) as error:
        raise DataError(f"{meta} is not the development kit's table of classes ({error}); get it again") from error


def _for_images(path: Path, files: Sequence[Path]) -> list[str]:
    """The lines of `path` that belong to `files`: line n to ILSVRC2012_val_n."""
    lines = _lines(path)
    try:
        return [lines[int(file.stem.rsplit("_", 1)[1]) - 1] for file in files]
    except (ValueError, IndexError) as error:
        raise DataError(f"{path} has {len(lines)} lines, too few for the images beside it; get it again") from error


def _numbers(path: Path, texts: Sequence[str], first: int) -> list[int]:
    try:
        labels = [int(text) - first for text in texts]
    except ValueError as error:
        raise DataError(f"{path} holds something else than class numbers ({error}); get it again") from error
    if min(labels) < 0 or max(labels) >= _CLASSES:
        raise DataError(f"{path} holds classes outside {first}..{first + _CLASSES - 1}; get it again")
    return labels


def _synsets(places: tuple[Path, ...]) -> list[str] | None:
    path = _first(places, _SYNSETS)
    return None if path is None else sorted(line.split()[0] for line in _lines(path))


def _first(places: tuple[Path, ...], names: Sequence[str]) -> Path | None:
    folders = [place / sub for place in places for sub in ("", "ILSVRC2012_devkit_t12/data", "data")]
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read ({error}); get it again") from error


def _dataset(root: Path, files: list[Path], labels: list[int]) -> Dataset:
    return Dataset(
        name="imagenet",
        images=FileImages(files),
        labels=np.array(labels, np.int64),
        groups=np.arange(len(files), dtype=np.int64),
        sources=tuple(f"imagenet_val/{file.stem}" for file in files),
        class_names=imagenet_names(root),
        licence="for non-commercial research, by ImageNet's terms of access",
        citation="O. Russakovsky et al. ImageNet large scale visual recognition challenge. International Journal of "
        "Computer Vision 115, 2015.",
        notes="JPEG files of various qualities: a JPEG-based detector meets images that were compressed before",
    )
