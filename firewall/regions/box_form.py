"""How a detector writes its boxes, found out from the boxes: pixels or 0..1, corners or centre and size."""

from __future__ import annotations

import numpy as np

from firewall.errors import EngineError
from firewall.regions.boxes import Floats

__all__ = ["BoxForm"]

#: A box of a picture's sides that ends beyond this is one of pixels; one of pixels that ends before it is a speck.
_UNIT = 2.0
#: Boxes after which the form is settled.
_ENOUGH = 200
#: How far a box of centre and size may stand out of the picture, in its sides.
_OUT = 0.15


class BoxForm:
    """What is known of one detector's boxes. Rows that are looked at vote; those of earlier frames count on.

    Boxes of small things tell with near certainty: read as corners, a box of centre and size is inside out unless it
    fills the picture's left top.
    """

    def __init__(self, *, coordinates: str | None, written: str | None) -> None:
        """Take what is known; None is found out from the boxes.

        Args:
            coordinates: "pixels" or "unit".
            written: "corners", "corners-yx", "centre" or "top-left".
        """
        self._coordinates, self._format = coordinates, written
        self._unit = self._pixels = self._corners = self._centre = 0
        self._said = ("", "")

    @property
    def settled(self) -> tuple[str, str]:
        """Format and coordinates as of now; empty while nothing tells."""
        return self._said

    def corners(self, boxes: Floats, height: int, width: int) -> Floats:
        """x0, y0, x1, y1 (N, 4) in pixels of an input of height x width, of the boxes that count, finite.

        Raises:
            EngineError: If they contradict what the boxes before said, or can't be either.
        """
        if not len(boxes):
            return np.zeros((0, 4))
        coordinates = self._coordinates or self._vote_coordinates(boxes)
        scaled = boxes * np.array([width, height] * 2, np.float64) if coordinates == "unit" else boxes
        if self._format == "corners-yx":
            # The sides were given in the other order too.
            factor = np.array([height, width] * 2, np.float64) if coordinates == "unit" else 1.0
            scaled = (boxes * factor)[:, [1, 0, 3, 2]]
        written = self._format or self._vote_format(scaled, height, width)
        self._said = (written, coordinates)
        if written == "centre":
            return np.concatenate([scaled[:, :2] - scaled[:, 2:] / 2, scaled[:, :2] + scaled[:, 2:] / 2], axis=1)
        if written == "top-left":
            return np.concatenate([scaled[:, :2], scaled[:, :2] + scaled[:, 2:]], axis=1)
        return np.asarray(scaled, np.float64)

    def _vote_coordinates(self, boxes: Floats) -> str:
        small = int((np.abs(boxes).max(axis=1) <= _UNIT).sum())
        here = "unit" if 2 * small > len(boxes) else "pixels"
        if self._unit + self._pixels < _ENOUGH:
            self._unit, self._pixels = self._unit + small, self._pixels + len(boxes) - small
        told = "unit" if self._unit > self._pixels else "pixels"
        if told != here:
            raise EngineError(
                f"boxes of this frame are in {_NAMES[here]}, those before were in {_NAMES[told]}; set "
                "region_detector.coordinates"
            )
        return told

    def _vote_format(self, scaled: Floats, height: int, width: int) -> str:
        inverted = (scaled[:, 2] <= scaled[:, 0]) | (scaled[:, 3] <= scaled[:, 1])
        sides = np.array([width, height], np.float64)
        start, end = scaled[:, :2] - scaled[:, 2:] / 2, scaled[:, :2] + scaled[:, 2:] / 2
        inside = (start >= -_OUT * sides).all(axis=1) & (end <= (1 + _OUT) * sides).all(axis=1)
        inside &= (scaled[:, 2:] > 0).all(axis=1)
        centre = int((inverted & inside).sum())
        if self._corners + self._centre < _ENOUGH:
            self._centre, self._corners = self._centre + centre, self._corners + int((~inverted).sum())
        told = "centre" if self._centre > self._corners else "corners"
        if told == "corners" and centre > len(scaled) / 2:
            raise EngineError(
                "boxes of this frame are centre and size, those before were corners; set region_detector.format"
            )
        if told == "centre" and not inside.any():
            raise EngineError(
                "boxes of this frame are no centre and size inside the picture, as those before were; set "
                "region_detector.format"
            )
        return told


_NAMES = {"unit": "0..1", "pixels": "pixels"}
