"""Square Attack: random squares, kept if they help; it uses the network's outputs alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.attack import ScoreBased, under_attack
from firewall.lab.attacks.bisection import along
from firewall.lab.attacks.criteria import TOP_1, Criterion
from firewall.lab.attacks.rounding import as_stored

__all__ = ["Square"]

#: The share of the image that a square covers is halved after these shares of the queries.
_HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Square(ScoreBased):
    """Square Attack. Black box by scores, L-infinity, bounded.

    Andriushchenko et al.: "Square Attack: a query-efficient black-box adversarial attack via random search", 2020. It
    starts from stripes of +-eps, one column and channel each. Then squares at random places are set to +-eps, one sign
    for each channel, and kept where the criterion's gap rises. Every candidate is seen as stored; an image is done when
    it meets the criterion.

    Args:
        eps: Radius of the ball, in units of the full range 0..1, above 0.
        queries: Largest number of queries for each image, 1 or more.
        share: Share of the image that the first squares cover, 0..1, above 0; it is halved on the paper's schedule.
        criterion: What counts as success.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: A parameter is out of its range.
    """

    eps: float = 0.03
    queries: int = 1000
    share: float = 0.3
    criterion: Criterion = TOP_1
    name: str = "square"

    def __post_init__(self) -> None:
        if not 0 < self.eps <= 1 or self.queries < 1 or not 0 < self.share <= 1:
            raise UsageError(
                f"square: eps {self.eps}, queries {self.queries}, share {self.share}; allowed are 0 < eps <= 1, "
                "queries >= 1, 0 < share <= 1"
            )

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. What is drawn depends on the seed and on the image's place in the batch."""
        generator = torch.Generator().manual_seed(seed)
        with under_attack(model, images, labels, gradients=False) as logits:
            images = images.detach()
            count, channels, height, width = images.shape

            def signs(*shape: int) -> Tensor:
                drawn = torch.randint(0, 2, (count, channels, *shape), generator=generator)
                return (2 * drawn - 1).to(images)

            result = (images + self.eps * signs(1, width)).clamp(0, 1)
            values = logits(as_stored(result))
            highest = self.criterion.gap(values, labels)
            open_ = (~self.criterion.met(values, labels)).nonzero()[:, 0]
            rows, columns = torch.arange(height), torch.arange(width)
            for query in range(1, self.queries):
                # Drawn for all images, open or not: nobody's luck depends on how the others fare.
                side = self._side(query, height, width)
                top, left = (
                    torch.randint(0, extent - side + 1, (count, 1), generator=generator) for extent in (height, width)
                )
                inside = (
                    ((rows >= top) & (rows < top + side))[:, None, :, None]
                    & ((columns >= left) & (columns < left + side))[:, None, None, :]
                ).to(images.device)
                change = self.eps * signs(1, 1)
                if len(open_) == 0:
                    break
                tried = torch.where(inside[open_], (images[open_] + change[open_]).clamp(0, 1), result[open_])
                values = logits(as_stored(tried))
                gap = self.criterion.gap(values, labels[open_])
                higher = gap > highest[open_]
                result[open_] = torch.where(along(higher, tried), tried, result[open_])
                highest[open_] = torch.maximum(highest[open_], gap)
                open_ = open_[~(higher & self.criterion.met(values, labels[open_]))]
        return result

    def _side(self, query: int, height: int, width: int) -> int:
        share = self.share / 2 ** sum(query > at * self.queries for at in _HALVINGS)
        return int(min(max(1, round((share * height * width) ** 0.5)), height, width))
