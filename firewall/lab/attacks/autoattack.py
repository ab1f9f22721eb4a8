"""Several attacks in turn, each on the images that those before it have left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.apgd import Apgd
from firewall.lab.attacks.criteria import Criterion
from firewall.lab.attacks.protocol import under_attack
from firewall.lab.attacks.rounding import as_stored
from firewall.lab.attacks.square import Square

__all__ = ["AutoAttack"]


@dataclass(frozen=True)
class AutoAttack:
    """Croce, Hein 2020 (see Apgd): APGD on the cross-entropy, targeted APGD on the difference of logits ratio, then
    Square. The paper's FAB is left out: inside a given ball it hardly ever adds to the other three.

    The parts keep their own parameters; they have to share one criterion, and are given the same seed.
    """

    parts: tuple[Apgd | Square, ...] = (Apgd(), Apgd(loss="dlr"), Square())
    name: str = "autoattack"

    needs_gradient: ClassVar[bool] = True
    labels_only: ClassVar[bool] = False
    chunk: ClassVar[int] = 32

    def __post_init__(self) -> None:
        if not self.parts or len({part.criterion for part in self.parts}) > 1:
            raise UsageError(f"autoattack: {len(self.parts)} parts; allowed are parts >= 1 with one criterion")

    @property
    def criterion(self) -> Criterion:
        """That of the parts."""
        return self.parts[0].criterion

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> Tensor:
        """See Attack.run. Where no part succeeds the last one's point is the result."""
        with under_attack(model, images, labels, gradients=False) as logits:
            result = images.detach().clone()
            open_ = (~self.criterion.met(logits(as_stored(result)), labels)).nonzero()[:, 0]
            for part in self.parts:
                if len(open_) == 0:
                    break
                result[open_] = part.run(model, images[open_], labels[open_], seed)
                met = self.criterion.met(logits(as_stored(result[open_])), labels[open_])
                open_ = open_[~met]
        return result
