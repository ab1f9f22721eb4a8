"""A classifier to protect: a network that takes pixels as they are stored, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from firewall.errors import DataError, EngineError
from firewall.transforms import resize

__all__ = ["Normalised", "Protected"]


@dataclass(frozen=True, eq=False)
class Protected:
    """A classifier with everything that attacks and databases need of it.

    Args:
        name: How it was asked for.
        sha256: Of the file that defines it.
        labels: The network's classes.
        channels: 1 or 3.
        height: Of its input, in pixels.
        width: Of its input, in pixels.
        offset: The network's class is the data set's label plus this (1 for ImageNet networks with a class for
            background).
        network: Float (N, channels, height, width) in 0..1 -> logits (N, classes), normalisation inside, in evaluation
            mode; no weight wants a gradient.
        differentiable: False if there are no gradients, which leaves black-box attacks; `card["gradients"]` says why.
        card: Accuracy on kept-out data, training facts, notes.
    """

    name: str
    sha256: str
    labels: tuple[str, ...]
    channels: int
    height: int
    width: int
    offset: int
    network: nn.Module
    differentiable: bool
    card: dict[str, Any] = field(default_factory=dict)
    #: See firewall.lab.database.variants.Answering.
    arithmetic: ClassVar[str] = ""

    def prepare(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """An image at the network's input size, resized as the edge does.

        A grey image becomes three equal channels for a network of three. A network of one channel refuses a colour
        image, since there are many ways of making it grey.

        Args:
            image: Uint8 (H, W, 1 or 3) of any size.

        Returns:
            Uint8 (height, width, channels).

        Raises:
            DataError: The image doesn't fit.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
            raise DataError(f"an image must be uint8 (H, W, 1 or 3), got {image.dtype} {image.shape}")
        if image.shape[2] == 3 and self.channels == 1:
            raise DataError(f"the classifier {self.name} takes grey images (H, W, 1), got {image.shape}")
        colour = image if image.shape[2] == 3 else np.repeat(image, 3, axis=2)
        return np.ascontiguousarray(resize(colour, self.width, self.height)[..., : self.channels])

    def logits(self, images: npt.NDArray[np.uint8], batch: int = 64) -> npt.NDArray[np.float32]:
        """Logits of stored pixels: they decide whether an image fools the classifier.

        Args:
            images: Uint8 (N, height, width, channels).
            batch: How many images go through the network at a time.

        Returns:
            Float32 (N, classes).

        Raises:
            DataError: The images have another size or type.
            EngineError: A logit is not a finite number.
        """
        size = (self.height, self.width, self.channels)
        if images.dtype != np.uint8 or images.shape[1:] != size:
            raise DataError(f"the classifier {self.name} takes uint8 (N, {size}), got {images.dtype} {images.shape}")
        device = next((value.device for value in _values(self.network)), torch.device("cpu"))
        parts = [np.zeros((0, len(self.labels)), np.float32)]
        with torch.no_grad():
            for start in range(0, len(images), batch):
                pixels = torch.from_numpy(images[start : start + batch]).to(device)
                result = self.network(pixels.permute(0, 3, 1, 2).float().div(255))
                parts.append(result.float().cpu().numpy())
        logits = np.concatenate(parts)
        if not np.isfinite(logits).all():
            raise EngineError(f"the classifier {self.name} gives logits that are not finite numbers; it can't be used")
        return logits


class Normalised(nn.Module):
    """A network behind its normalisation, (image - mean) / std for each channel.

    Args:
        network: Float (N, C, H, W) -> logits (N, classes).
        mean: A number, or one for each channel.
        std: As mean.
        grey: The network takes three channels and is given a grey image as three equal ones.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], *, grey: bool) -> None:
        super().__init__()
        self.network, self.grey = network, grey
        self.plain = set(mean) == {0.0} and set(std) == {1.0}  # nothing to compute then: attacks run as on the network
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Logits of float (N, C, H, W) in 0..1."""
        if self.grey:
            image = image.expand(-1, 3, -1, -1)
        logits: Tensor = self.network(image if self.plain else (image - self.mean) / self.std)
        return logits


def _values(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
