"""The German Traffic Sign Recognition Benchmark (Stallkamp et al. 2012), 43 classes.

Read from packs (`.npz` files of losslessly encoded images with their columns) or from the benchmark's, Kaggle's or
torchvision's layout, see `gtsrb_layouts`. A *track* is up to 30 frames of one physical sign: frames of one track are
nearly the same picture, so every split is by track.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, ImageError
from firewall.lab.datasets.dataset import Dataset, checked_labels
from firewall.lab.datasets.gtsrb_layouts import WHERE, Listed, test_files, train_files
from firewall.lab.datasets.near_duplicates import near_duplicates
from firewall.lab.datasets.packs import load_pack
from firewall.sources.image import read_image
from firewall.sources.uri import printable

__all__ = ["CLASS_NAMES", "KEPT_OUT", "Gtsrb", "load_test", "load_train", "open_gtsrb", "split_tracks"]

CLASS_NAMES: tuple[str, ...] = (
    *(f"speed limit {limit}" for limit in (20, 30, 50, 60, 70, 80)),
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no overtaking",
    "no overtaking by lorries",
    "right of way at the next crossing",
    "priority road",
    "give way",
    "stop",
    "no vehicles",
    "no lorries",
    "no entry",
    "danger",
    "bend to the left",
    "bend to the right",
    "double bend",
    "uneven road",
    "slippery road",
    "road narrows on the right",
    "roadworks",
    "traffic signals",
    "pedestrians",
    "children",
    "cyclists",
    "ice or snow",
    "wild animals",
    "end of all limits",
    "turn right ahead",
    "turn left ahead",
    "ahead only",
    "ahead or right",
    "ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no overtaking",
    "end of no overtaking by lorries",
)


@dataclass(frozen=True)
class Gtsrb:
    """Images with their labels.

    Args:
        images: Uint8 (H, W, 3) RGB each.
        labels: Int64 (N,), 0..42.
        tracks: Int64 (N,), label * 1000 + track number, or -1 where the track is not published (test images).
        sources: A name for each image that is the same on every machine.
    """

    images: list[npt.NDArray[np.uint8]]
    labels: npt.NDArray[np.int64]
    tracks: npt.NDArray[np.int64]
    sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, where: npt.NDArray[np.bool_]) -> Gtsrb:
        """The images at which a mask, bool (N,), is true."""
        index = np.flatnonzero(where)
        sources = tuple(self.sources[i] for i in index) if self.sources else ()
        return Gtsrb([self.images[i] for i in index], self.labels[index], self.tracks[index], sources)


#: The share of the training tracks, and the seed, that training keeps out by default.
KEPT_OUT = (0.1, 0)

_NOTES = {
    "test": "tracks are not published: groups are near duplicates found by their pixels, "
    "which leaves about 13 % of the pairs of one track on two sides of a split",
    "kept-out": "training tracks that a classifier trained with seed 0, such as the default one, has not seen; "
    "the default bundle's thresholds were set on normal images of these tracks",
    "fitted": "training tracks that a classifier trained with seed 0, such as the default one, was trained on; "
    "detectors fitted on them leave all of the kept-out tracks for calibration",
    "train": "",
}


def open_gtsrb(root: Path, part: str) -> Dataset:
    """A part of GTSRB as any data set.

    A training image's group is its track. Test images have no published tracks: near duplicates are a group instead
    (see `near_duplicates` for how well that finds the tracks). So detectors are best trained and measured on
    "kept-out".

    Args:
        root: Folder of the data sets.
        part: "train", "test", "kept-out", the training tracks that the default classifier was not trained on, or
            "fitted", the others.

    Returns:
        The data set.

    Raises:
        DataError: Files are missing or damaged.
    """
    data = load_test(root) if part == "test" else load_train(root)
    if part == "kept-out":
        data = data.subset(split_tracks(data, *KEPT_OUT)[1])
    elif part == "fitted":
        data = data.subset(split_tracks(data, *KEPT_OUT)[0])
    return Dataset(
        name="gtsrb",
        images=data.images,
        labels=data.labels,
        groups=near_duplicates(data.images, data.labels) if part == "test" else data.tracks,
        sources=data.sources,
        class_names=CLASS_NAMES,
        licence="free for research, to be cited",
        citation="J. Stallkamp, M. Schlipsing, J. Salmen, C. Igel. Man vs. computer: benchmarking machine learning "
        "algorithms for traffic sign recognition. Neural Networks 32, 2012.",
        notes=_NOTES[part],
    )


def load_train(root: Path) -> Gtsrb:
    """All training images: the packs `gtsrb_train_*.npz`, else image files in a known layout.

    Args:
        root: Folder of the data sets.

    Returns:
        The images.

    Raises:
        DataError: Files are missing or damaged.
    """
    packs = sorted(root.glob("gtsrb_train_*.npz"))
    if packs:
        return _join([_load_pack(path) for path in packs])
    return _load_files(train_files(root))


def load_test(root: Path) -> Gtsrb:
    """All test images: the packs `gtsrb_test*.npz`, else image files in a known layout; otherwise as `load_train`."""
    packs = sorted(root.glob("gtsrb_test*.npz"))
    if packs:
        return _join([_load_pack(path) for path in packs])
    return _load_files(test_files(root))


def split_tracks(data: Gtsrb, share: float, seed: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Split by track, in each class alike.

    Args:
        data: Images whose tracks are known.
        share: Share of the tracks to take, at least one in each class.
        seed: What the choice depends on.

    Returns:
        Masks, bool (N,) each: of the rest, and of the taken tracks.
    """
    generator = np.random.default_rng(seed)
    chosen: list[int] = []
    for label in range(len(CLASS_NAMES)):
        tracks = np.unique(data.tracks[data.labels == label])
        if len(tracks) == 0:
            continue
        count = max(1, round(len(tracks) * share))
        chosen.extend(generator.permutation(tracks)[:count].tolist())
    taken = np.isin(data.tracks, chosen)
    return ~taken, taken


