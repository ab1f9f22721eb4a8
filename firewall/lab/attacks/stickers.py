"""Stickers on a sign: a few black and white rectangles that hold under pose, scale and light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import Logits, WhiteBox, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.poses import Poses
from firewall.lab.attacks.rounding import as_stored

__all__ = ["Stickers"]

_POSES = Poses()


@dataclass(frozen=True)
class Stickers(WhiteBox):
    """Stickers. White box, unbounded on a few rectangles, robust to the camera's pose.

    After Eykholt et al.: "Robust physical-world attacks on deep learning visual classification" (RP2), 2018. As in RP2
    a sparse place is found first, then what to print there, by the expectation of the loss over views of the sign (see
    Poses). What is printed is black or white and rectangular, which any printer can do. Stickers are added one after
    the other: the gradient at the views' mean estimates the gain of every place and both colours, the best few are
    tried on the views, and the best is kept. An image is done when all of its views and the image as stored meet the
    criterion, or when it has `count` stickers.

    Args:
        count: Largest number of stickers, 1 or more.
        height: Height of a sticker as a share of the image's, 0..1, above 0; both orientations are tried.
        width: Width of a sticker as a share of the image's, 0..1, above 0.
        radius: How far the stickers' centres may lie from the image's centre, as a share of half its side, 0..1, above
            0.
        views: Views of the expectation, 1 or more.
        tried: Places that are tried on the views, 1 or more.
        poses: How the camera may see the sign.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    count: int = 6
    height: float = 0.1
    width: float = 0.22
    radius: float = 0.7
    views: int = 6
    tried: int = 6
    poses: Poses = _POSES
    criterion: Criterion = TOP_1
    name: str = "stickers"

    chunk: ClassVar[int] = 16

    def __post_init__(self) -> None:
        if min(self.count, self.views, self.tried) < 1:
            raise UsageError(
                f"stickers: count {self.count}, views {self.views}, tried {self.tried}; allowed are numbers >= 1"
            )
        if not all(0 < share <= 1 for share in (self.height, self.width, self.radius)):
            raise UsageError(
                f"stickers: height {self.height}, width {self.width}, radius {self.radius}; they must lie in 0..1, "
                "above 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The views depend on the seed alone."""
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            result = images.clone()
            # A seed for each view: rounds and candidates have to be compared on the same views.
            seeds = torch.randint(2**31, (self.views,), generator=torch.Generator().manual_seed(seed)).tolist()
            masks = self._masks(*images.shape[2:]).to(images)
            open_ = torch.arange(len(images), device=images.device)
            for turn in range(self.count + 1):
                if len(open_) == 0:
                    break
                point = result[open_].requires_grad_()
                gaps = self._gaps(logits, point, labels[open_], seeds)
                with torch.no_grad():
                    done = (gaps > 0).all(1) & self.criterion.met(logits(as_stored(point)), labels[open_])
                if turn == self.count or bool(done.all()):
                    break
                (slope,) = torch.autograd.grad(gaps.sum(), point)
                open_, slope = open_[~done], slope[~done]
                result[open_] = self._stuck(logits, result[open_], labels[open_], slope, masks, seeds)
        return as_stored(result)

    def _gaps(self, logits: Logits, pictures: Tensor, labels: Tensor, seeds: list[int]) -> Tensor:
        """The criterion's gap in each of the same views, (N, views)."""
        columns = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            columns.append(self.criterion.gap(logits(self.poses.seen(pictures, generator, alike=True)), labels))
        return torch.stack(columns, dim=1)

    @torch.no_grad()
    def _stuck(
        self, logits: Logits, images: Tensor, labels: Tensor, slope: Tensor, masks: Tensor, seeds: list[int]
    ) -> Tensor:
        """The images with the one sticker that raises the mean gap, held at a few logits, the most."""
        # First order: the change of the summed gaps if mask m were painted black, or white.
        flat = masks.flatten(1).T
        black = (-slope * images).sum(1).flatten(1) @ flat
        white = (slope * (1 - images)).sum(1).flatten(1) @ flat
        best = torch.cat([black, white], dim=1).topk(min(self.tried, 2 * len(masks)), dim=1).indices
        result, highest = images, torch.full(labels.shape, -torch.inf).to(images)
        for rank in range(best.shape[1]):
            colour = (best[:, rank] >= len(masks)).to(images).reshape(-1, 1, 1, 1)
            mask = masks[best[:, rank] % len(masks)][:, None]
            painted = torch.where(mask > 0, colour, images)
            mean = self._gaps(logits, painted, labels, seeds).clamp_max(3.0).mean(1)
            better = mean > highest
            result = torch.where(better.reshape(-1, 1, 1, 1), painted, result)
            highest = torch.maximum(highest, mean)
        return result

    def _masks(self, height: int, width: int) -> Tensor:
        """All stickers that may be stuck, lying and standing, as 0 and 1: (M, H, W)."""
        found = []
        for tall, wide in ((self.height, self.width), (self.width, self.height)):
            rows, columns = max(1, round(tall * height)), max(1, round(wide * width))
            stride = max(1, min(rows, columns) // 2)
            for top in range(0, height - rows + 1, stride):
                for left in range(0, width - columns + 1, stride):
                    down = (top + rows / 2) / height * 2 - 1
                    right = (left + columns / 2) / width * 2 - 1
                    if down**2 + right**2 <= self.radius**2:
                        mask = torch.zeros(height, width)
                        mask[top : top + rows, left : left + columns] = 1
                        found.append(mask)
        if not found:  # an image so small, or stickers so large, that only the middle is left
            found.append(torch.ones(height, width))
        return torch.stack(found)
