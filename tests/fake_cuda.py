"""`cuda.bindings.runtime` and `pycuda.driver` over the host's own memory: addresses are real, copies are done at once.

Only what the project uses, with the argument order and results of cuda-bindings 13.5 (loaded without a driver, its
functions' signatures read) and of PyCUDA 2026.1 (read in its source).
"""

from __future__ import annotations

import ctypes
import enum
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

__all__ = ["FakeGpu", "install_cuda", "install_pycuda", "queued"]


class FakeGpu:
    """What the fakes share. memory: address -> buffer, of the device and page-locked. refuse: a function that fails
    from now on. recording: what is queued while a graph is recorded; None: nothing is. graphs: those that are not
    freed, recorded and executable ones."""

    def __init__(self, name: str = "Orin", capability: tuple[int, int] = (8, 7), count: int = 1) -> None:
        self.name, self.capability, self.count = name, capability, count
        self.memory: dict[int, Any] = {}
        self.calls: list[str] = []
        self.refuse = ""
        self.device = -1
        self.recording: list[Callable[[], None]] | None = None
        self.invalid = False
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self._number = 0

    def keep(self, work: list[Callable[[], None]]) -> int:
        """A handle for a graph."""
        self._number += 1
        self.graphs[self._number] = work
        return self._number

    def allocate(self, size: int) -> int:
        buffer = (ctypes.c_uint8 * size)(*([0xFF] * min(size, 64)))
        self.memory[ctypes.addressof(buffer)] = buffer
        return ctypes.addressof(buffer)


_ERRORS = {"cudaSuccess": 0, "cudaErrorMemoryAllocation": 2, "cudaErrorInsufficientDriver": 35}
Error = enum.IntEnum(
    "Error", {**_ERRORS, "cudaErrorStreamCaptureUnsupported": 900, "cudaErrorStreamCaptureInvalidated": 901}
)
Mode = enum.IntEnum("Mode", {"cudaStreamCaptureModeGlobal": 0, "cudaStreamCaptureModeThreadLocal": 1})
Kind = enum.IntEnum("Kind", {"cudaMemcpyHostToDevice": 1, "cudaMemcpyDeviceToHost": 2})


def queued(work: Callable[[], None], stream: int) -> None:
    """What a library queues on the stream of the GPU that `install_cuda` put there: done at once, or recorded."""
    assert int(stream) == 77
    gpu = getattr(sys.modules.get("cuda.bindings.runtime"), "fake_gpu", None)
    if gpu is not None and gpu.recording is not None:
        gpu.recording.append(work)
    else:
        work()


