"""The images that detectors of pixels are trained on: a split of a database, and what the network is given of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from firewall.errors import UsageError
from firewall.lab.database import Database
from firewall.lab.datasets.shifts import AUGMENTATIONS, augmented
from firewall.lab.training.loop import Schedule
from firewall.transforms import residual

__all__ = ["LOSSES", "Balanced", "Settings", "Split", "as_input", "joined", "read_split", "rgb"]

Pixels = npt.NDArray[np.uint8]

LOSSES = ("softmax", "raw")


@dataclass(frozen=True)
class Settings(Schedule):
    """What determines a run, besides the schedule.

    Args:
        detector: `image-cnn` or `residual`.
        network: A key of firewall.lab.models.detector_network.NETWORKS.
        loss: One of LOSSES.
        augment: One of firewall.lab.datasets.shifts.AUGMENTATIONS.
        attacks: Names, to be trained and chosen with; none: all. What is left out is measured all the same.
        leave_out: Attacks neither to train nor to choose with.
        rate: Of the residual, see firewall.transforms.residual.
        reading: Of the residual, see firewall.transforms.residual.
        also: Further rates, whose residuals become channels.

    Raises:
        UsageError: `loss` or `augment` is unknown.
    """

    epochs: int = 30
    batch: int = 64
    learning_rate: float = 2e-3
    moving_average: float = 0.99
    detector: str = "residual"
    network: str = "small"
    loss: str = "softmax"
    augment: str = "none"
    attacks: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    rate: float = 0.05
    reading: str = "removed"
    also: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for option, value, allowed in (("loss", self.loss, LOSSES), ("augment", self.augment, AUGMENTATIONS)):
            if value not in allowed:
                raise UsageError(f"--{option} must be one of {', '.join(allowed)}, got {value!r}")

    def seen(self, attack: str) -> bool:
        """Whether training uses the attack."""
        return (not self.attacks or attack in self.attacks) and attack not in self.leave_out

    @property
    def channels(self) -> int:
        """How many channels the network's input has."""
        return 3 * (1 + len(self.also)) if self.detector == "residual" else 3


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split.

    Args:
        normal: The benign ones, uint8 (N, H, W, 3).
        attacks: By attack the adversarial ones, uint8 (M, H, W, 3).
        origins: For each of these the benign image that it was made of, as its place in `normal`.
    """

    normal: Pixels
    attacks: dict[str, Pixels]
    origins: dict[str, npt.NDArray[np.int64]]

    def only(self, settings: Settings) -> Split:
        """The split with only the attacks that training uses."""
        return replace(self, attacks={name: images for name, images in self.attacks.items() if settings.seen(name)})


def read_split(database: Database, split: str | None) -> Split:
    """The images of a split.

    Args:
        database: Any.
        split: Its name; None: all images.

    Returns:
        The images, as RGB.
    """
    inside = np.array([split in (None, entry.split) for entry in database.card.normal])
    places = np.cumsum(inside) - 1
    attacks, origins = {}, {}
    for name in database.card.attacks:
        attacked = database.attacked(name)
        normals = np.array([entry.normal for entry in attacked.entries], np.int64)
        here = inside[normals]
        if here.any():
            attacks[name], origins[name] = rgb(attacked.images[here]), places[normals[here]]
    return Split(rgb(database.normal[inside]), attacks, origins)


def joined(parts: Sequence[Split]) -> Split:
    """Several splits as one.

    Args:
        parts: One or more.

    Returns:
        All of their images.
    """
    if len(parts) == 1:
        return parts[0]
    starts = np.cumsum([0, *(len(part.normal) for part in parts)])
    names = dict.fromkeys(name for part in parts for name in part.attacks)
    attacks = {name: np.concatenate([part.attacks[name] for part in parts if name in part.attacks]) for name in names}
    origins = {
        name: np.concatenate(
            [part.origins[name] + start for part, start in zip(parts, starts, strict=False) if name in part.attacks]
        )
        for name in names
    }
    return Split(np.concatenate([part.normal for part in parts]), attacks, origins)


def rgb(images: Pixels) -> Pixels:
    """Grey images as three equal channels; RGB as they are.

    Args:
        images: Uint8 (N, H, W, 1 or 3).

    Returns:
        Uint8 (N, H, W, 3).
    """
    return images if images.shape[3] == 3 else np.repeat(images, 3, axis=3)


def as_input(images: Pixels, settings: Settings) -> npt.NDArray[np.float32]:
    """What the edge gives the network: pixels or residuals / 255, channels first.

    Args:
        images: Uint8 (N, H, W, 3).
        settings: Of the training.

    Returns:
        Float32 (N, channels, H, W).
    """
    values: npt.NDArray[Any] = images
    if settings.detector == "residual":
        rates = (settings.rate, *settings.also)
        values = np.concatenate([residual(images, rate, reading=settings.reading) for rate in rates], axis=3)
    inputs: npt.NDArray[np.float32] = np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32) / np.float32(255)
    return inputs


class Balanced(Dataset[tuple[Tensor, int]]):
    """Index 2 i is benign image i; 2 i + 1 an adversarial one, drawn by epoch: first the attack, then the image.

    Args:
        split: The images.
        settings: Of the training.
    """

    def __init__(self, split: Split, settings: Settings) -> None:
        self._split, self._names, self._settings = split, list(split.attacks), settings

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = place
        split, settings = self._split, self._settings
        generator = np.random.default_rng([settings.seed, epoch, index])
        if index % 2 == 0:
            normal = split.normal[index // 2]
            pixels = augmented(normal, settings.augment, generator)
        else:
            name = self._names[int(generator.integers(len(self._names)))]
            chosen = int(generator.integers(len(split.attacks[name])))
            attacked, normal = split.attacks[name][chosen], split.normal[split.origins[name][chosen]]
            change = attacked.astype(np.int16) - normal
            pixels = augmented(normal, settings.augment, generator, change)
            pixels = np.clip(pixels + change, 0, 255).astype(np.uint8)
        values = as_input(pixels[None], settings)[0]
        # A sign in a mirror is another sign, but a perturbation there is one like any other.
        mirrored = values[..., ::-1] if generator.random() < 0.5 else values
        return torch.from_numpy(np.ascontiguousarray(mirrored)), index % 2
