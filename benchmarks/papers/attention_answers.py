"""What the classifier and the attention detector say of a database's images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from firewall.lab.database import Database

__all__ = ["Judged", "scores_of"]

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Judged:
    """What f1 and f2 say of a database's images; "" stands for the benign images, otherwise by attack.

    Args:
        database: The images.
        own: f1's logits.
        theirs: f2's logits.
        origins: By attack, the benign image of each.
    """

    database: Database
    own: dict[str, Logits]
    theirs: dict[str, Logits]
    origins: dict[str, npt.NDArray[np.int64]]

    def scores(self, name: str) -> npt.NDArray[np.float64]:
        """The edge's score, (N,)."""
        return scores_of(self.theirs[name], self.own[name])

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """f1's classes of the normal images, which are the right ones."""
        labels: npt.NDArray[np.int64] = self.own[""].argmax(1)
        return labels

    def inside(self, name: str, dev: bool | None) -> npt.NDArray[np.bool_]:
        """Which images lie in the dev split (True), in the others (False); None: all."""
        where = np.array([dev is None or (entry.split == "dev") == dev for entry in self.database.card.normal])
        return where if name == "" else where[self.origins[name]]


def scores_of(theirs: Logits, own: Logits) -> npt.NDArray[np.float64]:
    """Scores as firewall.detectors.attention gives them.

    Args:
        theirs: f2's logits, (N, classes).
        own: f1's logits, (N, classes).

    Returns:
        (N,), higher = more suspicious.
    """
    named = own.argmax(1)[:, None]
    others = theirs.astype(np.float64).copy()
    np.put_along_axis(others, named, -np.inf, axis=1)
    scores: npt.NDArray[np.float64] = others.max(1) - np.take_along_axis(theirs, named, axis=1)[:, 0]
    return scores
