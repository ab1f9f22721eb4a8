"""One region for every frame: all of it, or a box that the user names."""

from __future__ import annotations

from collections.abc import Mapping

from firewall.errors import ImageError, UsageError
from firewall.frame import Pixels, Region

__all__ = ["Box", "WholeFrame"]


class WholeFrame:
    """The frame is the crop of a sign already."""

    networks: Mapping[str, str] = {}

    def find(self, pixels: Pixels) -> list[Region]:
        """The one region that is the frame.

        Args:
            pixels: (H, W, 3) uint8.
        """
        height, width = pixels.shape[:2]
        return [(0, 0, width, height)]


class Box:
    """A fixed box, for a camera that always has the sign in the same place."""

    networks: Mapping[str, str] = {}

    def __init__(self, region: Region) -> None:
        """Take a box.

        Args:
            region: x, y, width, height in pixels; x and y at least 0, the sides at least 1.

        Raises:
            UsageError: If it is empty, or begins outside every frame.
        """
        x, y, width, height = region
        if x < 0 or y < 0 or width < 1 or height < 1:
            raise UsageError(
                f"the box {x},{y},{width},{height} is empty or starts outside the frame; "
                "give X,Y,W,H in pixels with X and Y at least 0, W and H at least 1"
            )
        self.region = region

    def find(self, pixels: Pixels) -> list[Region]:
        """The box.

        Args:
            pixels: (H, W, 3) uint8.

        Raises:
            ImageError: If the box doesn't lie within the frame: a box that is cut off would show the classifier
                something else than what the user meant.
        """
        x, y, width, height = self.region
        frame_height, frame_width = pixels.shape[:2]
        if x + width > frame_width or y + height > frame_height:
            raise ImageError(
                f"the box {x},{y},{width},{height} does not lie within a frame of {frame_width}x{frame_height}; "
                "choose a box inside the frame or --regions signs"
            )
        return [self.region]
