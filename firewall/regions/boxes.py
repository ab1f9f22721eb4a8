"""Boxes as arrays: how much they overlap, which of them to keep, and how they become regions of a frame."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firewall.frame import Region

__all__ = ["SMALLEST_SIDE", "Floats", "as_regions", "overlaps", "strongest"]

Floats = npt.NDArray[np.float64]

#: Regions with a shorter side than this, in pixels, are dropped: nothing can be read from them.
SMALLEST_SIDE = 4


def overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union of each pair. one: (N, 4), other: (M, 4), both x, y, width, height with positive sides;
    returns (N, M) in 0..1."""
    start = np.maximum(one[:, None, :2], other[None, :, :2])
    end = np.minimum(one[:, None, :2] + one[:, None, 2:], other[None, :, :2] + other[None, :, 2:])
    shared = np.prod(np.maximum(end - start, 0.0), axis=2)
    union = np.prod(one[:, 2:], axis=1)[:, None] + np.prod(other[:, 2:], axis=1)[None] - shared
    return np.asarray(shared / union, np.float64)


def strongest(confidence: Floats, overlap: Floats, threshold: float, most: float, limit: int) -> list[int]:
    """Non-maximum suppression: rows to keep, best first, none twice.

    confidence: (N,). overlap: (N, N) in 0..1. Kept is what is at least `threshold` and overlaps none that was kept
    before by more than `most`, up to `limit` rows. Equal confidence keeps the order of the rows.
    """
    kept: list[int] = []
    for row in np.argsort(-confidence, kind="stable").tolist():
        if len(kept) >= limit or not confidence[row] >= threshold:
            break
        if not kept or overlap[row, kept].max() <= most:
            kept.append(row)
    return kept


def as_regions(boxes: Floats, width: int, height: int) -> list[Region]:
    """Whole-pixel regions inside a frame of width x height, in the given order.

    boxes: (N, 4) finite x, y, width, height in pixels of the frame. What lies outside is cut off; what is then
    smaller than SMALLEST_SIDE is left out, and so is a region that is already there.
    """
    bounds = np.array([width, height], np.float64)
    starts = np.clip(np.rint(boxes[:, :2]), 0, bounds).astype(np.int64)
    ends = np.clip(np.rint(boxes[:, :2] + boxes[:, 2:]), 0, bounds).astype(np.int64)
    regions: list[Region] = []
    for (x, y), (w, h) in zip(starts.tolist(), (ends - starts).tolist(), strict=True):
        if w >= SMALLEST_SIDE and h >= SMALLEST_SIDE and (x, y, w, h) not in regions:
            regions.append((x, y, w, h))
    return regions
