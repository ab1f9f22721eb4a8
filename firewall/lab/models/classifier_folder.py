"""A classifier's folder: its card, how its pixels are prepared, and its ONNX file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firewall.bundle import MANIFEST, ClassifierSpec, load_bundle
from firewall.errors import DataError, UsageError
from firewall.host.causes import shortened
from firewall.lab.models.onnx_file import specify

__all__ = ["load_card"]


def load_card(folder: Path, options: Mapping[str, str] | None = None) -> tuple[dict[str, Any], ClassifierSpec, bytes]:
    """The card of a classifier's folder, the classifier's specification, and its ONNX file.

    Args:
        folder: Made by 'firewall lab train classifier', or a bundle's, or `default`, or any ONNX file.
        options: How an ONNX file wants its pixels, and its labels: see `firewall.lab.models.options.Options`.

    Returns:
        The card as JSON has it, the specification, and the file's bytes.

    Raises:
        UsageError: Options are given for a folder, or can't be.
        DataError: The folder or file is something else.
        BundleError: The bundle is damaged.
    """
    if folder.is_file() or (".onnx" in folder.name and not folder.is_dir()):
        given = specify(str(folder), options or {})
        return {"notes": given.note, "channels": given.channels}, given.spec, given.content
    if options:
        raise UsageError(f"--{next(iter(options))} is for an ONNX file; {folder} says itself how it is to be run")
    if str(folder) == "default" or (folder / MANIFEST).is_file():
        bundle = load_bundle(folder)
        classifier = bundle.manifest.classifier
        return {"split": bundle.manifest.calibration.split}, classifier, bundle.files[classifier.file]
    try:
        card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
        spec = ClassifierSpec.model_validate(card["classifier"])
        return card, spec, (folder / spec.file).read_bytes()
    except (OSError, ValueError, KeyError) as error:
        networks = sorted(file.name for file in folder.glob("*.onnx")) if folder.is_dir() else []
        if networks and not (folder / "card.json").is_file():
            raise DataError(f"{folder} is a folder; name the ONNX file in it, {folder / networks[0]}") from error
        reason = "it is not there" if not folder.exists() else shortened(str(error))
        raise DataError(
            f"{folder} is not a classifier's folder ({reason}); name an ONNX file, or use 'firewall lab train'"
        ) from error
