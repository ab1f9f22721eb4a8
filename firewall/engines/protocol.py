"""What every engine offers: one network on one device."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from firewall.engines.device_memory import DeviceMemory

__all__ = ["DeviceEngine", "Engine", "TensorEngine"]


class Engine(Protocol):
    """A classifier, loaded and warm."""

    #: What runs it, for doctor, bench and metrics, such as "CPUExecutionProvider".
    provider: str

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits (N, classes), all finite, of uint8 images (N, H, W, 3) in RGB at the network's input size.

        Raises:
            EngineError: If the network fails or gives anything else.
        """


@runtime_checkable
class TensorEngine(Engine, Protocol):
    """An engine whose input may be written in place, so that nothing has to be converted or copied for it."""

    def tensor(self, count: int) -> npt.NDArray[np.float32]:
        """The memory that the network reads for a batch of `count` images: float32 (count, 3, H, W), to be filled with
        (value / 255 - mean) / std. Ask again for each batch: a larger one may move it."""

    def run(self, count: int) -> npt.NDArray[np.float32]:
        """Logits (count, classes) of what has been written to `tensor(count)`; else as `classify`."""


@runtime_checkable
class DeviceEngine(Engine, Protocol):
    """An engine on a GPU that reads images where they lie in its memory."""

    #: The GPU, and the stream that the engine and whoever makes the images queue on.
    memory: DeviceMemory
    #: Images that one call takes.
    most: int

    def classify_at(self, address: int, count: int) -> npt.NDArray[np.float32]:
        """Logits (count, classes) of images in device memory: float32 (count, 3, H, W), (value / 255 - mean) / std,
        written by work queued on `memory.stream`.

        Args:
            address: Where the images lie in device memory.
            count: 1 to `most`. Else as `classify`.
        """
