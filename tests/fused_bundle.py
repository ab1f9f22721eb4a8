"""A bundle with a fusion, pixel detectors, tracks, drift and a certificate: the default bundle before it had a jury.

Its classifiers are the default bundle's own files.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

from firewall.bundle import DEFAULT

__all__ = ["fused_bundle"]

_PARTS = Path(__file__).parent / "data" / "fused_bundle"


@cache
def fused_bundle() -> Path:
    """Its folder, put together once in each process."""
    folder = Path(tempfile.mkdtemp(prefix="fused-bundle-"))
    for file in (*_PARTS.iterdir(), DEFAULT / "classifier.onnx", DEFAULT / "masked.onnx"):
        shutil.copyfile(file, folder / file.name)
    return folder
