"""Firewalls around the small classifier of coloured shapes, with detectors of every kind."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from firewall.bundle import Bundle, Calibration, ClassifierSpec, DetectorSpec, InputSpec, write_bundle
from firewall.export.onnx import export_classifier
from tests.lab.coloured_shapes import CLASSES, SIZE, correctly_classified, shapes, trained

__all__ = ["Coarse", "confidence", "juror", "network_file", "shape_folder", "tiny_firewall", "victims"]

LABELS = tuple(f"{number:05d}" for number in range(CLASSES))


class Coarse(nn.Module):
    """A network behind an input of a few levels: its gradient is zero wherever it is not undefined."""

    def __init__(self, network: nn.Module, levels: int = 8) -> None:
        super().__init__()
        self.network, self.levels = network, levels

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(torch.floor(images * self.levels) / self.levels)
        return logits


def network_file(network: nn.Module, folder: Path, *, outputs: int = CLASSES, side: int = SIZE) -> bytes:
    """The ONNX file of a network of images."""
    path = folder / "network.onnx"
    folder.mkdir(parents=True, exist_ok=True)
    export_classifier(network, path, size=side, labels=[str(number) for number in range(outputs)])
    return path.read_bytes()


def confidence(threshold: float = 1e3) -> DetectorSpec:
    """A detector that withholds next to nothing, unless another threshold is given."""
    parameters = {"median": 2.0, "below": 1.0, "above": 1.0}
    return DetectorSpec(name="confidence", parameters=parameters, threshold=threshold)


@cache
def _limit(network: nn.Module) -> float:
    """The 99 % quantile of log-odds against the right class on fresh images: the threshold of a juror."""
    images, labels = shapes(400, seed=3)
    with torch.no_grad():
        logits = network.eval()(images)
    own = logits.gather(1, labels[:, None])[:, 0]
    odds = logits.scatter(1, labels[:, None], -torch.inf).logsumexp(1) - own
    return float(odds.quantile(0.99))


def juror(name: str, network: nn.Module) -> DetectorSpec:
    """A juror whose threshold withholds one benign image in a hundred."""
    parameters = {"file": f"{name}.onnx", "width": SIZE, "height": SIZE}
    return DetectorSpec(name=name, parameters=parameters, threshold=_limit(network))


def tiny_firewall(
    path: Path, detectors: Sequence[DetectorSpec], files: Mapping[str, bytes] | None = None, **changes: Any
) -> Bundle:
    """A bundle around the classifier of coloured shapes."""
    content = network_file(trained(), path.parent / f"{path.name}-classifier")
    return write_bundle(
        path,
        {"classifier.onnx": content, **(files or {})},
        name="tiny",
        created="-",
        classifier=ClassifierSpec(
            file="classifier.onnx", input=InputSpec(width=SIZE, height=SIZE), output="logits", labels=LABELS
        ),
        detectors=tuple(detectors),
        calibration=Calibration(data="coloured shapes", images=400, false_positive_rate=0.01),
        **changes,
    )


def victims(count: int) -> list[tuple[npt.NDArray[np.uint8], int]]:
    """Images that the classifier gets right, uint8 (16, 16, 3), with their labels."""
    images, labels = correctly_classified()
    pixels = images.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [(np.array(pixel), int(label)) for pixel, label in zip(pixels[:count], labels[:count], strict=True)]


def shape_folder(root: Path, count: int = 8) -> Path:
    """The same as a data set: a folder for each class."""
    for number, (pixels, label) in enumerate(victims(count)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        place = root / LABELS[label] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.getvalue())
    return root
