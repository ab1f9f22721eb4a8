"""A classifier as a TensorRT plan, built on this device by `firewall export tensorrt`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, ClassifierSpec
from firewall.bundle.onnx_bytes import Precision
from firewall.engines.device_batch import DeviceBatch
from firewall.engines.device_memory import Backend, DeviceMemory
from firewall.engines.loaded_plan import LoadedPlan, Tensors, kept_plan, target_of
from firewall.engines.plan_cache import Plan
from firewall.engines.plan_graphs import MOST_GRAPHS, Run
from firewall.engines.preparation import check_images, scale_and_shift
from firewall.engines.tensorrt_library import open_tensorrt
from firewall.errors import EngineError

__all__ = ["TensorRTEngine"]


class TensorRTEngine:
    """The classifier of a bundle on TensorRT; use `from_cache` to open it. A TensorEngine and a DeviceEngine.

    Batches larger than the plan's largest are run in parts.

    Args:
        bundle: A verified bundle.
        plan: The built engine, see PlanCache.
        memory: The GPU, and the stream that everything is queued on; whoever fills device memory for `classify_at`
            queues on the same.

    Attributes:
        graphs: Which of its runs are CUDA graphs.
    """

    #: What the bundle's other networks are opened on, see firewall.engines.networks.
    device = "tensorrt"

    def __init__(
        self,
        bundle: Bundle,
        plan: Plan,
        memory: DeviceMemory,
        *,
        spec: ClassifierSpec | None = None,
        graphs: int = MOST_GRAPHS,
    ) -> None:
        """Load a plan and run it once.

        Args:
            bundle: A verified bundle.
            plan: From a PlanCache, or just built; it must be of this bundle's classifier, this GPU and this TensorRT.
            memory: The GPU, and the stream that everything is queued on.
            spec: Another classifier of the bundle; None: the one that it protects.
            graphs: Sizes of batch that get a CUDA graph of their own, at most.
        """
        spec = bundle.manifest.classifier if spec is None else spec
        library = open_tensorrt()
        self.memory = memory
        self.plan = plan
        #: Where the plans of the bundle's other networks lie; None = `plan_folder()`.
        self.folder: Path | None = None
        # Whoever starts it reads this: whether the thresholds hold for another precision, `export verify` tells.
        other = "" if plan.key.precision == spec.precision else f", thresholds set for {spec.precision}"
        self.provider = f"TensorRT {library.__version__} {plan.key.precision}{other}"
        self._shape = (3, spec.input.height, spec.input.width)
        self._classes = len(spec.labels)
        tensors = Tensors(spec.input.name, (-1, *self._shape), spec.output, (-1, self._classes))
        target = target_of(bundle.files[spec.file], spec.output, str(library.__version__), memory)
        self._loaded = LoadedPlan(plan, target, tensors, memory, file=spec.file, graphs=graphs)
        self.graphs = self._loaded.graphs
        self._what = self._loaded.what
        self.most = plan.key.profile.most
        self._preparation = spec.input
        self._scale, self._shift = scale_and_shift(spec.input)
        self.batch = DeviceBatch(memory, self.most, self._shape, self._classes)
        self._try_out()

    @classmethod
    def from_cache(
        cls,
        bundle: Bundle,
        *,
        precision: Precision | None = None,
        folder: Path | None = None,
        device_id: int = 0,
        backend: Backend | None = None,
    ) -> TensorRTEngine:
        """Load the plan that was built for this bundle's classifier on this GPU, and run it once.

        Args:
            bundle: A verified bundle.
            precision: Precision of the plan; None = FIREWALL_PRECISION, or the only one for which there is a plan.
            folder: Folder of the plans; None = `plan_folder()`.
            device_id: Number of the GPU, as CUDA counts.
            backend: Package for its memory, see DeviceMemory.

        Raises:
            EngineError: If there is no such plan. Nothing is built here, and no other device or precision is used.
            MissingExtraError: If TensorRT or the package for the GPU's memory isn't installed.
        """
        spec = bundle.manifest.classifier
        content = bundle.files[spec.file]
        with kept_plan(
            content, spec.output, precision=precision, folder=folder, device_id=device_id, backend=backend
        ) as (plan, memory):
            engine = cls(bundle, plan, memory)
            engine.folder = folder
            return engine

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits (N, classes) of uint8 images (N, H, W, 3); see Engine.classify."""
        check_images(images, self._preparation)
        prepared = self.tensor(len(images))
        np.multiply(images.transpose(0, 3, 1, 2), self._scale, out=prepared)
        np.add(prepared, self._shift, out=prepared)
        return self.run(len(images))

    def tensor(self, count: int) -> npt.NDArray[np.float32]:
        """Page-locked memory that the GPU fetches `count` images from, (count, 3, H, W); see TensorEngine.tensor."""
        if count > len(self.batch.images):
            self.memory.activate()
            self.batch.images = self.memory.page_locked((count, *self._shape), np.float32)
        images: npt.NDArray[np.float32] = self.batch.images[:count]
        return images

    def run(self, count: int) -> npt.NDArray[np.float32]:
        """Logits (count, classes) of what `tensor(count)` holds; see TensorEngine.run."""
        images, logits = self.tensor(count), np.empty((count, self._classes), np.float32)
        self.memory.activate()
        for start in range(0, count, self.most):
            part = images[start : start + self.most]
            self.memory.to_device(self.batch.images_address, part)
            logits[start : start + len(part)] = self._execute(self.batch.images_address, len(part))
        return logits

    def classify_at(self, address: int, count: int) -> npt.NDArray[np.float32]:
        """Logits (count, classes) of images that lie on the device: float32 (count, 3, H, W), prepared as the manifest
        says, written by work on `memory.stream`.

        Args:
            address: Where the images lie in device memory.
            count: 1 to the plan's largest batch.

        Raises:
            EngineError: If the count is out of range, or the GPU fails.
        """
        if not 1 <= count <= self.most:
            raise EngineError(f"{self._what} takes 1 to {self.most} images at a time, got {count}")
        self.memory.activate()
        return np.array(self._execute(address, count), np.float32)

    def close(self) -> None:
        """Free the GPU's memory; the engine can't be used after."""
        self._loaded.close()
        self.memory.close()

    def _execute(self, address: int, count: int) -> npt.NDArray[np.float32]:
        self.batch.blank(count)
        self._loaded.execute(Run((count, *self._shape), (count, self._classes), address, self.batch.logits_address))
        return self.batch.fetch(count)

    def _try_out(self) -> None:
        """The first runs cost most, and a plan that answers the same to everything reads the wrong memory."""
        pixels = (1, self._shape[1], self._shape[2], self._shape[0])
        noise = np.random.default_rng(0).integers(0, 256, pixels, np.uint8)
        blank, other = self.classify(np.zeros(pixels, np.uint8)), self.classify(noise)
        if np.array_equal(blank, other):
            raise EngineError(f"{self._what} gives the same logits for different images; build it again")
        self.classify(np.repeat(noise, self.most, axis=0))
