"""Masks of what a classifier uses, for any network: Grad-CAM, SmoothGrad, RISE.

They need gradients of the classifier or many runs of it, so they stay in the lab. On the edge a small network that has
learnt to give the same masks takes their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate
from torch.overrides import TorchFunctionMode

from firewall.errors import DataError

__all__ = ["SALIENCY", "grad_cam", "rise", "smooth_grad"]


class _Convolutions(TorchFunctionMode):
    """Keeps the output of the last convolution that has more than one place, however the network calls it."""

    last: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.conv2d, conv2d) and result.ndim == 4 and result.shape[2] * result.shape[3] > 1:
            self.last = result
        return result


def grad_cam(network: nn.Module, images: Tensor) -> Tensor:
    """Grad-CAM: the last convolution's maps, each weighted by the mean gradient of the top class's logit, rectified.

    Selvaraju et al.: "Grad-CAM: visual explanations from deep networks via gradient-based localization", 2017,
    equations 1 and 2. Enlarged to the image and divided by the largest value.

    Args:
        network: Float (N, C, H, W) in 0..1 -> logits.
        images: Float (N, C, H, W) in 0..1.

    Returns:
        Float (N, 1, H, W) in 0..1.

    Raises:
        DataError: The network has no convolution.
    """
    with torch.enable_grad():
        point = images.detach().clone().requires_grad_()
        seen = _Convolutions()
        with seen:
            logits = network(point)
        if seen.last is None:
            raise DataError("this classifier has no convolution with more than one place, so no Grad-CAM; use rise")
        (slope,) = torch.autograd.grad(logits.max(1).values.sum(), seen.last)
    heat = (slope.mean((2, 3), keepdim=True) * seen.last.detach()).sum(1, keepdim=True).relu()
    return _unit(interpolate(heat, size=images.shape[2:], mode="bilinear", align_corners=False))


def smooth_grad(network: nn.Module, images: Tensor, *, samples: int = 8, noise: float = 0.1, seed: int = 0) -> Tensor:
    """SmoothGrad: the length over the channels of the top class's gradient, its mean over noisy copies.

    Smilkov et al.: "SmoothGrad: removing noise by adding noise", 2017. Blurred over 5x5 pixels and divided by the 99 %
    quantile.

    Args:
        network: Float (N, C, H, W) in 0..1 -> logits.
        images: Float (N, C, H, W) in 0..1.
        samples: How many copies.
        noise: Standard deviation of the noise, in units of the full range.
        seed: What the noise depends on.

    Returns:
        Float (N, 1, H, W) in 0..1.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        own = network(images).argmax(1)
    total = torch.zeros_like(images[:, :1])
    for _ in range(samples):
        noisy = images + noise * torch.randn(images.shape, generator=generator)
        with torch.enable_grad():
            noisy = noisy.requires_grad_()
            chosen = network(noisy).gather(1, own[:, None]).sum()
            (slope,) = torch.autograd.grad(chosen, noisy)
        total += slope.norm(dim=1, keepdim=True)
    blurred = nn.functional.avg_pool2d(total, 5, 1, 2, count_include_pad=False)
    high = blurred.flatten(1).quantile(0.99, dim=1)[:, None, None, None].clamp_min(1e-12)
    return (blurred / high).clamp(0, 1)


@torch.no_grad()
def rise(network: nn.Module, images: Tensor, *, samples: int = 200, cells: int = 6, seed: int = 0) -> Tensor:
    """RISE: the mean of random masks, each weighted by the top class's probability for the masked image. Needs no
    gradients.

    Petsiuk et al.: "RISE: randomized input sampling for explanation of black-box models", 2018. Masks of cells x cells,
    half of them 1, enlarged and shifted; the result is scaled to 0..1 for each image.

    Args:
        network: Float (N, C, H, W) in 0..1 -> logits.
        images: Float (N, C, H, W) in 0..1.
        samples: How many masks.
        cells: Cells along a side.
        seed: What the masks depend on.

    Returns:
        Float (N, 1, H, W) in 0..1.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = images.shape[2:]
    own = network(images).argmax(1)
    step = (-(-height // cells), -(-width // cells))
    total = torch.zeros_like(images[:, :1])
    for _ in range(samples):
        grid = (torch.rand((1, 1, cells + 1, cells + 1), generator=generator) < 0.5).float()
        large = interpolate(
            grid, size=(step[0] * (cells + 1), step[1] * (cells + 1)), mode="bilinear", align_corners=False
        )
        top, left = (int(torch.randint(side, (1,), generator=generator)) for side in step)
        mask = large[:, :, top : top + height, left : left + width]
        total += network(images * mask).softmax(1).gather(1, own[:, None])[:, :, None, None] * mask
    return _unit(total - total.amin((1, 2, 3), keepdim=True))


def _unit(heat: Tensor) -> Tensor:
    return heat / heat.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)


#: By the name that commands use: (network, images (N, C, H, W) in 0..1) -> masks (N, 1, H, W), 1 = matters.
SALIENCY: MappingProxyType[str, Callable[[nn.Module, Tensor], Tensor]] = MappingProxyType(
    {"grad-cam": grad_cam, "smoothgrad": smooth_grad, "rise": rise}
)
