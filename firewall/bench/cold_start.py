"""From nothing to the first verdict: fresh processes that load a bundle, judge one picture and tell how long each took.

Such a process runs `main`: its orders come as JSON in its first argument, the picture as an npy file on its standard
input, and its answer is one line of JSON on its standard output.
"""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import time
from typing import Any

_BORN = time.monotonic()  # before anything heavy is imported; the clock is the same for all processes

__all__ = ["cold_starts", "gpu_memory", "main", "middle"]

_PATIENCE = 600.0  # seconds; TensorRT may build an engine
# It sees the modules that this process sees, whatever lies in the working folder.
_CHILD = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])["path"]
from firewall.bench.cold_start import main
main()
"""


def cold_starts(orders: dict[str, Any], picture: Any, runs: int) -> list[dict[str, float | None]]:
    """Time fresh processes from their start to their first verdict.

    Args:
        orders: What each is to load: bundle, trust, allow_unsigned, device, threads, cores, regions.
        picture: (H, W, 3) uint8 RGB.
        runs: How many processes, one after the other.

    Returns:
        For each process its seconds and MB by name, see `ColdStart` and `Memory` of report.py.

    Raises:
        EngineError: If a process fails or gives no verdict within ten minutes.
    """
    import numpy as np

    from firewall.errors import EngineError
    from firewall.host.pinning import elsewhere, usable

    file = io.BytesIO()
    np.save(file, picture, allow_pickle=False)
    found = []
    for _ in range(runs):
        started = time.monotonic()
        command = [sys.executable, "-c", _CHILD, json.dumps({**orders, "path": sys.path})]
        try:
            # It names its cores itself, among those that this process has been given.
            with elsewhere(usable()):
                done = subprocess.run(
                    command, input=file.getvalue(), capture_output=True, timeout=_PATIENCE, check=False
                )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"a fresh process gave no verdict within {_PATIENCE:g} s") from error
        try:
            told = json.loads(done.stdout.decode().rsplit("\n", 2)[-2])
        except (IndexError, ValueError) as error:
            last = " ".join(done.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1].split())[:300]
            raise EngineError(f"a fresh process ended with exit code {done.returncode}: {last}") from error
        told["interpreter"] = told.pop("born") - started
        told["total"] = sum(told[part] for part in ("interpreter", "imports", "load", "first_verdict"))
        found.append(told)
    return found


def gpu_memory() -> tuple[float | None, str]:
    """Used memory of the first GPU in MB as nvidia-smi tells it, or None and why not."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return float(done.stdout.split()[0]) * 1.048576, ""
    except FileNotFoundError:
        return None, "nvidia-smi is not installed"
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None, "nvidia-smi does not tell; the GPU of a Jetson shares the processor's memory, see peak"


def middle(found: list[dict[str, float | None]], name: str) -> float | None:
    """The median of one value over all processes.

    Args:
        found: What `cold_starts` gave.
        name: Which value.

    Returns:
        The median; None if no process had that value.
    """
    values = [told[name] for told in found]
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def main() -> None:
    """What a fresh process does."""
    print(json.dumps(_child(json.loads(sys.argv[1]))))  # noqa: T201 - this is how it answers


def _child(orders: dict[str, Any]) -> dict[str, float | None]:
    on_gpu = orders["device"] != "cpu"
    before = gpu_memory()[0] if on_gpu else None
    started = time.monotonic()
    import resource

    import numpy as np

    from firewall.bench.loading import load
    from firewall.frame import Frame
    from firewall.host.pinning import judge_here, pinned
    from firewall.regions import build

    imported = time.monotonic()
    with pinned(orders.get("cores"), orders["threads"]):
        guard = load(orders["bundle"], orders["trust"], orders["allow_unsigned"], orders["device"], orders["threads"])
        guard.exhaustive = True
        finder = build(orders["regions"], device=orders["device"], threads=orders["threads"], bundle=guard.bundle)
        judge_here()
        loaded = time.monotonic()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        picture = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
        given = time.monotonic()
        guard.screen_frame(Frame(picture, "bench", 0, given), finder.find(picture))
        judged = time.monotonic()
    after = gpu_memory()[0] if on_gpu else None
    return {
        "born": _BORN,
        "imports": imported - started,
        "load": loaded - imported,
        "first_verdict": judged - given,
        "loaded": resident,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        "gpu": after - before if after is not None and before is not None else None,
    }