def _load_pack(path: Path) -> Gtsrb:
    images, columns = load_pack(path)
    if "label" not in columns:
        raise DataError(f"{path} has no column 'label'; it is not a GTSRB pack")
    labels = checked_labels(columns["label"], len(CLASS_NAMES), path)
    numbers = columns["name"].tolist() if "name" in columns else list(range(len(labels)))
    if "track" not in columns:
        return Gtsrb(images, labels, np.full(len(labels), -1), tuple(f"{path.stem}/{number:05d}" for number in numbers))
    tracks = columns["track"].astype(np.int64)
    frames = columns["frame"].tolist() if "frame" in columns else numbers
    sources = (
        f"{path.stem}/{label:05d}/{track:05d}_{frame:05d}"
        for label, track, frame in zip(labels.tolist(), tracks.tolist(), frames, strict=True)
    )
    return Gtsrb(images, labels, labels * 1000 + tracks, tuple(sources))


def _load_files(listed: list[Listed]) -> Gtsrb:
    for image in listed:
        checked_labels([image.label], len(CLASS_NAMES), image.table)  # which is named if it doesn't fit
    return Gtsrb(
        [_picture(image) for image in listed],
        np.array([image.label for image in listed], np.int64),
        np.array([image.track for image in listed], np.int64),
        tuple(image.source for image in listed),
    )


def _picture(image: Listed) -> npt.NDArray[np.uint8]:
    try:
        return read_image(image.file)
    except ImageError as error:
        name = printable(str(image.file))
        raise DataError(f"{image.table.name} names the image {name}, which can't be read ({error}); {WHERE}") from error


def _join(parts: list[Gtsrb]) -> Gtsrb:
    return Gtsrb(
        [image for part in parts for image in part.images],
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.tracks for part in parts]),
        tuple(source for part in parts for source in part.sources),
    )
