"""A frame with its verdicts drawn on it, for people: green boxes with the released label, red ones with the reason."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from firewall.frame import Pixels, Region
from firewall.verdict import Verdict

__all__ = ["LONGEST_SIDE", "draw"]

#: The longer side of what is drawn, in pixels.
LONGEST_SIDE = 1280
_RELEASED, _WITHHELD, _LOOKED_AT = (40, 190, 70), (225, 50, 40), (245, 245, 245)


def draw(pixels: Pixels, verdicts: Sequence[Verdict], looked_at: Region | None = None) -> Pixels:
    """Draw verdicts on a copy of a frame. Nothing of what is only for the operator is shown.

    Args:
        pixels: (H, W, 3) uint8 RGB; it is not changed.
        verdicts: The verdicts on it.
        looked_at: The part of it in which regions were looked for, drawn as a thin line; None: no line.

    Returns:
        (H', W', 3) uint8 RGB; scaled down to LONGEST_SIDE, both sides even, as video codecs want them.
    """
    height, width = pixels.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = (max(2, round(width * scale) // 2 * 2), max(2, round(height * scale) // 2 * 2))
    image = np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if looked_at is not None:
        x, y, w, h = (round(side * scale) for side in looked_at)
        cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), _LOOKED_AT, 1)
    for verdict in verdicts:
        colour = _RELEASED if verdict.released else _WITHHELD
        x, y, w, h = (round(side * scale) for side in verdict.region)
        if w and h:
            cv2.rectangle(image, (x, y), (x + w - 1, y + h - 1), colour, 2)
        label = verdict.label if verdict.label_name is None else verdict.label_name
        text = (str(label) if verdict.released else str(verdict.reason)).encode("ascii", "replace").decode()
        cv2.putText(image, text, (x + 2, max(y - 5, 14)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
    return image
