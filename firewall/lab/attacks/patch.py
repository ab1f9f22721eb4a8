"""An adversarial patch: one disc that takes the label away wherever it lies on an image."""

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
    """An adversarial patch. White box, unbounded on a small disc.

    Brown et al.: "Adversarial patch", 2017. One patch is fitted to the images of the batch, by Adam on the mean of the
    criterion's gap, cut off where an image is already won, over random images, places, poses and light (see Poses).
    Then it is laid once on each image, at a random place and in the image's own light, not where it would do best.

    Args:
        side: Diameter as a share of the image's longer side, 0..1, above 0.
        steps: Steps of Adam, 1 or more.
        samples: Images in each step, 1 or more.
        step: Adam's learning rate, above 0.
        poses: How the patch may be turned, scaled and lit.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
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
        """See Attack.run. The patch and its places depend on the seed and on the whole batch."""
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
