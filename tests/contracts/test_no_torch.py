"""The edge runs where the lab's libraries are not installed."""

from __future__ import annotations

import subprocess
import sys

_BLOCKED = (
    "torch",
    "torchvision",
    "sklearn",
    "scipy",
    "joblib",
    "foolbox",
    "eagerpy",
    "matplotlib",
    "onnx",
    "onnxscript",
)

_PRELUDE = f"""
import sys

class Blocked:
    names = {_BLOCKED!r}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names or name.startswith(("firewall.lab", "firewall.export")):
            raise ImportError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocked())
"""


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _PRELUDE + code], capture_output=True, text=True, timeout=100, check=False
    )


def test_the_block_blocks() -> None:
    """The hook that the other tests rely on really stops an import."""
    done = _run("import torch")
    assert done.returncode != 0
    assert "torch is blocked" in done.stderr


def test_every_edge_module_imports_without_the_lab() -> None:
    """Each module outside lab and export imports while every library of the lab is blocked."""
    done = _run("""
import importlib, pkgutil
import firewall

def modules(paths, prefix):
    for found in pkgutil.iter_modules(paths, prefix):
        if found.name in ("firewall.lab", "firewall.export", "firewall.__main__"):
            continue  # the last one runs the command line as it is imported
        yield found.name
        if found.ispkg:
            yield from modules(importlib.import_module(found.name).__path__, found.name + ".")

names = sorted(set(modules(firewall.__path__, "firewall.")))
for name in names:
    importlib.import_module(name)
print(*names)
""")
    assert done.returncode == 0, done.stderr
    names = done.stdout.split()
    assert {"firewall.cli", "firewall.screening", "firewall.sources.uri", "firewall.doctor"} <= set(names)


def test_a_frame_is_screened_without_the_lab() -> None:
    """The default bundle judges a frame while every library of the lab is blocked: noise is not released."""
    done = _run("""
import numpy as np
from firewall import Firewall

verdict = Firewall.load("default", threads=1).screen(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
print(verdict.decision, verdict.reason)
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("withhold suspicious", "withhold not a sign")
