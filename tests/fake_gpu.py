"""A GPU that is none, for tests: addresses are real ones of the host, and what is queued happens when it is waited for.

It can tell whether addresses, sizes and the order of what is queued are right; not whether CUDA does what it is asked.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.engines import OnnxRuntimeEngine
from firewall.errors import EngineError
from firewall.transforms import gaussian_blur, jpeg_sweep_normalised, rotate, scale
from firewall.transforms.arrays import normalise

__all__ = ["FakeDeviceEngine", "FakeMemory", "FakeSession", "FakeTransforms", "at"]


def at(address: int, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """The array that lies there."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(shape)


class FakeMemory:
    """See DeviceMemory. told: the kinds of what was queued, in order."""

    name, compute_capability, backend = "Fake", "9.9", "cuda.bindings"

    def __init__(self) -> None:
        self.stream = 1234
        self.told: list[str] = []
        self._queue: list[Callable[[], None]] = []
        self._kept: list[npt.NDArray[Any]] = []
        self.active = False

    def activate(self) -> None:
        self.active = True

    def allocate(self, size: int) -> int:
        self._kept.append(np.full(size, 0xA5, np.uint8))
        return int(self._kept[-1].ctypes.data)

    def page_locked(self, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
        return np.zeros(shape, dtype)

    def to_device(self, address: int, array: npt.NDArray[Any]) -> None:
        # Read when it happens, as a copy from page-locked memory is.
        self.queue("to device", lambda: ctypes.memmove(address, array.ctypes.data, array.nbytes))

    def to_host(self, array: npt.NDArray[Any], address: int) -> None:
        self.queue("to host", lambda: ctypes.memmove(array.ctypes.data, address, array.nbytes))

    def queue(self, what: str, work: Callable[[], object]) -> None:
        assert self.active
        self.told.append(what)
        self._queue.append(work)  # type: ignore[arg-type]

    def wait(self) -> None:
        self.told.append("wait")
        for work in self._queue:
            work()
        self._queue.clear()

    def record(self, queue: Callable[[], None]) -> int:
        raise EngineError("nothing is recorded here")

    def replay(self, graph: int) -> None:
        raise EngineError(f"there is no graph {graph}")

    def forget(self, graph: int) -> None:
        raise EngineError(f"there is no graph {graph}")

    def close(self) -> None:
        self.stream = 0


class FakePlan:
    """See firewall.transforms.cuda.Plan."""

    def __init__(self, memory: FakeMemory, what: str, work: Callable[[Any, Any], None]) -> None:
        self._memory, self._what, self._work = memory, what, work

    def run(self, pixels: Any, out: Any, *, stream: int = 0) -> None:
        assert stream == self._memory.stream
        source, target = (_array(each) for each in (pixels, out))
        self._memory.queue(self._what, lambda: self._work(source, target))


class FakeTransforms:
    """See firewall.transforms.cuda: the same bytes, by the processor's functions. wrong: a family that errs."""

    def __init__(self, memory: FakeMemory, wrong: str = "") -> None:
        self._memory, self._wrong = memory, wrong

    def jpeg_sweep(self, *, qualities: Sequence[int], mean: Any, std: Any, dtype: str, **_: Any) -> FakePlan:
        assert dtype == "float32"

        def work(source: Any, target: Any) -> None:
            target[0] = jpeg_sweep_normalised(source[0].copy(), qualities, mean, std)

        return FakePlan(self._memory, "jpeg", work)

    def gaussian_blur(self, *, radii: Sequence[float], **_: Any) -> FakePlan:
        return self._pixels("blur", lambda image: gaussian_blur(image, radii))

    def rotate(self, *, angles: Sequence[float], **_: Any) -> FakePlan:
        return self._pixels("rotate", lambda image: rotate(image, angles))

    def scale(self, *, factors: Sequence[float], **_: Any) -> FakePlan:
        return self._pixels("scale", lambda image: scale(image, factors))

    def tensor(self, *, mean: Any, std: Any, **_: Any) -> FakePlan:
        def work(source: Any, target: Any) -> None:
            normalise(source, np.array(mean), np.array(std), target[:, 0])

        return FakePlan(self._memory, "tensor", work)

    def _pixels(self, family: str, copies: Callable[[Any], Any]) -> FakePlan:
        def work(source: Any, target: Any) -> None:
            target[0] = copies(source[0].copy())
            if family == self._wrong:
                target[0] = 255 - target[0]

        return FakePlan(self._memory, family, work)


class FakeDeviceEngine:
    """A DeviceEngine over the processor's. stale: answers every batch as the first one of its size."""

    provider = "fake"

    def __init__(self, engine: OnnxRuntimeEngine, memory: FakeMemory, most: int = 128, *, stale: bool = False) -> None:
        self._engine, self.memory, self.most = engine, memory, most
        self._first: dict[int, Any] | None = {} if stale else None

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self._engine.classify(images)

    def classify_at(self, address: int, count: int) -> npt.NDArray[np.float32]:
        self.memory.told.append(f"classify {count}")
        self.memory.wait()
        tensor = self._engine.tensor(count)
        tensor[:] = at(address, tensor.shape, np.float32)
        logits = self._engine.run(count)
        return logits if self._first is None else self._first.setdefault(count, logits)


class FakeSession:
    """A session with the CUDA provider's graphs: a graph is recorded at its first run, and replayed from then on.

    replay_reads: "address", as CUDA does for device memory; or "recorded", what was there when it was recorded, as has
    been seen for inputs on the host.
    """

    def __init__(self, content_session: Any, memory: FakeMemory, replay_reads: str = "address") -> None:
        self._session, self._memory, self._reads = content_session, memory, replay_reads
        self.get_inputs, self.get_outputs = content_session.get_inputs, content_session.get_outputs
        self.graphs: dict[str, tuple[Any, npt.NDArray[np.float32]]] = {}

    def io_binding(self) -> Any:
        return FakeBinding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        graph = options.get_run_config_entry("gpu_graph_id")

        def work() -> None:
            values = binding.input.copy()
            if graph != "-1":
                bound, recorded = self.graphs.setdefault(graph, (binding, values))
                assert bound is binding  # an id is of one address and one size
                values = recorded if self._reads == "recorded" else values
            binding.output[:] = self._session.run(None, {self._session.get_inputs()[0].name: values})[0]

        self._memory.queue("network", work)


class FakeBinding:
    """Device memory alone may be bound."""

    def bind_input(self, name: str, device: str, number: int, kind: Any, shape: Any, address: int) -> None:
        assert (device, number) == ("cuda", 0)
        self.input = at(address, tuple(shape), kind)

    def bind_output(self, name: str, device: str, number: int, kind: Any, shape: Any, address: int) -> None:
        assert (device, number) == ("cuda", 0)
        self.output = at(address, tuple(shape), kind)


def _array(view: Any) -> npt.NDArray[Any]:
    interface = view.__cuda_array_interface__
    return at(interface["data"][0], interface["shape"], interface["typestr"])
