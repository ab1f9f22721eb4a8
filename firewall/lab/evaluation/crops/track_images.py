"""Tracks of benign frames at their own size, to be attacked and judged frame by frame.

*Real* ones are tracks of a data set, such as GTSRB's, in the order in which their frames were seen. *Made* ones come
from single signs in road scenes: each frame is the sign cut out a little differently, brought to a smaller size as if
it were farther away, under slightly different light and with sensor noise. What a real approach has besides, motion
blur, turning, another background, they don't have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.errors import DataError, ImageError
from firewall.lab.datasets.dataset import Dataset
from firewall.lab.datasets.gtsdb import Box, Scenes
from firewall.lab.evaluation.crops.images import Crops
from firewall.transforms import resize

__all__ = ["FRAMES", "FrameTracks", "made_tracks", "real_tracks"]

Pixels = npt.NDArray[np.uint8]

#: Frames of a track.
FRAMES = 10
#: Made tracks: signs with at least this shorter side with its margin, in pixels; the first frame's share of that, but
#: no side below the least; standard deviations of the box's place and size (shares of the side), of the logarithm of
#: the light, and of the noise (grey levels).
_SIDE, _FARTHEST, _LEAST = 36, 0.4, 18
_MOVED, _LIGHT, _NOISE = 0.03, 0.03, 1.5
#: As firewall.lab.datasets.gtsdb cuts signs out.
_MARGIN, _LEAST_MARGIN = 0.1, 5


@dataclass(frozen=True, eq=False)
class FrameTracks:
    """T tracks of `length` frames each.

    Attributes:
        crops: T * length frames, track by track, in the order in which they are seen; a track is a group.
        length: Frames of each track.
        scenes: What tracks are of, int64 (T,): tracks of one scene are no independent draws.
    """

    crops: Crops
    length: int
    scenes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scenes)

    def take(self, tracks: npt.ArrayLike) -> FrameTracks:
        """Those at `tracks`, ints (M,), in that order."""
        where = np.asarray(tracks, np.int64)
        places = (where[:, None] * self.length + np.arange(self.length)).ravel()
        return FrameTracks(self.crops.take(places), self.length, self.scenes[where])

    def changed(self, images: list[Pixels]) -> FrameTracks:
        """The same tracks with other pixels, T * length."""
        crops = self.crops
        return FrameTracks(Crops(images, crops.labels, crops.groups, crops.sources), self.length, self.scenes)


def real_tracks(data: Dataset, offset: int = 0, length: int = FRAMES) -> FrameTracks:
    """The last frames of each track of a data set whose groups are tracks.

    Tracks with fewer frames are left out, and those whose frames all have one size: they were brought to it, so that
    they are not what a camera saw.

    Args:
        data: The data set; frames of a track are in the order of their sources' names.
        offset: What the classifier adds to its labels.
        length: Frames of a track, 1 or more.

    Raises:
        DataError: No track is left.
    """
    rows: dict[int, list[int]] = {}
    # The folder in front is the pack that an image came in, and one track may lie in two.
    names = [source.partition("/")[2] or source for source in data.sources]
    for row in sorted(range(len(data)), key=names.__getitem__):
        rows.setdefault(int(data.groups[row]), []).append(row)
    kept = {
        group: places[-length:]
        for group, places in sorted(rows.items())
        if len(places) >= length and (length == 1 or len({data.images[place].shape for place in places}) > 1)
    }
    if not kept:
        raise DataError(f"{data.name} has no track of {length} frames at their own sizes; name another data set")
    places = [place for track in kept.values() for place in track]
    crops = Crops(
        [data.images[place] for place in places],
        data.labels[places] + offset,
        data.groups[places],
        [data.sources[place] for place in places],
    )
    return FrameTracks(crops, length, np.array(list(kept), np.int64))


def made_tracks(scenes: Scenes, count: int, seed: int, offset: int = 0, length: int = FRAMES) -> FrameTracks:
    """Tracks made from single signs; see the module.

    Args:
        scenes: Frames with the boxes of their signs.
        count: How many tracks at the most; one sign of each frame comes before a second of any.
        seed: What the choice and the frames depend on.
        offset: What the classifier adds to labels.
        length: Frames of a track, 1 or more.

    Raises:
        DataError: A frame can't be read, or no sign is large enough.
    """
    found = list(_chosen(scenes, count, seed))
    if not found:
        raise DataError(f"no sign has {_SIDE} pixels or more with its margin; name scenes with larger signs")
    images: list[Pixels] = []
    for place, position, box in found:
        number = int(scenes.numbers[place])
        try:
            frame = scenes.frames[place]
        except ImageError as error:
            raise DataError(f"frame {number} of the scenes can't be read ({error})") from error
        images += _approach(frame, box, np.random.default_rng([seed, number, position]), length)
    names = [f"made/{int(scenes.numbers[place]):05d}/{position}" for place, position, _ in found]
    crops = Crops(
        images,
        np.repeat([box.label + offset for _, _, box in found], length).astype(np.int64),
        np.repeat(np.arange(len(found)), length).astype(np.int64),
        [f"{name}/{frame}" for name in names for frame in range(length)],
    )
    return FrameTracks(crops, length, scenes.numbers[[place for place, _, _ in found]])


def _chosen(scenes: Scenes, count: int, seed: int) -> Iterator[tuple[int, int, Box]]:
    order = np.random.default_rng(seed).permutation(len(scenes)).tolist()
    large = {
        place: [(n, box) for n, box in enumerate(scenes.boxes[place]) if _window(box)[2] >= _SIDE] for place in order
    }
    turns = ((place, turn) for turn in range(max(map(len, large.values()), default=0)) for place in order)
    found = ((place, *large[place][turn]) for place, turn in turns if turn < len(large[place]))
    for _, sign in zip(range(count), found, strict=False):
        yield sign


def _window(box: Box) -> tuple[float, float, float]:
    """Middle of a sign, and half of its sides' sum with the margins, in pixels."""
    wide, high = box.right - box.left, box.bottom - box.top
    side = sum(length + 2 * max(_LEAST_MARGIN, _MARGIN * length) for length in (wide, high)) / 2
    return (box.left + box.right) / 2, (box.top + box.bottom) / 2, side


def _approach(frame: Pixels, box: Box, generator: np.random.Generator, length: int) -> list[Pixels]:
    x, y, side = _window(box)
    first = max(_FARTHEST, _LEAST / side)
    frames = []
    for share in np.geomspace(first, 1, length):
        half = side / 2 * float(np.exp(generator.normal(0, _MOVED)))
        across, down = (x, y) + generator.normal(0, _MOVED, 2) * side
        left, top = max(0, round(across - half)), max(0, round(down - half))
        crop = frame[top : round(down + half), left : round(across + half)]
        height, width = (max(1, round(share * edge)) for edge in crop.shape[:2])
        seen = resize(np.ascontiguousarray(crop), width, height).astype(np.float64)
        seen = seen * np.exp(generator.normal(0, _LIGHT)) + generator.normal(0, _NOISE, seen.shape)
        frames.append((np.clip(seen, 0, 255) + 0.5).astype(np.uint8))
    return frames
