"""The part of a camera's frames in which regions are looked for: `--within X,Y,W,H`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

from firewall.config.texts import Text, numbers
from firewall.errors import ImageError, UsageError
from firewall.frame import MAX_SIDE, Region

__all__ = ["SMALLEST_PART", "Part", "Within"]

#: The shorter side that a part has at least, in pixels: the smallest frame that the default bundle's finder reads.
SMALLEST_PART = 32
#: Written shares are rounded: an edge this near to a pixel's is the pixel's.
_NEAR = 0.01
_ALLOWED = (
    f"X,Y,W,H in pixels, W and H at least {SMALLEST_PART}, or in shares of the frame from 0 to 1, such as 0,0.12,1,0.72"
)
_NUMBER = re.compile(r"[-+]?([0-9]{1,9}(\.[0-9]{0,12})?|\.[0-9]{1,12})(e[-+]?[0-9]{1,2})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of every frame of a camera.

    Attributes:
        x: Left edge.
        y: Upper edge.
        width: Its width.
        height: Its height.
        shares: All of them are shares of the frame's sides, 0..1; else whole pixels.
    """

    x: float
    y: float
    width: float
    height: float
    shares: bool

    @classmethod
    def parse(cls, text: str) -> Part:
        """What a text names. Shares if no number is above 1, else pixels: no part of one pixel is looked at anyway.

        Args:
            text: X,Y,W,H.

        Raises:
            UsageError: It isn't four numbers, is empty, too small, or lies outside of every frame; one line.
        """
        said = text.strip()
        parts = [each.strip() for each in said.split(",")]

        def refused(why: str) -> UsageError:
            return UsageError(f"within {text[:80]!r}: {why}; give {_ALLOWED}")

        if len(parts) != 4 or not all(_NUMBER.fullmatch(each) for each in parts):
            raise refused("these are not four numbers that are finite")
        x, y, width, height = values = [float(each) for each in parts]
        if min(x, y) < 0:
            raise refused("it begins outside of the frame")
        if min(width, height) <= 0:
            raise refused("it is empty")
        if max(values) <= 1:
            if max(x + width, y + height) > 1 + 1e-9:
                raise refused("it ends outside of the frame: X + W and Y + H are 1 at most")
            if MAX_SIDE * min(width, height) < SMALLEST_PART:
                raise refused(f"it has less than {SMALLEST_PART} pixels in frames of any size")
            return cls(x, y, width, height, True)
        if not all(value.is_integer() for value in values):
            raise refused("pixels are whole numbers, and shares are 1 at most")
        if min(width, height) < SMALLEST_PART:
            raise refused("it is smaller than the smallest frame that can be looked at")
        if max(x + width, y + height) > MAX_SIDE:
            raise refused(f"it ends outside of every frame, whose sides are {MAX_SIDE} pixels at most")
        return cls(x, y, width, height, False)

    @classmethod
    def named(cls, text: str) -> Part | None:
        """As `parse`; None for "off", "no", "none" or "false": all of the frame."""
        return None if text.strip().lower() in ("off", "no", "none", "false") else cls.parse(text)

    def region(self, width: int, height: int) -> Region:
        """Where it lies in a frame of that size, in whole pixels; shares are rounded so that nothing of them is lost.

        Raises:
            ImageError: The frame is too small for it: one that is cut off would be another part than was meant.
        """
        left, top, right, bottom = self.x, self.y, self.x + self.width, self.y + self.height
        if self.shares:
            left, top = math.floor(left * width + _NEAR), math.floor(top * height + _NEAR)
            right, bottom = (
                min(math.ceil(share * side - _NEAR), side) for share, side in ((right, width), (bottom, height))
            )
            if min(right - left, bottom - top) < SMALLEST_PART:
                raise ImageError(
                    f"within {self} a frame of {width}x{height} has {right - left}x{bottom - top} pixels to look at; "
                    f"{SMALLEST_PART} along each side are needed: give a larger part"
                )
        elif right > width or bottom > height:
            raise ImageError(
                f"the part {self} does not lie within a frame of {width}x{height}; give it for frames of this size, "
                "or in shares of 0 to 1"
            )
        return int(left), int(top), int(right - left), int(bottom - top)

    def line(self) -> str:
        """How much of each frame it is, for people."""
        if self.shares:
            return f"looked at within {self} ({100 * self.width * self.height:.3g} % of each frame)"
        return f"looked at within {self} (pixels of each frame)"

    def __str__(self) -> str:
        return ",".join(f"{value:.9g}" for value in (self.x, self.y, self.width, self.height))


def _checked(text: str) -> str:
    try:
        return str(Part.named(text) or "off")
    except UsageError as error:
        raise ValueError(str(error)) from error


#: The setting: a part as text, or "off".
Within = Annotated[Text, BeforeValidator(numbers), AfterValidator(_checked)]
