"""An adversarial patch: one disc that, laid anywhere on an image, takes the label away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import WhiteBox, under_attack
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.poses import Poses, placed
from firewall.lab.attacks.rounding import as_stored

__all__ = ["Patch"]

_POSES = Poses(degrees=20.0, scale=1.1, shift=0.0)


@dataclass(frozen=True)
class Patch(WhiteBox):
    """Brown et al.: "Adversarial patch", 2017. Unbounded, but on a small disc only.

    One patch is fitted on the images of the batch, by Adam on the mean of the criterion's loss, cut off where an
    image is already won, over random images, places, poses and light (see Poses). Then it is laid once on each
    image, at random, in the image's own light: most certainly not where it would do best.

    side: diameter as a share of the image's side. steps, samples: of Adam, and images in each. step: its learning rate.
    """

    side: float = 0.35
    steps: int = 150
    samples: int = 32
    step: float = 0.05
    poses: Poses = _POSES
    criterion: Criterion = TOP_1
    name: str = "patch"

    chunk: ClassVar[int] = 128

    def __post_init__(self) -> None:
        if not 0 < self.side <= 1 or min(self.steps, self.samples) < 1 or not self.step > 0:
            raise UsageError(
                f"patch: side {self.side}, steps {self.steps}, samples {self.samples}, step {self.step}; allowed are "
                "0 < side <= 1, steps and samples >= 1, step > 0"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. The patch depends on the seed and on the whole batch, its place on that in the batch too."""
        generator = torch.Generator().manual_seed(seed)
        with under_attack(model, images, labels) as logits:
            images = images.detach()
            if len(images) == 0:
                return images.clone()
            pixels = max(4, round(self.side * max(images.shape[2:])))
            hidden = torch.zeros(1, images.shape[1], pixels, pixels).to(images).requires_grad_()
            adam = torch.optim.Adam([hidden], lr=self.step)
            for _ in range(self.steps):
                drawn = torch.randint(0, len(images), (self.samples,), generator=generator).to(images.device)
                lit = self._lit(self._laid(images[drawn], hidden.sigmoid(), generator), generator)
                values = logits(lit)
                # The gap stops at 5 logits: an image that is won by far must not outweigh one that is not.
                loss = -self.criterion.gap(values, labels[drawn]).clamp_max(5.0).mean()
                (hidden.grad,) = torch.autograd.grad(loss, hidden)
                adam.step()
            result = self._laid(images, hidden.detach().sigmoid(), generator)
        return as_stored(result.clamp(0, 1))

    def _laid(self, images: Tensor, patch: Tensor, generator: torch.Generator) -> Tensor:
        """Each image with the patch in a random pose and place, wholly inside."""
        count, pixels = len(images), patch.shape[2]
        shares = torch.tensor([max(images.shape[2:]) * self.side / side for side in (images.shape[3], images.shape[2])])
        turned = self.poses.matrices(count, generator)[..., :2]
        # Of the view's place p the patch shows turned (p - middle) / share.
        room = (1 - shares.clamp_max(1)).clamp_min(0)
        middle = (2 * torch.rand(count, 2, generator=generator) - 1) * room
        inner = turned / shares.reshape(1, 1, 2)
        matrices = torch.cat([inner, -(inner @ middle[..., None])], dim=2).to(images)
        rows = torch.linspace(-1, 1, pixels).to(images)
        disc = (rows[:, None].square() + rows.square() <= 1).to(images).reshape(1, 1, pixels, pixels)
        both = torch.cat([patch * disc, disc], dim=1).expand(count, -1, -1, -1)
        view = placed(both, matrices, images.shape[2:])
        return images * (1 - view[:, -1:]) + view[:, :-1]

    def _lit(self, images: Tensor, generator: torch.Generator) -> Tensor:
        light = Poses(degrees=0, scale=1, shift=0, tilt=0, light=self.poses.light)
        return light.seen(images, generator)
