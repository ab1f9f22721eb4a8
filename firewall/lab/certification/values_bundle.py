"""A network whose labels can be proved goes into a bundle, for `--values` on the edge."""

from __future__ import annotations

import hashlib
from pathlib import Path

from firewall.bundle import Bundle
from firewall.bundle.values import VALUES_FILE, VALUES_NETWORK, ValuesSpec
from firewall.decision.proved_network import ProvedNetwork
from firewall.errors import BundleError, DataError
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.models.classifier_folder import load_card

__all__ = ["with_values"]


def with_values(bundle: Bundle, network: Path, out: Path) -> Bundle:
    """Write a bundle with a certified network.

    Args:
        bundle: The bundle.
        network: Folder of `firewall lab train certified`.
        out: Folder of the new bundle; may be the bundle's own.

    Returns:
        The new bundle.

    Raises:
        DataError: The folder holds no classifier, or one that takes its pixels in another way than as value / 255.
        BundleError: It has other labels, or nothing can be proved of it.
    """
    _, spec, content = load_card(network)
    size = spec.input
    if (size.mean, size.std) != ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
        raise DataError(
            f"{network} is given its pixels in another way than as value / 255, so a change of a value would be "
            "another one; take a network of 'firewall lab train certified'"
        )
    if spec.labels != bundle.manifest.classifier.labels:
        raise BundleError(
            f"{network} has other labels than the classifier of bundle {bundle.path}; train it on the same classes"
        )
    ProvedNetwork.read(content, str(network), size.height, size.width)
    digest = hashlib.sha256(content).hexdigest()
    told = ValuesSpec(file=VALUES_NETWORK, network=digest, width=size.width, height=size.height)
    files = {VALUES_NETWORK: content, VALUES_FILE: (told.model_dump_json(indent=1) + "\n").encode()}
    return rewritten(bundle, out, files)
