"""What a juror learns from: random versions of labelled images as a camera would see them, and of what is no sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from firewall.frame import Pixels
from firewall.lab.datasets.obstructions import OBSTRUCTIONS, obstruct
from firewall.lab.datasets.shifts import KINDS
from firewall.lab.training.classifiers.augmentation import augment
from firewall.lab.training.classifiers.outliers import partial
from firewall.lab.training.jury.non_signs import drawn, inverted

__all__ = ["Opinions", "Variety"]

_WEATHER = ("rain", "fog", "dark", "bright", "sharp", "noise")


@dataclass(frozen=True)
class Variety:
    """How far the versions differ from the image.

    Args:
        obstructed: Share of the versions with a shadow, a sticker, light, dirt ... on them.
        kinds: Names of the obstructions that are drawn.
        weather: Share of the versions under rain, fog, darkness ...
        mirror: Class of the mirror image of each class that has one.
    """

    obstructed: float = 0.4
    kinds: tuple[str, ...] = tuple(OBSTRUCTIONS)
    weather: float = 0.2
    mirror: Mapping[int, int] = field(default_factory=dict)


class Opinions(Dataset[tuple[Tensor, int]]):
    """One random version of an image, drawn from (seed, epoch, index) so that it does not depend on the worker.

    Indices past the labelled images draw something that is no sign, with the label `reject`.

    Args:
        images: Uint8 (H, W, 3) each, of any size.
        labels: The class of each.
        others: Crops without a sign; none: none but drawn shapes, inverted images and parts.
        reject: The label of what is no sign.
        size: Width and height of the versions in pixels.
        variety: How far they differ.
        seed: What is random depends on it.
    """

    def __init__(
        self,
        images: Sequence[Pixels],
        labels: Sequence[int],
        others: Sequence[Pixels],
        *,
        reject: int,
        size: int,
        variety: Variety,
        seed: int,
    ) -> None:
        self.images, self.labels, self.others = images, labels, others
        self.reject, self.size, self.variety, self.seed = reject, size, variety, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        cv2.setNumThreads(0)
        epoch, index = key
        generator = np.random.default_rng([self.seed, epoch, index])
        if index < len(self.images):
            pixels, label = self.images[index], int(self.labels[index])
        else:
            pixels, label = self._other(generator), self.reject
        mirror = self.variety.mirror
        if (label in mirror or label == self.reject) and generator.random() < 0.5:
            pixels, label = np.ascontiguousarray(pixels[:, ::-1]), mirror.get(label, label)
        pixels = self._seen(pixels, generator)
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255), label

    def _seen(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        if max(pixels.shape[:2]) > 96:
            share = 96 / max(pixels.shape[:2])
            pixels = np.asarray(cv2.resize(pixels, None, fx=share, fy=share, interpolation=cv2.INTER_AREA), np.uint8)
        obstructed = generator.random() < self.variety.obstructed
        before = generator.random() < 0.5  # what lies on the sign is seen under its pose and through the camera
        if obstructed and before:
            pixels = obstruct(pixels, generator, self.variety.kinds)
        pixels = augment(pixels, self.size, generator)
        if obstructed and not before:
            pixels = obstruct(pixels, generator, self.variety.kinds)
        if generator.random() < self.variety.weather:
            pixels = KINDS[_WEATHER[int(generator.integers(len(_WEATHER)))]].drawn(pixels, generator)
        return pixels

    def _other(self, generator: np.random.Generator) -> Pixels:
        kind = generator.random()
        if self.others and kind < 0.7:
            return self.others[int(generator.integers(len(self.others)))]
        image = self.images[int(generator.integers(len(self.images)))]
        if kind < 0.8:
            return partial(image, generator)
        return inverted(image) if kind < 0.86 else drawn(64, generator)
