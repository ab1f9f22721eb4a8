"""Regions of a road scene that look like traffic signs, by colour and shape alone."""

from __future__ import annotations

import numpy as np

from firewall.frame import Pixels, Region
from firewall.regions.boxes import Floats, as_regions, check_limit, overlaps
from firewall.regions.sign_evidence import confidence, default_weights, measure
from firewall.regions.sign_shapes import SMALLEST_OUTLINE, find_outlines, split_layers
from firewall.regions.suppression import strongest

__all__ = ["SignProposals"]

#: Outlines below this confidence are not looked at. Low on purpose: a sign that is not proposed is never judged,
#: a tree that is proposed costs one classification.
THRESHOLD = 0.05
#: Of two boxes that overlap more than this the better one is kept.
MOST_OVERLAP = 0.55
#: Boxes that overlap the kept one at least this much are the same sign, and are averaged with it.
SAME_SIGN = 0.6


class SignProposals:
    """Finds discs, triangles, octagons and diamonds with red, blue, yellow or grey in them.

    Signs from about 16 px in a frame of 960x540 (scaled with the frame) up to half the frame. Boxes are square with a
    margin of about a tenth of the sign on each side, like the images of GTSRB. The same pixels give the same boxes.
    """

    def __init__(self, limit: int = 8) -> None:
        """Load the weights.

        Args:
            limit: The most regions for a frame, at least 1.

        Raises:
            UsageError: If the limit is below 1.
        """
        check_limit(limit)
        self.limit = limit
        self._weights = default_weights()

    def find(self, pixels: Pixels) -> list[Region]:
        """Regions inside the frame, most sign-like first; none if nothing looks like a sign.

        Args:
            pixels: (H, W, 3) uint8, H and W at least 1.
        """
        height, width = pixels.shape[:2]
        if min(height, width) < SMALLEST_OUTLINE:
            return []
        layers = split_layers(pixels)
        outlines = find_outlines(layers)
        if not len(outlines.family):
            return []
        evidence = measure(layers, outlines)
        belief = confidence(outlines.family, evidence.values, self._weights)
        kept = strongest(belief, evidence.overlap, MOST_OVERLAP, len(belief), THRESHOLD)
        # The average of what several masks say moves less under noise than the box of any one of them.
        boxes = _averages(outlines.boxes, belief, evidence.overlap, kept)
        # Averages of neighbours come closer to each other, so they are compared once more.
        boxes = boxes[strongest(belief[kept], overlaps(boxes, boxes), MOST_OVERLAP, self.limit, THRESHOLD)]
        return as_regions(boxes * (layers.across, layers.down, layers.across, layers.down), width, height)


def _averages(boxes: Floats, belief: Floats, overlap: Floats, kept: list[int]) -> Floats:
    votes = (overlap[kept] >= SAME_SIGN) * belief
    return np.asarray((votes @ boxes) / votes.sum(axis=1, keepdims=True), np.float64)
