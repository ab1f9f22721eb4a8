"""A trained detector's folder: `detector.json` says what it is; its ONNX file, if it has one, is its network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from firewall.bundle import Seen
from firewall.errors import DataError

__all__ = ["Trained", "load_trained"]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained detector.

    Args:
        name: The kind of detector.
        parameters: As its bundle has them; `file` is the name that its network gets there.
        network: Its ONNX file; empty if it has none.
        classifier_sha256: Of the classifier whose attacks it was trained on.
        report: All that its training wrote.
        fitted: The images that it learnt from; None if it was trained before that was recorded.
    """

    name: str
    parameters: dict[str, Any]
    network: bytes
    classifier_sha256: str
    report: dict[str, Any]
    fitted: Seen | None = None

    @property
    def file(self) -> str:
        """The network's file in a bundle; "" of a detector that has none."""
        return str(self.parameters.get("file", ""))

    @property
    def files(self) -> dict[str, bytes]:
        """The files that it adds to a bundle: its network's, if it has one."""
        return {self.file: self.network} if self.file else {}


def load_trained(folder: Path) -> Trained:
    """Read a trained detector's folder.

    Args:
        folder: Made by 'firewall lab train DETECTOR'.

    Returns:
        The detector.

    Raises:
        DataError: The folder is something else.
    """
    try:
        report = json.loads((folder / "detector.json").read_text(encoding="utf-8"))
        name, parameters, sha256 = str(report["name"]), dict(report["parameters"]), str(report["classifier_sha256"])
        fitted = None if report.get("fitted") is None else Seen.model_validate(report["fitted"])
        network = (folder / Path(parameters["file"]).name).read_bytes() if "file" in parameters else b""
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise DataError(
            f"{folder} is not a trained detector's folder ({type(error).__name__}: {error}); make one with "
            "'firewall lab train DETECTOR'"
        ) from error
    named = {"file": f"{name}.onnx"} if "file" in parameters else {}
    return Trained(name, {**parameters, **named}, network, sha256, report, fitted)
