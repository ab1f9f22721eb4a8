"""Evidence -> score, higher = more suspicious. One question a file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from firewall.bundle import DetectorSpec
from firewall.detectors.agreement import Agreement
from firewall.detectors.attention import Attention
from firewall.detectors.confidence import Confidence
from firewall.detectors.contrast import Contrast
from firewall.detectors.evidence import Detector, Evidence, Network
from firewall.detectors.image_cnn import ImageCnn
from firewall.detectors.juror import Juror, is_juror
from firewall.detectors.keyed import Keyed
from firewall.detectors.rejection import REJECTIONS, Rejection
from firewall.detectors.residual import Residual
from firewall.detectors.stability import Stability
from firewall.detectors.statistics import Statistics
from firewall.errors import BundleError

__all__ = ["ASKING", "DETECTORS", "NETWORK_DETECTORS", "Detector", "Evidence", "Keyed", "Network", "Rejection", "build"]

#: Detectors that need nothing but their parameters, by the name that bundles use.
DETECTORS: dict[str, Callable[[dict[str, object]], Detector]] = {
    Agreement.name: Agreement,
    Confidence.name: Confidence,
    Contrast.name: Contrast,
    Stability.name: Stability,
}
#: Detectors that ask a trained network, which their parameter `file` names.
NETWORK_DETECTORS: dict[str, Callable[[dict[str, object], Network], Detector]] = {
    Statistics.name: Statistics,
    ImageCnn.name: ImageCnn,
    Residual.name: Residual,
    Attention.name: Attention,
}
#: Detectors that ask networks of jurors, which their parameter `jurors` names.
ASKING: dict[str, Callable[[dict[str, object], Callable[[str], Network] | None, int | None], Detector]] = {
    Keyed.name: Keyed,
    **{name: partial(Rejection, name) for name in REJECTIONS},
}


def build(
    spec: DetectorSpec, open_network: Callable[[str], Network] | None = None, classes: int | None = None
) -> Detector:
    """The detector that a bundle names.

    Args:
        spec: The detector as the manifest has it.
        open_network: Gives the network in a file of the bundle.
        classes: How many the classifier has: a juror proves at once that it knows as many. None: not before it is
            asked.

    Raises:
        BundleError: If the detector is unknown or its parameters don't fit.
        EngineError: If its network can't be used.
    """
    parameters = dict(spec.parameters)
    if spec.name in DETECTORS:
        return DETECTORS[spec.name](parameters)
    if spec.name in ASKING:
        return ASKING[spec.name](parameters, open_network, classes)
    if spec.name not in NETWORK_DETECTORS and not is_juror(spec.name):
        known = ", ".join([*DETECTORS, *NETWORK_DETECTORS, *ASKING, "juror-NAME (a-z, 0-9 and hyphens)"])
        raise BundleError(f"unknown detector {spec.name!r}; this version knows {known}")
    if open_network is None or not isinstance(parameters.get("file"), str):
        raise BundleError(f"detector {spec.name!r} needs a network: a parameter 'file' that names a file of the bundle")
    network = open_network(str(parameters["file"]))
    if is_juror(spec.name):
        return Juror(spec.name, parameters, network, classes)
    return NETWORK_DETECTORS[spec.name](parameters, network)
