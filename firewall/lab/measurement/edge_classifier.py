"""A bundle's classifier as the edge runs it, in the place of the lab's.

The lab attacks and trains with torch, whose sums differ a little. A threshold has to be set with the numbers
that it will be compared with: those of the bundle's own engine.
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
    """A classifier, as far as its answers go; see `firewall.lab.database.variants.Answering`.

    Attributes:
        name: As of Protected.
        sha256: As of Protected.
        labels: As of Protected.
        engine: Runs it.
        arithmetic: What computes the logits. Those of one arithmetic are not stored as those of another.
    """

    name: str
    sha256: str
    labels: tuple[str, ...]
    engine: Engine
    arithmetic: str

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits, float32 (N, classes), of images, uint8 (N, height, width, 3), all in one batch."""
        return self.engine.classify(images)


def on_the_edge(bundle: Bundle, engine: Engine, classifier: Protected) -> Answering:
    """A classifier on the bundle's engine if it is the bundle's own; any other as it is.

    Args:
        bundle: The bundle.
        engine: Runs its classifier.
        classifier: The lab's.
    """
    content = bundle.files[bundle.manifest.classifier.file]
    if classifier.sha256 != hashlib.sha256(content).hexdigest() or classifier.channels != 3:
        return classifier
    arithmetic = f"{engine.provider} {ort.__version__} {platform.machine()}"
    return EdgeClassifier(classifier.name, classifier.sha256, classifier.labels, engine, arithmetic)
