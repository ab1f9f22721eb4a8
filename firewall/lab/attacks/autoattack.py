"""AutoAttack, and smaller ensembles: several attacks in turn, each on the images that those before it have left."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks.apgd import Apgd
from firewall.lab.attacks.attack import WhiteBox, under_attack
from firewall.lab.attacks.criteria import Criterion
from firewall.lab.attacks.fab import FabT
from firewall.lab.attacks.rounding import as_stored
from firewall.lab.attacks.square import Square

__all__ = ["AutoAttack"]


@dataclass(frozen=True)
class AutoAttack(WhiteBox):
    """An ensemble of attacks, L-infinity. White box, but for its last part.

    Croce, Hein: "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
    2020. `AutoAttack.standard(eps)` is the paper's standard version. The default is a quicker ensemble and not that:
    APGD on the cross-entropy, APGD on the difference of logits ratio and Square, with fewer steps, targets and queries,
    and no FAB. The registry calls the two `autoattack-standard` and `apgd-square`.

    Args:
        parts: The attacks, in their order. They keep their own parameters, have to share one criterion, and are given
            the same seed.
        name: The kind of attack, as cards have it.

    Raises:
        UsageError: There is no part, or the parts have different criteria.
    """

    parts: tuple[Apgd | FabT | Square, ...] = (Apgd(), Apgd(loss="dlr"), Square())
    name: str = "autoattack"

    def __post_init__(self) -> None:
        if not self.parts or len({part.criterion for part in self.parts}) > 1:
            raise UsageError(f"autoattack: {len(self.parts)} parts; allowed are parts >= 1 with one criterion")

    @staticmethod
    def standard(eps: float = 0.03) -> AutoAttack:
        """The paper's standard version (section 4): nothing is to be chosen but the radius.

        APGD on the cross-entropy (100 steps), APGD-T (9 targets, 100 steps), FAB-T (9 targets, 100 steps) and Square
        (5000 queries, first squares of 80 % of the image), one start each. What differs from the authors' code: every
        part sees the image as it will be stored in 8 bits, since that is what a firewall is given.

        Args:
            eps: Radius of the L-infinity ball, in units of the full range 0..1, above 0.

        Returns:
            The ensemble.

        Raises:
            UsageError: eps is out of range.
        """
        return AutoAttack(
            (
                Apgd(eps=eps, steps=100),
                Apgd(loss="dlr", eps=eps, steps=100, targets=9),
                FabT(eps=eps),
                Square(eps=eps, queries=5000, share=0.8),
            ),
            name="autoattack-standard",
        )

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
