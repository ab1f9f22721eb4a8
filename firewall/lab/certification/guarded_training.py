"""Train a two-layer network with the bound that later certifies it.

Each image is shown at the worst of a few random shifts. Its logits are made as bad as a flow of the budget could at
most make them, and the cross-entropy of those is minimised. How bad is given by the dual of the semidefinite
relaxation, with dual variables that are learned too, as in Raghunathan, Steinhardt and Liang (2018), or by the closed
form of the linear bound (training_bounds.py). The budget grows from 0 during training.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu
from torch.utils.data import Dataset

from firewall.errors import DataError
from firewall.lab.attacks.criteria import wrong_classes
from firewall.lab.attacks.flow import deform
from firewall.lab.certification.training_bounds import Dual, case_of, linear_margins
from firewall.lab.certification.two_layer import TwoLayer, open_two_layer, write_two_layer
from firewall.lab.datasets import open_dataset
from firewall.lab.models.small_networks import two_layer
from firewall.lab.training.loop import Schedule, fit

__all__ = ["BOUNDS", "Guarded", "Settings", "guarded_loss", "train"]

#: What may say how bad the worst case is, and over how many of the most likely other classes: the second takes longer.
BOUNDS = {"linear": 3, "semidefinite": 1}


@dataclass(frozen=True)
class Settings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        budget: Cap on L_flow at the end of training, in pixels.
        shift: Largest shift shown, in pixels.
        shifts: Random shifts of which the worst is taken.
        share: Share of the loss that the worst case makes up at the end, 0..1.
        warm: Steps before the budget begins to grow.
        ramp: Steps until the budget is whole.
        bound: A key of BOUNDS.
    """

    epochs: int = 14
    batch: int = 250
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    budget: float = 12.0
    shift: float = 4.0
    shifts: int = 3
    share: float = 0.75
    warm: int = 240
    ramp: int = 700
    bound: str = "semidefinite"


class Guarded(nn.Module):
    """A two-layer network and its bound.

    In training its input is an image and its label, and its output (N, 2, classes): logits, and minus the guaranteed
    margins over each class. In evaluation it gives its logits alone.

    Args:
        settings: Of the training.
    """

    steps: Tensor

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.network, self.settings = two_layer(10), settings
        self.dual = Dual(10, 500) if settings.bound == "semidefinite" else None
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, labelled: Tensor) -> Tensor:
        """Logits, and in training the guaranteed margins too.

        Args:
            labelled: Float (N, 1, H, W) in 0..1. In training (N, 1, H + 1, W), with the label in the first pixel of the
                last row: the training loop gives a network nothing but images.

        Returns:
            (N, classes), in training (N, 2, classes).
        """
        if not self.training:
            logits: Tensor = self.network(labelled)
            return logits
        images, labels = labelled[:, :, :-1], labelled[:, 0, -1, 0].long()
        settings = self.settings
        done = (int(self.steps) - settings.warm) / settings.ramp
        budget = settings.budget * min(max(done, 0.0), 1.0)
        self.steps += 1
        shown = self._worst(images, labels)
        logits = self.network(shown)
        margins = self.margins(shown, labels, budget, BOUNDS[settings.bound])
        return torch.stack([logits, -margins], dim=1)

    @torch.no_grad()
    def _worst(self, images: Tensor, labels: Tensor) -> Tensor:
        """The image at whichever of the random shifts costs most."""
        best, highest = images, torch.full((len(images),), -torch.inf)
        for turn in range(self.settings.shifts):
            moved = _shifted(images, self.settings.shift) if turn or self.settings.shifts == 1 else images
            loss = cross_entropy(self.network(moved), labels, reduction="none")
            worse = loss > highest
            best = torch.where(worse[:, None, None, None], moved, best)
            highest = torch.maximum(highest, loss)
        return best

    def margins(self, images: Tensor, labels: Tensor, budget: float, rivals: int = 3) -> Tensor:
        """Margins of the labels over each class.

        Args:
            images: Float (N, 1, H, W) in 0..1.
            labels: Int64 (N,).
            budget: Cap on L_flow, in pixels.
            rivals: Over how many of the most likely other classes the margins are guaranteed; over the rest they are
                those of the image as it is.

        Returns:
            (N, classes), 0 for the label itself.
        """
        layers = cast(nn.Sequential, self.network)
        first, second = cast(nn.Linear, layers[1]), cast(nn.Linear, layers[3])
        case = case_of(first, images, budget)
        logits = second(relu(case.value))
        margins = logits.gather(1, labels[:, None]) - logits
        others = wrong_classes(logits.detach(), labels, rivals)
        weights = second.weight[labels][:, None] - second.weight[others]
        dual = self.dual
        least = linear_margins(case, weights) if dual is None else dual.margins(case, weights, labels, others)
        guaranteed: Tensor = margins.scatter(1, others, least + second.bias[labels][:, None] - second.bias[others])
        return guaranteed


