"""What the detectors of a bundle look at, in torch: the differentiable counterpart of `firewall.detectors.Evidence`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from firewall.detectors.draws import DrawSpec
from firewall.detectors.juror import JurorParameters
from firewall.lab.attacks.adaptive.operations import copies, residuals, resized
from firewall.sweep.keyed import Copy

__all__ = ["Draws", "View", "against"]

#: What a step of the attack takes a keyed sweep to be: of a range, some draws of copies.
Draws = Callable[[DrawSpec], Sequence[Sequence[Copy]]]


@dataclass(frozen=True, eq=False)
class View:
    """N images of one size on their way through the firewall.

    Args:
        crop: Float (N, 3, h, w), multiples of 1/255: the regions' own pixels.
        image: Float (N, 3, H, W): the same at the classifier's input size.
        logits: (N, classes) of `image`.
        label: Int64 (N,), the class that detectors judge: the classifier's first one, or the attacker's aim.
        network: The classifier, (M, 3, H, W) -> (M, classes).
        most: At most so many copies of an image are classified, drawn by `generator`; 0: all. What is expected of a
            mean over copies stays the same, and a step costs less.
        generator: Draws them.
        draws: Of keyed sweeps. None: nothing can be said of such a sweep.
        answers: (file, width, height) of a juror -> its logits, once they were asked for.
    """

    crop: Tensor
    image: Tensor
    logits: Tensor
    label: Tensor
    network: Callable[[Tensor], Tensor]
    most: int = 0
    generator: torch.Generator | None = None
    draws: Draws | None = None
    answers: dict[tuple[str, int, int], Tensor] = field(default_factory=dict)

    def copies(self, operations: Sequence[str]) -> Tensor:
        """Logits of transformed copies.

        Args:
            operations: Names such as `rotate:3`.

        Returns:
            (N, K, classes); K is `most` where that is less than there are operations.
        """
        names = list(operations)
        if 0 < self.most < len(names):
            drawn = torch.randperm(len(names), generator=self.generator)[: self.most].sort().values
            names = [names[place] for place in drawn.tolist()]
        found = copies(self.image, names)
        logits: Tensor = self.network(found.flatten(0, 1)).unflatten(0, found.shape[:2])
        return logits

    def residual(self, rate: float, reading: str) -> Tensor:
        """The residual images at a compression rate, float (N, 3, H, W), -1..1."""
        return residuals(self.image, rate, reading)

    def resized(self, width: int, height: int) -> Tensor:
        """The crops at another size, float (N, 3, height, width)."""
        return resized(self.crop, width, height)

    def answer(self, juror: JurorParameters, network: Callable[[Tensor], Tensor]) -> Tensor:
        """What a juror's network says of the crops, (N, classes) or (N, classes + 1); see the edge's `answer`."""
        key = (juror.file, juror.width, juror.height)
        if key not in self.answers:
            self.answers[key] = network(self.resized(juror.width, juror.height))
        return self.answers[key]

    def against(self, logits: Tensor) -> Tensor:
        """Log-odds against the label.

        Args:
            logits: (N, classes), or with further classes behind them.

        Returns:
            (N,), higher = less probable.
        """
        return against(logits, self.label)


def against(logits: Tensor, label: Tensor) -> Tensor:
    """Log-odds (N,) against labels (N,), of logits (N, classes)."""
    own = logits.gather(1, label[:, None])[:, 0]
    others: Tensor = logits.scatter(1, label[:, None], -torch.inf).logsumexp(1)
    return others - own
