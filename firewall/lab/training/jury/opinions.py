"""What a juror learns from: random versions of labelled images as a camera would see them, and of what is no sign."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from firewall.frame import Pixels
from firewall.lab.training.classifiers.outliers import half, partial
from firewall.lab.training.classifiers.variety import Variety, version
from firewall.lab.training.jury.non_signs import TURNED, drawn, inverted

__all__ = ["PLAIN_LIGHT", "Opinions"]

#: Obstructions that look like light as it often is.
PLAIN_LIGHT = ("cast", "glare", "projector")
#: Of what is no sign: up to which share it is a crop of `others` (if there are some), a part of a sign, an inverted
#: sign; the rest is drawn, at this size in pixels.
_CROPS, _PARTS, _INVERTED, _DRAWN = 0.7, 0.8, 0.86, 64
#: Of spoilt signs: the share of those that are one side of a sign; the rest is turned.
_HALVES = 0.57


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
        clear: Whether a sign with something on it has the label `reject` as well; light that is as on any day leaves it
            its own (PLAIN_LIGHT).
        spoilt: Of what is no sign: the share that is one side of a sign, or a sign on its side or its head.
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
        clear: bool = False,
        spoilt: float = 0.0,
    ) -> None:
        self.images, self.labels, self.others = images, labels, others
        self.reject, self.size, self.variety, self.seed, self.clear = reject, size, variety, seed, clear
        self.spoilt = spoilt

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
        pixels, kind = version(pixels, self.size, self.variety, generator)
        if self.clear and kind and kind not in PLAIN_LIGHT:
            label = self.reject
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div(255), label

    def _other(self, generator: np.random.Generator) -> Pixels:
        if self.spoilt and generator.random() < self.spoilt:
            return self._spoilt(generator)
        kind = generator.random()
        if self.others and kind < _CROPS:
            return self.others[int(generator.integers(len(self.others)))]
        image = self.images[int(generator.integers(len(self.images)))]
        if kind < _PARTS:
            return partial(image, generator)
        return inverted(image) if kind < _INVERTED else drawn(_DRAWN, generator)

    def _spoilt(self, generator: np.random.Generator) -> Pixels:
        index = int(generator.integers(len(self.images)))
        if generator.random() < _HALVES or int(self.labels[index]) not in TURNED:
            return half(self.images[index], generator)
        return np.ascontiguousarray(np.rot90(self.images[index], int(generator.integers(1, 4))))
