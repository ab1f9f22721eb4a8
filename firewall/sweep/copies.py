"""The transformed copies of an image, classified: made where the network reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from firewall import native
from firewall.bundle import InputSpec
from firewall.engines import DeviceEngine, Engine, TensorEngine
from firewall.errors import FirewallError
from firewall.sweep.device_copies import DeviceCopies
from firewall.transforms import apply_operations, apply_operations_normalised

__all__ = ["Copies", "open_copies"]

#: Times a stage by its name.
Timed = Callable[[str], AbstractContextManager[None]]


def open_copies(engine: Engine, input: InputSpec, operations: Sequence[str]) -> Copies | DeviceCopies:  # noqa: A002
    """Copies where `engine` reads them: on the GPU if it reads device memory and the native runtime can use the GPU.

    Args:
        engine: The classifier on its device.
        input: Size and preparation of the network's input.
        operations: All that will be asked for; on the GPU they are prepared, and proven to give what the processor
            gives.

    Raises:
        EngineError: If they don't.
    """
    if not isinstance(engine, DeviceEngine) or not _cuda_usable():
        return Copies(engine, input)
    copies = DeviceCopies(engine, input)
    copies.prove(operations)
    return copies


def _cuda_usable() -> bool:
    try:
        return native.cuda().usable
    except FirewallError:  # no native runtime at all
        return False


class Copies:
    """What `engine` says of an image's copies.

    Into a TensorEngine's memory the sweep writes the very numbers that the network reads; other engines are handed
    pixels. The logits are the same, bit for bit, on the same device.

    Args:
        engine: The classifier on its device.
        input: How the engine's network wants its pixels.
    """

    #: Where the copies are made, for bench and logs.
    where = "processor"

    def __init__(self, engine: Engine, input: InputSpec) -> None:  # noqa: A002 - what the manifest calls it
        self._engine = engine
        self._direct = engine if isinstance(engine, TensorEngine) else None
        self._mean, self._std = input.mean, input.std

    def classify(
        self, image: npt.NDArray[np.uint8], operations: Sequence[str], timed: Timed
    ) -> npt.NDArray[np.float32]:
        """Logits (len(operations), classes).

        Args:
            image: (H, W, 3) uint8 at the network's input size.
            operations: Names of the operations, such as `jpeg:75`.
            timed: Measures a named stage.

        Raises:
            EngineError: If the network fails.
            UsageError: For an unknown operation.
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
