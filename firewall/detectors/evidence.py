"""What detectors look at, and what every detector offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from firewall.detectors.draws import Drawn
from firewall.errors import EngineError
from firewall.verdict import Reason

__all__ = ["Detector", "Evidence", "Network", "Residual", "Resize"]

Logits = npt.NDArray[np.float32]
#: A trained network of a bundle: float32 (N, ...) -> float32 (N, ...), all finite. Raises EngineError otherwise.
Network = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
#: The residual image of pixels (H, W, 3) uint8 at a compression rate, int16 (H, W, 3): firewall.transforms.residual.
Residual = Callable[..., npt.NDArray[np.int16]]
#: Pixels (H, W, 3) uint8, width, height -> uint8 (height, width, 3): firewall.transforms.resize.
Resize = Callable[[npt.NDArray[np.uint8], int, int], npt.NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a detector may look at.

    Attributes:
        image: (H, W, 3) uint8 RGB at the classifier's input size.
        logits: (classes,) of that image.
        variants: Operation name -> logits (classes,) of the transformed copy; holds at least the operations that the
            detector asked for.
        residual: Makes residual images; None where no detector of the bundle wants them.
        crop: (h, w, 3) uint8 RGB, the region's own pixels before any resize. None: `image` stands in, as where images
            are kept at the classifier's size only.
        resize: The edge's resize; None where no detector of the bundle wants it.
        remarks: Detector -> a reason that it would rather have on the verdict, if that withholds. Detectors add to it.
        drawn: Detector -> the copies that a keyed sweep has drawn for it.
        answers: (file, width, height) of a network that was asked about the crop -> its logits, so that no detector
            asks for them again.
        sizes: (width, height) -> the crop at that size, so that it isn't made again. Whoever has it adds it.
    """

    image: npt.NDArray[np.uint8]
    logits: Logits
    variants: Mapping[str, Logits]
    residual: Residual | None = None
    crop: npt.NDArray[np.uint8] | None = None
    resize: Resize | None = None
    remarks: dict[str, Reason] = field(default_factory=dict)
    drawn: dict[str, Drawn] = field(default_factory=dict)
    answers: dict[tuple[str, int, int], Logits] = field(default_factory=dict)
    sizes: dict[tuple[int, int], npt.NDArray[np.uint8]] = field(default_factory=dict)

    def resized(self, width: int, height: int) -> npt.NDArray[np.uint8]:
        """The crop at another size.

        Args:
            width: In pixels.
            height: In pixels.

        Returns:
            (height, width, 3) uint8 RGB, made from the region's own pixels.

        Raises:
            EngineError: If it has another size and there is no `resize`.
        """
        found = self.sizes.get((width, height))
        if found is None:
            found = self.sizes[width, height] = self.at(self.image if self.crop is None else self.crop, width, height)
        return found

    def at(self, pixels: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
        """Pixels (h, w, 3) at another size, (height, width, 3) uint8; raises as `resized`."""
        if pixels.shape[:2] == (height, width):
            return pixels
        if self.resize is None:
            raise EngineError(f"a detector looks at {width}x{height} pixels and was given no way to resize to them")
        return self.resize(pixels, width, height)


class Detector(Protocol):
    """Evidence -> one number."""

    #: What the bundle calls it.
    name: str
    #: The transformed copies that have to be classified first; empty = the original image is enough.
    operations: Sequence[str]

    def score(self, evidence: Evidence) -> float:
        """Higher = more suspicious, always; finite."""
