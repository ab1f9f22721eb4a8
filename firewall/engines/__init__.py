"""Networks on devices."""

from firewall.bundle import Bundle
from firewall.engines.device_memory import has_device_memory, open_device
from firewall.engines.networks import Network, Networks, on_processor, what_runs
from firewall.engines.onnx_runtime import OnnxRuntimeEngine, OnnxRuntimeNetwork
from firewall.engines.protocol import DeviceEngine, Engine, TensorEngine
from firewall.engines.sessions import DEVICES, check_device, has_tensorrt

__all__ = [
    "DEVICES",
    "DeviceEngine",
    "Engine",
    "Network",
    "Networks",
    "OnnxRuntimeEngine",
    "OnnxRuntimeNetwork",
    "TensorEngine",
    "check_device",
    "on_processor",
    "open_engine",
    "what_runs",
]


def open_engine(bundle: Bundle, *, device: str = "cpu", threads: int = 0) -> Engine:
    """The classifier of a bundle, loaded and warm on a device, and on no other.

    Args:
        bundle: A verified bundle.
        device: One of DEVICES.
        threads: Threads on the processor; 0 = one for each core.

    Raises:
        UsageError: If there is no such device.
        EngineError: If it can't be used here or the classifier can't be run on it. "tensorrt" is a plan that 'firewall
            export tensorrt' built here; where the package tensorrt is missing, ONNX Runtime's own provider of that
            name. "cuda" reads device memory where cuda-python or PyCUDA is there for it; without, each batch is copied
            to the GPU.
    """
    check_device(device)
    if device == "tensorrt" and has_tensorrt():
        from firewall.engines.tensorrt_engine import TensorRTEngine

        return TensorRTEngine.from_cache(bundle)
    if device == "cuda" and has_device_memory():
        from firewall.engines.cuda_engine import CudaEngine

        memory = open_device()
        try:
            return CudaEngine(bundle, memory)
        except BaseException:
            memory.close()
            raise
    return OnnxRuntimeEngine(bundle, device=device, threads=threads)
