"""Networks on devices."""

from firewall.engines.onnx_runtime import OnnxRuntimeEngine
from firewall.engines.protocol import Engine

__all__ = ["Engine", "OnnxRuntimeEngine"]
