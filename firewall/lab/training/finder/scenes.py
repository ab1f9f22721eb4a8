"""What a finder learns from: windows of road frames with signs pasted in, each drawn from seed, epoch and index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from firewall.frame import Pixels
from firewall.lab.attacks.channels.h264 import H264
from firewall.lab.training.finder.cutouts import KINDS, Cutout, cut_out, kind_of, paste

__all__ = ["ROWS", "Ground", "Windows", "last_mined", "read_mined", "write_mined"]

#: Rows of boxes that a window has at most; unused ones are -1.
ROWS = 16
#: Boxes whose shorter side is below this in a window, in pixels, may be found or not.
_LEAST = 11.0
#: A pasted sign that changes the scene by less than this, in grey levels, may be found or not.
_SEEN = 9.0
#: Share of a sign that must be in a window for the rest to be a sign.
_VISIBLE = 0.7


@dataclass(frozen=True, eq=False)
class Ground:
    """A scene to cut windows from.

    Attributes:
        pixels: Uint8 (H, W, 3).
        boxes: Float (K, 5): x0, y0, x1, y1 and 1 for a sign, 0 for what may be found or not.
        scale: Windows of it are enlarged at least this much.
        labels: The class of each box, where that is known.
    """

    pixels: Pixels
    boxes: npt.NDArray[np.float64]
    scale: float = 0.0
    labels: tuple[int, ...] = ()


class Kinds:
    """Draws from a list so that each kind of sign comes as often as KINDS says.

    Args:
        labels: The class of each entry.
    """

    def __init__(self, labels: Sequence[int]) -> None:
        kinds = [kind_of(label) for label in labels]
        self._members = [[place for place, found in enumerate(kinds) if found == kind] for kind in range(len(KINDS))]
        shares = np.array([share if members else 0.0 for share, members in zip(KINDS, self._members, strict=True)])
        self._shares = shares / shares.sum() if labels else shares

    def draw(self, generator: np.random.Generator) -> int:
        """A place in the list, which mustn't be empty."""
        members = self._members[int(generator.choice(len(KINDS), p=self._shares))]
        return members[int(generator.integers(len(members)))]


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """One window: float (3, side, side) in 0..1, and its boxes, float (ROWS, 5), see `finder_loss`.

    Args:
        grounds: Frames with their signs.
        others: Scenes without boxes of the classes.
        signs: What is pasted.
        side: Width and height of a window in pixels.
        seed: What is random depends on it.
        mined: Folder of `write_mined`; what an epoch has there is read at its start.
    """

    def __init__(
        self,
        grounds: Sequence[Ground],
        others: Sequence[Ground],
        signs: Sequence[Cutout],
        *,
        side: int,
        seed: int,
        mined: Path,
    ) -> None:
        self.grounds, self.others, self.side, self.seed = grounds, others, side, seed
        self._folder, self._epoch = mined, -1
        self._mined: list[tuple[int, float, float]] = []
        self._signed = [(place, row) for place, ground in enumerate(grounds) for row in range(len(ground.boxes))]
        self._kinds = Kinds(
            [grounds[place].labels[row] if row < len(grounds[place].labels) else 0 for place, row in self._signed]
        )
        groups: dict[int, list[Cutout]] = {}
        for sign in signs:
            groups.setdefault(sign.label, []).append(sign)
        self._signs = [sorted(group, key=lambda sign: sign.side) for _, group in sorted(groups.items())]
        self._sides = [np.array([sign.side for sign in group]) for group in self._signs]
        self._classes = Kinds(sorted(groups))
        self._noise = np.random.default_rng(seed).normal(0, 1, (side + 64, side + 64, 3)).astype(np.float32)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        cv2.setNumThreads(0)
        epoch, index = key
        if epoch != self._epoch:
            self._epoch, self._mined = epoch, read_mined(self._folder, epoch)
        generator = np.random.default_rng([self.seed, epoch, index])
        pixels, boxes = self._window(generator)
        boxes = self._paste(pixels, boxes, generator)
        if generator.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            boxes[:, [0, 2]] = self.side - boxes[:, [2, 0]]
        pixels = self._camera(pixels, generator)
        rows = np.full((ROWS, 5), -1, np.float32)
        rows[: len(boxes)] = boxes[:ROWS]
        return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255), torch.from_numpy(rows)

    def _window(self, generator: np.random.Generator) -> tuple[Pixels, npt.NDArray[np.float64]]:
        scale = float(np.exp(generator.uniform(np.log(0.65), np.log(1.6))))
        drawn = generator.random()
        near: tuple[float, float] | None = None
        if drawn < 0.45 and self._signed:
            even = generator.random() < 0.5
            number = int(generator.integers(len(self._signed))) if even else self._kinds.draw(generator)
            place, row = self._signed[number]
            ground = self.grounds[place]
            x0, y0, x1, y1 = ground.boxes[row, :4]
            near = ((x0 + x1) / 2, (y0 + y1) / 2)
        elif drawn < 0.65 and self._mined:
            place, x, y = self._mined[int(generator.integers(len(self._mined)))]
            ground, near = self.grounds[place], (x, y)
        elif drawn < 0.72 and self.others:
            ground = self.others[int(generator.integers(len(self.others)))]
        else:
            ground = self.grounds[int(generator.integers(len(self.grounds)))]
        height, width = ground.pixels.shape[:2]
        scale = max(scale, ground.scale, self.side / min(height, width))
        span = min(round(self.side / scale), height, width)
        if near is None:
            left, top = generator.integers(0, width - span + 1), generator.integers(0, height - span + 1)
        else:
            offset = generator.uniform(0.1, 0.9, 2) * span
            left = int(np.clip(near[0] - offset[0], 0, width - span))
            top = int(np.clip(near[1] - offset[1], 0, height - span))
        window = ground.pixels[top : top + span, left : left + span]
        ratio = self.side / span
        way = cv2.INTER_AREA if ratio < 0.8 else cv2.INTER_LINEAR
        pixels = np.array(cv2.resize(window, (self.side, self.side), interpolation=way), np.uint8)
        boxes = ground.boxes.copy()
        boxes[:, :4] = (boxes[:, :4] - (left, top, left, top)) * ratio
        return pixels, _clipped(boxes, self.side)

    def _paste(
        self, pixels: Pixels, boxes: npt.NDArray[np.float64], generator: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        for _ in range(int(generator.choice(5, p=(0.2, 0.25, 0.25, 0.2, 0.1))) if self._signs else 0):
            low, high = ((13, 32), (32, 64), (64, 130))[int(generator.choice(3, p=(0.55, 0.3, 0.15)))]
            side = float(np.exp(generator.uniform(np.log(low), np.log(high))))
            kind = self._classes.draw(generator)
            first = int(np.searchsorted(self._sides[kind], side / 1.4))
            group = self._signs[kind]
            sign = cut_out(group[int(generator.integers(min(first, len(group) - 1), len(group)))], side, generator)
            height, width = sign.mask.shape[:2]
            if max(height, width) >= self.side:
                continue
            for _ in range(8):
                x, y = (int(generator.integers(self.side - length)) for length in (width, height))
                box = np.add([sign.box], (x, y, x, y))
                if not _touches(box[0], boxes):
                    change = paste(pixels, sign, x, y, generator)
                    plain = min(box[0, 2:] - box[0, :2]) >= _LEAST and change >= _SEEN
                    flag = 1.0 if plain else 0.0
                    boxes = np.concatenate([boxes, np.append(box, [[flag]], 1)])
                    break
        return boxes

    def _camera(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """Light, sharpness, noise and compression, as JPEG or video, of the whole window."""
        chance = generator.random
        if chance() < 0.8:
            values = np.arange(256) / 255
            values = values ** np.exp(generator.uniform(-0.45, 0.4))
            values = (values - 0.45) * np.exp(generator.uniform(-0.45, 0.35)) + 0.45
            gain = np.exp(generator.uniform(-0.45, 0.35)) * np.exp(generator.uniform(-0.1, 0.1, 3))
            table = np.clip((values[:, None] * gain + generator.uniform(-0.05, 0.1)) * 255 + 0.5, 0, 255)
            pixels = np.asarray(cv2.LUT(pixels, table.astype(np.uint8).reshape(1, 256, 3)), np.uint8)
        drawn = chance()
        if drawn < 0.15:
            pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), float(generator.uniform(0.4, 1.5))), np.uint8)
        elif drawn < 0.25:
            length = int(generator.integers(3, 8))
            pixels = np.asarray(cv2.blur(pixels, (length, 1) if chance() < 0.7 else (1, length)), np.uint8)
        if chance() < 0.2:
            x, y = generator.integers(0, 64, 2)
            noise = self._noise[y : y + self.side, x : x + self.side] * np.float32(generator.uniform(1, 12))
            pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
        if chance() < 0.3:
            quality = int(generator.integers(30, 95))
            _, file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
            pixels = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)
        if chance() < 0.05:
            pixels = np.repeat(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)[..., None], 3, axis=2)
        if chance() < 0.1:
            pixels = H264(int(generator.integers(20, 36))).through(pixels, generator)
        return pixels


