"""The machine, its software and how busy it is: what a latency depends on besides the firewall."""

from __future__ import annotations

import os
import platform
import re
import resource
from importlib import metadata
from pathlib import Path
from typing import Any

from firewall import __version__, native
from firewall.bench.jetson import Jetson
from firewall.errors import FirewallError
from firewall.host.core_list import listed
from firewall.host.pinning import placed, usable
from firewall.host.sensors import text

__all__ = ["NOT_A_JETSON", "describe", "peak_memory"]

#: What is said of every other machine.
NOT_A_JETSON = "not a Jetson"
_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "opencv-python-headless", "pillow", "tensorrt")


def describe(jetson: Jetson | None, root: Path = Path("/")) -> dict[str, Any]:
    """Describe the machine that is measured.

    Args:
        jetson: The board's state, if it is a Jetson.
        root: Folder with /proc and /sys, for tests.

    Returns:
        Its facts by name. `label` is its name for people, `load` the average load of the last minute, memory is in MB,
        `cores_in_use` says where threads run.
    """
    architecture = platform.machine()
    model = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text(root / "proc/cpuinfo") or "", re.MULTILINE)
    memory = re.search(r"MemTotal:\s+(\d+) kB", text(root / "proc/meminfo") or "")
    cores = placed()
    try:
        simd = native.simd_level()
    except FirewallError:
        simd = "none: the native runtime is not there"
    return {
        "label": jetson.label if jetson else f"{architecture} (not Jetson)",
        "board": jetson.module if jetson else text(root / "proc/device-tree/model") or "",
        "architecture": architecture,
        "cpu": model[1].strip() if model else "",
        "cores": os.cpu_count(),
        "usable_cores": len(usable()),
        "cores_in_use": listed(usable()) if cores is None else cores.line(),
        "memory_mb": round(int(memory[1]) * 1024 / 1e6) if memory else None,
        "governor": text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "firewall": __version__,
        "simd": simd,
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def peak_memory() -> float:
    """The largest resident set of this process so far, in MB (10^6 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
