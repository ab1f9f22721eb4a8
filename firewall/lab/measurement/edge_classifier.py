"""A bundle's classifier as the edge runs it, for what the lab asks of a classifier's answers.

The lab attacks and trains with torch, whose sums come out a little different. A threshold has to be set with the
numbers that it will be compared with: those of the bundle's own engine.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.engines import Engine
from firewall.host.onnxruntime import ort
from firewall.lab.database.variants import Answering
from firewall.lab.models import Protected

__all__ = ["EdgeClassifier", "on_the_edge"]


@dataclass(frozen=True, eq=False)
class EdgeClassifier:
    """name, sha256, labels: as of Protected. arithmetic: what computes the logits, for whoever keeps them."""

    name: str
    sha256: str
    labels: tuple[str, ...]
    engine: Engine
    arithmetic: str

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits (N, classes) of uint8 (N, height, width, 3), all in one batch."""
        return self.engine.classify(images)


def on_the_edge(bundle: Bundle, engine: Engine, classifier: Protected) -> Answering:
    """`classifier` on the bundle's engine, if it is the bundle's own; any other as it is."""
    content = bundle.files[bundle.manifest.classifier.file]
    if classifier.sha256 != hashlib.sha256(content).hexdigest() or classifier.channels != 3:
        return classifier
    arithmetic = f"{engine.provider} {ort.__version__} {platform.machine()}"
    return EdgeClassifier(classifier.name, classifier.sha256, classifier.labels, engine, arithmetic)
