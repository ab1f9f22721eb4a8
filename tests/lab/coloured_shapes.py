"""A small network that is trained here, in seconds, on coloured shapes: what the attacks are tried on."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

SIZE = 16
CLASSES = 6


def shapes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Discs, squares and crosses in one of two colours on noise, as uint8 levels / 255."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    images = np.empty((count, 3, SIZE, SIZE), np.float32)
    labels = generator.integers(0, CLASSES, count)
    for image, label in zip(images, labels, strict=True):
        y, x = (SIZE - 1) / 2 + generator.uniform(-1.5, 1.5, 2)
        reach = generator.uniform(4.5, 6)
        down, right = np.abs(rows - y), np.abs(columns - x)
        mask = (
            np.hypot(down, right) < reach,
            np.maximum(down, right) < reach,
            (np.minimum(down, right) < 1.6) & (np.maximum(down, right) < reach),
        )[label % 3]
        colour = np.array([(0.75, 0.35, 0.35), (0.35, 0.35, 0.75)][label // 3]) + generator.normal(0, 0.03, 3)
        image[:] = np.where(mask, colour[:, None, None], 0.45) + generator.normal(0, 0.08, image.shape)
    return torch.from_numpy(images).clamp(0, 1).mul(255).round().div(255), torch.from_numpy(labels)


@cache
def trained(seed: int = 0) -> nn.Sequential:
    """A small CNN with batch normalisation and dropout, in *training* mode: attacks have something to disturb."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            *(nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.BatchNorm2d(12), nn.ReLU()),
            *(nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU()),
            *(nn.Flatten(), nn.Dropout(0.1), nn.Linear(24 * 16, CLASSES)),
        )
        images, labels = shapes(1024, seed=1)
        adam = torch.optim.Adam(model.parameters(), 3e-3)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(6):
            for chosen in torch.randperm(len(images), generator=generator).split(64):
                adam.zero_grad()
                cross_entropy(model(images[chosen]), labels[chosen], label_smoothing=0.05).backward()
                adam.step()
        adam.zero_grad()
    return model


@cache
def correctly_classified() -> tuple[Tensor, Tensor]:
    """24 images that the network classifies correctly, of kept-out noise."""
    images, labels = shapes(96, seed=2)
    right = classes_of(trained(), images) == labels
    assert right.float().mean() > 0.9, "the network has learnt its shapes"
    return images[right][:24], labels[right][:24]


@torch.no_grad()
def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = copy.deepcopy(network).eval()(images)
    return logits


def classes_of(network: nn.Module, images: Tensor) -> Tensor:
    return logits_of(network, images).argmax(1)
