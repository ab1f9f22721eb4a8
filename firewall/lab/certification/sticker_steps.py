"""Two steps of masks on clean images, for every tau at once: what `lab certify patch --finer` keeps of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.decision.dial import Dial, against, named
from firewall.decision.masking import Classify, Masks
from firewall.decision.steps import Levels, finer_masks

__all__ = ["HIGHEST", "images_asked", "levels_of", "steps_row"]

#: The highest tau that is ever counted: a mask that is sure at it is sure at all others, and no finer one is asked.
HIGHEST = 0.99

Row = dict[str, Any]
_Lists = list[list[float | None]]
#: JSON has no infinity.
_INFINITE = 1e9


def steps_row(
    masks: Masks,
    finer: int,
    image: npt.NDArray[np.uint8],
    logits: npt.NDArray[np.float32],
    classify: Classify,
    labels: tuple[int, int],
) -> dict[str, _Lists]:
    """Levels of the label that would be released and of the true one.

    Args:
        masks: The large masks.
        finer: Finer masks along each side of an unsure one.
        image: (H, W, 3) uint8.
        logits: (masks, classes), under each large mask.
        classify: Gives the logits of a batch.
        labels: The label without masks, and the true one.

    Returns:
        `plain` and `true`: the fields of Levels, None for -inf, 1e9 for inf.
    """
    top = Dial("object", HIGHEST)
    unsure = [at for at in range(len(masks)) if not all(top.sure(named(logits[[at]], label)).all() for label in labels)]
    inside = {at: finer_masks(masks, [at], finer).logits(image, classify) for at in unsure}
    found = dict[str, _Lists]()
    for key, label in zip(("plain", "true"), labels, strict=True):
        # Where no finer mask was asked here, none is at any tau; if one were, it would count against the label.
        least, most = np.full(len(masks), -np.inf), np.full(len(masks), _INFINITE)
        for at, rows in inside.items():
            least[at], most[at] = named(rows, label).min(), against(rows, label).max()
        parts = (named(logits, label), against(logits, label), least, most)
        found[key] = [[_number(value) for value in part] for part in parts]
    return found


def levels_of(rows: Sequence[Row], key: str) -> Levels:
    """Levels (rows, masks) of rows with `steps`; key: plain or true."""
    kept = [row["steps"][key] for row in rows]
    parts = [np.array([each[at] for each in kept], np.float64) for at in range(4)]  # None becomes NaN
    return Levels(*(np.where(np.isnan(part), -np.inf, part) for part in parts))


def images_asked(rows: Sequence[Row], masks: Masks, finer: int, taus: Sequence[float]) -> list[dict[str, float]]:
    """Masked images that the edge classifies for the label of each row, where nothing ends it early.

    Args:
        rows: With `steps`.
        masks: The large masks.
        finer: Finer masks along each side of an unsure one.
        taus: Between 0 and 1 each.

    Returns:
        For each tau: mean and worst number of images.
    """
    found = []
    for tau in taus:
        unsure = ~Dial("object", tau).sure(levels_of(rows, "plain").named)
        counts = [len(masks) + len(finer_masks(masks, np.flatnonzero(row).tolist(), finer)) for row in unsure]
        found.append({"tau": tau, "mean": float(np.mean(counts)), "worst": max(counts)})
    return found


def _number(value: float) -> float | None:
    return min(float(value), _INFINITE) if value > -np.inf else None
