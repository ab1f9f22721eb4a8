"""A classifier on ONNX Runtime's CUDA provider that reads device memory, on a stream that others queue on too."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, ClassifierSpec
from firewall.engines.cuda_session import CudaSession
from firewall.engines.device_batch import DeviceBatch
from firewall.engines.device_memory import DeviceMemory
from firewall.engines.preparation import check_images, scale_and_shift
from firewall.engines.sessions import CUDA, LARGEST_BATCH, check_names
from firewall.errors import EngineError

__all__ = ["CudaEngine"]


class CudaEngine:
    """The classifier of a bundle on a GPU; every node runs there, or EngineError says why not. A DeviceEngine.

    Args:
        bundle: A verified bundle.
        memory: The GPU, and the stream that everything is queued on.
        spec: Another classifier of the bundle; None: the one that it protects.
        graphs: Replay recorded kernels, see CudaSession.
    """

    #: What the bundle's other networks are opened on, see firewall.engines.networks.
    device = "cuda"

    def __init__(
        self, bundle: Bundle, memory: DeviceMemory, *, spec: ClassifierSpec | None = None, graphs: bool = True
    ) -> None:
        spec = bundle.manifest.classifier if spec is None else spec
        self.memory = memory
        self.most = LARGEST_BATCH
        self._spec = spec
        self._shape = (3, spec.input.height, spec.input.width)
        self._classes = len(spec.labels)
        self._scale, self._shift = scale_and_shift(spec.input)
        self._what = f"{spec.file} of bundle {bundle.path}"
        self._network = CudaSession(bundle.files[spec.file], self._what, memory, graphs=graphs)
        self.provider = CUDA
        check_names(self._network.session, spec)
        self.batch = DeviceBatch(memory, self.most, self._shape, self._classes)
        self._try_out()

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits (N, classes) of uint8 images (N, H, W, 3); see Engine.classify."""
        check_images(images, self._spec.input)
        logits = np.empty((len(images), self._classes), np.float32)
        self.memory.activate()
        for start in range(0, len(images), self.most):
            part = images[start : start + self.most]
            prepared = self.batch.images[: len(part)]
            np.multiply(part.transpose(0, 3, 1, 2), self._scale, out=prepared)
            np.add(prepared, self._shift, out=prepared)
            self.memory.to_device(self.batch.images_address, prepared)
            logits[start : start + len(part)] = self.classify_at(self.batch.images_address, len(part))
        return logits

    def classify_at(self, address: int, count: int) -> npt.NDArray[np.float32]:
        """Logits (count, classes) of images that lie on the device; see DeviceEngine.classify_at."""
        if not 1 <= count <= self.most:
            raise EngineError(f"{self._what} takes 1 to {self.most} images at a time, got {count}")
        self.memory.activate()
        self.batch.blank(count)
        names = (self._spec.input.name, self._spec.output)
        given = (count, self._classes)
        self._network.execute(names, (count, *self._shape), given, address, self.batch.logits_address)
        answer: npt.NDArray[np.float32] = self.batch.fetch(count).copy()
        return answer

    def close(self) -> None:
        """Free the GPU's memory; the engine can't be used after."""
        self._network.close()
        self.memory.close()

    def _try_out(self) -> None:
        """Two different images, in turns, three times each: recorded, and replayed. A replay that reads anything but
        what lies at the bound address gives one of them the other's logits."""
        pixels = (1, *self._shape[1:], self._shape[0])
        noise = np.random.default_rng(0).integers(0, 256, pixels, np.uint8)
        answers = [[self.classify(image) for image in (np.zeros(pixels, np.uint8), noise)] for _ in range(3)]
        first, second = answers[0]
        if np.array_equal(first, second):
            raise EngineError(f"{self._what} gives the same logits for different images on the GPU; it is not used")
        for again, other in answers[1:]:
            if not (
                np.allclose(again, first, rtol=1e-3, atol=1e-3) and np.allclose(other, second, rtol=1e-3, atol=1e-3)
            ):
                raise EngineError(f"{self._what} gives other logits when it is run again on the GPU; it is not used")
