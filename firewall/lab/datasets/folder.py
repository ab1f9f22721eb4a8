"""Any folder of images with a sub-folder for each class."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError
from firewall.lab.datasets.dataset import Dataset
from firewall.lab.datasets.gtsrb_layouts import TRACK
from firewall.sources.folder import FileImages, hidden, image_files
from firewall.sources.uri import natural, printable

__all__ = ["open_folder"]

#: Sub-folders of these names are parts of a data set, not classes.
_PARTS = frozenset(
    {"dev", "eval", "test", "testing", "train", "training", "trainval", "val", "valid", "validation"}
    | {"final_test", "final_training"}
)


def open_folder(path: Path) -> Dataset:
    """The images of `path`/CLASS/..., classes in the order of their names, 2 before 10.

    Copies of one file are one group, and so are frames of one track where every file is named as GTSRB's are,
    TRACK_FRAME or CLASS_TRACK_FRAME. Which of a classifier's classes these are is found by `matched`.

    Args:
        path: The folder.

    Returns:
        The data set; an image that can't be read raises ImageError on access.

    Raises:
        DataError: The folder has no classes, holds parts instead of classes, or a class has no images.
    """
    shown = printable(str(path))
    if not path.is_dir():
        raise DataError(f"{shown} is not a folder; name one with a sub-folder of images for each class, folder:PATH")
    try:
        classes = sorted(child for child in path.iterdir() if child.is_dir() and not hidden(child.name))
    except OSError as error:
        raise DataError(f"can't read the folder {shown}: {error.strerror}; name one that can be read") from error
    if not classes:
        raise DataError(f"{shown} has no sub-folders; the images of each class belong into a sub-folder of its name")
    if {folder.name.casefold() for folder in classes} <= _PARTS:
        parts, one = ", ".join(folder.name for folder in classes), f"folder:{shown}/{classes[0].name}"
        raise DataError(f"{shown} holds parts ({parts}), not classes; name one of them, such as {one}")
    # Files stay in the order of their paths, by which databases that are there know them; classes are counted.
    places = {folder: place for place, folder in enumerate(sorted(classes, key=lambda each: natural(each.name)))}
    files: list[Path] = []
    labels: list[int] = []
    for folder in classes:
        try:
            images = sorted(image_files(folder))
        except DataError as error:
            name = printable(folder.name)
            raise DataError(f"the class folder {name} can't be used: {error}; fill or remove it") from error
        files += images
        labels += [places[folder]] * len(images)
    tracks = _tracks(path, files)
    return Dataset(
        name="folder",
        images=FileImages(files),
        labels=np.array(labels, np.int64),
        groups=_groups(files, tracks),
        sources=tuple(printable(file.relative_to(path).as_posix()) for file in files),
        class_names=tuple(printable(folder.name) for folder in places),
        licence="not known; it is the folder owner's to say",
        citation=f"images of the folder {printable(path.resolve().name)}",
        notes="images of one scene are not known to belong together, only copies of one file are"
        if tracks is None
        else "frames of one track belong together, by the names of their files",
    )


def _tracks(path: Path, files: Sequence[Path]) -> list[str] | None:
    """A name for the track of each file, if every file is named as a frame of one."""
    found = [TRACK.fullmatch(file.stem) for file in files]
    tracks = [
        f"{file.relative_to(path).parts[0]}/{match[1]}" for file, match in zip(files, found, strict=True) if match
    ]
    return tracks if len(tracks) == len(files) else None


def _groups(files: Sequence[Path], tracks: Sequence[str] | None) -> npt.NDArray[np.int64]:
    """A number for each file: that of the first file with the same content or, through others too, of its track."""
    first = _copies(files)
    parents = list(range(len(files)))

    def root(place: int) -> int:
        while parents[place] != place:
            parents[place] = place = parents[parents[place]]
        return place

    begun: dict[str, int] = {}
    for place, copy in enumerate(first.tolist()):
        others = [copy] if tracks is None else [copy, begun.setdefault(tracks[place], place)]
        for other in others:
            one, two = sorted((root(place), root(other)))
            parents[two] = one
    return np.array([root(place) for place in range(len(files))], np.int64)


def _copies(files: Sequence[Path]) -> npt.NDArray[np.int64]:
    """A number for each file that files of the same content share. Only files of the same length are read."""
    try:
        sizes = [file.stat().st_size for file in files]
        several = {size for size, count in Counter(sizes).items() if count > 1}
        digests = [
            hashlib.sha256(file.read_bytes()).digest() if size in several else b""
            for file, size in zip(files, sizes, strict=True)
        ]
    except OSError as error:
        raise DataError(f"{printable(str(error.filename))} can't be read ({error.strerror}); remove it") from error
    first: dict[tuple[int, bytes], int] = {}
    keys = zip(sizes, digests, strict=True)  # a file of a size that no other has is alone
    return np.array([first.setdefault(key, place) for place, key in enumerate(keys)], np.int64)
