"""What a keyed sweep may draw, and what comes of it. How it is drawn: firewall.sweep.keyed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from firewall.bundle.strict import Strict

__all__ = ["DrawSpec", "Drawn"]


class DrawSpec(Strict):
    """The range that each copy of an image is drawn from: one operation, then a shift and a mask.

    Attributes:
        copies: Copies of an image.
        quality: JPEG qualities, lowest and highest, 1 to 100. None: no JPEG.
        angle: Rotation by up to so many degrees, either way. 0: none.
        factor: Scale factors, smallest and largest; what grows is cut to the image's size. None: no scaling.
        shift: Shift by up to so much of a side, in both directions; the border's pixels repeat. 0: none.
        mask: A grey rectangle of up to this share of the area. 0: none.
    """

    copies: int = Field(4, ge=1, le=64)
    quality: tuple[int, int] | None = (40, 95)
    angle: float = Field(6.0, ge=0, le=45)
    factor: tuple[float, float] | None = (0.8, 1.25)
    shift: float = Field(0.06, ge=0, le=0.25)
    mask: float = Field(0.04, ge=0, le=0.25)

    @model_validator(mode="after")
    def _in_range(self) -> DrawSpec:
        if self.quality is not None and not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise ValueError(f"quality goes from a lower to a higher one within 1 to 100, got {self.quality}")
        if self.factor is not None and not 0.5 <= self.factor[0] <= self.factor[1] <= 2:
            raise ValueError(f"factor goes from a smaller to a larger one within 0.5 to 2, got {self.factor}")
        if self.quality is None and self.factor is None and self.angle == 0:
            raise ValueError("nothing is drawn: give quality, angle or factor")
        return self


@dataclass(frozen=True, slots=True)
class Drawn:
    """The copies of one image.

    Attributes:
        nonce: 16 bytes; with the key they say which copies these are.
        pixels: uint8 (copies, H, W, 3).
        logits: Of the classifier, float32 (copies, classes).
    """

    nonce: bytes
    pixels: npt.NDArray[np.uint8]
    logits: npt.NDArray[np.float32]
