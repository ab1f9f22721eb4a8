"""Image CNN: does the image itself look attacked? Nguyen H., Kuribayashi et al., section 4.

A convolutional network that was trained on benign and attacked images, with or without the final softmax in its
loss; here only its two outputs count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.evidence import Evidence, Network
from firewall.errors import EngineError

__all__ = ["ImageCnn", "ImageCnnParameters", "two_way_score"]


class ImageCnnParameters(Strict):
    """Parameters of the detector.

    Attributes:
        file: The network, (1, 3, H, W) float32 RGB in 0..1 -> (1, 2): benign, attacked, before any softmax.
    """

    file: str


class ImageCnn:
    """The detector; `parameters` as in ImageCnnParameters. Raises BundleError if they don't fit."""

    name = "image-cnn"
    operations: Sequence[str] = ()

    def __init__(self, parameters: dict[str, object], network: Network) -> None:
        self.parameters = parameters_of(ImageCnnParameters, parameters, "detector 'image-cnn'")
        self._network = network

    def score(self, evidence: Evidence) -> float:
        """By how much the output "attacked" exceeds the output "benign"; 0 is the network's own boundary."""
        return two_way_score(self._network, evidence.image)


def two_way_score(network: Network, image: npt.NDArray[np.integer]) -> float:
    """The output "attacked" less the output "benign" of a network with these two outputs.

    Args:
        network: (1, channels, H, W) float32 -> (1, 2).
        image: (H, W, channels); the network gets it divided by 255.

    Returns:
        The difference, higher is more suspicious.

    Raises:
        EngineError: If the network gives another shape.
    """
    batch = np.ascontiguousarray(image.transpose(2, 0, 1)[np.newaxis], np.float32) / np.float32(255)
    outputs = network(batch)
    if outputs.shape != (1, 2):
        raise EngineError(f"a two-way detector's network gave shape {outputs.shape}, expected (1, 2)")
    return float(outputs[0, 1] - outputs[0, 0])
