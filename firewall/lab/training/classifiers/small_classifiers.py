"""From MNIST, CIFAR-10 or GTSRB to a small classifier's folder: `classifier.onnx`, `card.json` and the run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset as TorchDataset

from firewall.bundle import ClassifierSpec, InputSpec
from firewall.errors import UsageError
from firewall.export.onnx import export_classifier
from firewall.lab.datasets import Dataset, data_root, open_dataset, split
from firewall.lab.measurement.classifiers import measure_accuracy
from firewall.lab.models import open_classifier
from firewall.lab.models.small_networks import ARCHITECTURES
from firewall.lab.training.loop import Schedule, fit
from firewall.transforms import resize

__all__ = ["Grey", "Settings", "train_small"]

#: Share of the training images that the log's accuracy is measured on; they are not trained on.
_HELD = 0.05


@dataclass(frozen=True)
class Settings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        architecture: A key of ARCHITECTURES.
        dataset: What it is trained on.
        padding: Pixels by which an image may be shifted.
        mirror: Left and right may be exchanged, which a photograph allows and a digit does not.
        label_smoothing: Of the cross-entropy.
    """

    architecture: str = "lenet"
    dataset: str = "mnist"
    padding: int = 0
    mirror: bool = False
    label_smoothing: float = 0.0

    @staticmethod
    def of(architecture: str, dataset: str | None, *, epochs: int | None, learning_rate: float, seed: int) -> Settings:
        """The settings that suit an architecture.

        Args:
            architecture: A key of ARCHITECTURES.
            dataset: What the user asks for; None: the architecture's own.
            epochs: None: 24, but 15 for digits and 8 for signs.
            learning_rate: The largest of the schedule.
            seed: Initial weights and order.

        Returns:
            The settings.

        Raises:
            UsageError: The architecture is unknown, or is trained on another data set.
        """
        if architecture not in ARCHITECTURES:
            raise UsageError(f"unknown architecture {architecture!r}; known: sign, {', '.join(ARCHITECTURES)}")
        usual = ARCHITECTURES[architecture].dataset
        if dataset not in (None, usual):
            raise UsageError(f"the architecture {architecture} is trained on {usual}, not on {dataset}")
        photos, signs = usual == "cifar10", usual == "gtsrb"
        return Settings(
            architecture=architecture,
            dataset=usual,
            epochs=epochs or (24 if photos else 8 if signs else 15),
            batch=64 if photos else 128,
            learning_rate=learning_rate,
            padding=4 if photos else 2 if signs else 0,
            moving_average=0.99 if signs else 0.998,  # of few steps, which an average has to keep up with
            mirror=photos,
            label_smoothing=0.05 if photos else 0.0,
            seed=seed,
        )


def train_small(data: Path | None, out: Path, settings: Settings, *, threads: int, workers: int) -> dict[str, Any]:
    """Train (or go on training), export, and measure the exported file on the test images.

    Args:
        data: Folder of the data sets; None: the usual places.
        out: Folder of the classifier and its run.
        settings: Of the training.
        threads: Threads of torch.
        workers: Processes that prepare images.

    Returns:
        The card.

    Raises:
        DataError: Data is missing or damaged, or a checkpoint belongs to other settings.
    """
    architecture, root = ARCHITECTURES[settings.architecture], data_root(data)
    images = open_dataset(settings.dataset, root, part="train")
    test = open_dataset(settings.dataset, root, part="test")
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    model = architecture.build(len(images.class_names)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = architecture.size
    pixels = np.stack(
        [image if image.shape[:2] == (size, size) else resize(image, size, size) for image in images.images]
    )
    held = split(images, (1 - _HELD, _HELD, 0.0), settings.seed) == 1
    trained = fit(
        model,
        _Augmented(pixels[~held], images.labels[~held], settings),
        int((~held).sum()),
        settings,
        out,
        loss=nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing),
        held=lambda network: _accuracy(network, pixels[held], images.labels[held]),
        workers=workers,
    )
    file = out / "classifier.onnx"
    network = Grey(trained) if architecture.channels == 1 else trained
    export_classifier(network, file, size=architecture.size, labels=images.class_names)
    card = _card(file, images, int((~held).sum()), settings)
    card["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    _write(out, card)
    card["test"] = measure_accuracy(open_classifier(str(out)), test)  # what the file says, not what was trained
    _write(out, card)
    return card


def _card(file: Path, images: Dataset, count: int, settings: Settings) -> dict[str, Any]:
    architecture = ARCHITECTURES[settings.architecture]
    size = InputSpec(width=architecture.size, height=architecture.size)
    spec = ClassifierSpec(file=file.name, input=size, labels=images.class_names)
    return {
        "classifier": spec.model_dump(mode="json"),
        "channels": architecture.channels,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "architecture": settings.architecture,
        "training": {"data": images.name, "images": count, "epochs": settings.epochs, "notes": images.notes},
        "split": {"by": "image", "seed": settings.seed, "held_share": _HELD},
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
    }


def _write(out: Path, card: dict[str, Any]) -> None:
    partial = out / "card.partial"
    partial.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    partial.replace(out / "card.json")


class Grey(nn.Module):
    """A network of grey images behind the edge's input, which is RGB: it is given the mean of the channels.

    Args:
        network: Float (N, 1, H, W) -> logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Logits (N, classes) of float (N, 3, H, W) in 0..1."""
        logits: Tensor = self.network(image.mean(1, keepdim=True))
        return logits


class _Augmented(TorchDataset[tuple[Tensor, int]]):
    """An image shifted and mirrored at random, drawn from (seed, epoch, index)."""

    def __init__(self, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], settings: Settings) -> None:
        around = ((0, 0), *((settings.padding, settings.padding),) * 2, (0, 0))
        self.padded, self.labels, self.settings = np.pad(pixels, around, mode="reflect"), labels, settings
        self.size = pixels.shape[1]

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        pixels, index = self.padded[key[1]], key[1]
        if self.settings.padding:
            generator = np.random.default_rng([self.settings.seed, *key])
            top, left = generator.integers(0, 2 * self.settings.padding + 1, 2)
            pixels = pixels[top : top + self.size, left : left + self.size]
            if self.settings.mirror and generator.random() < 0.5:
                pixels = pixels[:, ::-1]
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return image.float().div(255), int(self.labels[index])


@torch.no_grad()
def _accuracy(network: nn.Module, pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> float:
    network.eval()
    right = 0
    for start in range(0, len(pixels), 256):
        batch = torch.from_numpy(pixels[start : start + 256]).permute(0, 3, 1, 2).float().div(255)
        right += int((network(batch).argmax(1).numpy() == labels[start : start + 256]).sum())
    return right / len(pixels)
