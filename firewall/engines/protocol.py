"""What every engine offers: one network on one device."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Engine"]


class Engine(Protocol):
    """A classifier, loaded and warm."""

    #: What runs it, for doctor, bench and metrics, such as "CPUExecutionProvider".
    provider: str

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits (N, classes), all finite, of uint8 images (N, H, W, 3) in RGB at the network's input size.

        Raises EngineError if the network fails or gives anything else.
        """
