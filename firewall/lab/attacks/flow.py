"""Flow fields: an image whose pixels have moved, and how unevenly they have moved."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample, pad

__all__ = ["deform", "smooth", "total_variation"]


def deform(images: Tensor, flow: Tensor) -> Tensor:
    """Each pixel takes the value found `flow` away from it, interpolated between four pixels (thesis, equation 4).

    Args:
        images: Float (N, C, H, W) in 0..1.
        flow: (N, 2, H, W): how far to look to the right and down, in pixels. Beyond the edge the edge's values go on.

    Returns:
        Float (N, C, H, W) in 0..1.
    """
    height, width = images.shape[2:]
    rows = torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
    columns = torch.arange(width, dtype=flow.dtype, device=flow.device)
    # grid_sample counts from the first pixel's centre, -1, to the last one's, 1.
    right = (columns + flow[:, 0]) * (2 / max(width - 1, 1)) - 1
    down = (rows + flow[:, 1]) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([right, down], dim=-1)
    # The clamp undoes what weights that don't add up to exactly 1 in float32 put outside.
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True).clamp(0, 1)


def total_variation(flow: Tensor) -> Tensor:
    """The sum, over pixels i and their neighbours j above, below, left and right, of |flow_i - flow_j| (equation 6).

    Args:
        flow: (N, 2, H, W), in pixels.

    Returns:
        (N,), in pixels. Each pair counts from both of its ends.
    """

    def steps(difference: Tensor) -> Tensor:
        # 1e-12: a square root has no gradient at 0, where every flow begins.
        return (difference.square().sum(1) + 1e-12).sqrt().flatten(1).sum(1)

    # Each pair counts from both of its ends.
    return 2 * (steps(flow[:, :, 1:] - flow[:, :, :-1]) + steps(flow[..., 1:] - flow[..., :-1]))


def smooth(flow: Tensor, sigma: float) -> Tensor:
    """The flow, blurred by a Gaussian. As a matrix this is symmetric.

    Args:
        flow: (N, 2, H, W).
        sigma: Width in pixels; 0 leaves the flow as it is.

    Returns:
        (N, 2, H, W).
    """
    if sigma == 0:
        return flow
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, dtype=flow.dtype, device=flow.device)
    weights = torch.exp(-0.5 * (offsets / sigma).square())
    weights = weights / weights.sum()
    flat = flow.flatten(0, 1)[:, None]
    flat = conv2d(pad(flat, (0, 0, reach, reach)), weights.reshape(1, 1, -1, 1))
    return conv2d(pad(flat, (reach, reach, 0, 0)), weights.reshape(1, 1, 1, -1))[:, 0].reshape(flow.shape)
