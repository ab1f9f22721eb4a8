"""Attention: do the pixels that matter show the class that the classifier gives? Nguyen C., thesis, chapter 3.

One file holds two networks: g makes a mask of the pixels that matter to the classifier f1, and f2 gives a class from
the mask (or from the image under it). An attack on f1 mostly doesn't change what f2 gives, so the two disagree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from firewall.bundle.strict import Strict, parameters_of
from firewall.detectors.evidence import Evidence, Network
from firewall.errors import EngineError

__all__ = ["DISAGREEMENT", "Attention", "AttentionParameters"]

#: The threshold of the thesis: a score is above it if, and only if, f2 gives another class than f1.
DISAGREEMENT = 0.0


class AttentionParameters(Strict):
    """Parameters of the detector.

    Attributes:
        file: G and f2 in one, (1, 3, H, W) float32 RGB in 0..1 -> (1, classes): logits of the classifier's classes.
    """

    file: str


class Attention:
    """The detector; `parameters` as in AttentionParameters. Raises BundleError if they don't fit."""

    name = "attention"
    operations: Sequence[str] = ()

    def __init__(self, parameters: dict[str, object], network: Network) -> None:
        self.parameters = parameters_of(AttentionParameters, parameters, "detector 'attention'")
        self._network = network

    def score(self, evidence: Evidence) -> float:
        """By how much f2's best other class exceeds the class that f1 gives, in f2's logits; 0 is the thesis' boundary.

        Raises EngineError if the network gives anything but one logit for each of f1's classes.
        """
        image = np.ascontiguousarray(evidence.image.transpose(2, 0, 1)[np.newaxis], np.float32) / np.float32(255)
        logits = self._network(image)
        if logits.shape != (1, len(evidence.logits)):
            raise EngineError(
                f"the attention detector's network gave shape {logits.shape}, expected {(1, len(evidence.logits))}"
            )
        own = int(evidence.logits.argmax())
        return float(np.delete(logits[0], own).max() - logits[0, own])
