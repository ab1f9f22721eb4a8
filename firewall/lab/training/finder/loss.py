"""What a finder is punished for: a heatmap of centres, and boxes that don't cover what is there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from firewall.lab.models.finder import STRIDE

__all__ = ["finder_loss", "places", "to_corners"]

#: Standard deviation of a centre's hill, as a share of half the sign's side: places near the middle are no mistakes.
_HILL = 0.35
#: From this height of the hill on a place has to give the sign's box too.
_BOXED = 0.3
#: Exponents of the focal loss (Lin et al. 2017), reduced around centres as in CenterNet (Zhou et al. 2019).
_FOCUS, _REDUCTION = 2.0, 4.0
#: How much boxes count beside centres.
_BOX_WEIGHT = 1.5
#: Logarithms of distances are kept below this, in strides: exp(5) * 8 px is more than any sign.
_LARGEST = 5.0


def places(height: int, width: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Middles of the map's places in pixels of the input: x (1, width) and y (height, 1)."""
    x = (torch.arange(width, device=like.device, dtype=torch.float32) + 0.5) * STRIDE
    y = (torch.arange(height, device=like.device, dtype=torch.float32) + 0.5) * STRIDE
    return x[None], y[:, None]


def to_corners(distances: Tensor) -> Tensor:
    """The boxes (N, 4, h, w), x0, y0, x1, y1 in pixels of the input, of the map's last four channels."""
    x, y = places(distances.shape[2], distances.shape[3], distances)
    left, top, right, bottom = (distances.clamp(max=_LARGEST).exp() * STRIDE).unbind(1)
    return torch.stack([x - left, y - top, x + right, y + bottom], 1)


def finder_loss(answer: Tensor, wanted: Tensor) -> Tensor:
    """The loss of a batch.

    Args:
        answer: Of the network, float (N, 5, h, w).
        wanted: The boxes of each image, float (N, K, 5): x0, y0, x1, y1 in pixels of the input and what the box is:
            1 a sign; 0 something that may be found or not; -1 nothing, the row fills the array.

    Returns:
        A number.
    """
    hills, index, ignored = _target(wanted, answer.shape[2], answer.shape[3])
    height = hills.amax(1)
    logit = answer[:, 0]
    chance = torch.sigmoid(logit).clamp(1e-5, 1 - 1e-5)
    centre = height >= 1
    there = -F.logsigmoid(logit) * (1 - chance) ** _FOCUS
    nothing = -F.logsigmoid(-logit) * chance**_FOCUS * (1 - height) ** _REDUCTION * ~ignored
    signs = centre.sum().clamp(min=1)
    focal = (there * centre + nothing * ~centre).sum() / signs
    boxed = height > _BOXED
    if not bool(boxed.any()):
        return focal
    owner = torch.gather(wanted[..., :4], 1, index.flatten(1)[..., None].expand(-1, -1, 4)).view(*index.shape, 4)
    found = to_corners(answer[:, 1:]).permute(0, 2, 3, 1)[boxed]
    weight = height[boxed]
    cost = 1 - _giou(found, owner[boxed])
    return focal + _BOX_WEIGHT * (cost * weight).sum() / weight.sum()


def _target(wanted: Tensor, high: int, wide: int) -> tuple[Tensor, Tensor, Tensor]:
    """Hills (N, K, h, w) with 1 at each sign's centre; the box whose hill is the highest (N, h, w); where nothing is
    asked (N, h, w) bool."""
    x, y = places(high, wide, wanted)
    kind = wanted[..., 4]
    x0, y0, x1, y1 = (side[..., None, None] for side in wanted[..., :4].unbind(-1))
    across = (x - (x0 + x1) / 2) / ((x1 - x0) / 2).clamp(min=1)
    down = (y - (y0 + y1) / 2) / ((y1 - y0) / 2).clamp(min=1)
    hills = torch.exp(-(across * across + down * down) / (2 * _HILL * _HILL)) * (kind == 1)[..., None, None] * 0.999
    ignored = ((across.abs() <= 1) & (down.abs() <= 1) & (kind == 0)[..., None, None]).any(1)
    column = ((wanted[..., 0] + wanted[..., 2]) / 2 / STRIDE).floor().long().clamp(0, wide - 1)
    row = ((wanted[..., 1] + wanted[..., 3]) / 2 / STRIDE).floor().long().clamp(0, high - 1)
    image, number = torch.nonzero(kind == 1, as_tuple=True)
    hills[image, number, row[image, number], column[image, number]] = 1.0
    return hills, hills.argmax(1), ignored


def _giou(one: Tensor, other: Tensor) -> Tensor:
    """Generalised intersection over union (Rezatofighi et al. 2019) of boxes (M, 4) with boxes (M, 4)."""
    low, high = torch.maximum(one[:, :2], other[:, :2]), torch.minimum(one[:, 2:], other[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    areas = [(box[:, 2:] - box[:, :2]).prod(1) for box in (one, other)]
    union = areas[0] + areas[1] - shared
    hull = (torch.maximum(one[:, 2:], other[:, 2:]) - torch.minimum(one[:, :2], other[:, :2])).prod(1)
    return shared / union - (hull - union) / hull
