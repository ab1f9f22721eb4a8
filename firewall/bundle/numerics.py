"""How far a bundle's scores move where nothing but the arithmetic differs, and what its thresholds leave for that.

The same network adds its products up in another order on another processor, with another number of threads or a GPU's
kernels, and each score moves by a little. A threshold that lies exactly on a normal image's score would withhold that
image there. So each threshold lies `margin` above the score that keeps the promised rate (`numerics` of the
lab measures it), and the manifest says so.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FUSED", "Measurement", "Numerics"]

#: Name of a fusion's sum, beside those of the detectors.
FUSED = "fused"

Size = Annotated[float, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measurement(_Strict):
    """variants: the arithmetic that images were scored with again, one line each. images: how many. largest: by score,
    the largest difference from the edge's own; median: of each image's largest. flips: on how many images the
    classifier named another class for the image or a copy of it."""

    variants: tuple[str, ...]
    images: int = Field(ge=1)
    largest: dict[str, Size]
    median: dict[str, Size] = {}
    flips: int = Field(0, ge=0)


class Numerics(_Strict):
    """margin: by detector, and FUSED for a fusion's sum, in units of that score: its limits lie so far above the score
    that keeps the promised rate, and early releases so far below the sum that they were set at. measured: what the
    margin rests on."""

    margin: dict[str, Size]
    measured: Measurement

    def line(self) -> str:
        """One line for people."""
        margins = ", ".join(f"{name} {value:.2g}" for name, value in self.margin.items())
        found = self.measured
        return (
            f"{margins}; {found.images} images scored with {len(found.variants)} other kinds of arithmetic, "
            f"the class changed on {found.flips}"
        )
