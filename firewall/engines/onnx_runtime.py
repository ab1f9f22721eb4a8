"""A classifier on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, ClassifierSpec
from firewall.engines.preparation import finite, scale_and_shift
from firewall.engines.sessions import Optimisation, check_names, open_session, threads_of
from firewall.engines.small_network import SmallNetwork, open_small
from firewall.errors import EngineError
from firewall.host.causes import told
from firewall.host.onnxruntime import ort

__all__ = ["OnnxRuntimeEngine", "OnnxRuntimeNetwork"]


class OnnxRuntimeEngine:
    """The classifier of a bundle, loaded from the bytes that were verified. A TensorEngine: on the processor the
    network reads and writes the engine's own memory, and nothing is copied on the way. Small networks are run there by
    the native runtime (firewall.engines.small_network).

    Args:
        bundle: A verified bundle.
        device: One of firewall.engines.DEVICES; every node runs there, or EngineError says why not.
        threads: How many the CPU provider uses, 0 = one for each core this process may run on. The result doesn't
            depend on it.
        spec: Another classifier of the bundle; None: the one that it protects.
        optimisation: How far the graph may be rewritten, see `open_session`.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        threads: int = 0,
        spec: ClassifierSpec | None = None,
        optimisation: Optimisation = "all",
    ) -> None:
        spec = bundle.manifest.classifier if spec is None else spec
        self._spec = spec
        #: What the bundle's other networks are opened on, see firewall.engines.networks.
        self.device = device
        self._classes = len(spec.labels)
        self._scale, self._shift = scale_and_shift(spec.input)
        self._session = open_session(
            bundle.files[spec.file],
            f"{spec.file} of bundle {bundle.path}",
            device=device,
            threads=threads,
            image=(spec.input.name, (3, spec.input.height, spec.input.width)),
            optimisation=optimisation,
        )
        self.provider: str = self._session.get_providers()[0]
        check_names(self._session, spec)
        self._input = np.empty((0, 3, spec.input.height, spec.input.width), np.float32)
        self._output = np.empty((0, self._classes), np.float32)
        self._bindings: dict[int, ort.IOBinding] = {}
        self._prove_shape()
        self._small = _small(
            bundle.files[spec.file], self._session, (spec.output,), device=device, threads=threads, how=optimisation
        )
        blank = np.zeros((2, spec.input.height, spec.input.width, 3), np.uint8)
        self.classify(blank)  # shapes are proven and memory is allocated before the first frame comes

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits (N, classes) of uint8 images (N, H, W, 3); see Engine.classify."""
        batch = self.tensor(len(images))
        batch[...] = images.transpose(0, 3, 1, 2)
        batch *= self._scale
        batch += self._shift
        return self.run(len(images))

    def tensor(self, count: int) -> npt.NDArray[np.float32]:
        """The memory that the network reads for `count` images, (count, 3, H, W); see TensorEngine.tensor."""
        if count > len(self._input):
            self._input = np.empty((count, *self._input.shape[1:]), np.float32)
            self._output = np.empty((count, self._classes), np.float32)
            self._bindings.clear()
        return self._input[:count]

    def run(self, count: int) -> npt.NDArray[np.float32]:
        """Logits (count, classes) of what `tensor(count)` holds; see TensorEngine.run."""
        if count == 0:
            return np.empty((0, self._classes), np.float32)
        # What the network doesn't write is refused: never the answer to the images before.
        self._output[:count] = np.nan
        try:
            if self._small is not None:
                self._small.run(self.tensor(count), self._output[:count])
            else:
                self._session.run_with_iobinding(self._bound(count))
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"the classifier failed: {told(error)}") from error
        logits: npt.NDArray[np.float32] = finite(self._output[:count]).copy()  # the next batch overwrites it
        return logits

    def _bound(self, count: int) -> ort.IOBinding:
        """Input and output of a batch of this size, where they lie."""
        self.tensor(count)
        binding = self._bindings.get(count)
        if binding is None:
            binding = self._session.io_binding()
            binding.bind_ortvalue_input(self._spec.input.name, ort.OrtValue.ortvalue_from_numpy(self._input[:count]))
            binding.bind_ortvalue_output(self._spec.output, ort.OrtValue.ortvalue_from_numpy(self._output[:count]))
            self._bindings[count] = binding
        return binding

    def _prove_shape(self) -> None:
        """Run two blank images by themselves: the output is what its manifest says, before memory is bound to it."""
        spec, count = self._spec, 2
        blank = np.zeros((count, *self._input.shape[1:]), np.float32)
        try:
            logits = self._session.run([spec.output], {spec.input.name: blank})[0]
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"the classifier failed: {told(error)}") from error
        if np.shape(logits) != (count, self._classes):
            raise EngineError(f"the classifier gave shape {np.shape(logits)}, expected {(count, self._classes)}")
        if logits.dtype != np.float32:
            raise EngineError(f"the classifier gave {logits.dtype} values; float32 is needed")


class OnnxRuntimeNetwork:
    """Any network with one input and one output, float32 (N, ...) -> float32 (N, ...): what a trained detector asks.

    Args:
        content: The ONNX file.
        what: Its name, for messages.
        device: As in OnnxRuntimeEngine.
        threads: As in OnnxRuntimeEngine.
        optimisation: As in OnnxRuntimeEngine.
    """

    def __init__(
        self,
        content: bytes,
        what: str,
        *,
        device: str = "cpu",
        threads: int = 0,
        optimisation: Optimisation = "all",
    ) -> None:
        self._what = what
        self._session = open_session(content, what, device=device, threads=threads, optimisation=optimisation)
        #: What runs it, such as "CPUExecutionProvider".
        self.provider: str = self._session.get_providers()[0]
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        kinds = [entry.type for entry in (*inputs, *outputs)]
        if len(inputs) != 1 or len(outputs) != 1 or set(kinds) != {"tensor(float)"}:
            raise EngineError(f"{what} has inputs and outputs {kinds}; a detector's network has one float32 each")
        self._input = inputs[0].name
        self._small = _small(content, self._session, None, device=device, threads=threads, how=optimisation)

    def __call__(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The output for `values`; as many rows, all finite. Raises EngineError."""
        try:
            if self._small is not None and values.shape[1:] == self._small.image:
                answer = np.full((len(values), self._small.outputs), np.nan, np.float32)
                self._small.run(np.ascontiguousarray(values, np.float32), answer)
            else:
                answer = self._session.run(None, {self._input: values})[0]
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise EngineError(f"{self._what} failed: {told(error)}") from error
        if not isinstance(answer, np.ndarray) or len(answer) != len(values) or not np.isfinite(answer).all():
            raise EngineError(f"{self._what} gave no finite number for each of {len(values)} inputs")
        return answer


def _small(
    content: bytes,
    session: ort.InferenceSession,
    outputs: Sequence[str] | None,
    *,
    device: str,
    threads: int,
    how: Optimisation,
) -> SmallNetwork | None:
    """The network as the native runtime runs it, in half the time, if it knows all of it and gives what ONNX Runtime
    gives; None where ONNX Runtime is to run it: on another device, or as it is written."""
    entry = session.get_inputs()[0]
    if device != "cpu" or how != "all" or len(entry.shape) != 4 or entry.shape[1] != 3:
        return None
    height, width = entry.shape[2:]
    if not isinstance(height, int) or not isinstance(width, int):
        return None

    def reference(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(session.run(outputs, {entry.name: images})[0])

    return open_small(content, reference, height, width, threads=threads_of(threads))
