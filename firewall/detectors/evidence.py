"""What detectors look at, and what every detector offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Detector", "Evidence", "Network", "Residual"]

Logits = npt.NDArray[np.float32]
#: A trained network of a bundle: float32 (N, ...) -> float32 (N, ...), all finite. Raises EngineError otherwise.
Network = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
#: The residual image of pixels (H, W, 3) uint8 at a compression rate, int16 (H, W, 3): firewall.transforms.residual.
Residual = Callable[..., npt.NDArray[np.int16]]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a detector may look at.

    Attributes:
        image: (H, W, 3) uint8 RGB at the classifier's input size.
        logits: (classes,) of that image.
        variants: Operation name -> logits (classes,) of the transformed copy; holds at least the operations that the
            detector asked for.
        residual: Makes residual images; None where no detector of the bundle wants them.
    """

    image: npt.NDArray[np.uint8]
    logits: Logits
    variants: Mapping[str, Logits]
    residual: Residual | None = None


class Detector(Protocol):
    """Evidence -> one number."""

    #: What the bundle calls it.
    name: str
    #: The transformed copies that have to be classified first; empty = the original image is enough.
    operations: Sequence[str]

    def score(self, evidence: Evidence) -> float:
        """Higher = more suspicious, always; finite."""
