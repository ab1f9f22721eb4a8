"""Non-maximum suppression: of boxes that show the same thing, only the best one is kept."""

from __future__ import annotations

import numpy as np

from firewall.regions.boxes import Floats, overlaps

__all__ = ["MOST_COMPARED", "strongest", "suppress"]

#: At most this many boxes, the best ones, are compared with each other. So the time is bounded even if a picture makes
#: the detector give thousands of boxes.
MOST_COMPARED = 300


def strongest(scores: Floats, overlap: Floats, most: float, limit: int, threshold: float = -np.inf) -> list[int]:
    """Non-maximum suppression on overlaps that are known.

    Args:
        scores: (N,), higher is better. Equal scores keep the order of the rows.
        overlap: (N, N) intersection over union, 0..1.
        most: A box that overlaps a better one by more than this is dropped, 0..1.
        limit: The most rows to keep.
        threshold: Rows with a lower score, or with NaN, are dropped.

    Returns:
        Rows to keep, best first, each once.
    """
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if len(kept) >= limit or not scores[row] >= threshold:
            break
        if not kept or overlap[row, kept].max() <= most:
            kept.append(row)
    return kept


def suppress(corners: Floats, scores: Floats, most: float, limit: int) -> list[int]:
    """Non-maximum suppression over all classes, among the best MOST_COMPARED boxes.

    Args:
        corners: (N, 4) x0, y0, x1, y1 with positive sides.
        scores: (N,) finite, higher is better. Equal scores keep the order of the rows.
        most: A box that overlaps a better one by more than this is dropped, 0..1.
        limit: The most rows to keep.

    Returns:
        Rows to keep, best first, each once.
    """
    order = np.argsort(-scores, kind="stable")[:MOST_COMPARED]
    boxes = np.concatenate([corners[order, :2], corners[order, 2:] - corners[order, :2]], axis=1)
    return [int(order[row]) for row in strongest(scores[order], overlaps(boxes, boxes), most, limit)]
