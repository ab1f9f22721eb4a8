"""Boxes as arrays: how much they overlap, and how they become regions of a frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firewall.errors import UsageError
from firewall.frame import Region

__all__ = ["SMALLEST_SIDE", "Floats", "as_regions", "check_limit", "overlaps", "within_frame"]

Floats = npt.NDArray[np.float64]

#: Regions with a shorter side than this, in pixels, are dropped: no sign can be recognised in them.
SMALLEST_SIDE = 4


def overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union (IoU) of each pair of boxes.

    Args:
        one: (N, 4), x, y, width, height in pixels with positive sides.
        other: (M, 4), the same.

    Returns:
        (N, M) in 0..1.
    """
    start = np.maximum(one[:, None, :2], other[None, :, :2])
    end = np.minimum(one[:, None, :2] + one[:, None, 2:], other[None, :, :2] + other[None, :, 2:])
    shared = np.prod(np.maximum(end - start, 0.0), axis=2)
    union = np.prod(one[:, 2:], axis=1)[:, None] + np.prod(other[:, 2:], axis=1)[None] - shared
    return np.asarray(shared / union, np.float64)


def check_limit(limit: int) -> None:
    """Raise UsageError unless the most regions of a frame are at least 1."""
    if limit < 1:
        raise UsageError(f"the limit of regions must be at least 1, got {limit}")


def within_frame(corners: Floats, part: Region, width: int, height: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """From a part of a frame, which was looked at, to the frame.

    A box counts if its centre, after it was cut off at the frame, lies in the part. Its sides may leave the part: a
    finder says how large a sign is that the part's edge cuts, so that the whole sign is judged and not a piece of it.

    Args:
        corners: x0, y0, x1, y1 (N, 4) in pixels of the part.
        part: x, y, width, height in pixels of the frame.
        width: Width of the frame in pixels.
        height: Height of the frame in pixels.

    Returns:
        x, y, width, height (M, 4) in pixels of the frame, cut off at its edges, of those that count; and for each of N
        whether it does.
    """
    left, top, wide, high = part
    cut = np.clip(corners + np.array([left, top] * 2), 0, (width, height, width, height))
    centres = (cut[:, :2] + cut[:, 2:]) / 2
    inside = np.asarray(((centres >= (left, top)) & (centres <= (left + wide, top + high))).all(axis=1), np.bool_)
    boxes = cut[inside]
    boxes[:, 2:] -= boxes[:, :2]
    return boxes, inside


def as_regions(boxes: Floats, width: int, height: int) -> list[Region]:
    """Whole-pixel regions inside a frame, in the order of the boxes.

    What lies outside the frame is cut off. What is then smaller than SMALLEST_SIDE is left out, and so is a region that
    is already in the list.

    Args:
        boxes: (N, 4) finite x, y, width, height in pixels of the frame.
        width: Width of the frame in pixels.
        height: Height of the frame in pixels.

    Returns:
        The regions, at most N.
    """
    bounds = np.array([width, height], np.float64)
    starts = np.clip(np.rint(boxes[:, :2]), 0, bounds).astype(np.int64)
    ends = np.clip(np.rint(boxes[:, :2] + boxes[:, 2:]), 0, bounds).astype(np.int64)
    regions: list[Region] = []
    for (x, y), (w, h) in zip(starts.tolist(), (ends - starts).tolist(), strict=True):
        if w >= SMALLEST_SIDE and h >= SMALLEST_SIDE and (x, y, w, h) not in regions:
            regions.append((x, y, w, h))
    return regions
