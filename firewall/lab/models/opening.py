"""From the name of a classifier to the network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from firewall.bundle import MANIFEST, ClassifierSpec, load_bundle
from firewall.errors import DataError, UsageError
from firewall.lab.datasets import data_root
from firewall.lab.datasets.cifar10 import CLASS_NAMES
from firewall.lab.datasets.nips17 import imagenet_names
from firewall.lab.models.onnx_file import Options, load, open_file, read_onnx
from firewall.lab.models.protected import Normalised, Protected
from firewall.lab.models.sign_classifier import from_onnx
from firewall.lab.models.small_networks import ARCHITECTURES

__all__ = ["PACKS", "TRAINED", "load_torch", "open_classifier"]

#: Where `firewall lab train classifier --architecture NAME` writes, and where NAME is looked for.
TRAINED = Path("runs") / "classifiers"


@dataclass(frozen=True)
class _Pack:
    """A classifier whose ONNX file lies with the data: its data set, its preparation and its notes."""

    data: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    notes: str


_CIFAR = _Pack(
    "cifar10",
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
    "trained on the official CIFAR-10 training images, so those of cifar10/lossless are not kept out",
)
_MOBILENET = _Pack(
    "imagenet", (0.5,), (0.5,), "1001 classes, 0 is background; the float version of a network trained for 8 bits"
)
#: Classifiers by name that lie under the data folder as `NAME.onnx.xz` or `models/NAME.onnx.xz`, plain or packed.
PACKS: dict[str, _Pack] = {
    "cifar10_resnet20": _CIFAR,
    "cifar10_resnet56": _CIFAR,
    "mobilenet_v1_0.25_128": _MOBILENET,
    "mobilenet_v1_0.5_160": _MOBILENET,
    "mobilenet_v1_0.75_192": _MOBILENET,
    "mobilenet_v2_1.0_224": _MOBILENET,
}


def open_classifier(spec: str, root: Path | None = None) -> Protected:
    """The classifier of that name, ready to be attacked.

    `spec` is one of

    * `default`, the classifier of the bundle that comes with the package, or the folder of another bundle;
    * a folder made by `firewall lab train classifier`, or the name of an architecture, which stands for the folder that
      the command makes of it: lenet, two-layer, sign-small, alexnet, vgg;
    * a name in PACKS, whose file is looked for under `root`;
    * `PATH.onnx` or `PATH.onnx.xz`, perhaps with options: see `open_file`.

    Args:
        spec: The name.
        root: Folder of the data sets and classifiers; None: the usual places.

    Returns:
        The classifier.

    Raises:
        UsageError: It is unknown.
        DataError: It is missing or can't be used.
        BundleError: The bundle is damaged.
    """
    folder = Path(spec)
    if spec == "default" or (folder / MANIFEST).is_file():
        return _bundle(spec)
    if (folder / "card.json").is_file():
        return _trained(folder)
    if spec in ARCHITECTURES:
        if (TRAINED / spec / "card.json").is_file():
            return _trained(TRAINED / spec)
        raise DataError(
            f"the classifier {spec} has not been trained here ({TRAINED / spec} is missing); make it with "
            f"'firewall lab train classifier --architecture {spec}'"
        )
    if spec in PACKS:
        return _pack(spec, data_root(root))
    if ".onnx" in spec:
        return open_file(spec)
    raise UsageError(
        f"unknown classifier {spec!r}; known: default, a bundle's folder, a folder of 'firewall lab train classifier', "
        f"PATH.onnx, {', '.join((*ARCHITECTURES, *PACKS))}"
    )


def load_torch(path_or_bundle: str | Path) -> nn.Module:
    """The classifier as a torch network through which gradients flow, for whoever attacks it.

    Args:
        path_or_bundle: `"default"`, a bundle's folder, an ONNX file, or whatever else `open_classifier` takes.

    Returns:
        A module in evaluation mode: float (N, 3, H, W) in 0..1 RGB in, logits (N, classes) out; H and W are the
        network's own. Its normalisation is inside. No weight wants a gradient.

    Raises:
        UsageError: nothing of that name is known.
        DataError: the file is missing, damaged, or holds an operator that there are no gradients for.
        BundleError: the bundle is not as it was made.
    """
    classifier = open_classifier(str(path_or_bundle))
    if not classifier.differentiable:
        why = classifier.card.get("gradients", "an operator is unknown")
        raise DataError(f"{path_or_bundle} has no gradients in torch ({why}); use a black-box attack")
    return classifier.network


def _bundle(spec: str) -> Protected:
    bundle = load_bundle(spec)
    name = spec if spec == "default" else Path(spec).resolve().name
    card = {
        "bundle": bundle.manifest.name,
        "bundle_version": bundle.manifest.version,
        "split": bundle.manifest.calibration.split,
        "citations": list(bundle.manifest.citations),
    }
    content = bundle.files[bundle.manifest.classifier.file]
    return _specified(name, bundle.manifest.classifier, content, card)


def _trained(folder: Path) -> Protected:
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        spec = ClassifierSpec.model_validate(card["classifier"])
        content = (folder / spec.file).read_bytes()
        if hashlib.sha256(content).hexdigest() != card["sha256"]:
            raise ValueError(f"{spec.file} is not the file that the card was written for")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} is not a classifier's folder ({error}); make one with 'firewall lab train classifier'"
        ) from error
    return _specified(folder.resolve().name, spec, content, card, grey=card.get("channels") == 1)


def _specified(
    name: str, spec: ClassifierSpec, content: bytes, card: dict[str, Any], *, grey: bool = False
) -> Protected:
    """A classifier that comes with the specification that the edge runs it by."""
    sha256 = hashlib.sha256(content).hexdigest()
    options = Options(spec.input.mean, spec.input.std, labels=spec.labels, offset=0, grey=grey, output=spec.output)
    try:
        signs = from_onnx(content)
    except DataError:
        return load(name, content, options, card=card, sha256=sha256)
    network = Normalised(signs, spec.input.mean, spec.input.std, grey=False).eval().requires_grad_(requires_grad=False)
    gradients = "by torch, from the weights in the ONNX file"
    return Protected(
        name=name,
        sha256=sha256,
        labels=spec.labels,
        channels=3,
        height=spec.input.height,
        width=spec.input.width,
        offset=0,
        network=network,
        differentiable=True,
        card={**card, "gradients": gradients},
    )


def _pack(name: str, root: Path) -> Protected:
    places = [root / folder / f"{name}{suffix}" for folder in ("", "models") for suffix in (".onnx", ".onnx.xz")]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise DataError(
            f"the classifier {name} is not under {root}; put {name}.onnx or {name}.onnx.xz there or into its "
            "sub-folder models, or name another folder with --data or FIREWALL_DATA"
        )
    pack = PACKS[name]
    content = read_onnx(path)
    labels = CLASS_NAMES if pack.data == "cifar10" else ("background", *imagenet_names(root))
    sha256 = hashlib.sha256(content).hexdigest()
    card = {"data": pack.data, "file": path.name}
    protected = load(name, content, Options(pack.mean, pack.std, labels=labels), card=card, sha256=sha256)
    return replace(protected, card={**protected.card, "notes": pack.notes})
