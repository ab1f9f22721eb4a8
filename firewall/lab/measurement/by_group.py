"""Counts of images, and of the groups that they come in: what exact bounds can rest on.

Frames of one track, or near duplicates, are not independent draws: thirty pictures of one sign say hardly more than one
does. One frame drawn at random from each group is one draw a group, so that the bound of Clopper and Pearson (1934) is
exact for the rate at a random frame of a new group, if groups are exchangeable. So it is for the rate of groups with
any hit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from firewall.errors import DataError, UsageError

__all__ = ["by_group", "upper_bound"]


def by_group(hits: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64], seed: int = 0) -> dict[str, int]:
    """images, hits, groups, group_hits (groups with any hit) and drawn_hits (of one image drawn from each group).

    hits, groups: (N,), N >= 1. seed: of the drawing, which knows nothing of the hits. Raises DataError for arrays that
    don't fit.
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
    """The one-sided bound of Clopper and Pearson: the true rate lies above it with a probability of at most
    1 - confidence, whatever it is. Raises UsageError for a confidence outside (0, 1), DataError for impossible hits."""
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence must lie between 0 and 1, got {confidence}")
    if not 0 <= hits <= total or total < 1:
        raise DataError(f"{hits} of {total} is not a rate; hits must lie in 0..total, and total be at least 1")
    return float(binomtest(hits, total, alternative="less").proportion_ci(confidence, method="exact").high)
