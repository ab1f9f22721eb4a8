"""What a dependency would tell its maker unasked, switched off before it can begin.

ONNX Runtime looks up its maker's host, and keeps an id and a database of what it saw in the user's folder for caches,
unless this variable is set before its first import, by whomever: torch and onnxscript import it too. So `import
firewall` sets it, and every process that we start inherits it. Ray's accounting is switched off where Ray is started.
"""

from __future__ import annotations

import os

__all__ = ["switch_off"]


def switch_off() -> None:
    """For this process and its children, whatever the variable was before."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