def install_cuda(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu) -> None:
    """Make `cuda.bindings.runtime` importable. No GPU: as without a driver."""
    runtime: Any = ModuleType("cuda.bindings.runtime")
    runtime.cudaMemcpyKind, runtime.cudaError_t, runtime.cudaStreamNonBlocking = Kind, Error, 1
    runtime.cudaStreamCaptureMode, runtime.fake_gpu = Mode, gpu

    def called(name: str, *result: Any) -> tuple[Any, ...]:
        gpu.calls.append(name)
        if gpu.count == 0:
            return Error.cudaErrorInsufficientDriver, None
        if gpu.recording is not None and name not in ("cudaMemcpyAsync", "cudaSetDevice"):
            # What waits or allocates spoils what is recorded.
            gpu.invalid = True
            return Error.cudaErrorStreamCaptureUnsupported, None
        if gpu.refuse == name:
            return Error.cudaErrorMemoryAllocation, None
        return Error.cudaSuccess, *result

    def properties(device: int) -> tuple[Any, ...]:
        found: Any = ModuleType("properties")
        found.name, (found.major, found.minor) = gpu.name.encode(), gpu.capability
        return called("cudaGetDeviceProperties", found)

    def set_device(device: int) -> tuple[Any, ...]:
        gpu.device = device
        return called("cudaSetDevice")

    def copy(destination: int, source: int, count: int, kind: Kind, stream: Any) -> tuple[Any, ...]:
        assert int(stream) == 77 and isinstance(kind, Kind)
        held = destination if kind is Kind.cudaMemcpyHostToDevice else source
        assert any(start <= held < start + len(buffer) for start, buffer in gpu.memory.items())
        queued(lambda: ctypes.memmove(destination, source, count), stream)  # type: ignore[arg-type, return-value]
        return called("cudaMemcpyAsync")

    def begin(stream: Any, mode: Mode) -> tuple[Any, ...]:
        assert int(stream) == 77 and mode is Mode.cudaStreamCaptureModeThreadLocal
        answer = called("cudaStreamBeginCapture")
        if answer[0] == 0:
            gpu.recording, gpu.invalid = [], False
        return answer

    def end(stream: Any) -> tuple[Any, ...]:
        assert int(stream) == 77 and gpu.recording is not None
        work, gpu.recording = gpu.recording, None
        if gpu.invalid:
            gpu.calls.append("cudaStreamEndCapture")
            return Error.cudaErrorStreamCaptureInvalidated, None
        return called("cudaStreamEndCapture", *([] if gpu.refuse == "cudaStreamEndCapture" else [gpu.keep(work)]))

    def instantiate(graph: int, flags: int) -> tuple[Any, ...]:
        assert flags == 0
        answer = called("cudaGraphInstantiate")
        return (*answer, gpu.keep(gpu.graphs[graph])) if answer[0] == 0 else answer

    def launch(graph: int, stream: Any) -> tuple[Any, ...]:
        assert int(stream) == 77 and gpu.recording is None
        answer = called("cudaGraphLaunch")
        if answer[0] == 0:
            for work in gpu.graphs[graph]:
                work()
        return answer

    def destroy(name: str) -> Any:
        def forget(graph: int) -> tuple[Any, ...]:
            del gpu.graphs[graph]
            return called(name)

        return forget

    def free(name: str) -> Any:
        def release(address: int) -> tuple[Any, ...]:
            del gpu.memory[address]
            return called(name)

        return release

    runtime.cudaGetDeviceCount = lambda: called("cudaGetDeviceCount", gpu.count)
    runtime.cudaGetDeviceProperties = properties
    runtime.cudaSetDevice = set_device
    runtime.cudaStreamCreateWithFlags = lambda flags: called("cudaStreamCreateWithFlags", np.int64(77))
    runtime.cudaMalloc = lambda size: called("cudaMalloc", gpu.allocate(size))
    runtime.cudaMallocHost = lambda size: called("cudaMallocHost", gpu.allocate(size))
    runtime.cudaFree, runtime.cudaFreeHost = free("cudaFree"), free("cudaFreeHost")
    runtime.cudaMemcpyAsync = copy
    runtime.cudaStreamSynchronize = lambda stream: called("cudaStreamSynchronize")
    runtime.cudaStreamDestroy = lambda stream: called("cudaStreamDestroy")
    runtime.cudaStreamBeginCapture, runtime.cudaStreamEndCapture = begin, end
    runtime.cudaGraphInstantiate, runtime.cudaGraphLaunch = instantiate, launch
    for name in ("cudaGraphDestroy", "cudaGraphExecDestroy"):
        setattr(runtime, name, destroy(name))
    runtime.cudaGetLastError = lambda: called("cudaGetLastError")
    runtime.cudaGetErrorString = lambda error: (Error.cudaSuccess, b"the driver is too old, or there is none")
    _install(monkeypatch, ["cuda", "cuda.bindings"], "cuda.bindings.runtime", runtime)


def install_pycuda(monkeypatch: pytest.MonkeyPatch, gpu: FakeGpu) -> None:
    """Make `pycuda.driver` importable."""
    driver: Any = ModuleType("pycuda.driver")

    class LogicError(Exception):
        pass

    class Context:
        stack: list[Any] = []  # noqa: RUF012  # the thread's

        def push(self) -> None:
            Context.stack.append(self)

        def pop(self) -> None:
            assert Context.stack.pop() is self

        @staticmethod
        def get_current() -> Any:
            return Context.stack[-1] if Context.stack else None

    class Device:
        def __init__(self, number: int) -> None:
            self.number = number

        def name(self) -> str:
            return gpu.name

        def compute_capability(self) -> tuple[int, int]:
            return gpu.capability

        def retain_primary_context(self) -> Context:
            return Context()

        @staticmethod
        def count() -> int:
            return gpu.count

    class Stream:
        handle = 77

        def synchronize(self) -> None:
            gpu.calls.append("synchronize")

    class Allocation:
        def __init__(self, size: int) -> None:
            if gpu.refuse == "mem_alloc":
                raise LogicError("cuMemAlloc failed:\nout of memory")
            self.address = gpu.allocate(size)

        def __int__(self) -> int:
            return self.address

        def free(self) -> None:
            del gpu.memory[self.address]

    def init() -> None:
        if gpu.count == 0:
            raise LogicError("cuInit failed: no CUDA-capable device is detected")

    driver.init, driver.Device, driver.Context, driver.Stream = init, Device, Context, Stream
    driver.mem_alloc = Allocation
    driver.pagelocked_empty = np.empty
    driver.memcpy_htod_async = lambda to, array, stream: ctypes.memmove(to, array.ctypes.data, array.nbytes)
    driver.memcpy_dtoh_async = lambda array, source, stream: ctypes.memmove(array.ctypes.data, source, array.nbytes)
    _install(monkeypatch, ["pycuda"], "pycuda.driver", driver)


def _install(monkeypatch: pytest.MonkeyPatch, parents: list[str], name: str, module: ModuleType) -> None:
    """As imported: `find_spec` looks at the spec of what is in sys.modules."""
    from importlib.machinery import ModuleSpec

    for parent in parents:
        package = ModuleType(parent)
        package.__path__ = []
        package.__spec__ = ModuleSpec(parent, None, is_package=True)
        monkeypatch.setitem(sys.modules, parent, package)
    module.__spec__ = ModuleSpec(name, None)
    monkeypatch.setitem(sys.modules, name, module)
