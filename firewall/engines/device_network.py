"""A detector's network on a GPU: numbers go there, its answer comes back, on the stream that all networks share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from firewall.bundle.onnx_bytes import Precision
from firewall.engines.cuda_session import CudaSession
from firewall.engines.device_memory import DeviceMemory
from firewall.engines.loaded_plan import LoadedPlan, Tensors, target_of
from firewall.engines.onnx_runtime import OnnxRuntimeNetwork
from firewall.engines.plan_cache import Plan
from firewall.engines.plan_graphs import Run
from firewall.engines.sessions import CUDA, LARGEST_BATCH, open_session
from firewall.engines.tensorrt_library import open_tensorrt
from firewall.errors import EngineError

__all__ = ["DeviceNetwork", "detector_tensors", "network_on_cuda", "network_on_tensorrt"]

Floats = npt.NDArray[np.float32]
#: Queues one run: rows of the batch, where the input lies in device memory, where the answer is to lie.
Queue = Callable[[int, int, int], None]

#: How far an answer may lie from the processor's, as a share of the largest number in it. Rounding alone stays below.
#: int8 has scales of real images and is compared with them by `firewall export verify`, not with noise.
_APART: dict[Precision, float] = {"fp32": 1e-3, "fp16": 0.02}


class DeviceNetwork:
    """A network with one float32 input and output (N, ...) on a GPU: what OnnxRuntimeNetwork is on the processor. Use
    it from one thread at a time.

    Args:
        tensors: What goes in and comes out; the first side is free, the others are numbers.
        most: Rows of the largest batch; larger ones are run in parts.
        memory: The GPU, and the stream that everything is queued on. Its owner closes it.
        queue: Queues one run on the stream.
        provider: What runs it, for people.
        precision: What it computes in.
        what: The network's name, for messages.
    """

    def __init__(
        self,
        tensors: Tensors,
        most: int,
        memory: DeviceMemory,
        queue: Queue,
        *,
        provider: str,
        precision: Precision,
        what: str,
    ) -> None:
        self.provider, self.precision = provider, precision
        self._what, self._most, self._memory, self._queue = what, most, memory, queue
        memory.activate()
        self._read: Floats = memory.page_locked((most, *tensors.read[1:]), np.float32)
        self._given: Floats = memory.page_locked((most, *tensors.given[1:]), np.float32)
        self._nothing: Floats = memory.page_locked((most, *tensors.given[1:]), np.float32)
        self._nothing[:] = np.nan
        self._source = memory.allocate(self._read.nbytes)
        self._answer = memory.allocate(self._given.nbytes)

    def __call__(self, values: Floats) -> Floats:
        """The answer to float32 (N, ...): (N, ...), as many rows, all finite.

        Raises:
            EngineError: If the values are of another shape, or the GPU fails.
        """
        if values.shape[1:] != self._read.shape[1:] or values.dtype != np.float32:
            raise EngineError(
                f"{self._what} failed: it takes float32 (N, {', '.join(map(str, self._read.shape[1:]))}), got "
                f"{values.dtype} {values.shape}"
            )
        found = np.empty((len(values), *self._given.shape[1:]), np.float32)
        memory = self._memory
        memory.activate()
        for start in range(0, len(values), self._most):
            part = values[start : start + self._most]
            count = len(part)
            self._read[:count] = part
            memory.to_device(self._source, self._read[:count])
            # What the network doesn't write is refused below: never the answer to what it read before.
            memory.to_device(self._answer, self._nothing[:count])
            self._queue(count, self._source, self._answer)
            memory.to_host(self._given[:count], self._answer)
            memory.wait()
            found[start : start + count] = self._given[:count]
        if not np.isfinite(found).all():
            raise EngineError(f"{self._what} gave no finite number for each of {len(values)} inputs")
        return found

    def prove(self, reference: OnnxRuntimeNetwork) -> None:
        """Run it on two inputs in turns, four times each: recorded, and replayed. It must give the processor's answers,
        and the same ones each time; else it reads, or answers, what was there before.

        Args:
            reference: The same network on the processor.

        Raises:
            EngineError: If it doesn't.
        """
        noise = np.random.default_rng(0).random((2, *self._read.shape[1:]), np.float32)
        inputs = [noise[:1], noise[1:] * np.float32(0.5)]
        expected = [reference(each) for each in inputs]
        first = [self(each) for each in inputs]
        for again in range(3):
            for each, wanted, before in zip(inputs, expected, first, strict=True):
                found = self(each)
                if not np.allclose(found, before, rtol=1e-3, atol=1e-3):
                    raise EngineError(
                        f"{self._what} gives another answer in run {again + 2} on the GPU; it is not used"
                    )
                share = _APART.get(self.precision)
                if share is None:
                    continue
                apart, allowed = float(np.abs(found - wanted).max()), share * max(1.0, float(np.abs(wanted).max()))
                if not apart <= allowed:
                    raise EngineError(
                        f"{self._what} gives another answer on the GPU than on the processor ({apart:.3g} apart, "
                        f"{allowed:.3g} is allowed); it is not used: compare them with 'firewall export verify', or "
                        "use --device cpu"
                    )


def detector_tensors(content: bytes, what: str, *, free: bool = False) -> Tensors:
    """What goes into a detector's network and comes out of it, by ONNX Runtime on the processor.

    Args:
        content: The ONNX file.
        what: Its name, for messages.
        free: Take any shape: -1 stands for a side that is free.

    Raises:
        EngineError: If it can't be loaded, or is not one that a GPU can be given memory for: one float32 input and
            output, a free number of rows, all other sides fixed.
    """
    session = open_session(content, what, threads=1)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    kinds = [entry.type for entry in (*inputs, *outputs)]
    if len(inputs) != 1 or len(outputs) != 1 or set(kinds) != {"tensor(float)"}:
        raise EngineError(f"{what} has inputs and outputs {kinds}; a detector's network has one float32 each")
    shapes = []
    for entry in (inputs[0], outputs[0]):
        rows, *sides = [side if isinstance(side, int) and side > 0 else -1 for side in entry.shape or (1,)]
        if not free and (rows != -1 or -1 in sides):
            raise EngineError(
                f"{what}: {entry.name!r} has shape {entry.shape}; on a GPU the first side has to be free and the "
                "others fixed: export it so, or use --device cpu"
            )
        shapes.append((rows, *sides))
    return Tensors(inputs[0].name, shapes[0], outputs[0].name, shapes[1])


def network_on_cuda(content: bytes, what: str, memory: DeviceMemory) -> DeviceNetwork:
    """A detector's network on ONNX Runtime's CUDA provider, compared with the processor.

    Args:
        content: The ONNX file.
        what: Its name, for messages.
        memory: The GPU, and the stream that everything is queued on.

    Raises:
        EngineError: If a node would run elsewhere, or the answers differ.
    """
    tensors = detector_tensors(content, what)
    session = CudaSession(content, what, memory)
    names, read, given = (tensors.input, tensors.output), tensors.read[1:], tensors.given[1:]

    def queue(count: int, source: int, answer: int) -> None:
        session.execute(names, (count, *read), (count, *given), source, answer)

    network = DeviceNetwork(tensors, LARGEST_BATCH, memory, queue, provider=CUDA, precision="fp32", what=what)
    network.prove(OnnxRuntimeNetwork(content, what, threads=1))
    return network


def network_on_tensorrt(content: bytes, what: str, plan: Plan, memory: DeviceMemory) -> DeviceNetwork:
    """A detector's network as a TensorRT plan, compared with the processor.

    Args:
        content: The ONNX file that the plan was built from.
        what: Its name, for messages.
        plan: From a PlanCache, or just built.
        memory: The GPU, and the stream that everything is queued on.

    Raises:
        EngineError: If it is a plan of something else, can't be loaded, or answers something else.
    """
    tensors, version = detector_tensors(content, what), str(open_tensorrt().__version__)
    loaded = LoadedPlan(plan, target_of(content, tensors.output, version, memory), tensors, memory, file=what)

    def queue(count: int, source: int, answer: int) -> None:
        loaded.execute(Run((count, *tensors.read[1:]), (count, *tensors.given[1:]), source, answer))

    precision, most = plan.key.precision, plan.key.profile.most
    provider = f"TensorRT {version} {precision}"
    network = DeviceNetwork(tensors, most, memory, queue, provider=provider, precision=precision, what=loaded.what)
    network.prove(OnnxRuntimeNetwork(content, what, threads=1))
    return network
