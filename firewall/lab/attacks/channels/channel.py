"""What a channel is, several of them in a row, and how gradients get through one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from firewall.errors import UsageError
from firewall.lab.attacks.rounding import quantise, to_input

__all__ = ["Chain", "Channel", "Pixels", "sent", "stand_in"]

Pixels = npt.NDArray[np.uint8]


class Channel(Protocol):
    """A frozen dataclass of a channel's parameters. Two that are equal do the same."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def through(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """One image after the channel.

        Args:
            pixels: Uint8 (h, w, 3) RGB, of any size from 1 x 1.
            generator: What random choices are drawn with, if there are any.

        Returns:
            Uint8 of the same shape.

        Raises:
            MissingExtraError: The codec is not installed.
        """

    def smooth(self, images: Tensor) -> Tensor:
        """A differentiable approximation. Only its gradient is used: see `stand_in`.

        Args:
            images: Float (N, C, h, w) in 0..1, C = 1 or 3.

        Returns:
            Float of the same shape.
        """

    def check(self) -> None:
        """Whether the channel can be used here.

        Raises:
            MissingExtraError: The codec is not installed; the message names the package.
        """


@dataclass(frozen=True)
class Chain:
    """Channels one after the other.

    Args:
        parts: One or more, the first first.

    Raises:
        UsageError: There is none.
    """

    parts: tuple[Channel, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise UsageError("a chain of channels has none; allowed are 1 or more")

    def through(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """See Channel."""
        for part in self.parts:
            pixels = part.through(pixels, generator)
        return pixels

    def smooth(self, images: Tensor) -> Tensor:
        """See Channel."""
        for part in self.parts:
            images = part.smooth(images)
        return images

    def check(self) -> None:
        """See Channel."""
        for part in self.parts:
            part.check()


def sent(channel: Channel, pixels: Pixels, seed: int) -> Pixels:
    """Stored images after the channel.

    Args:
        channel: Through which they go, each for itself.
        pixels: Uint8 (N, h, w, C), C = 1 or 3; a grey image is sent as three equal colours, of which the green is kept.
        seed: What random choices depend on, with the image's place.

    Returns:
        Uint8 of the same shape.

    Raises:
        MissingExtraError: The codec is not installed.
    """
    result = np.empty_like(pixels)
    for place, image in enumerate(pixels):
        colour = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image
        received = channel.through(np.ascontiguousarray(colour), np.random.default_rng([seed, place]))
        result[place] = received[..., 1:2] if image.shape[2] == 1 else received
    return result


def stand_in(channel: Channel, images: Tensor, seed: int) -> Tensor:
    """Images after the channel, with a gradient: BPDA (Athalye et al. 2018).

    Forward they are what `sent` makes of the images as stored, byte for byte; backward the gradient is that of the
    channel's `smooth`.

    Args:
        channel: Through which they go.
        images: Float (N, C, h, w) in 0..1.
        seed: As in `sent`.

    Returns:
        Float of the same shape, multiples of 1/255.

    Raises:
        MissingExtraError: The codec is not installed.
        DataError: The images are not within 0..1.
    """
    received = to_input(sent(channel, quantise(images.detach()), seed)).to(images)
    if not images.requires_grad or len(images) == 0:
        return received
    smooth = channel.smooth(images)
    return smooth + (received - smooth).detach()
