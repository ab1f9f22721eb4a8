"""ONNX Runtime with its telemetry off: the only module that imports it (ruff's banned-api holds everyone to that).

from firewall.host.onnxruntime import ort
"""

from __future__ import annotations

import importlib
from typing import Any

from firewall.host import telemetry

telemetry.switch_off()  # again: the environment may have been cleared since `import firewall`

import onnxruntime as ort  # noqa: E402, TID251

__all__ = ["ort", "ort_module"]

# Where the program around us imported it first, the variable came too late; this stops all but what was sent by then.
if hasattr(ort, "disable_telemetry_events"):
    ort.disable_telemetry_events()


def ort_module(name: str) -> Any:
    """A part of ONNX Runtime that `import onnxruntime` doesn't bring.

    Args:
        name: Its name, such as 'quantization'.

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: If what it needs is not installed.
    """
    return importlib.import_module(f"onnxruntime.{name}")
