"""What may hang or crash in native code (providers, drivers, cameras): asked in a process of its own, for a time."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

__all__ = ["CPU", "PATIENCE", "SEARCH_PATH", "answer", "ask", "short"]

CPU = "CPUExecutionProvider"
#: Seconds that a process of its own may take to answer; loading a GPU provider for the first time is slow.
PATIENCE = 40.0
#: An ONNX model (IR 8, opset 13): y = x + x, float32 of 4 elements.
_TWICE = (
    b'\x08\x08\x12\x00\x1a\x00:9\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x05twiceZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n'
    b"\x02\x08\x04b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x04B\x04\n\x00\x10\r"
)

# The child sees the modules that this process saw when it started; OpenCV changes the search path as it is imported.
SEARCH_PATH = json.dumps(sys.path)
_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from firewall.doctor.probes import answer
answer(*sys.argv[2:])
"""


def ask(question: str, *arguments: str, patience: float = PATIENCE) -> tuple[bool, str]:
    """Whether it works, and what was found."""
    command = [sys.executable, "-c", _CHILD, SEARCH_PATH, question, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        return False, f"gave no answer within {patience:g} s"
    if done.returncode < 0:
        return False, f"crashed with signal {-done.returncode}"
    try:
        ok, detail = json.loads(done.stdout.rsplit("\n", 2)[-2])
    except (IndexError, ValueError):
        return False, f"ended with exit code {done.returncode}: {short(done.stderr[-200:])}"
    return bool(ok), str(detail)


def answer(question: str, *arguments: str) -> None:
    """What the child does: answer on its standard output, and end."""
    try:
        found = _QUESTIONS[question](*arguments)
    except Exception as error:  # whatever a driver's package raises is the answer
        found = (False, short(error))
    print(f"\n{json.dumps(found)}", flush=True)  # noqa: T201 - this is how the child answers
    os._exit(0)  # a driver that crashes while it is unloaded has still answered


def _provider(name: str) -> tuple[bool, str]:
    import numpy as np

    from firewall.host.onnxruntime import ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if name != CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    session = ort.InferenceSession(_TWICE, options, providers=[name])
    if session.get_providers()[0] != name:
        return False, f"does not load; onnxruntime falls back to {session.get_providers()[0]}"
    given = np.arange(4, dtype=np.float32)
    if not np.array_equal(session.run(None, {"x": given})[0], given + given):
        return False, "loads, but computes a wrong result"
    return True, "loads and computes"


def _device(name: str) -> tuple[bool, str]:
    import numpy as np

    from firewall.engines.sessions import has_tensorrt, open_session, placement

    if name == "tensorrt" and has_tensorrt():
        from firewall.engines.device_memory import open_device
        from firewall.engines.tensorrt_library import open_tensorrt

        gpu, library = open_device(), open_tensorrt()
        return True, f"TensorRT {library.__version__} on {gpu.name}; plans come from 'firewall export tensorrt'"
    session = open_session(_TWICE, "a test network", device=name, threads=1, image=None)
    given = np.arange(4, dtype=np.float32)
    if not np.array_equal(session.run(None, {"x": given})[0], given + given):
        return False, "loads, but computes a wrong result"
    return True, f"all nodes of a test network ran on {' and '.join(placement(session) or session.get_providers()[:1])}"


def _plans() -> tuple[bool, str]:
    """Of the default bundle: which network has a plan here, in which precisions."""
    from firewall.bundle import load_bundle
    from firewall.engines.device_memory import open_device
    from firewall.engines.device_network import detector_tensors
    from firewall.engines.loaded_plan import target_of
    from firewall.engines.networks import detector_files
    from firewall.engines.plan_cache import PlanCache
    from firewall.engines.tensorrt_library import open_tensorrt
    from firewall.errors import EngineError

    memory, version = open_device(), str(open_tensorrt().__version__)
    bundle, cache = load_bundle("default"), PlanCache()
    try:
        keys = cache.entries()
    except EngineError as error:
        return False, short(error)
    told, manifest = [], bundle.manifest
    detectors = [(file, detector_tensors(bundle.files[file], file).output) for file in detector_files(bundle)]
    networks = [*((network.file, network.output) for network in manifest.networks), *detectors]
    for file, output in networks:
        target = target_of(bundle.files[file], output, version, memory)
        found = sorted({key.precision for key in keys if key.target == target})
        told.append(f"{file} {' and '.join(found) or 'none'}")
    return all(not line.endswith("none") for line in told), f"{', '.join(told)} in {cache.folder}"


def _cuda_driver() -> tuple[bool, str]:
    library = ctypes.CDLL("libcuda.so.1")
    status = library.cuInit(0)
    if status != 0:
        return False, f"libcuda.so.1 is there, but cuInit says error {status}"
    version, count, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(128)
    library.cuDriverGetVersion(ctypes.byref(version))
    library.cuDeviceGetCount(ctypes.byref(count))
    names = []
    for index in range(count.value):
        library.cuDeviceGetName(name, len(name), index)
        names.append(name.value.decode(errors="replace"))
    detail = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}, {', '.join(names) or 'no GPU'}"
    return bool(names), detail


def _tensorrt_import() -> tuple[bool, str]:
    # Imported only: without a driver, TensorRT crashes at the first thing it makes.
    return True, str(importlib.import_module("tensorrt").__version__)


def _camera(device: str) -> tuple[bool, str]:
    # As `serve` reads it; the first pictures of many a camera are not whole.
    from firewall.errors import ImageError, SourceError
    from firewall.sources.camera import open_camera

    try:
        reader = open_camera(device, {}, read_timeout=_CAMERA_WAIT)
        for _ in range(_CAMERA_TRIES):
            with suppress(ImageError):
                height, width = next(reader)[0].shape[:2]
                return True, f"gives pictures of {width}x{height}"
    except SourceError as error:
        return False, short(error)
    return False, "opens, but gives no whole picture"


_CAMERA_WAIT, _CAMERA_TRIES = 3.0, 5
_QUESTIONS: dict[str, Callable[..., tuple[bool, str]]] = {
    "provider": _provider,
    "device": _device,
    "cuda": _cuda_driver,
    "tensorrt": _tensorrt_import,
    "plans": _plans,
    "camera": _camera,
}


def short(error: object) -> str:
    """An error in one line of at most 200 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:197]}..."
