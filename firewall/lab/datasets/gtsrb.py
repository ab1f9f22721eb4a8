"""The German Traffic Sign Recognition Benchmark (Stallkamp et al. 2012), 43 classes.

Read from the official layout (`Final_Training/Images/00000/GT-00000.csv`, `Final_Test/Images`,
`GT-final_test.csv`) or from packs: `.npz` files of losslessly encoded images with their columns. A *track* is up
to 30 frames of one physical sign: frames of one track are nearly the same picture, so every split is by track.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from firewall.errors import DataError
from firewall.lab.datasets.dataset import Dataset, checked_labels
from firewall.lab.datasets.near_duplicates import near_duplicates
from firewall.lab.datasets.packs import load_pack

__all__ = ["CLASS_NAMES", "Gtsrb", "load_test", "load_train", "open_gtsrb", "split_tracks"]

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

_WHERE = (
    "get GTSRB_Final_Training_Images, GTSRB_Final_Test_Images and GTSRB_Final_Test_GT from the benchmark's page, "
    "unpack them into one folder and name it with --data"
)


@dataclass(frozen=True)
class Gtsrb:
    """Images with their labels. `images`: list of (H, W, 3) uint8 RGB; `labels`: int64 (N,), 0..42;
    `tracks`: int64 (N,), label * 1000 + track number, or -1 where the track is not published (test images).
    `sources`: a name for each image that is the same on every machine."""

    images: list[npt.NDArray[np.uint8]]
    labels: npt.NDArray[np.int64]
    tracks: npt.NDArray[np.int64]
    sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, where: npt.NDArray[np.bool_]) -> Gtsrb:
        """The images at which the mask `where`, bool (N,), is true."""
        index = np.flatnonzero(where)
        sources = tuple(self.sources[i] for i in index) if self.sources else ()
        return Gtsrb([self.images[i] for i in index], self.labels[index], self.tracks[index], sources)


#: The share of the training tracks, and the seed, that training keeps out unless told otherwise.
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
    """`part` as any data set: "train", "test", "kept-out", the training tracks that the default classifier was not
    trained on, or "fitted", the others.

    A training image's group is its track. Test images have no published tracks: near duplicates are a group instead
    (see `near_duplicates` for how well that finds the tracks). So detectors are best trained and judged on "kept-out".
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
    """All training images under `root`: the packs `gtsrb_train_*.npz`, else the official folders."""
    packs = sorted(root.glob("gtsrb_train_*.npz"))
    if packs:
        return _join([_load_pack(path) for path in packs])
    folders = sorted(path for path in root.rglob("Final_Training/Images/[0-9]*") if path.is_dir())
    if not folders:
        raise DataError(f"no GTSRB training images under {root}; {_WHERE}")
    return _join([_load_folder(folder, folder / f"GT-{folder.name}.csv") for folder in folders])


def load_test(root: Path) -> Gtsrb:
    """All test images under `root`: the packs `gtsrb_test*.npz`, else the official folder."""
    packs = sorted(root.glob("gtsrb_test*.npz"))
    if packs:
        return _join([_load_pack(path) for path in packs])
    folder = next(iter(root.rglob("Final_Test/Images")), None)
    table = next(iter(root.rglob("GT-final_test.csv")), None)
    if folder is None or table is None:
        missing = "Final_Test/Images" if folder is None else "GT-final_test.csv"
        raise DataError(f"no GTSRB test images under {root} ({missing} is missing); {_WHERE}")
    return _load_folder(folder, table, tracks=False)


def split_tracks(data: Gtsrb, share: float, seed: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Split by track, in each class alike: masks of the rest and of about `share` of the tracks, at least one each."""
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


def _load_folder(folder: Path, table: Path, *, tracks: bool = True) -> Gtsrb:
    labels: list[int] = []
    numbers: list[int] = []
    sources: list[str] = []
    prefix = f"gtsrb_train/{folder.name}" if tracks else "gtsrb_test"
    try:
        with table.open(newline="") as file:
            rows = [(row["Filename"], int(row["ClassId"])) for row in csv.DictReader(file, delimiter=";")]
        for name, label in rows:
            labels.append(label)
            sources.append(f"{prefix}/{Path(name).stem}")
            numbers.append(label * 1000 + int(name.split("_")[0]) if tracks else -1)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{table} is not a table with Filename and ClassId ({error}); {_WHERE}") from error
    if not rows:
        raise DataError(f"{table} names no images; {_WHERE}")
    images = [_picture(folder / name, table) for name, _ in rows]
    return Gtsrb(images, checked_labels(labels, len(CLASS_NAMES), table), np.array(numbers, np.int64), tuple(sources))


def _picture(path: Path, table: Path) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{table.name} names the image {path}, which can't be read ({error}); {_WHERE}") from error


def _join(parts: list[Gtsrb]) -> Gtsrb:
    return Gtsrb(
        [image for part in parts for image in part.images],
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.tracks for part in parts]),
        tuple(source for part in parts for source in part.sources),
    )
