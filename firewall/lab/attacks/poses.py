"""How a camera may see an object: random pose, scale and light, for expectation over transformation (EOT)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from firewall.errors import UsageError

__all__ = ["Poses", "placed"]


@dataclass(frozen=True)
class Poses:
    """Ranges of pose and light, drawn uniformly.

    Athalye et al.: "Synthesizing robust adversarial examples", 2018.

    Args:
        degrees: Largest rotation either way, 0..180.
        scale: Largest factor of enlargement, 1 or more; its inverse is the smallest.
        shift: Share of the side by which the picture may move, either way, 0 or more.
        tilt: Shear, either way, for a view from the side, 0 or more.
        light: Share by which contrast and, in units of the full range, brightness may change, 0..1, below 1.

    Raises:
        UsageError: A range is not allowed.
    """

    degrees: float = 12.0
    scale: float = 1.15
    shift: float = 0.05
    tilt: float = 0.1
    light: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.degrees <= 180 and self.scale >= 1 and min(self.shift, self.tilt) >= 0):
            raise UsageError(
                f"poses: degrees {self.degrees}, scale {self.scale}, shift {self.shift}, tilt {self.tilt}; allowed are "
                "0 <= degrees <= 180, scale >= 1, shift and tilt >= 0"
            )
        if not 0 <= self.light < 1:
            raise UsageError(f"poses: light is {self.light}; it must lie in 0..1, below 1")

    def matrices(self, count: int, generator: torch.Generator) -> Tensor:
        """Random maps from places in the view to places in the picture, both in -1..1.

        Args:
            count: How many.
            generator: What they are drawn with.

        Returns:
            Float (count, 2, 3).
        """
        draws = 2 * torch.rand(6, count, generator=generator) - 1
        angle = draws[0] * math.radians(self.degrees)
        factor = self.scale ** -draws[1]
        shear = self.tilt * draws[2]
        cos, sin = angle.cos() * factor, angle.sin() * factor
        first = torch.stack([cos, shear * cos - sin, 2 * self.shift * draws[3]], dim=1)
        second = torch.stack([sin, shear * sin + cos, 2 * self.shift * draws[4]], dim=1)
        return torch.stack([first, second], dim=1)

    def seen(self, pictures: Tensor, generator: torch.Generator, *, alike: bool = False) -> Tensor:
        """Each picture in a random pose and light; beyond its edge the edge's values go on.

        Args:
            pictures: Float (N, C, H, W) in 0..1.
            generator: What poses and light are drawn with.
            alike: One pose and light for all.

        Returns:
            Float (N, C, H, W) in 0..1.
        """
        count = 1 if alike else len(pictures)
        matrices = self.matrices(count, generator).to(pictures).expand(len(pictures), -1, -1)
        turned = placed(pictures, matrices, pictures.shape[2:], "border")
        draws = 2 * torch.rand(2, count, 1, 1, 1, generator=generator) - 1
        contrast, brightness = (self.light * draws).to(pictures)
        lit: Tensor = (turned - 0.5) * (1 + contrast) + 0.5 + brightness / 2
        return lit.clamp(0, 1)


def placed(pictures: Tensor, matrices: Tensor, size: tuple[int, ...], outside: str = "zeros") -> Tensor:
    """Pictures mapped into views.

    Args:
        pictures: Float (N, C, h, w).
        matrices: Float (N, 2, 3), as `Poses.matrices` gives them.
        size: (H, W) of the views.
        outside: What lies beyond a picture: `zeros` or `border`.

    Returns:
        Float (N, C, H, W).
    """
    if len(pictures) == 0:
        return pictures.new_zeros(0, pictures.shape[1], *size)
    grid = affine_grid(matrices, [len(pictures), pictures.shape[1], *size], align_corners=False)
    views: Tensor = grid_sample(pictures, grid, mode="bilinear", padding_mode=outside, align_corners=False)
    return views
