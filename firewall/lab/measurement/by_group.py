"""Counts of images and of their groups, for exact bounds.

Frames of one track, or near duplicates, are not independent: thirty pictures of one sign say hardly more than one does.
One frame drawn at random from each group is one draw for each group. If groups are exchangeable, the bound of Clopper
and Pearson (1934) is then exact for the rate on a random frame of a new group. The same holds for the share of groups
with any hit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from firewall.errors import DataError, UsageError

__all__ = ["by_group", "upper_bound"]


def by_group(hits: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64], seed: int = 0) -> dict[str, int]:
    """Count images and groups.

    Args:
        hits: bool (N,), N >= 1.
        groups: The group of each image, int64 (N,).
        seed: Draws one image from each group, independently of the hits.

    Returns:
        images, hits, groups, group_hits (groups with any hit) and drawn_hits (hits among the drawn images).

    Raises:
        DataError: The arrays don't fit.
    """
    if hits.ndim != 1 or hits.shape != groups.shape or len(hits) == 0:
        raise DataError(f"{hits.shape} hits and {groups.shape} groups were given; each image needs one of both")
    order = np.random.default_rng(seed).permutation(len(hits))
    names, first, place = np.unique(groups[order], return_index=True, return_inverse=True)
    return {
        "images": len(hits),
        "hits": int(hits.sum()),
        "groups": len(names),
        "group_hits": int((np.bincount(place, weights=hits[order]) > 0).sum()),
        "drawn_hits": int(hits[order][first].sum()),
    }


def upper_bound(hits: int, total: int, confidence: float) -> float:
    """The one-sided upper bound of Clopper and Pearson (1934).

    Args:
        hits: 0 to `total`.
        total: Independent draws, 1 or more.
        confidence: Between 0 and 1; the true rate lies above the bound with a probability of at most 1 - confidence.

    Raises:
        UsageError: The confidence is out of range.
        DataError: The counts are no rate.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence must lie between 0 and 1, got {confidence}")
    if not 0 <= hits <= total or total < 1:
        raise DataError(f"{hits} of {total} is not a rate; hits must lie in 0..total, and total be at least 1")
    return float(binomtest(hits, total, alternative="less").proportion_ci(confidence, method="exact").high)
