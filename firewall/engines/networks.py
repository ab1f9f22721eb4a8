"""The other networks of a bundle, opened by their files where its classifier runs: the one door for all of them.

What runs where is never guessed and never changed in silence: a network that the device can't run is an error that says
what to do. One kind alone is left on the processor on purpose, and `provider` says so: networks of classical machine
learning (trees, support vectors), which no GPU runtime has code for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, ClassifierSpec
from firewall.bundle.manifest import network_files
from firewall.bundle.onnx_bytes import Precision, is_classical
from firewall.engines.device_memory import DeviceMemory
from firewall.engines.onnx_runtime import OnnxRuntimeEngine, OnnxRuntimeNetwork
from firewall.engines.plan_cache import Plan, PlanCache, precision_named
from firewall.engines.protocol import DeviceEngine, Engine
from firewall.engines.sessions import CPU
from firewall.errors import EngineError

__all__ = ["Network", "Networks", "detector_files", "on_processor", "plan_beside", "what_runs"]


class Network(Protocol):
    """A detector's network, loaded."""

    #: What runs it, such as "CPUExecutionProvider".
    provider: str

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """float32 (N, ...) -> float32 (N, ...), all finite. Raises EngineError."""


class Networks:
    """The networks beside a bundle's classifier.

    On a GPU they share the classifier's memory and its one stream. An engine that doesn't say which device it is on (a
    reference, a wrapper) has them on the processor.

    Args:
        bundle: A verified bundle.
        engine: Its classifier on a device.
        threads: Threads of a further classifier on the processor; 0 = one for each core. The small networks of
            detectors take one there: waiting for other threads would cost more than one thread takes.
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, threads: int = 0) -> None:
        self._bundle, self._engine, self._threads = bundle, engine, threads
        self._device: str = getattr(engine, "device", "cpu")
        self._memory: DeviceMemory | None = engine.memory if isinstance(engine, DeviceEngine) else None
        #: File -> the network that was opened of it.
        self.opened: dict[str, Network] = {}

    def network(self, file: str) -> Network:
        """A detector's network; opened once.

        Args:
            file: Its name in the bundle.

        Raises:
            EngineError: If the device can't run it, or there is no plan of it.
            MissingExtraError: If a package for the device isn't installed.
        """
        if file not in self.opened:
            self.opened[file] = self._open(file)
        return self.opened[file]

    def classifier(self, spec: ClassifierSpec) -> Engine:
        """Another classifier of the bundle, such as the one for masked images.

        Args:
            spec: How it is read.

        Raises:
            EngineError: If the device can't run it, or there is no plan of it.
        """
        if self._memory is not None and self._device == "cuda":
            from firewall.engines.cuda_engine import CudaEngine

            return CudaEngine(self._bundle, self._memory, spec=spec)
        if self._memory is not None and self._device == "tensorrt":
            from firewall.engines.tensorrt_engine import TensorRTEngine

            plan = plan_beside(self._bundle, spec.file, spec.output, self._engine, self._memory)
            return TensorRTEngine(self._bundle, plan, self._memory, spec=spec)
        return OnnxRuntimeEngine(self._bundle, device=self._device, threads=self._threads, spec=spec)

    def _open(self, file: str) -> Network:
        content, what = self._bundle.files[file], f"{file} of bundle {self._bundle.path}"
        if self._device == "cpu" or is_classical(content, what):
            return OnnxRuntimeNetwork(content, what, threads=1)
        if self._memory is None:
            return OnnxRuntimeNetwork(content, what, device=self._device, threads=1)
        from firewall.engines.device_network import detector_tensors, network_on_cuda, network_on_tensorrt

        if self._device == "cuda":
            return network_on_cuda(content, what, self._memory)
        output = detector_tensors(content, what).output
        plan = plan_beside(self._bundle, file, output, self._engine, self._memory)
        return network_on_tensorrt(content, what, plan, self._memory)


def plan_beside(bundle: Bundle, file: str, output: str, engine: Engine, memory: DeviceMemory) -> Plan:
    """The plan of another network of a bundle, for the GPU that its classifier runs on. Of plans in several precisions
    FIREWALL_PRECISION names one; without it the classifier's own is taken.

    Args:
        bundle: A verified bundle.
        file: The network's name in it.
        output: Name of the output that counts.
        engine: The classifier, a TensorRTEngine.
        memory: Its GPU.

    Raises:
        EngineError: If there is no such plan. The message says which command builds it.
    """
    from firewall.engines.loaded_plan import target_of
    from firewall.engines.tensorrt_library import open_tensorrt

    cache = PlanCache(getattr(engine, "folder", None))
    target = target_of(bundle.files[file], output, str(open_tensorrt().__version__), memory)
    own: Precision = engine.plan.key.precision if hasattr(engine, "plan") else "fp32"
    try:
        there = {key.precision for key in cache.entries() if key.target == target}
        return cache.find(target, precision_named() or (own if own in there else None))
    except EngineError as error:
        raise EngineError(
            f"{file} of bundle {bundle.path}: {error}; 'firewall export tensorrt --bundle {bundle.path} --precision "
            f"{own}' builds a plan of every network of the bundle"
        ) from error


def detector_files(bundle: Bundle) -> list[str]:
    """Files of the detectors' networks that a GPU may run and that are no other network's too, in the manifest's order:
    all but those of classical machine learning, which run on the processor."""
    others = {network.file for network in bundle.manifest.networks}
    files = dict.fromkeys(network_files(bundle.manifest.detectors))
    return [file for file in files if file not in others and not is_classical(bundle.files[file], file)]


def what_runs(bundle: Bundle, engine: Engine, under_masks: Engine, beside: Mapping[str, Network]) -> dict[str, str]:
    """File of each network that is loaded -> what runs it.

    Args:
        bundle: A verified bundle.
        engine: Its classifier.
        under_masks: What classifies masked images, maybe the same.
        beside: The detectors' networks by file.
    """
    manifest = bundle.manifest
    found = {manifest.classifier.file: engine.provider}
    if manifest.masked_classifier is not None and under_masks is not engine:
        found[manifest.masked_classifier.file] = under_masks.provider
    return found | {file: network.provider for file, network in beside.items() if file not in found}


def on_processor(runs: Mapping[str, str], provider: str) -> str:
    """What to tell people who asked for a GPU: the networks that the processor runs all the same.

    Args:
        runs: File -> what runs it.
        provider: What runs the classifier.

    Returns:
        Such as ", on the processor: trees.onnx"; empty if there are none, or if the classifier runs there too.
    """
    files: Iterable[str] = () if provider == CPU else sorted(file for file, runner in runs.items() if runner == CPU)
    listed = ", ".join(files)
    return f", on the processor: {listed}" if listed else ""
