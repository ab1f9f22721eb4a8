"""The transformed copies of an image, classified: made where the network reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from firewall.bundle import InputSpec
from firewall.engines import Engine, TensorEngine
from firewall.transforms import apply_operations, apply_operations_normalised

__all__ = ["Copies"]

#: Times a stage by its name.
Timed = Callable[[str], AbstractContextManager[None]]


class Copies:
    """What `engine` says of an image's copies. input: how the engine's network wants its pixels.

    Into a TensorEngine's memory the sweep writes the very numbers that the network reads; other engines are handed
    pixels. The logits are the same, bit for bit, on the same device.
    """

    def __init__(self, engine: Engine, input: InputSpec) -> None:  # noqa: A002 - what the manifest calls it
        self._engine = engine
        self._direct = engine if isinstance(engine, TensorEngine) else None
        self._mean, self._std = input.mean, input.std

    def classify(
        self, image: npt.NDArray[np.uint8], operations: Sequence[str], timed: Timed
    ) -> npt.NDArray[np.float32]:
        """Logits (len(operations), classes). image: (H, W, 3) uint8 at the network's input size.

        Raises EngineError if the network fails, UsageError for an unknown operation.
        """
        engine = self._direct
        if engine is None:
            with timed("sweep"):
                pixels = apply_operations(image, operations)
            with timed("classify"):
                return self._engine.classify(pixels)
        with timed("sweep"):
            tensor = engine.tensor(len(operations))
            apply_operations_normalised(image, operations, self._mean, self._std, out=tensor)
        with timed("classify"):
            return engine.run(len(operations))
