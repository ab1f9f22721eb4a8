"""Evidence -> score, higher = more suspicious. One question a file."""

from __future__ import annotations

from collections.abc import Callable

from firewall.bundle import DetectorSpec
from firewall.detectors.agreement import Agreement
from firewall.detectors.confidence import Confidence
from firewall.detectors.evidence import Detector, Evidence
from firewall.errors import BundleError

__all__ = ["DETECTORS", "Detector", "Evidence", "build"]

#: Every detector by the name that bundles use.
DETECTORS: dict[str, Callable[[dict[str, object]], Detector]] = {
    Agreement.name: Agreement,
    Confidence.name: Confidence,
}


def build(spec: DetectorSpec) -> Detector:
    """The detector that a bundle names; raises BundleError if it is unknown or its parameters don't fit."""
    if spec.name not in DETECTORS:
        raise BundleError(f"unknown detector {spec.name!r}; this version knows {', '.join(DETECTORS)}")
    return DETECTORS[spec.name](dict(spec.parameters))
