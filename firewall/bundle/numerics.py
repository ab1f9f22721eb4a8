"""How far a bundle's scores move if only the arithmetic differs, and the margin that its thresholds leave for that.

On another processor, with another number of threads or on a GPU the same network adds its products in another order,
and each score moves a little. If a threshold lay exactly on the score of a benign image, that image would be withheld
there. So each threshold lies `margin` above the score that keeps the promised rate. The lab measures the margin, and
the manifest records it.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from firewall.bundle.strict import Strict

__all__ = ["FUSED", "Measurement", "Numerics"]

#: Name of a fusion's sum, beside those of the detectors.
FUSED = "fused"

Size = Annotated[float, Field(ge=0)]


class Measurement(Strict):
    """How far scores moved under other arithmetic.

    Attributes:
        variants: The other arithmetic, one line each.
        images: How many images were scored.
        largest: Score -> the largest difference from the edge's own arithmetic.
        median: Score -> the median over images of each image's largest difference.
        flips: On how many images the classifier named another class, for the image or for a copy of it.
    """

    variants: tuple[str, ...]
    images: int = Field(ge=1)
    largest: dict[str, Size]
    median: dict[str, Size] = Field(default_factory=dict)
    flips: int = Field(0, ge=0)


class Numerics(Strict):
    """The margin of a bundle's thresholds.

    Attributes:
        margin: Detector (or FUSED, the fusion's sum) -> margin in units of that score. Thresholds lie this far above
            the score that keeps the promised rate, and early exits this far below the sum that they were set at.
        measured: What the margin was derived from.
    """

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
