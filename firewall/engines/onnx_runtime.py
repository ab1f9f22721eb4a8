"""A classifier on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.engines.sessions import open_session, short
from firewall.errors import EngineError

__all__ = ["OnnxRuntimeEngine", "OnnxRuntimeNetwork"]


class OnnxRuntimeEngine:
    """The classifier of a bundle, loaded from the bytes that were verified.

    device: of firewall.engines.DEVICES; every node runs there, or EngineError says why not. threads: how many the CPU
    provider uses, 0 = one for each core this process may run on. The result doesn't depend on it.
    """

    def __init__(self, bundle: Bundle, *, device: str = "cpu", threads: int = 0) -> None:
        spec = bundle.manifest.classifier
        self._spec = spec
        self._classes = len(spec.labels)
        self._scale = (1.0 / (255.0 * np.array(spec.input.std))).astype(np.float32)
        self._shift = (-np.array(spec.input.mean) / np.array(spec.input.std)).astype(np.float32)
        self._session = open_session(
            bundle.files[spec.file],
            f"{spec.file} of bundle {bundle.path}",
            device=device,
            threads=threads,
            image=(spec.input.name, (3, spec.input.height, spec.input.width)),
        )
        self.provider: str = self._session.get_providers()[0]
        inputs = [entry.name for entry in self._session.get_inputs()]
        outputs = [entry.name for entry in self._session.get_outputs()]
        if inputs != [spec.input.name] or spec.output not in outputs:
            raise EngineError(
                f"{spec.file} has inputs {inputs} and outputs {outputs}; "
                f"its bundle says {spec.input.name!r} -> {spec.output!r}"
            )
        blank = np.zeros((2, spec.input.height, spec.input.width, 3), np.uint8)
        self.classify(blank)  # shapes are proven and memory is allocated before the first frame comes

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits (N, classes) of uint8 images (N, H, W, 3); see Engine.classify."""
        batch = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
        batch *= self._scale[:, None, None]
        batch += self._shift[:, None, None]
        try:
            logits = self._session.run([self._spec.output], {self._spec.input.name: batch})[0]
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"the classifier failed: {short(error)}") from error
        if not isinstance(logits, np.ndarray) or logits.shape != (len(images), self._classes):
            raise EngineError(f"the classifier gave shape {np.shape(logits)}, expected {(len(images), self._classes)}")
        if logits.dtype != np.float32 or not np.isfinite(logits).all():
            raise EngineError("the classifier gave values that are not finite float32 numbers")
        return logits


class OnnxRuntimeNetwork:
    """Any network with one input and one output, float32 (N, ...) -> float32 (N, ...): what a trained detector asks.

    content: the ONNX file. what: names it in errors. device, threads: as of OnnxRuntimeEngine.
    """

    def __init__(self, content: bytes, what: str, *, device: str = "cpu", threads: int = 0) -> None:
        self._what = what
        self._session = open_session(content, what, device=device, threads=threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        kinds = [entry.type for entry in (*inputs, *outputs)]
        if len(inputs) != 1 or len(outputs) != 1 or set(kinds) != {"tensor(float)"}:
            raise EngineError(f"{what} has inputs and outputs {kinds}; a detector's network has one float32 each")
        self._input = inputs[0].name

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The output for `values`; as many rows, all finite. Raises EngineError."""
        try:
            answer = self._session.run(None, {self._input: values})[0]
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"{self._what} failed: {short(error)}") from error
        if not isinstance(answer, np.ndarray) or len(answer) != len(values) or not np.isfinite(answer).all():
            raise EngineError(f"{self._what} gave no finite number for each of {len(values)} inputs")
        return answer
