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

__all__ = ["WEATHER", "Opinions", "Variety"]

#: Kinds of weather that are drawn.
WEATHER = ("rain", "fog", "dark", "bright", "sharp", "noise")
#: Longer side in pixels that larger images are reduced to first.
_LARGEST = 96
#: Of what is no sign: up to which share it is a crop of `others` (if there are some), a part of a sign, an inverted
#: sign; the rest is drawn, at this size in pixels.
_CROPS, _PARTS, _INVERTED, _DRAWN = 0.7, 0.8, 0.86, 64


@dataclass(frozen=True)
class Variety:
    """How far the versions differ from the image.

    Args:
        obstructed: Share of the versions with a shadow, a sticker, light, dirt ... on them.
        kinds: Names of the obstructions that are drawn.
        weather: Share of the versions under rain, fog, darkness ...
        kinds_of_weather: Of which kinds, keys of `firewall.lab.datasets.shifts.KINDS`; if there are none, none is.
        without: Steps of `augment` that are left out.
        mirror: Class of the mirror image of each class that has one; half of their versions are mirrored, and half of
            what is no sign.
    """

    obstructed: float = 0.4
    kinds: tuple[str, ...] = tuple(OBSTRUCTIONS)
    weather: float = 0.2
    mirror: Mapping[int, int] = field(default_factory=dict)
    kinds_of_weather: tuple[str, ...] = WEATHER
    without: tuple[str, ...] = ()


class Opinions(Dataset[tuple[Tensor, int]]):
    """One random version of an image, drawn from (seed, epoch, index) so that it does not depend on the worker.

    Indices past the labelled images draw something that is no sign, with the label `reject`.

    Args:
        images: Uint8 (H, W, 3) each, of any size.
        labels: The class of each.
        others: Crops without a sign. If there are none, no sign is: parts of signs, inverted signs and drawn shapes.
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
        height, width = pixels.shape[:2]
        if max(height, width) > _LARGEST:  # finer than that is not seen, and costs time
            share = _LARGEST / max(height, width)
            # A strip so thin that nothing would be left of it stays a pixel wide.
            thin = min(height, width) * share <= 0.5
            size = (max(1, round(width * share)), max(1, round(height * share))) if thin else None
            pixels = np.asarray(cv2.resize(pixels, size, fx=share, fy=share, interpolation=cv2.INTER_AREA), np.uint8)
        obstructed = generator.random() < self.variety.obstructed
        before = generator.random() < 0.5  # what lies on the sign is seen under its pose and through the camera
        if obstructed and before:
            pixels = obstruct(pixels, generator, self.variety.kinds)
        pixels = augment(pixels, self.size, generator, self.variety.without)
        if obstructed and not before:
            pixels = obstruct(pixels, generator, self.variety.kinds)
        weather = self.variety.kinds_of_weather
        if weather and generator.random() < self.variety.weather:
            pixels = KINDS[weather[int(generator.integers(len(weather)))]].drawn(pixels, generator)
        return pixels

    def _other(self, generator: np.random.Generator) -> Pixels:
        kind = generator.random()
        if self.others and kind < _CROPS:
            return self.others[int(generator.integers(len(self.others)))]
        image = self.images[int(generator.integers(len(self.images)))]
        if kind < _PARTS:
            return partial(image, generator)
        return inverted(image) if kind < _INVERTED else drawn(_DRAWN, generator)
