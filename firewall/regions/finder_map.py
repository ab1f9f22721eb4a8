"""From the map of a sign finder to boxes: one for each sign, by arithmetic on arrays alone.

A place of the map says how likely a sign's centre is there, and how far its four sides are. What a network gives has a
fixed shape, so every runtime can run it; which places count is decided here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firewall.errors import EngineError
from firewall.regions.boxes import Floats, overlaps
from firewall.regions.suppression import MOST_COMPARED, strongest

__all__ = ["CHANNELS", "boxes_of"]

#: Score as a logit; logarithms of the distances to left, top, right and bottom in strides.
CHANNELS = 5
#: Logarithms of distances are kept within this: exp(5) strides of 8 pixels are more than any frame's sign.
_LARGEST = 5.0
#: Two boxes are of one sign if they overlap (intersection over union) by this much, or if this much of the smaller lies
#: in the larger: a sign's inner field is no second sign.
_SAME, _INSIDE = 0.45, 0.7
#: Boxes that overlap the best one by this much say where its sides are too.
_AGREEING = 0.6


def boxes_of(
    answer: npt.NDArray[np.float32], stride: int, threshold: float, limit: int
) -> tuple[Floats, npt.NDArray[np.float64]]:
    """The boxes of one frame, one for each sign, best first.

    Args:
        answer: The map, float32 (5, h, w), see CHANNELS.
        stride: Pixels to a place of the map along each side.
        threshold: Places with a lower score, 0..1, don't count.
        limit: The most boxes.

    Returns:
        Corners x0, y0, x1, y1, float (N, 4), in pixels of what the network read, not cut off at its edges, and scores
        0..1, float (N,). At most MOST_COMPARED places, the best ones, are looked at.

    Raises:
        EngineError: If the map is of another shape, or holds anything but finite numbers.
    """
    if answer.ndim != 3 or answer.shape[0] != CHANNELS:
        raise EngineError(f"the sign finder gave a map of shape {answer.shape}; ({CHANNELS}, h, w) is needed")
    if not np.isfinite(answer).all():
        raise EngineError("the sign finder gave numbers that are not finite")
    logits = answer[0].ravel()
    places = np.flatnonzero(logits >= _logit(threshold))
    if len(places) > MOST_COMPARED:
        best = np.argsort(-logits[places], kind="stable")[:MOST_COMPARED]
        places = places[best]
    if not len(places):
        return np.empty((0, 4)), np.empty(0)
    rows, columns = np.divmod(places, answer.shape[2])
    distances = np.exp(np.clip(answer[1:].reshape(4, -1)[:, places].astype(np.float64), -_LARGEST, _LARGEST))
    middle = np.stack([columns, rows, columns, rows], axis=1) + 0.5
    corners = (middle + distances.T * (-1, -1, 1, 1)) * stride
    scores = 1 / (1 + np.exp(-logits[places].astype(np.float64)))
    overlap, inside = _overlaps(corners)
    same = np.maximum(overlap / _SAME, inside / _INSIDE)
    kept = strongest(scores, same, 1.0, limit)
    votes = (overlap[kept] >= _AGREEING) * scores
    return np.asarray((votes @ corners) / votes.sum(axis=1, keepdims=True), np.float64), scores[kept]


def _logit(share: float) -> float:
    share = min(max(share, 1e-9), 1 - 1e-9)
    return float(np.log(share / (1 - share)))


def _overlaps(corners: Floats) -> tuple[Floats, Floats]:
    """Of each pair of boxes: intersection over union, and intersection over the smaller area. (N, N) each."""
    boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    area = np.prod(boxes[:, 2:], axis=1)
    union_share = overlaps(boxes, boxes)
    shared = union_share / (1 + union_share) * (area[:, None] + area[None])
    return union_share, shared / np.minimum(area[:, None], area[None])
