"""Residual: does what is lost by making the image smaller look like a perturbation? Sun et al.

The residual image, image - up(down(image)), holds little of what the image shows and much of what an attack added. A
small network, trained on residuals of benign and attacked images, judges it. Its output has to stay secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.evidence import Evidence, Network
from firewall.detectors.image_cnn import two_way_score
from firewall.errors import EngineError

__all__ = ["Residual", "ResidualParameters"]


class ResidualParameters(Strict):
    """Parameters of the detector.

    Attributes:
        file: The network, residuals (1, 3 (1 + len(also)), H, W) float32 in -1..1 -> (1, 2): benign, attacked,
            before any softmax.
        rate: The paper's compression rate and how it is read, see firewall.transforms.residual.
        reading: How the rate is read, "removed" or "kept".
        also: Further rates; their residuals follow as channels, since a perturbation may show at one scale and not at
            another.
    """

    file: str
    rate: float = Field(gt=0, lt=1)
    reading: Literal["removed", "kept"] = "removed"
    also: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = ()


class Residual:
    """The detector; `parameters` as in ResidualParameters. Raises BundleError if they don't fit."""

    name = "residual"
    operations: Sequence[str] = ()

    def __init__(self, parameters: dict[str, object], network: Network) -> None:
        self.parameters = parameters_of(ResidualParameters, parameters, "detector 'residual'")
        self._network = network

    def score(self, evidence: Evidence) -> float:
        """By how much the output "attacked" exceeds the output "benign"; 0 is the network's own boundary."""
        if evidence.residual is None:
            raise EngineError("the residual detector was given no way to make residual images")
        rates = (self.parameters.rate, *self.parameters.also)
        found = [evidence.residual(evidence.image, rate, reading=self.parameters.reading) for rate in rates]
        return two_way_score(self._network, np.concatenate(found, axis=2))