def guarded_loss(share: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The cross-entropy of a Guarded network's logits, mixed with that of their guaranteed worst case.

    Args:
        share: Weight of the worst case, 0..1.

    Returns:
        A function of outputs (N, 2, classes) and labels (N,).
    """

    def loss(output: Tensor, labels: Tensor) -> Tensor:
        worst = cross_entropy(output[:, 1], labels)
        return (1 - share) * cross_entropy(output[:, 0], labels) + share * worst

    return loss


def train(data: Path | None, out: Path, settings: Settings) -> dict[str, Any]:
    """Train on MNIST, or go on from the checkpoint in the folder `out` less its suffix; write the network.

    Args:
        data: Folder of the data sets; None: the usual places.
        out: The network's file, .npz.
        settings: Of the training.

    Returns:
        The card: settings, and the accuracy on the test images of the weights as they are in the file.

    Raises:
        DataError: The images are not of 28x28, or the checkpoint belongs to other settings.
    """
    images = open_dataset("mnist", data, part="train")
    if images.images[0].shape[:2] != (28, 28):
        raise DataError("spatial training is for images of 28x28")
    torch.manual_seed(settings.seed)
    pixels = torch.from_numpy(np.stack(list(images.images))[..., 0]).float()[:, None] / 255
    labels = torch.from_numpy(images.labels)
    test = open_dataset("mnist", data, part="test")
    shown = np.stack(list(test.images))[..., 0] / 255

    def accuracy(model: nn.Module) -> float:
        return float((_weights(model, {}).logits(shown).argmax(1) == test.labels).mean())

    model = Guarded(settings)
    loss = guarded_loss(settings.share)
    folder = out.with_suffix("")
    trained = fit(model, _Labelled(pixels, labels), len(labels), settings, folder, loss=loss, held=accuracy, workers=0)
    card: dict[str, Any] = {
        "training": "firewall lab train spatial",
        "data": "mnist/train",
        "settings": asdict(settings),
    }
    write_two_layer(_weights(trained, card), out)
    stored = open_two_layer(str(out))
    card["test_accuracy"] = float((stored.logits(shown).argmax(1) == test.labels).mean())
    write_two_layer(_weights(trained, card), out)
    return card


class _Labelled(Dataset[tuple[Tensor, int]]):
    """Images with the label written into a row below them."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        row = torch.zeros_like(pixels[:, :, :1])
        row[:, 0, 0, 0] = labels.to(row.dtype)
        self.pixels, self.labels = torch.cat([pixels, row], dim=2), labels

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        return self.pixels[key[1]], int(self.labels[key[1]])


def _weights(model: nn.Module, card: dict[str, Any]) -> TwoLayer:
    layers = {name.removeprefix("network."): value for name, value in model.state_dict().items()}
    first, first_bias, second, second_bias = (
        layers[name].double().numpy() for name in ("1.weight", "1.bias", "3.weight", "3.bias")
    )
    return TwoLayer(first, first_bias, second, second_bias, name="certified", card=card)


def _shifted(images: Tensor, most: float) -> Tensor:
    shift = (torch.rand(len(images), 2, 1, 1) * 2 - 1) * most
    return deform(images, shift.expand(-1, -1, *images.shape[2:]))
