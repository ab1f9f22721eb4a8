"""A classifier as a TensorRT plan, built on this device by `firewall export tensorrt`."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.bundle.onnx_bytes import Precision
from firewall.engines.device_batch import DeviceBatch
from firewall.engines.device_memory import Backend, DeviceMemory, open_device
from firewall.engines.plan_cache import Plan, PlanCache, Target, precision_named
from firewall.engines.preparation import check_images, scale_and_shift
from firewall.engines.tensorrt_library import Journal, deserialize, open_tensorrt
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
    """

    def __init__(self, bundle: Bundle, plan: Plan, memory: DeviceMemory) -> None:
        """Load a plan and run it once.

        Args:
            bundle: A verified bundle.
            plan: From a PlanCache, or just built; it must be of this bundle's classifier, this GPU and this TensorRT.
            memory: The GPU, and the stream that everything is queued on.
        """
        spec = bundle.manifest.classifier
        library = open_tensorrt()
        self.memory = memory
        self.plan = plan
        # Whoever starts it reads this: whether the thresholds hold for another precision, `export verify` tells.
        other = "" if plan.key.precision == spec.precision else f", thresholds set for {spec.precision}"
        self.provider = f"TensorRT {library.__version__} {plan.key.precision}{other}"
        self._what = f"the {plan.key.precision} TensorRT plan of {spec.file}"
        self._check_key(bundle, plan, str(library.__version__))
        self._input, self._output = spec.input.name, spec.output
        self._shape = (3, spec.input.height, spec.input.width)
        self._classes = len(spec.labels)
        self.most = plan.key.profile.most
        self._preparation = spec.input
        self._scale, self._shift = scale_and_shift(spec.input)
        memory.activate()
        self._journal = Journal(library)
        # The runtime has to outlive its engine, and the engine its context.
        self._runtime, self._engine = deserialize(library, self._journal, plan.content, self._what)
        self._check_tensors(library)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"{self._what} gets no memory to run in ({self._journal.told()}); free some, or build it "
                "with a smaller --max-batch"
            )
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
        library = open_tensorrt()
        memory = open_device(device_id, backend=backend)
        try:
            target = _target(bundle, str(library.__version__), memory)
            plan = PlanCache(folder).find(target, precision or precision_named())
            return cls(bundle, plan, memory)
        except BaseException:
            memory.close()
            raise

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
        del self._context, self._engine, self._runtime
        self.memory.close()

    def _execute(self, address: int, count: int) -> npt.NDArray[np.float32]:
        context = self._context
        self.batch.blank(count)
        queued = (
            context.set_input_shape(self._input, (count, *self._shape))
            and context.set_tensor_address(self._input, address)
            and context.set_tensor_address(self._output, self.batch.logits_address)
            and context.execute_async_v3(self.memory.stream)
        )
        if not queued:
            raise EngineError(f"{self._what} failed on {count} images: {self._journal.told()}")
        return self.batch.fetch(count)

    def _check_key(self, bundle: Bundle, plan: Plan, version: str) -> None:
        there, here = plan.key.target, _target(bundle, version, self.memory)
        wrong = [field.name for field in fields(Target) if getattr(there, field.name) != getattr(here, field.name)]
        if wrong:
            told = ", ".join(f"{name} {getattr(there, name)!r} instead of {getattr(here, name)!r}" for name in wrong)
            raise EngineError(
                f"{self._what} was built for {told}; it is not loaded: build it with 'firewall export tensorrt'"
            )

    def _check_tensors(self, library: Any) -> None:
        engine, profile = self._engine, self.plan.key.profile
        found = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            side = "input" if engine.get_tensor_mode(name) == library.TensorIOMode.INPUT else "output"
            kind = "float32" if engine.get_tensor_dtype(name) == library.DataType.FLOAT else "another type"
            found[name] = (side, kind, tuple(engine.get_tensor_shape(name)))
        expected = {
            self._input: ("input", "float32", (-1, *self._shape)),
            self._output: ("output", "float32", (-1, self._classes)),
        }
        if found != expected:
            raise EngineError(f"{self._what} has {found}; its bundle says {expected}")
        sizes = tuple(int(shape[0]) for shape in engine.get_tensor_profile_shape(self._input, 0))
        if sizes != (profile.least, profile.best, profile.most):
            raise EngineError(f"{self._what} takes batches of {sizes}, not those of its key")

    def _try_out(self) -> None:
        """The first runs cost most, and a plan that answers the same to everything reads the wrong memory."""
        pixels = (1, self._shape[1], self._shape[2], self._shape[0])
        noise = np.random.default_rng(0).integers(0, 256, pixels, np.uint8)
        blank, other = self.classify(np.zeros(pixels, np.uint8)), self.classify(noise)
        if np.array_equal(blank, other):
            raise EngineError(f"{self._what} gives the same logits for different images; build it again")
        self.classify(np.repeat(noise, self.most, axis=0))


def _target(bundle: Bundle, version: str, memory: DeviceMemory) -> Target:
    """The bundle's classifier on this GPU and this version of TensorRT."""
    spec = bundle.manifest.classifier
    onnx = hashlib.sha256(bundle.files[spec.file]).hexdigest()
    return Target(onnx, spec.output, version, memory.name, memory.compute_capability)
