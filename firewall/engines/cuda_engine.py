"""A classifier on ONNX Runtime's CUDA provider that reads device memory, on a stream that others queue on too.

What this file says of CUDA graphs and streams follows ONNX Runtime's documentation; `make gpu-check` is what tries it
on a GPU.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.engines.device_batch import DeviceBatch
from firewall.engines.device_memory import DeviceMemory
from firewall.engines.preparation import check_images, scale_and_shift
from firewall.engines.sessions import CUDA, LARGEST_BATCH, check_names, open_session
from firewall.errors import EngineError
from firewall.host.causes import told
from firewall.host.onnxruntime import ort

__all__ = ["CudaEngine"]

#: Sizes of batch that get a graph of their own; the others are queued kernel by kernel.
_MOST_GRAPHS = 16


class CudaEngine:
    """The classifier of a bundle on a GPU; every node runs there, or EngineError says why not. A DeviceEngine.

    Args:
        bundle: A verified bundle.
        memory: The GPU, and the stream that everything is queued on.
        graphs: Record the kernels of each size of batch once and replay them, which saves the time of queueing them one
            by one. A replay reads the addresses that were recorded: so only device memory is ever bound, never an array
            of the host, which a replay would not read again.
    """

    def __init__(self, bundle: Bundle, memory: DeviceMemory, *, graphs: bool = True) -> None:
        spec = bundle.manifest.classifier
        self.memory = memory
        self.most = LARGEST_BATCH
        self._spec = spec
        self._shape = (3, spec.input.height, spec.input.width)
        self._classes = len(spec.labels)
        self._scale, self._shift = scale_and_shift(spec.input)
        self._what = f"{spec.file} of bundle {bundle.path}"
        memory.activate()
        self._session = open_session(
            bundle.files[spec.file],
            self._what,
            device="cuda",
            cuda={
                "user_compute_stream": str(memory.stream),
                "has_user_compute_stream": "1",
                "enable_cuda_graph": "1" if graphs else "0",
            },
        )
        self.provider = CUDA
        check_names(self._session, spec)
        self.batch = DeviceBatch(memory, self.most, self._shape, self._classes)
        self._runs: dict[tuple[int, int], tuple[ort.IOBinding, ort.RunOptions]] = {}
        self._graphs = _MOST_GRAPHS if graphs else 0
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
        try:
            self._session.run_with_iobinding(*self._run_of(address, count))
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"the classifier failed: {told(error)}") from error
        answer: npt.NDArray[np.float32] = self.batch.fetch(count).copy()
        return answer

    def close(self) -> None:
        """Free the GPU's memory; the engine can't be used after."""
        self._runs.clear()
        del self._session
        self.memory.close()

    def _run_of(self, address: int, count: int) -> tuple[ort.IOBinding, ort.RunOptions]:
        """Where a batch of this size at this address is read and its logits are written; made once."""
        run = self._runs.get((address, count))
        if run is None:
            binding = self._session.io_binding()
            binding.bind_input(self._spec.input.name, "cuda", 0, np.float32, (count, *self._shape), address)
            logits = self.batch.logits_address
            binding.bind_output(self._spec.output, "cuda", 0, np.float32, (count, self._classes), logits)
            options = ort.RunOptions()
            # The stream is ours, and is waited for once the logits are on their way to the host.
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
            graph = len(self._runs) + 1
            options.add_run_config_entry("gpu_graph_id", str(graph if graph <= self._graphs else -1))
            run = self._runs[address, count] = (binding, options)
        return run

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
