"""What the networks of a bundle's detectors are asked while images are judged: to calibrate and compare them on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.detectors import build as build_detector
from firewall.engines import Network, OnnxRuntimeEngine
from firewall.frame import Pixels
from firewall.screening import Firewall
from firewall.sweep.keyed import key_of

__all__ = ["recorded_inputs"]

Values = npt.NDArray[np.float32]


class _Recording:
    """A network that keeps what it was asked."""

    def __init__(self, network: Network) -> None:
        self._network, self.asked = network, list[Values]()

    def __call__(self, values: Values) -> Values:
        self.asked.append(values.copy())
        return self._network(values)


def recorded_inputs(bundle: Bundle, images: Sequence[Pixels], *, threads: int = 1) -> dict[str, Values]:
    """What each detector's network is asked about images, each judged whole, on the processor.

    Args:
        bundle: A verified bundle.
        images: (H, W, 3) uint8 of any size.
        threads: Of the classifier.

    Returns:
        File -> float32 (N, ...), a row or more for each image.

    Raises:
        EngineError: If a network can't be run.
    """
    guard = Firewall(
        bundle, OnnxRuntimeEngine(bundle, threads=threads), exhaustive=True, threads=threads, sweep_key=key_of(0)
    )
    if not guard.networks:
        return {}
    heard = {file: _Recording(network) for file, network in guard.networks.items()}
    listening = [build_detector(spec, heard.__getitem__) for spec in bundle.manifest.detectors]
    guard.detectors = guard.rules.in_order(listening)
    for image in images:
        guard.screen(image)
    return {file: np.concatenate(each.asked) for file, each in heard.items() if each.asked}
