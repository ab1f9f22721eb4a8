"""The memory of one batch on a GPU: images in, logits out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firewall.engines.device_memory import DeviceMemory
from firewall.engines.preparation import finite

__all__ = ["DeviceBatch"]

Floats = npt.NDArray[np.float32]


class DeviceBatch:
    """Buffers for a batch, page-locked on the host and allocated on the device.

    Args:
        memory: The GPU, and the stream that copies are queued on.
        most: Images of the largest batch.
        shape: (3, H, W) of one image.
        classes: Logits of one image.
    """

    def __init__(self, memory: DeviceMemory, most: int, shape: tuple[int, int, int], classes: int) -> None:
        self.memory = memory
        #: What the GPU fetches images from, float32 (most, 3, H, W).
        self.images: Floats = memory.page_locked((most, *shape), np.float32)
        #: Where images and logits lie in device memory.
        self.images_address: int = memory.allocate(self.images.nbytes)
        self._logits: Floats = memory.page_locked((most, classes), np.float32)
        self.logits_address: int = memory.allocate(self._logits.nbytes)
        self._nothing: Floats = memory.page_locked((most, classes), np.float32)
        self._nothing[:] = np.nan

    def blank(self, count: int) -> None:
        """Fill the device's logits with NaN: what the network doesn't write is never the answer to earlier images."""
        self.memory.to_device(self.logits_address, self._nothing[:count])

    def fetch(self, count: int) -> Floats:
        """Wait for the stream and fetch the logits.

        Args:
            count: Images of the batch.

        Returns:
            Logits (count, classes); the next batch overwrites them.

        Raises:
            EngineError: If a value is not finite, so also if the network didn't write it.
        """
        logits: Floats = self._logits[:count]
        self.memory.to_host(logits, self.logits_address)
        self.memory.wait()
        return finite(logits)
