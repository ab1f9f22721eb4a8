"""The edge's operations on pixels, with a gradient: forward the edge's own bytes, backward their linear part.

Every operation that a detector asks for is linear but for the rounding to 8 bits (JPEG also rounds in frequency space).
So the backward pass is exact up to that rounding, which is passed straight through (BPDA, Athalye et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from firewall.sweep.keyed import GREY, Copy, places
from firewall.transforms import apply_operations, residual, resize, rotate
from firewall.transforms.operations import parse_operation

__all__ = ["copies", "keyed_copies", "pixels_of", "residuals", "resized"]

Pixels = npt.NDArray[np.uint8]
Linear = Callable[[Tensor], Tensor]


def pixels_of(images: Tensor) -> Pixels:
    """Images of multiples of 1/255 as the edge gets them.

    Args:
        images: Float (N, 3, H, W) in 0..1.

    Returns:
        Uint8 (N, H, W, 3), contiguous.
    """
    levels = images.detach().mul(255).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def resized(images: Tensor, width: int, height: int) -> Tensor:
    """What `firewall.transforms.resize` makes of images.

    Args:
        images: Float (N, 3, H, W), multiples of 1/255 in 0..1.
        width: Of the result, pixels.
        height: Of the result, pixels.

    Returns:
        Float (N, 3, height, width), the edge's bytes / 255; the gradient is that of the resampling.
    """
    if images.shape[2:] == (height, width):
        return images
    found = np.stack([resize(image, width, height) for image in pixels_of(images)])
    down = _resampling(images.shape[2], height, Image.Resampling.BILINEAR)
    across = _resampling(images.shape[3], width, Image.Resampling.BILINEAR)
    return _straight(down @ images @ across.T, found)


def copies(images: Tensor, operations: Sequence[str]) -> Tensor:
    """What `firewall.transforms.apply_operations` makes of images.

    Args:
        images: Float (N, 3, H, W), multiples of 1/255 in 0..1.
        operations: Names such as `jpeg:75`.

    Returns:
        Float (N, K, 3, H, W), the edge's bytes / 255.
    """
    found = np.stack([apply_operations(image, operations) for image in pixels_of(images)])
    height, width = images.shape[2:]
    linear = torch.stack([_linear(name, height, width)(images) for name in operations], 1)
    return _straight(linear, found)


def keyed_copies(images: Tensor, drawn: Sequence[Copy]) -> Tensor:
    """What `firewall.sweep.keyed.made` makes of images.

    Args:
        images: Float (N, 3, H, W), multiples of 1/255 in 0..1.
        drawn: The copies, the same of each image.

    Returns:
        Float (N, K, 3, H, W), the edge's bytes / 255.
    """
    height, width = images.shape[2:]
    found = copies(images, [copy.operation for copy in drawn])
    moved = []
    for copy, values in zip(drawn, found.unbind(1), strict=True):
        right, down, box = places(copy, width, height)
        rows = (torch.arange(height) - down).clamp(0, height - 1)
        columns = (torch.arange(width) - right).clamp(0, width - 1)
        shifted = values[:, :, rows][..., columns]
        if box is not None:
            seen = torch.ones(height, width)
            seen[box[0] : box[1], box[2] : box[3]] = 0
            shifted = shifted * seen + (1 - seen) * (GREY / 255)
        moved.append(shifted)
    return torch.stack(moved, 1)


def residuals(images: Tensor, rate: float, reading: str) -> Tensor:
    """The residual images of `firewall.transforms.residual`, as the residual detector's network gets them.

    Args:
        images: Float (N, 3, H, W), multiples of 1/255 in 0..1.
        rate: The compression rate.
        reading: How it is read: "removed" or "kept".

    Returns:
        Float (N, 3, H, W), residual / 255, -1..1.
    """
    found = residual(pixels_of(images), rate, reading=reading)
    share = math.sqrt(1 - rate if reading == "removed" else rate)
    sides = []
    for side in images.shape[2:]:
        small = max(1, int(side * share))
        up = _resampling(small, side, Image.Resampling.BILINEAR)
        sides.append(up @ _resampling(side, small, Image.Resampling.BOX))
    return _straight(images - sides[0] @ images @ sides[1].T, found)


def _straight(linear: Tensor, found: npt.NDArray[np.integer]) -> Tensor:
    """The values that the edge has, with the gradient of `linear`. found: channels last."""
    exact = torch.from_numpy(found).to(linear.dtype).div(255).movedim(-1, -3)
    return linear + (exact - linear).detach()


@lru_cache(maxsize=4096)
def _resampling(before: int, after: int, method: int) -> Tensor:
    """Pillow's resampling of one side as a matrix, float32 (after, before)."""
    if before == after:
        return torch.eye(before)
    impulses = Image.fromarray(np.eye(before, dtype=np.float32))
    return torch.from_numpy(np.asarray(impulses.resize((after, before), method)).T.copy())


