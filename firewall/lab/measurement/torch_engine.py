"""A bundle's networks in torch: another library's kernels, to see how much the arithmetic matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from firewall.bundle import ClassifierSpec, InputSpec
from firewall.detectors import Network
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import DataError, EngineError
from firewall.export.precision import prepare

__all__ = ["TorchEngine", "on_torch"]


class TorchEngine:
    """A classifier in torch, as an Engine.

    Args:
        network: float32 (N, 3, H, W), prepared -> logits, float32 (N, classes).
        provider: Its name, for messages and manifests.
        input: How pixels are prepared.
    """

    def __init__(self, network: Network, provider: str, input: InputSpec) -> None:  # noqa: A002 - the manifest's name
        self.provider = provider
        self._network, self._input = network, input

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See Engine.classify."""
        logits = self._network(prepare(images, self._input))
        if not np.isfinite(logits).all():
            raise EngineError("the classifier gave values in torch that are not finite")
        return logits


def on_torch(
    classifier: ClassifierSpec, wanted: Sequence[str], files: Mapping[str, bytes]
) -> tuple[TorchEngine, dict[str, Network]] | None:
    """A bundle's networks in torch.

    Args:
        classifier: Of the bundle.
        wanted: Files of the detectors' networks.
        files: All files of the bundle.

    Returns:
        The classifier, and the detectors' networks by file; a network that torch can't run is run by ONNX Runtime. None
        if torch isn't installed or can't run the classifier.
    """
    try:
        import torch

        networks = {file: _detector(file, files[file]) for file in wanted}
        engine = TorchEngine(
            _network(files[classifier.file], classifier.output), f"torch {torch.__version__}", classifier.input
        )
        engine.classify(np.zeros((2, classifier.input.height, classifier.input.width, 3), np.uint8))
    except (ModuleNotFoundError, DataError, EngineError, RuntimeError):  # torch raises the last
        return None
    return engine, networks


def _detector(file: str, content: bytes) -> Network:
    try:
        return _network(content)
    except DataError:  # an operator that torch is not asked for elsewhere
        return OnnxRuntimeNetwork(content, file, threads=1, optimisation="none")


def _network(content: bytes, output: str | None = None) -> Network:
    import onnx
    import torch

    from firewall.lab.models.onnx_network import OnnxNetwork

    model = onnx.load_model_from_string(content)
    network = OnnxNetwork(model, output or model.graph.output[0].name).eval()

    @torch.no_grad()
    def run(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        answer: npt.NDArray[np.float32] = network(torch.from_numpy(values)).float().numpy()
        return answer

    return run
