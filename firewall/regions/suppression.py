"""Of boxes that show the same thing, the best one."""

from __future__ import annotations

import numpy as np

from firewall.regions.boxes import Floats, overlaps

__all__ = ["MOST_COMPARED", "suppress"]

#: Boxes that are compared with each other; of more the best. A network that is made to give thousands by what it is
#: shown costs no more time than that.
MOST_COMPARED = 300


def suppress(corners: Floats, scores: Floats, most: float, limit: int) -> list[int]:
    """Non-maximum suppression over all classes: rows to keep, best first, at most `limit`.

    corners: (N, 4) x0, y0, x1, y1 with positive sides. scores: (N,). most: intersection over union, 0..1, above which
    the lower score goes. Equal scores keep the order of the rows.
    """
    order = np.argsort(-scores, kind="stable")[:MOST_COMPARED]
    boxes = corners[order]
    overlap = overlaps(*(np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),) * 2)
    open_ = np.ones(len(order), bool)
    kept: list[int] = []
    for row in range(len(order)):
        if len(kept) >= limit:
            break
        if open_[row]:
            kept.append(int(order[row]))
            open_ &= overlap[row] <= most
    return kept
