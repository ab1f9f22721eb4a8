"""Train detectors that look at pixels: `firewall lab train image-cnn` and `firewall lab train residual`.

Both are a network with two outputs, normal and adversarial, on the image (Nguyen H., Kuribayashi et al., section 4) or
on its residual (Sun et al.), trained on the train split of a database. Classes are balanced: as many normal as
adversarial images are drawn in each epoch, and each attack as often as the others.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_classifier
from firewall.lab import metrics
from firewall.lab.database import Database
from firewall.lab.database.shards import write_file
from firewall.lab.models.detector_network import DetectorNetwork
from firewall.lab.training.loop import Schedule, fit
from firewall.transforms import residual

__all__ = ["LOSSES", "Settings", "raw_loss", "train"]

LOSSES = ("softmax", "raw")

#: Raw outputs beyond this pull no further: the paper's loss has no lower bound, and a network would only grow.
_FAR = 10.0


@dataclass(frozen=True)
class Settings(Schedule):
    """detector: image-cnn or residual. loss: of LOSSES. rate, reading: of the residual, see firewall.transforms."""

    epochs: int = 30
    batch: int = 64
    learning_rate: float = 2e-3
    moving_average: float = 0.99
    detector: str = "residual"
    loss: str = "softmax"
    rate: float = 0.05
    reading: str = "removed"

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UsageError(f"--loss must be one of {', '.join(LOSSES)}, got {self.loss!r}")


@dataclass(frozen=True, eq=False)
class _Split:
    """Network inputs of one split: normal (N, 3, H, W) float32, and of each attack."""

    normal: npt.NDArray[np.float32]
    attacks: dict[str, npt.NDArray[np.float32]]

    @property
    def adversarial(self) -> npt.NDArray[np.float32]:
        return np.concatenate(list(self.attacks.values()))


def raw_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    """The paper's loss without the final softmax (equation 3 as its text describes it): - y adv - (1 - y) norm.

    outputs: (N, 2) normal, adversarial. As printed it is unbounded below, so outputs count up to 10 alone; the
    output of the other class is pulled down alike, or both would rise together.
    """
    own = outputs.gather(1, labels[:, None])[:, 0]
    other = outputs.gather(1, 1 - labels[:, None])[:, 0]
    return (other.clamp(min=-_FAR) - own.clamp(max=_FAR)).mean()


def train(database: Database, out: Path, settings: Settings, *, threads: int, workers: int = 0) -> dict[str, Any]:
    """Train (or go on training) in `out`, measure on the eval split, write `detector.json` and `detector.onnx`.

    Raises DataError if the images are grey or a split lacks normal or adversarial images.
    """
    size = (database.card.classifier.height, database.card.classifier.width, database.card.classifier.channels)
    if size[0] != size[1] or size[2] != 3:
        raise DataError(f"{database.folder} holds images of {size}; these detectors take square RGB images")
    parts = {name: _inputs(database, name, settings) for name in ("train", "dev", "eval")}
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    model = DetectorNetwork()
    fitting, held = parts["train"], parts["dev"]
    network = fit(
        model,
        _Balanced(fitting, settings.seed),
        2 * len(fitting.normal),
        settings,
        out,
        loss=raw_loss if settings.loss == "raw" else cross_entropy,
        held=lambda trained: _measured(trained, held)["balanced_accuracy"],
        workers=workers,
    )
    file = out / "detector.onnx"
    export_classifier(network, file, size=size[0], labels=("normal", "adversarial"))
    info = database.info()
    parameters: dict[str, Any] = {"file": file.name}
    if settings.detector == "residual":
        parameters |= {"rate": settings.rate, "reading": settings.reading}
    report = {
        "name": settings.detector,
        "parameters": parameters,
        "classifier_sha256": database.card.classifier.sha256,
        "settings": asdict(settings),
        "weights": sum(weight.numel() for weight in model.parameters()),
        "database": {key: info[key] for key in ("dataset", "classifier", "normal", "adversarial", "splits", "seed")},
        "eval": _measured(network, parts["eval"]),
    }
    write_file(out / "detector.json", (json.dumps(report, indent=1) + "\n").encode())
    return report


def _inputs(database: Database, split: str, settings: Settings) -> _Split:
    attacks = {}
    for name in database.card.attacks:
        attacked = database.attacked(name)
        here = np.array([database.split_of(entry) == split for entry in attacked.entries], bool)
        if here.any():
            attacks[name] = _as_input(attacked.images[here], settings)
    inside = np.array([entry.split == split for entry in database.card.normal])
    if not inside.any() or not attacks:
        kind = "normal" if not inside.any() else "adversarial"
        raise DataError(f"{database.folder} has no {kind} images in its split {split!r}; attack more images")
    return _Split(_as_input(database.normal[inside], settings), attacks)


def _as_input(images: npt.NDArray[np.uint8], settings: Settings) -> npt.NDArray[np.float32]:
    """What the edge hands to the network: pixels or residuals / 255, channels first."""
    values: npt.NDArray[Any] = images
    if settings.detector == "residual":
        values = residual(images, settings.rate, reading=settings.reading)
    inputs: npt.NDArray[np.float32] = np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    return inputs


class _Balanced(Dataset[tuple[Tensor, int]]):
    """Index 2 i is normal image i; 2 i + 1 an adversarial one, drawn by epoch: first the attack, then the image."""

    def __init__(self, split: _Split, seed: int) -> None:
        self._normal, self._attacks, self._seed = split.normal, list(split.attacks.values()), seed

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = place
        generator = np.random.default_rng([self._seed, epoch, index])
        if index % 2 == 0:
            values = self._normal[index // 2]
        else:
            images = self._attacks[int(generator.integers(len(self._attacks)))]
            values = images[int(generator.integers(len(images)))]
        # A sign in a mirror is another sign, but a perturbation there is one like any other.
        mirrored = values[..., ::-1] if generator.random() < 0.5 else values
        return torch.from_numpy(np.ascontiguousarray(mirrored)), index % 2


def _measured(network: nn.Module, split: _Split) -> dict[str, Any]:
    """Accuracy at the network's own boundary, balanced over the two classes, and figures by attack."""
    normal = _scores(network, split.normal)
    result: dict[str, Any] = {
        "normal": {"n": len(normal), "false_positive_rate": float((normal > 0).mean())},
        "attacks": {},
    }
    hits = []
    for attack, inputs in split.attacks.items():
        scores = _scores(network, inputs)
        hits.append(scores > 0)
        found = metrics.separate(normal, scores, rates=(), resamples=200)
        result["attacks"][attack] = {
            "n": len(scores),
            "true_positive_rate": float((scores > 0).mean()),
            "auroc": found.auroc.value,
            "auroc_ci95": [found.auroc.low, found.auroc.high],
            "eer": found.eer.value,
        }
    every = np.concatenate(hits)
    right = int((normal <= 0).sum() + every.sum())
    result["accuracy"] = right / (len(normal) + len(every))
    result["balanced_accuracy"] = float(((normal <= 0).mean() + every.mean()) / 2)
    return result


@torch.no_grad()
def _scores(network: nn.Module, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    network.eval()
    outputs = torch.cat(
        [network(torch.from_numpy(inputs[start : start + 256])) for start in range(0, len(inputs), 256)]
    )
    return (outputs[:, 1] - outputs[:, 0]).double().numpy()
