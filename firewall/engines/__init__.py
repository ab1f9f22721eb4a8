"""Networks on devices."""

from firewall.bundle import Bundle
from firewall.engines.onnx_runtime import OnnxRuntimeEngine, OnnxRuntimeNetwork
from firewall.engines.protocol import Engine, TensorEngine
from firewall.engines.sessions import DEVICES, check_device

__all__ = [
    "DEVICES",
    "Engine",
    "OnnxRuntimeEngine",
    "OnnxRuntimeNetwork",
    "TensorEngine",
    "check_device",
    "open_engine",
]


def open_engine(bundle: Bundle, *, device: str = "cpu", threads: int = 0) -> Engine:
    """The classifier of a bundle, loaded and warm on a device, and on no other.

    device: of DEVICES. threads: of the processor, 0 = one for each core. Raises UsageError for an unknown device,
    EngineError if it can't be used here or the classifier can't be run on it.
    """
    return OnnxRuntimeEngine(bundle, device=device, threads=threads)
