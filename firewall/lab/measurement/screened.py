"""What the edge says of each image by itself: suspicion, label, released or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.lab.database import Database
from firewall.lab.measurement.bundle_verdicts import Judge
from firewall.transforms import OPERATIONS_38

__all__ = ["Screened", "screen_all"]


@dataclass(frozen=True, eq=False)
class Screened:
    """The edge's verdicts on N images, each judged by itself.

    Attributes:
        suspicion: float64 (N,), NaN where the policy gives none.
        label: int64 (N,), the classifier's, released or not.
        released: bool (N,).
        scores: By detector, float64 (N,); NaN where it was not asked.
    """

    suspicion: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]
    released: npt.NDArray[np.bool_]
    scores: dict[str, npt.NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.suspicion)

    def take(self, index: Sequence[int] | npt.NDArray[np.int64]) -> Screened:
        """Some of the images, in the order of their places `index`, int64 (M,)."""
        where = np.asarray(index, np.int64)
        scores = {name: values[where] for name, values in self.scores.items()}
        return Screened(self.suspicion[where], self.label[where], self.released[where], scores)


def screen_all(judge: Judge, database: Database, images: npt.NDArray[np.uint8], what: str) -> Screened:
    """Judge images as the edge does, each by itself.

    Args:
        judge: The bundle.
        database: In its folder the classifier's outputs are kept.
        images: uint8 (N, H, W, 3) at the classifier's input size.
        what: Their name, for the progress bar.

    Raises:
        DataError: The database was made on another classifier.
    """
    wanted = judge.operations
    # One sweep serves every bundle, where it holds what the bundle asks for.
    swept = OPERATIONS_38 if wanted and set(wanted) <= set(OPERATIONS_38) else wanted
    measured = judge.measured(database, images, what, swept)
    scores = judge.own_scores(measured)
    found = judge.verdicts(scores)
    asked = {
        name: np.where(column, values, np.nan)
        for (name, values), column in zip(scores.items(), found.asked.T, strict=True)
    }
    return Screened(found.suspicion, measured.labels, found.released, asked)
