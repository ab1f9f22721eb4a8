"""From the name of a classifier to the network."""

from __future__ import annotations

import hashlib
from pathlib import Path

from firewall.bundle import MANIFEST, load_bundle
from firewall.errors import UsageError
from firewall.lab.models.protected import Normalised, Protected
from firewall.lab.models.sign_classifier import from_onnx

__all__ = ["open_classifier"]


def open_classifier(spec: str, root: Path | None = None) -> Protected:  # noqa: ARG001
    """The classifier `spec`."""
    if spec != "default" and not (Path(spec) / MANIFEST).is_file():
        raise UsageError(f"unknown classifier {spec!r}")
    bundle = load_bundle(spec)
    classifier = bundle.manifest.classifier
    content = bundle.files[classifier.file]
    network = from_onnx(content)
    return Protected(
        name=spec if spec == "default" else Path(spec).resolve().name,
        sha256=hashlib.sha256(content).hexdigest(),
        labels=classifier.labels,
        channels=3,
        height=classifier.input.height,
        width=classifier.input.width,
        offset=0,
        network=Normalised(network, classifier.input.mean, classifier.input.std, grey=False)
        .eval()
        .requires_grad_(requires_grad=False),
        differentiable=True,
        card={"calibration": bundle.manifest.calibration.model_dump(mode="json")},
    )
