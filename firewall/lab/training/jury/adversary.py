"""Adversarial training of jurors: a part of each batch is attacked in one step, at all frequencies or smoothly.

N-FGSM (de Jorge et al., Make Some Noise, NeurIPS 2022): one sign step from a random start that may be twice as large,
not projected afterwards. It costs one more pass, and training doesn't collapse as it does with plain FGSM. A *smooth*
step takes the sign of the gradient's mean over cells, so that the change survives JPEG and blur.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from firewall.errors import UsageError

__all__ = ["Adversary"]


@dataclass(frozen=True)
class Adversary:
    """How a batch is attacked.

    Args:
        share: Share of the images that is attacked at full band, 0..1.
        smooth: Share that is attacked smoothly.
        epsilon: Smallest and largest step at full band, L-infinity in 0..1. With the random start a value changes by up
            to three steps.
        smooth_epsilon: The same for smooth steps; a value changes by up to two.
        warm_up: Share of the training over which the changes grow to their size.
        bfloat16: Whether the passes run in bfloat16.

    Raises:
        UsageError: A value is out of range.
    """

    share: float = 0.4
    smooth: float = 0.25
    epsilon: tuple[float, float] = (2 / 255, 10 / 255)
    smooth_epsilon: tuple[float, float] = (6 / 255, 28 / 255)
    warm_up: float = 0.25
    bfloat16: bool = False

    def __post_init__(self) -> None:
        if not (min(self.share, self.smooth) >= 0 and self.share + self.smooth <= 1 + 1e-9 and 0 <= self.warm_up <= 1):
            raise UsageError(
                f"the shares of attacked images ({self.share} and {self.smooth}, together at most 1) and that of the "
                f"warm-up ({self.warm_up}) must lie in 0..1"
            )
        for low, high in (self.epsilon, self.smooth_epsilon):
            if not 0 <= low <= high <= 1:
                raise UsageError(f"an attack's smallest and largest step must ascend in 0..1, got {low} and {high}")

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, done: float) -> Tensor:
        """The batch with its first images attacked.

        What is random is drawn on the CPU, so that it is the same for any device.

        Args:
            network: In training mode, left as it was but for running statistics.
            images: Float (N, 3, H, W) in 0..1, in random order.
            labels: Int64 (N,), or the probability of each class, float (N, classes).
            done: Share of the training that is done, 0..1.

        Returns:
            Float (N, 3, H, W) in 0..1, without a gradient.
        """
        full = round(self.share * len(images))
        smooth = min(round(self.smooth * len(images)), len(images) - full)  # both may round up
        attacked = full + smooth
        if attacked == 0:
            return images
        growth = min(1.0, done / self.warm_up) if self.warm_up else 1.0
        sizes = torch.empty(attacked, 1, 1, 1)
        sizes[:full].uniform_(*self.epsilon)
        sizes[full:].uniform_(*self.smooth_epsilon)
        sizes *= growth
        sizes = sizes.to(images.device)
        start = images[:attacked].clone()
        start[:full] += torch.empty_like(start[:full], device="cpu").uniform_(-2, 2).to(images.device) * sizes[:full]
        start[full:] += _smooth_noise(start[full:]) * sizes[full:]
        start = start.clamp(0, 1).requires_grad_(True)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss = F.cross_entropy(network(start).float(), labels[:attacked], reduction="sum")
        (gradient,) = torch.autograd.grad(loss, start)
        step = gradient.sign()
        if smooth:
            cell = int(torch.randint(3, 9, ()))
            step[full:] = _averaged(gradient[full:], cell)
        changed = images.clone()
        changed[:attacked] = (start.detach() + step * sizes).clamp(0, 1)
        return changed


def _averaged(gradient: Tensor, cell: int) -> Tensor:
    """The sign of the mean gradient in cells of about `cell` pixels, made smooth; -1..1."""
    side = max(2, gradient.shape[-1] // cell)
    coarse = F.adaptive_avg_pool2d(gradient, side).sign()
    return F.interpolate(coarse, gradient.shape[-2:], mode="bilinear", align_corners=False)


def _smooth_noise(images: Tensor) -> Tensor:
    """Random, of the images' shape, smooth over a fourth to a twelfth of their side; -1..1."""
    side = int(torch.randint(4, 13, ()))
    coarse = torch.empty(len(images), images.shape[1], side, side).uniform_(-1, 1).to(images.device)
    return F.interpolate(coarse, images.shape[-2:], mode="bilinear", align_corners=False)
