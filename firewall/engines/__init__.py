"""Networks on devices."""

from firewall.engines.onnx_runtime import OnnxRuntimeEngine, OnnxRuntimeNetwork
from firewall.engines.protocol import Engine

__all__ = ["Engine", "OnnxRuntimeEngine", "OnnxRuntimeNetwork"]
