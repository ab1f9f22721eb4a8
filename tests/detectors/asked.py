"""A network for the tests of detectors that ask one, and an image to ask about."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)


class Asked:
    """A network that keeps what it is asked and gives what it is told to."""

    def __init__(self, *outputs: float) -> None:
        self.outputs = np.array([outputs], np.float32)
        self.values = np.zeros(0, np.float32)

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self.values = values
        return self.outputs