def write_mined(folder: Path, epoch: int, found: Sequence[tuple[int, float, float]]) -> None:
    """Store what an epoch is to learn that no sign is there: number of the ground, x and y in its pixels."""
    path = _mined(folder, epoch)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps([list(row) for row in found]), encoding="utf-8")
    partial.replace(path)
    _mined(folder, epoch - 2).unlink(missing_ok=True)


def read_mined(folder: Path, epoch: int) -> list[tuple[int, float, float]]:
    """What `write_mined` stored for an epoch; nothing for the first, unless the run has started from another one."""
    path = _mined(folder, epoch)
    if not path.exists():
        return []
    return [(int(place), float(x), float(y)) for place, x, y in json.loads(path.read_text(encoding="utf-8"))]


def last_mined(folder: Path) -> list[tuple[int, float, float]]:
    """What the last epoch of a run has found."""
    epochs = [int(path.stem.partition("-")[2]) for path in folder.glob("mined-*.json")]
    return read_mined(folder, max(epochs)) if epochs else []


def _mined(folder: Path, epoch: int) -> Path:
    return folder / f"mined-{epoch}.json"


def _clipped(boxes: npt.NDArray[np.float64], side: int) -> npt.NDArray[np.float64]:
    """Boxes cut off at the window; one that lies mostly outside, or is too small, may be found or not."""
    area = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    cut = boxes.copy()
    cut[:, :4] = np.clip(cut[:, :4], 0, side)
    sides = cut[:, 2:4] - cut[:, :2]
    visible = np.prod(sides, axis=1) / np.maximum(area, 1e-9)
    cut[(visible < _VISIBLE) | (sides.min(axis=1, initial=np.inf) < _LEAST), 4] = 0
    kept: npt.NDArray[np.float64] = cut[(sides > 1).all(axis=1)]
    return kept


def _touches(box: npt.NDArray[np.float64], boxes: npt.NDArray[np.float64]) -> bool:
    apart = (boxes[:, 0] > box[2]) | (boxes[:, 2] < box[0]) | (boxes[:, 1] > box[3]) | (boxes[:, 3] < box[1])
    return bool((~apart).any())
