"""Networks computed operator by operator: in torch where the project's interpreter knows all operators, else in onnx's
own reference implementation, which is slow. What every runtime is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, ClassifierSpec, FinderSpec
from firewall.engines import Engine
from firewall.engines.device_network import detector_tensors
from firewall.errors import DataError, EngineError

__all__ = ["ReferenceFrames", "ReferenceNetwork", "reference_of"]


class ReferenceNetwork:
    """A detector's network, computed by the reference."""

    def __init__(self, content: bytes, what: str) -> None:
        tensors = detector_tensors(content, what, free=True)
        self.provider, self._run = _graph_of(content, tensors.input, tensors.output)

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """As of Network."""
        return np.asarray(self._run(values), np.float32)


class ReferenceFrames:
    """A FrameNetwork, computed by the reference."""

    def __init__(self, spec: FinderSpec, content: bytes) -> None:
        self.provider, self._run = _graph_of(content, spec.input, spec.output)
        self._input = np.zeros((1, 3, 0, 0), np.float32)

    def frame(self, height: int, width: int) -> npt.NDArray[np.float32]:
        """As of FrameNetwork."""
        if self._input.shape[2:] != (height, width):
            self._input = np.zeros((1, 3, height, width), np.float32)
        return self._input

    def run(self) -> Any:
        """As of FrameNetwork."""
        return np.asarray(self._run(self._input), np.float32)


class _Interpreter:
    """A classifier as an Engine that computes with `run`: float32 (N, 3, H, W), prepared -> logits."""

    def __init__(self, spec: ClassifierSpec, provider: str, run: Any) -> None:
        self.provider = provider
        self._run = run
        self._mean = np.array(spec.input.mean, np.float64)
        self._std = np.array(spec.input.std, np.float64)

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See Engine.classify. The preparation is written out, so that the edge's folded one is compared with it."""
        values = (images.astype(np.float64) / 255 - self._mean) / self._std
        result = np.asarray(self._run(np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)), np.float32)
        if result.ndim != 2 or len(result) != len(images) or not np.isfinite(result).all():
            raise EngineError(f"the reference gave shape {result.shape}, not finite logits for {len(images)} images")
        return result


def reference_of(bundle: Bundle, spec: ClassifierSpec) -> Engine:
    """A classifier of a bundle, computed by the reference. Raises ModuleNotFoundError without torch."""
    provider, run = _graph_of(bundle.files[spec.file], spec.input.name, spec.output)
    return _Interpreter(spec, provider, run)


def _graph_of(content: bytes, input_name: str, output: str) -> tuple[str, Callable[[npt.NDArray[np.float32]], Any]]:
    """(name, function) of what computes an ONNX graph. Raises ModuleNotFoundError without torch."""
    import onnx
    import torch
    from onnx.reference import ReferenceEvaluator

    from firewall.export.rounded import in_float
    from firewall.lab.models.onnx_network import OnnxNetwork

    model = onnx.load_model_from_string(content)
    try:
        network = OnnxNetwork(model, output).eval()
    except (DataError, EngineError):
        # It has no operators of int8 in older opsets.
        evaluator = ReferenceEvaluator(onnx.load_model_from_string(in_float(content)))

        def evaluate(values: npt.NDArray[np.float32]) -> Any:
            answers: Any = evaluator.run([output], {input_name: values})
            return answers[0]

        return f"onnx {onnx.__version__} reference", evaluate

    @torch.no_grad()
    def run(values: npt.NDArray[np.float32]) -> Any:
        return network(torch.from_numpy(values)).numpy()

    return f"torch {torch.__version__}", run
