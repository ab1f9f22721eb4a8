"""Perception firewall: releases a classifier's label only if the image is judged benign.

from firewall import Firewall
verdict = Firewall.load("default").screen(pixels)  # uint8 (H, W, 3) RGB
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

from firewall.host import telemetry

if TYPE_CHECKING:
    from firewall.errors import FirewallError
    from firewall.frame import Frame
    from firewall.screening import Firewall
    from firewall.verdict import Reason, Verdict

telemetry.switch_off()  # before anything here, or in the program around, imports ONNX Runtime

__all__ = ["Firewall", "FirewallError", "Frame", "Reason", "Verdict", "__version__"]

try:
    __version__ = metadata.version("perception-firewall")
except metadata.PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0.0.0"

_HOMES = {
    "Firewall": "firewall.screening",
    "FirewallError": "firewall.errors",
    "Frame": "firewall.frame",
    "Reason": "firewall.verdict",
    "Verdict": "firewall.verdict",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: the capture process imports firewall.sources alone and has to start in a blink.
    if name not in _HOMES:
        raise AttributeError(f"module 'firewall' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
