"""The classifier that a jury is for, asked as the edge asks it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import ClassifierSpec
from firewall.engines import Engine
from firewall.frame import Pixels
from firewall.lab.measurement.edge import engine_for
from firewall.transforms import resize

__all__ = ["Teacher"]

_BATCH = 64


class Teacher:
    """A classifier on ONNX Runtime, with the edge's resize and preparation. Each process that asks opens its own.

    Args:
        spec: As a manifest describes it.
        content: Its ONNX file.
        threads: Of the processor.
    """

    def __init__(self, spec: ClassifierSpec, content: bytes, threads: int = 1) -> None:
        self.spec, self.content, self.threads = spec, content, threads
        self._engine: Engine | None = None
        self._owner = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None, "_owner": 0}  # a session can't leave its process

    def logits(self, crops: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Logits of crops.

        Args:
            crops: Uint8 (h, w, 3) each, of any size.

        Returns:
            Float32 (N, classes).

        Raises:
            EngineError: The classifier can't be run.
        """
        if self._engine is None or self._owner != os.getpid():
            self._engine, self._owner = engine_for(self.spec, self.content, self.threads), os.getpid()
        size = self.spec.input
        parts = [np.zeros((0, len(self.spec.labels)), np.float32)]
        for start in range(0, len(crops), _BATCH):
            resized = [resize(crop, size.width, size.height) for crop in crops[start : start + _BATCH]]
            parts.append(self._engine.classify(np.stack(resized)))
        return np.concatenate(parts)

    def probabilities(self, crops: Sequence[Pixels]) -> npt.NDArray[np.float32]:
        """Softmax of `logits`: float32 (N, classes), each row with the sum 1."""
        logits = self.logits(crops).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: npt.NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares
