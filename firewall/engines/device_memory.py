"""One GPU's memory and one stream of it, through `cuda.bindings` (of cuda-python) or PyCUDA.

The only module that knows either package. They differ in names, not in what is asked of them: a stream, memory on the
device, page-locked memory on the host, copies between the two that are queued on the stream, and waiting for it. Only
cuda.bindings can also record what is queued into a CUDA graph.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from firewall.errors import EngineError, MissingExtraError, UsageError
from firewall.host.causes import shortened

__all__ = ["BACKENDS", "DeviceMemory", "has_device_memory", "open_device"]

Backend = Literal["cuda.bindings", "pycuda"]
BACKENDS: tuple[Backend, ...] = ("cuda.bindings", "pycuda")

_INSTALL = (
    "for memory on the GPU, cuda-python or PyCUDA is needed: pip install 'perception-firewall[gpu]' (cuda-python, "
    "wheels for a Jetson too), or 'perception-firewall[pycuda]', which compiles against the machine's CUDA toolkit"
)


class DeviceMemory(Protocol):
    """A GPU, what was allocated on it, and a stream that everything is queued on, in order.

    Attributes:
        name: Such as "Orin".
        compute_capability: Such as "8.7".
        stream: Handle of the stream. Every method raises EngineError if CUDA refuses. To be used from one thread at a
            time; `activate` first in each new one.
        backend: The package that is used.
    """

    name: str
    compute_capability: str
    stream: int
    backend: Backend

    def activate(self) -> None:
        """Make this GPU the one that the calling thread uses."""

    def allocate(self, size: int) -> int:
        """Address of `size` >= 1 bytes on the device; freed by `close`."""

    def page_locked(self, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
        """An array on the host that the device copies from and to by itself; freed by `close`: don't use it after."""

    def to_device(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy of a contiguous array's bytes to the device."""

    def to_host(self, array: npt.NDArray[Any], address: int) -> None:
        """Queue a copy from the device that fills a contiguous array."""

    def wait(self) -> None:
        """Until everything queued is done; errors of what was queued come here."""

    def record(self, queue: Callable[[], None]) -> int:
        """Record what is queued on the stream into a CUDA graph; none of it is done yet.

        Args:
            queue: Queues it, in this thread. It may not wait, allocate or copy memory that isn't page-locked.

        Returns:
            Number of the graph, for `replay` and `forget`; `close` frees it too. The addresses in it are fixed.

        Raises:
            EngineError: If it can't be recorded. The stream can be used as before.
        """

    def replay(self, graph: int) -> None:
        """Queue all that was recorded."""

    def forget(self, graph: int) -> None:
        """Free a graph; nothing of it may still be queued."""

    def close(self) -> None:
        """Free everything. Twice does no harm."""


def open_device(device_id: int = 0, *, backend: Backend | None = None) -> DeviceMemory:
    """The GPU with a number, as CUDA counts.

    Args:
        device_id: Number of the GPU, as CUDA counts.
        backend: None = cuda.bindings if it is installed, else PyCUDA.

    Raises:
        UsageError: If there is no such backend.
        MissingExtraError: If neither package is here.
        EngineError: If there is no such GPU, or no driver.
    """
    if backend is not None and backend not in BACKENDS:
        raise UsageError(f"device memory comes through one of {', '.join(BACKENDS)}, got {backend!r}")
    for name in BACKENDS if backend is None else (backend,):
        if _installed(name):
            device: DeviceMemory = _CudaBindings(device_id) if name == "cuda.bindings" else _PyCuda(device_id)
            # PyCUDA ends the process with an abort if a context is still in use.
            atexit.register(_close, device)
            return device
    raise MissingExtraError(_INSTALL)


def has_device_memory() -> bool:
    """Whether a package for the GPU's memory is installed."""
    return any(_installed(name) for name in BACKENDS)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:  # there is no package `cuda` for `cuda.bindings` to lie in
        return False


class _CudaBindings:
    backend: Backend = "cuda.bindings"

    def __init__(self, device_id: int) -> None:
        self._cuda = importlib.import_module("cuda.bindings.runtime")
        self._id = device_id
        self._device: list[int] = []
        self._host: list[int] = []
        self._graphs: dict[int, Any] = {}
        self._recorded = 0
        self.stream = 0
        (count,) = self._call("cudaGetDeviceCount")
        if not 0 <= device_id < count:
            raise EngineError(f"there is no GPU {device_id}; CUDA sees {count}, counted from 0")
        self.activate()
        (properties,) = self._call("cudaGetDeviceProperties", device_id)
        self.name = bytes(properties.name).split(b"\0")[0].decode(errors="replace")
        self.compute_capability = f"{properties.major}.{properties.minor}"
        # Of its own: the default stream would wait for everybody else's.
        (self._handle,) = self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)
        self.stream = int(self._handle)

    def activate(self) -> None:
        self._call("cudaSetDevice", self._id)

    def allocate(self, size: int) -> int:
        (address,) = self._call("cudaMalloc", size)
        self._device.append(int(address))
        return int(address)

    def page_locked(self, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
        count = int(np.prod(shape))
        size = count * np.dtype(dtype).itemsize
        (address,) = self._call("cudaMallocHost", size)
        self._host.append(int(address))
        raw = memoryview((ctypes.c_uint8 * size).from_address(int(address)))
        array: npt.NDArray[Any] = np.frombuffer(raw, np.dtype(dtype), count).reshape(shape)
        return array

    def to_device(self, address: int, array: npt.NDArray[Any]) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, self._handle)

    def to_host(self, array: npt.NDArray[Any], address: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, self._handle)

    def wait(self) -> None:
        self._call("cudaStreamSynchronize", self._handle)

    def record(self, queue: Callable[[], None]) -> int:
        # Of this thread alone: a server's other threads may allocate meanwhile.
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self._handle, mode)
        failure: BaseException | None = None
        try:
            queue()
        except BaseException as error:
            failure = error
        # Ended whatever happened: a stream that is left recording does nothing of what is queued on it.
        status, *found = self._cuda.cudaStreamEndCapture(self._handle)
        graph = found[0] if found and found[0] is not None and int(found[0]) else None
        try:
            if failure is not None:
                raise failure
            self._check("cudaStreamEndCapture", status)
            (made,) = self._call("cudaGraphInstantiate", graph, 0)
        except BaseException:
            # Else the next library that asks for the last error takes this one for its own.
            self._cuda.cudaGetLastError()
            raise
        finally:
            if graph is not None:
                self._cuda.cudaGraphDestroy(graph)
        self._recorded += 1
        self._graphs[self._recorded] = made
        return self._recorded

    def replay(self, graph: int) -> None:
        self._call("cudaGraphLaunch", self._graphs[graph], self._handle)

    def forget(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", self._graphs.pop(graph))

    def close(self) -> None:
        if not self.stream:
            return
        self.activate()
        self.wait()
        for graph in list(self._graphs):
            self.forget(graph)
        while self._device:
            self._call("cudaFree", self._device.pop())
        while self._host:
            self._call("cudaFreeHost", self._host.pop())
        self.stream = 0
        self._call("cudaStreamDestroy", self._handle)

    def _call(self, function: str, *arguments: Any) -> tuple[Any, ...]:
        """Each gives (status, *results)."""
        status, *results = getattr(self._cuda, function)(*arguments)
        self._check(function, status)
        return tuple(results)

    def _check(self, function: str, status: Any) -> None:
        if int(status) != 0:
            words = self._cuda.cudaGetErrorString(status)[1]
            text = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
            raise EngineError(f"CUDA refuses {function}: {text} (error {int(status)}); 'firewall doctor' says more")


class _PyCuda:
    backend: Backend = "pycuda"

    def __init__(self, device_id: int) -> None:
        try:
            self._cuda = importlib.import_module("pycuda.driver")
            self._cuda.init()
            count = self._cuda.Device.count()
        except Exception as error:  # it needs the driver's library to be imported at all
            raise EngineError(f"PyCUDA can't use the GPU: {_short(error)}; 'firewall doctor' says more") from error
        if not 0 <= device_id < count:
            raise EngineError(f"there is no GPU {device_id}; CUDA sees {count}, counted from 0")
        device = self._cuda.Device(device_id)
        self.name = str(device.name())
        self.compute_capability = "{}.{}".format(*device.compute_capability())
        # TensorRT works in the primary context; addresses of another one would mean nothing to it.
        self._context = self._call(device.retain_primary_context)
        self._kept: list[Any] = []
        self.stream = 0
        self.activate()
        self._stream = self._call(self._cuda.Stream)
        self.stream = int(self._stream.handle)

    def activate(self) -> None:
        if self._cuda.Context.get_current() != self._context:
            self._call(self._context.push)

    def allocate(self, size: int) -> int:
        memory = self._call(self._cuda.mem_alloc, size)
        self._kept.append(memory)
        return int(memory)

    def page_locked(self, shape: tuple[int, ...], dtype: type[np.generic]) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = self._call(self._cuda.pagelocked_empty, shape, dtype)
        return array

    def to_device(self, address: int, array: npt.NDArray[Any]) -> None:
        self._call(self._cuda.memcpy_htod_async, address, array, self._stream)

    def to_host(self, array: npt.NDArray[Any], address: int) -> None:
        self._call(self._cuda.memcpy_dtoh_async, array, address, self._stream)

    def wait(self) -> None:
        self._call(self._stream.synchronize)

    def record(self, queue: Callable[[], None]) -> int:
        raise EngineError("PyCUDA records no CUDA graphs; cuda-python does: pip install 'perception-firewall[gpu]'")

    def replay(self, graph: int) -> None:
        raise EngineError(f"there is no CUDA graph {graph}: PyCUDA records none")

    def forget(self, graph: int) -> None:
        raise EngineError(f"there is no CUDA graph {graph}: PyCUDA records none")

    def close(self) -> None:
        if not self.stream:
            return
        self.activate()
        self.wait()
        while self._kept:
            self._call(self._kept.pop().free)
        self.stream = 0
        self._call(self._context.pop)

    def _call(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:  # it has a tree of errors of its own
            raise EngineError(f"CUDA refuses: {_short(error)}; 'firewall doctor' says more") from error


def _close(device: DeviceMemory) -> None:
    with contextlib.suppress(EngineError):
        device.close()


def _short(error: Exception) -> str:
    return shortened(str(error))
