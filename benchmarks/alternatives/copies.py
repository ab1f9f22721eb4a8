"""(c) The copies alone: JPEG at the same qualities and rotations by the same angles, by torchvision and by kornia."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.alternatives.peer import Peer
from benchmarks.alternatives.turns import here, in_turns, middle, ratio
from benchmarks.operations import photograph
from firewall.transforms import SWEEP_16, jpeg_sweep, rotate

__all__ = ["ANGLES", "against_libraries", "difference"]

ANGLES = tuple(float(degrees) for degrees in range(1, 9))
_SIZES = (48, 64, 224)
_BATCHES = (1, 8)
_BUDGET = 10.0  # seconds of processor time for a row
_OURS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg": lambda pixels: jpeg_sweep(pixels, SWEEP_16),
    "rotations": lambda pixels: rotate(pixels, ANGLES),
}
_ASKED: dict[str, dict[str, Any]] = {"jpeg": {"qualities": list(SWEEP_16)}, "rotations": {"angles": list(ANGLES)}}


def against_libraries(peer: Peer, rounds: int) -> list[dict[str, Any]]:
    """A row for each size, batch, operation and library: how far its copies are from ours, then times in turns.

    Ours are Pillow's bytes, which the project's tests hold; here each difference is one from libjpeg and Pillow.

    Args:
        peer: With the other libraries.
        rounds: Batches that are timed.
    """
    rows = []
    for operation, ours in _OURS.items():
        for library in ("torchvision", "kornia"):
            peer.make(f"{library}-{operation}", f"{library}-{operation}", **_ASKED[operation])
        for side in _SIZES:
            for batch in _BATCHES:
                items = pictures(side, 2 * batch).reshape(2, batch, side, side, 3)
                peer.load("pictures", items)
                mine = np.stack([[ours(pixels) for pixels in images] for images in items])
                theirs = {
                    library: peer.run(f"{library}-{operation}", "pictures") for library in ("torchvision", "kornia")
                }
                taken = in_turns(
                    {
                        "ours": here(lambda item, items=items, ours=ours: [ours(pixels) for pixels in items[item]]),
                        **{library: peer.work(f"{library}-{operation}", "pictures") for library in theirs},
                    },
                    len(items),
                    rounds,
                    budget=_BUDGET,
                )
                rows += [
                    {
                        "operation": operation,
                        "side": side,
                        "images": batch,
                        "library": library,
                        **difference(copies, mine),
                        "ours": middle(taken["ours"]),
                        "theirs": middle(taken[library]),
                        **ratio(taken[library], taken["ours"]),
                    }
                    for library, copies in theirs.items()
                ]
    return rows


def pictures(side: int, count: int) -> np.ndarray:
    """Different ones, uint8 (count, side, side, 3), the same in every run."""
    return np.stack([np.roll(photograph(side), 5 * shift, (0, 1)) for shift in range(count)])


def difference(theirs: np.ndarray, ours: np.ndarray) -> dict[str, Any]:
    """How far uint8 copies of one shape are apart; no PSNR (None) if they are equal."""
    if theirs.shape != ours.shape:
        raise SystemExit(f"copies of shape {theirs.shape} can't be compared with {ours.shape}")
    apart = np.abs(theirs.astype(np.int16) - ours)
    square = float(np.mean(np.square(apart, dtype=np.float64)))
    return {
        "equal": float(np.mean(apart == 0)),
        "most": int(apart.max()),
        "psnr": None if square == 0 else float(10 * np.log10(255**2 / square)),
    }
