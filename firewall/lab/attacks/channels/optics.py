"""Channels without a codec: another resolution, blur, a sensor's noise, less contrast."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from firewall.errors import UsageError
from firewall.lab.attacks.channels.channel import Pixels
from firewall.lab.attacks.resampling import resized
from firewall.transforms import gaussian_blur, resize

__all__ = ["Blur", "Contrast", "Noise", "Resolution", "blurred"]


@dataclass(frozen=True)
class Resolution:
    """Through another resolution: resampled to a share of the size, and back, bilinear.

    Args:
        percent: Of the sides, 5..400; above 100 the image is first enlarged.

    Raises:
        UsageError: It is out of range.
    """

    percent: float = 50

    def __post_init__(self) -> None:
        if not 5 <= self.percent <= 400:
            raise UsageError(f"channel resize: {self.percent} percent; it must lie in 5..400, as in resize-50")

    def through(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """See Channel."""
        height, width = pixels.shape[:2]
        return resize(resize(pixels, self._side(width), self._side(height)), width, height)

    def smooth(self, images: Tensor) -> Tensor:
        """See Channel."""
        height, width = images.shape[2:]
        return resized(resized(images, self._side(width), self._side(height)), width, height)

    def check(self) -> None:
        """See Channel: always."""

    def _side(self, side: int) -> int:
        return max(1, round(side * self.percent / 100))


@dataclass(frozen=True)
class Blur:
    """Blur out of focus: Gaussian, by Pillow's algorithm.

    Args:
        sigma: Standard deviation in pixels, above 0, up to 20.

    Raises:
        UsageError: It is out of range.
    """

    sigma: float = 1

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 20:
            raise UsageError(f"channel blur: sigma {self.sigma}; it must lie in 0..20, above 0, as in blur-1.5")

    def through(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """See Channel."""
        received: Pixels = gaussian_blur(pixels, [self.sigma])[0]
        return received

    def smooth(self, images: Tensor) -> Tensor:
        """See Channel."""
        return blurred(images, self.sigma)

    def check(self) -> None:
        """See Channel: always."""


@dataclass(frozen=True)
class Noise:
    """Sensor noise: Gaussian, independent for each value.

    Args:
        deviation: Standard deviation in grey levels of 255, above 0, up to 100.

    Raises:
        UsageError: It is out of range.
    """

    deviation: float = 6

    def __post_init__(self) -> None:
        if not 0 < self.deviation <= 100:
            raise UsageError(
                f"channel noise: {self.deviation} grey levels; they must lie in 0..100, above 0, as in noise-6"
            )

    def through(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """See Channel."""
        noisy = pixels + generator.normal(0, self.deviation, pixels.shape)
        received: Pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
        return received

    def smooth(self, images: Tensor) -> Tensor:
        """See Channel: noise that doesn't depend on the image changes no gradient."""
        return images

    def check(self) -> None:
        """See Channel: always."""


@dataclass(frozen=True)
class Contrast:
    """Less contrast, as haze has it: all values move towards the image's mean colour.

    Args:
        percent: What is left of each value's distance from the mean, 1..100.

    Raises:
        UsageError: It is out of range.
    """

    percent: float = 15

    def __post_init__(self) -> None:
        if not 1 <= self.percent <= 100:
            raise UsageError(f"channel contrast: {self.percent} percent; it must lie in 1..100, as in contrast-15")

    def through(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """See Channel."""
        mean = pixels.mean((0, 1))
        received: Pixels = np.clip(np.rint(mean + (pixels - mean) * self.percent / 100), 0, 255).astype(np.uint8)
        return received

    def smooth(self, images: Tensor) -> Tensor:
        """See Channel."""
        mean = images.mean((2, 3), keepdim=True)
        return mean + (images - mean) * self.percent / 100

    def check(self) -> None:
        """See Channel: always."""


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of images or changes; beyond the edge its values repeat. It averages, so no value grows.

    Args:
        images: Float (N, C, h, w).
        sigma: Standard deviation in pixels, above 0.

    Returns:
        Float of the same shape.
    """
    channels = images.shape[1]
    weights = _gaussian(sigma).to(images).expand(channels, 1, -1)
    reach = weights.shape[2] // 2
    wide = pad(images, (reach, reach, reach, reach), mode="replicate")
    across = conv2d(wide, weights[:, :, None, :], groups=channels)
    result: Tensor = conv2d(across, weights[:, :, :, None], groups=channels)
    return result


@lru_cache(maxsize=64)
def _gaussian(sigma: float) -> Tensor:
    reach = max(1, math.ceil(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / sigma) ** 2)
    return weights / weights.sum()