@lru_cache(maxsize=4096)
def _linear(operation: str, height: int, width: int) -> Linear:
    """The linear part of an operation on images (N, 3, height, width)."""
    family, number = parse_operation(operation)
    if family == "rotate":
        place, seen = _rotation(number, height, width)
        return lambda images: (images.flatten(2)[..., place] * seen).reshape(images.shape)
    if family in ("scale", "blur"):
        make = _scaling if family == "scale" else _blurring
        down, across = make(height, number), make(width, number)
        return lambda images: down @ images @ across.T
    return _subsampled  # JPEG: what it rounds passes straight through


def _rotation(degrees: float, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where each pixel of the rotated image comes from, int64 (H * W,), and 1 where it comes from inside, float."""
    place = np.arange(height * width).reshape(height, width)
    codes = np.stack([place % 256, place // 256 % 256, place // 65536], axis=-1).astype(np.uint8)
    inside = np.full_like(codes, 255)
    turned, seen = (rotate(image, [degrees])[0].astype(np.int64) for image in (codes, inside))
    source = turned[..., 0] + 256 * turned[..., 1] + 65536 * turned[..., 2]
    return torch.from_numpy(source.reshape(-1)), torch.from_numpy((seen[..., 0].reshape(-1) > 0).astype(np.float32))


#: JFIF's luminance and chrominance of RGB.
_CHANNELS = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])


def _subsampled(images: Tensor) -> Tensor:
    """JPEG's linear part: half as many rows and columns of colour."""
    height, width = images.shape[2:]
    sides = []
    for side in (height, width):
        half = (side + 1) // 2
        up = _resampling(half, side, Image.Resampling.BILINEAR)
        sides.append(up @ _resampling(side, half, Image.Resampling.BOX))
    channels = torch.einsum("dc,nchw->ndhw", _CHANNELS, images)
    colours = sides[0] @ channels[:, 1:] @ sides[1].T
    return torch.einsum("cd,ndhw->nchw", torch.linalg.inv(_CHANNELS), torch.cat([channels[:, :1], colours], 1))


def _scaling(side: int, factor: float) -> Tensor:
    """Scaling of one side by a factor, cut or padded to its length, float32 (side, side)."""
    scaled = max(1, int(side * factor))
    first = max(0, (scaled - side) // 2)
    seen = min(side, scaled)
    start = (side - seen) // 2
    matrix = torch.zeros(side, side)
    matrix[start : start + seen] = _resampling(side, scaled, Image.Resampling.BICUBIC)[first : first + seen]
    return matrix


def _blurring(side: int, radius: float) -> Tensor:
    """Pillow's Gaussian blur of one side, three box blurs of fractional radius, float32 (side, side)."""
    if radius == 0:
        return torch.eye(side)
    variance = radius**2 / 3
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    reach = np.arange(-whole - 1, whole + 2)
    weights = np.where(np.abs(reach) <= whole, 1.0, part) / (2 * whole + 1 + 2 * part)
    box = np.zeros((side, side))
    for row in range(side):
        np.add.at(box[row], np.clip(row + reach, 0, side - 1), weights)  # the border pixels repeat
    return torch.from_numpy((box @ box @ box).astype(np.float32))
