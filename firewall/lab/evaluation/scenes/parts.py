"""Parts of frames: how many annotated signs lie in one, and the smallest one that holds nearly all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.config import Part
from firewall.errors import DataError, UsageError
from firewall.frame import Region
from firewall.lab.datasets.scenes import RoadScenes
from firewall.lab.evaluation.scenes.figures import rate
from firewall.regions import RegionFinder
from firewall.regions.within import WithinPart

__all__ = ["STEP", "Proposal", "proposed", "signs_within"]

#: Pixels between two edges that a part may have, where all frames have one size: what the finder rounds to.
STEP = 32
#: Shares between two edges where frames differ in size.
_SHARE = 0.02

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The smallest part that holds a share of the signs.

    Attributes:
        part: The part, in shares of the frame.
        held: Signs that lie in it whole.
        signs: All of them.
        frames: Frames that they were counted in.
    """

    part: Part
    held: int
    signs: int
    frames: int

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "within": str(self.part),
            "share_of_a_frame": round(self.part.width * self.part.height, 4),
            "signs": self.signs,
            "whole_within": self.held,
            "frames": self.frames,
        }


def signs_within(scenes: RoadScenes, finder: RegionFinder) -> dict[str, Any]:
    """How many of the annotated signs lie in the part that a finder looks at.

    Args:
        scenes: The frames.
        finder: What looks at a part of them.

    Returns:
        Ready for JSON: rates of signs that lie whole, in part and not at all within; and the mean share of a frame
        that is looked at.

    Raises:
        ImageError: A frame is too small for the part.
        DataError: A frame's header can't be read.
    """
    if not isinstance(finder, WithinPart):
        raise UsageError("this finder looks at whole frames; name a part of them with --within")
    shares: list[float] = []
    seen: list[float] = []
    groups: list[int] = []
    for number, signs in enumerate(scenes.signs):
        width, height = scenes.size(number)
        looked_at = finder.looked_at(width, height)
        shares.append(looked_at[2] * looked_at[3] / (width * height))
        seen += [_seen(sign.region, looked_at) for sign in signs]
        groups += [number] * len(signs)
    kinds: dict[str, Callable[[float], bool]] = {
        "whole_within": lambda share: share == 1,
        "cut": lambda share: 0 < share < 1,
        "outside": lambda share: share == 0,
    }
    found = {name: rate([fits(share) for share in seen], groups) for name, fits in kinds.items()}
    return {"share_of_a_frame": round(sum(shares) / len(shares), 4), **found}


def proposed(scenes: RoadScenes, share: float) -> Proposal:
    """The smallest part in which at least so many of the annotated signs lie whole.

    Its edges are multiples of STEP pixels, so that nothing that is read is wasted; of frames of several sizes they are
    multiples of 2 % of the side. Of equally small parts it is the one with the most signs, then the highest and
    leftmost.

    Args:
        scenes: The frames; those that the result is to be judged on must not be among them.
        share: Of the signs, above 0 and at most 1.

    Raises:
        UsageError: The share is none.
        DataError: No sign is annotated, or a frame's header can't be read.
    """
    if not 0 < share <= 1:
        raise UsageError(f"the share of signs must be above 0 and at most 1, got {share:g}; 0.995 is usual")
    sizes = {place: scenes.size(place) for place, signs in enumerate(scenes.signs) if signs}
    if not sizes:
        raise DataError("no sign is annotated in these frames, so no part of them can be proposed; name other frames")
    corners = np.array(
        [
            [x / sizes[place][0], y / sizes[place][1], (x + w) / sizes[place][0], (y + h) / sizes[place][1]]
            for place, signs in enumerate(scenes.signs)
            for x, y, w, h in (sign.region for sign in signs)
        ],
        np.float64,
    )
    one_size = next(iter(sizes.values())) if len(set(sizes.values())) == 1 else None
    across, down = (_edges(None if one_size is None else one_size[axis]) for axis in (0, 1))
    needed = math.ceil(share * len(corners) - 1e-9)
    best: tuple[float, int, Part] | None = None
    for top in range(len(down) - 1):
        for bottom in range(top + 1, len(down)):
            rows = (corners[:, 1] >= down[top] - 1e-9) & (corners[:, 3] <= down[bottom] + 1e-9)
            if rows.sum() < needed:
                continue
            held = _held(corners[rows], across)
            high = down[bottom] - down[top]
            for left, right in np.argwhere(held >= needed).tolist():
                wide, count = across[right] - across[left], int(held[left, right])
                if best is None or (round(wide * high, 9), -count) < (round(best[0], 9), -best[1]):
                    x, y, w, h = (round(float(value), 6) for value in (across[left], down[top], wide, high))
                    best = wide * high, count, Part(x, y, w, h, shares=True)
    if best is None:
        raise DataError(f"no part of these frames holds {needed} of {len(corners)} signs; mend the annotation")
    return Proposal(best[2], best[1], len(corners), len(scenes))


def _seen(sign: Region, part: Region) -> float:
    """Share of a sign's box that lies in a part, 0..1."""
    wide, high = (
        min(sign[axis] + sign[axis + 2], part[axis] + part[axis + 2]) - max(sign[axis], part[axis]) for axis in (0, 1)
    )
    return max(0, wide) * max(0, high) / (sign[2] * sign[3])


def _edges(side: int | None) -> Floats:
    """Where a part may begin and end along a side, in shares of it, rising from 0 to 1."""
    if side is None:
        return np.arange(round(1 / _SHARE) + 1, dtype=np.float64) * _SHARE
    return np.array([*range(0, side, STEP), side], np.float64) / side


def _held(corners: Floats, edges: Floats) -> npt.NDArray[np.int64]:
    """Signs between each two edges: (left, right) -> how many of `corners` (N, 4), in shares, lie whole between."""
    counts = np.zeros((len(edges), len(edges)), np.int64)
    last = np.searchsorted(edges, corners[:, 0] + 1e-9, side="right") - 1  # the last edge that is left of it
    first = np.searchsorted(edges, corners[:, 2] - 1e-9, side="left")  # the first one that is right of it
    np.add.at(counts, (last, first), 1)
    return np.asarray(counts[::-1].cumsum(axis=0)[::-1].cumsum(axis=1), np.int64)
