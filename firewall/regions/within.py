"""A finder that is given a part of each frame, and says where in the whole frame the regions are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from firewall.config import Part
from firewall.frame import Pixels, Region, check_form

__all__ = ["PartFinder", "WithinPart"]


class PartFinder(Protocol):
    """A finder of regions that can be given a part of a frame."""

    networks: Mapping[str, str]
    #: Pixels that a part begins and ends at multiples of, unless the frame ends before: others would be filled up.
    multiple: int

    def find(self, pixels: Pixels) -> list[Region]:
        """Regions of a whole frame, as of RegionFinder."""

    def find_in(self, pixels: Pixels, part: Region) -> list[Region]:
        """Regions of the signs whose boxes have their centre in the part; their sides and margins may leave it.

        Args:
            pixels: (H, W, 3) uint8, the whole frame.
            part: x, y, width, height in pixels, inside the frame.

        Returns:
            In pixels of the whole frame and inside it, best first.
        """


class WithinPart:
    """A RegionFinder that looks at a part of each frame. What lies outside of it is never looked at.

    The part grows to the multiples of its finder's, so that a network sees the frame in the same grid as it sees the
    whole frame in: away from the part's edges it says the same. Several may share one finder.

    networks: those of the finder.
    """

    def __init__(self, finder: PartFinder, part: Part) -> None:
        self.networks: Mapping[str, str] = finder.networks
        self.part = part
        self._finder = finder

    def looked_at(self, width: int, height: int) -> Region:
        """What of a frame of that size is looked at: x, y, width, height in pixels.

        Raises:
            ImageError: The frame is too small for the part.
        """
        x, y, wide, high = self.part.region(width, height)
        step = self._finder.multiple
        left, top = x // step * step, y // step * step
        right, bottom = min(width, -(-(x + wide) // step) * step), min(height, -(-(y + high) // step) * step)
        return left, top, right - left, bottom - top

    def find(self, pixels: Pixels) -> list[Region]:
        """Regions inside the frame, best first.

        Args:
            pixels: (H, W, 3) uint8.

        Raises:
            ImageError: If the pixels are anything else, or the frame is too small for the part.
            EngineError: As of the finder.
        """
        height, width = check_form(pixels).shape[:2]
        return self._finder.find_in(pixels, self.looked_at(width, height))
