"""What a juror learns from another classifier: random versions of benign images, and the classifier's own answers.

The classifier sees a version as a camera would: moved, turned, nearer or farther. The juror is shown the same version
after it has got worse (light, weather, compression, something that lies on it), and learns the classifier's answer to
the better one. This is knowledge distillation: the juror learns to agree with the classifier on benign images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from firewall.frame import Pixels
from firewall.lab.datasets.obstructions import obstruct
from firewall.lab.datasets.reading import at_most
from firewall.lab.datasets.shifts import KINDS
from firewall.lab.training.jury.teacher import Teacher
from firewall.transforms import resize

__all__ = ["Habits", "Lessons"]

_JPEG = KINDS["jpeg"].physics


@dataclass(frozen=True)
class Habits:
    """How versions differ from the image.

    Args:
        moved: Share of the versions that are moved, turned, enlarged or made smaller.
        coarse: Share of the versions that have lost resolution.
        obstructed: Share with a shadow, a sticker, light, dirt ... on them.
        shifted: Share under one or two of the shifts of `firewall.lab.datasets.shifts`: noise, blur, rain ...
        compressed: Share that was stored as JPEG of quality 40 to 95.
        mirror: Whether half of the versions are mirrored, left for right.
    """

    moved: float = 0.8
    coarse: float = 0.25
    obstructed: float = 0.35
    shifted: float = 0.4
    compressed: float = 0.4
    mirror: bool = False


class Lessons(Dataset[tuple[Tensor, Tensor]]):
    """One random version of an image and its target probabilities, drawn from (seed, epoch, index) alone.

    Indices past the images draw one of `others`, whose target is "not a sign", the last output.

    Args:
        images: Uint8 (H, W, 3) each, of any size.
        known: The class of each, -1 where it isn't known.
        others: Crops that show none of the classes.
        teacher: The classifier.
        size: Width and height of the versions in pixels.
        outputs: How many probabilities: the classes, then perhaps "not a sign".
        label_share: Weight of the known class in the target, 0..1; the classifier's answer has the rest.
        habits: How versions differ.
        seed: What is random depends on it.
    """

    def __init__(
        self,
        images: Sequence[Pixels],
        known: Sequence[int],
        others: Sequence[Pixels],
        *,
        teacher: Teacher,
        size: int,
        outputs: int,
        label_share: float,
        habits: Habits,
        seed: int,
    ) -> None:
        self.images, self.known, self.others = images, known, others
        self.teacher, self.size, self.outputs = teacher, size, outputs
        self.label_share, self.habits, self.seed = label_share, habits, seed

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor]]:
        """A batch: the classifier is asked once for all. Float (3, size, size) in 0..1, float (outputs,) each."""
        cv2.setNumThreads(0)
        drawn = [self._drawn(epoch, index) for epoch, index in keys]
        asked = [place for place, (_, index) in enumerate(keys) if index < len(self.images)]
        answers = self.teacher.probabilities([drawn[place][0] for place in asked])
        wanted = np.zeros((len(keys), self.outputs), np.float32)
        wanted[:, -1] = 1
        for place, answer in zip(asked, answers, strict=True):
            wanted[place] = self._wanted(answer, self.known[keys[place][1]])
        return [
            (torch.from_numpy(shown.copy()).permute(2, 0, 1).float().div(255), torch.from_numpy(row))
            for (_, shown), row in zip(drawn, wanted, strict=True)
        ]

    def _wanted(self, answer: npt.NDArray[np.float32], known: int) -> npt.NDArray[np.float32]:
        row = np.zeros(self.outputs, np.float32)
        row[: len(answer)] = answer
        if known >= 0:
            row *= 1 - self.label_share
            row[known] += self.label_share
        return row

    def _drawn(self, epoch: int, index: int) -> tuple[Pixels, Pixels]:
        """What the classifier sees and what the juror is shown."""
        generator = np.random.default_rng([self.seed, epoch, index])
        if index < len(self.images):
            pixels = self.images[index]
        else:
            pixels = self.others[int(generator.integers(len(self.others)))]
        if self.habits.mirror and generator.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        if generator.random() < self.habits.moved:
            pixels = _moved(pixels, generator)
        return pixels, self._worse(pixels, generator)

    def _worse(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        habits = self.habits
        pixels = at_most(pixels, 2 * self.size)  # finer than that is not seen, and costs time
        if generator.random() < habits.coarse:
            height, width = pixels.shape[:2]
            share = generator.uniform(0.45, 0.9)
            pixels = resize(resize(pixels, max(1, round(width * share)), max(1, round(height * share))), width, height)
        if generator.random() < habits.obstructed:
            pixels, _ = obstruct(pixels, generator)
        if generator.random() < habits.shifted:
            for kind in generator.choice(list(KINDS), size=int(generator.integers(1, 3)), replace=False):
                pixels = KINDS[str(kind)].drawn(pixels, generator)
        if generator.random() < habits.compressed:
            pixels = _JPEG(pixels, generator, quality=generator.uniform(40, 95))
        return resize(pixels, self.size, self.size)


def _moved(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Corners moved by up to .04 of the side, a turn of up to 7 degrees, .9 to 1.13 times as large, moved by up to .06.

    What comes in over the edge is the image mirrored.
    """
    height, width = pixels.shape[:2]
    angle, scale = np.radians(generator.uniform(-7, 7)), np.exp(generator.uniform(-0.1, 0.12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    to = corners @ turn.T + generator.uniform(-0.04, 0.04, (4, 2)) + generator.uniform(-0.06, 0.06, 2)
    matrix = cv2.getPerspectiveTransform(
        np.float32((corners + 0.5) * (width, height)), np.float32((to + 0.5) * (width, height))
    )
    view = cv2.warpPerspective(
        pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.asarray(view, np.uint8)
