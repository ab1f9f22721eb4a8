"""The transformed copies of an image, classified: made where the network reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firewall import native
from firewall.bundle import InputSpec
from firewall.engines import DeviceEngine, Engine, TensorEngine
from firewall.errors import FirewallError
from firewall.sweep.device_copies import DeviceCopies, Timed
from firewall.transforms import apply_operations, apply_operations_normalised

__all__ = ["Copies", "open_copies"]


def open_copies(engine: Engine, input: InputSpec, operations: Sequence[str]) -> Copies | DeviceCopies:  # noqa: A002
    """Choose where the copies of an image are made: on the GPU if the engine reads device memory and the native runtime
    can use the GPU, otherwise on the processor.

    Args:
        engine: The classifier on its device.
        input: Size and preparation of the network's input.
        operations: Every operation that will be asked for. On the GPU they are prepared and compared with the
            processor's.

    Returns:
        What makes the copies and classifies them.

    Raises:
        EngineError: If GPU and processor don't agree.
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
    """Makes the copies of an image on the processor and classifies them.

    If the engine is a TensorEngine, the sweep writes the numbers that the network reads directly into its memory; other
    engines get pixels. The logits are the same, bit for bit, on the same device.

    Args:
        engine: The classifier on its device.
        input: Size and preparation of the network's input.
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
        """Make the copies of one image and classify them.

        Args:
            image: (H, W, 3) uint8 at the network's input size.
            operations: Names of the operations, such as `jpeg:75`.
            timed: Measures a named stage.

        Returns:
            Logits (len(operations), classes).

        Raises:
            EngineError: If the network fails.
            UsageError: If an operation is unknown.
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
