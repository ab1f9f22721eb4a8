"""How many signs a finder finds in frames, and how often it sees one where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from firewall.frame import Pixels
from firewall.lab.models.finder import COARSEST, STRIDE
from firewall.regions.boxes import Floats, overlaps
from firewall.regions.finder_map import boxes_of

__all__ = ["FOUND", "Seen", "figures", "look", "matched", "network_finder", "threshold_for"]

#: A sign is found when a box overlaps it by this much, intersection over union.
FOUND = 0.5
#: Boxes with a lower score than this are never looked at.
_FAINT = 0.02
_MOST = 32
_SIZES = (16, 24, 32)

#: Corners (N, 4) and scores (N,) of a frame, best first.
Find = Callable[[Pixels], tuple[Floats, npt.NDArray[np.float64]]]


@dataclass(frozen=True, eq=False)
class Seen:
    """One frame's signs and what was found.

    Attributes:
        signs: Float (S, 4): x0, y0, x1, y1.
        labels: Their classes, int (S,).
        hit: Score of the box that found each sign, -1 without one. Float (S,).
        nothing: Scores of the boxes on no sign. Float (M,).
        places: Corners of those, float (M, 4).
    """

    signs: Floats
    labels: npt.NDArray[np.int64]
    hit: npt.NDArray[np.float64]
    nothing: npt.NDArray[np.float64]
    places: Floats


def network_finder(network: nn.Module) -> Find:
    """Boxes of a network of firewall.lab.models.finder, as the edge reads them; down to faint ones."""

    @torch.no_grad()
    def find(pixels: Pixels) -> tuple[Floats, npt.NDArray[np.float64]]:
        place = next(network.parameters()).device
        height, width = (-(-side // COARSEST) * COARSEST for side in pixels.shape[:2])
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[: pixels.shape[0], : pixels.shape[1]] = pixels
        image = torch.from_numpy(canvas).to(place).permute(2, 0, 1)[None].float().div(255)
        answer = network(image.contiguous(memory_format=torch.channels_last))
        return boxes_of(answer[0].float().cpu().numpy(), STRIDE, _FAINT, _MOST)

    return find


def look(find: Find, frames: Iterable[tuple[Pixels, Floats, npt.NDArray[np.int64]]]) -> list[Seen]:
    """What a finder sees in each frame.

    Args:
        find: The finder.
        frames: Each with its signs (S, 4) as corners, and their classes (S,).
    """
    seen = []
    for pixels, signs, labels in frames:
        corners, scores = find(pixels)
        hit, free = matched(signs, corners, scores)
        seen.append(Seen(signs, labels, hit, scores[free], corners[free]))
    return seen


def matched(
    signs: Floats, corners: Floats, scores: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Each box, best first, finds the sign that it overlaps most, if by FOUND and if none has found that before.

    Args:
        signs: Float (S, 4), corners.
        corners: Float (N, 4), best first.
        scores: Float (N,).

    Returns:
        The score by which each sign was found, -1 for none, and which boxes are on no sign.
    """
    hit, free = np.full(len(signs), -1.0), np.ones(len(corners), bool)
    if len(signs) and len(corners):
        table = overlaps(_sized(corners), _sized(signs))
        for row in range(len(corners)):
            best = int(table[row].argmax())
            if table[row, best] >= FOUND:
                free[row] = False
                hit[best] = max(hit[best], scores[row])
    return hit, free


def threshold_for(seen: Sequence[Seen], nothing: float) -> float:
    """The lowest score from which on there are at most `nothing` boxes on no sign in a frame, on average."""
    scores = np.sort(np.concatenate([frame.nothing for frame in seen]))[::-1]
    allowed = int(nothing * len(seen))
    return float(max(scores[allowed], _FAINT) + 1e-6) if allowed < len(scores) else _FAINT


def figures(seen: Sequence[Seen], threshold: float) -> dict[str, Any]:
    """Recall by size and boxes on nothing a frame, at a threshold.

    Sizes are of the shorter side in pixels.
    """
    hit = np.concatenate([frame.hit for frame in seen]) >= threshold
    signs = np.concatenate([frame.signs for frame in seen])
    side = (signs[:, 2:] - signs[:, :2]).min(axis=1) if len(signs) else np.empty(0)
    wrong = sum(int((frame.nothing >= threshold).sum()) for frame in seen)
    groups = {"all": np.ones(len(hit), bool)} | {f"{size}px": side >= size for size in _SIZES}
    return {
        "frames": len(seen),
        "recall": {
            name: {"signs": int(group.sum()), "found": int(hit[group].sum()), "recall": _share(hit[group])}
            for name, group in groups.items()
        },
        "boxes_on_nothing": {"boxes": wrong, "a_frame": round(wrong / max(len(seen), 1), 4)},
    }


def _share(hits: npt.NDArray[np.bool_]) -> float | None:
    return round(float(hits.mean()), 4) if len(hits) else None


def _sized(corners: Floats) -> Floats:
    return np.concatenate([corners[:, :2], np.maximum(corners[:, 2:] - corners[:, :2], 1e-9)], axis=1)
