"""Memory and a stream of a GPU through either package, on fakes that use the host's memory."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from firewall.engines.device_memory import BACKENDS, Backend, open_device
from firewall.errors import EngineError, MissingExtraError, UsageError
from tests.fake_cuda import FakeGpu, install_cuda, install_pycuda

INSTALL: dict[Backend, Callable[[pytest.MonkeyPatch, FakeGpu], None]] = {
    "cuda.bindings": install_cuda,
    "pycuda": install_pycuda,
}


@pytest.fixture(autouse=True)
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither package, whatever this machine has."""
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime", "pycuda", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bytes_go_there_and_back(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name and capability are the GPU's; what is copied there comes back; close frees all, and twice does no harm."""
    gpu = FakeGpu("Orin", (8, 7))
    INSTALL[backend](monkeypatch, gpu)
    device = open_device(backend=backend)
    assert (device.name, device.compute_capability, device.stream, device.backend) == ("Orin", "8.7", 77, backend)

    host, back = device.page_locked((3, 5), np.float32), device.page_locked((3, 5), np.float32)
    host[:] = np.arange(15).reshape(3, 5)
    back[:] = 0
    address = device.allocate(host.nbytes)
    device.activate()
    device.to_device(address, host)
    device.to_host(back, address)
    device.wait()
    assert back.tolist() == host.tolist() and gpu.memory
    device.close()
    assert gpu.memory == {}
    device.close()


def test_cuda_bindings_are_taken_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyCUDA where it alone is there; neither: what to install; an unknown one: which there are."""
    with pytest.raises(MissingExtraError, match=r"perception-firewall\[gpu\].*perception-firewall\[pycuda\]"):
        open_device()
    install_pycuda(monkeypatch, FakeGpu())
    assert open_device().backend == "pycuda"
    with pytest.raises(MissingExtraError):
        open_device(backend="cuda.bindings")
    install_cuda(monkeypatch, FakeGpu())
    assert open_device().backend == "cuda.bindings"
    with pytest.raises(UsageError, match=r"one of cuda.bindings, pycuda, got 'numba'"):
        open_device(backend="numba")  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_cuda_refuses_is_told_in_one_line(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """No driver, no such GPU, no memory left."""
    gpu = FakeGpu()
    INSTALL[backend](monkeypatch, gpu)
    with pytest.raises(EngineError, match="no GPU 1; CUDA sees 1"):
        open_device(1, backend=backend)
    device = open_device(backend=backend)
    gpu.refuse = "cudaMalloc" if backend == "cuda.bindings" else "mem_alloc"
    with pytest.raises(EngineError, match="refuses") as caught:
        device.allocate(8)
    assert "\n" not in str(caught.value)
    gpu.refuse, gpu.count = "", 0
    with pytest.raises(EngineError, match="'firewall doctor' says more"):
        open_device(backend=backend)
    gpu.count = 1
    device.close()


def test_the_gpu_is_chosen_anew_in_each_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's runtime keeps the choice by thread: activate sets the number that was opened."""
    gpu = FakeGpu(count=3)
    install_cuda(monkeypatch, gpu)
    device = open_device(2)
    gpu.device = 0
    device.activate()
    assert gpu.device == 2
    device.close()


def test_the_real_package_says_when_there_is_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuda-python itself, where it is installed and no GPU is."""
    for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    if int(runtime.cudaGetDeviceCount()[0]) == 0:
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError, match="CUDA refuses cudaGetDeviceCount: "):
        open_device(backend="cuda.bindings")
