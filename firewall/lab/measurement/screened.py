"""What the edge says of images that were swept before: the suspicion and the label that a bundle gives each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.lab.database import Database
from firewall.lab.database.variants import of_images
from firewall.lab.measurement.edge import Measured
from firewall.lab.measurement.edge_classifier import on_the_edge
from firewall.lab.models import Protected
from firewall.screening import Firewall
from firewall.transforms import OPERATIONS_38

__all__ = ["Screened", "screen_all", "screened"]


@dataclass(frozen=True, eq=False)
class Screened:
    """Of N images: suspicion (N,) float64, NaN where a score was missing; label (N,) int64, the classifier's; released
    (N,) bool, each image by itself; scores: by detector (N,) float64, NaN where it was not asked."""

    suspicion: npt.NDArray[np.float64]
    label: npt.NDArray[np.int64]
    released: npt.NDArray[np.bool_]
    scores: dict[str, npt.NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.suspicion)

    def take(self, index: Sequence[int] | npt.NDArray[np.int64]) -> Screened:
        """Some of the images, in the order of `index`."""
        where = np.asarray(index, np.int64)
        scores = {name: values[where] for name, values in self.scores.items()}
        return Screened(self.suspicion[where], self.label[where], self.released[where], scores)


def screen_all(
    guard: Firewall, database: Database, images: npt.NDArray[np.uint8], classifier: Protected, what: str
) -> Screened:
    """Any images at the classifier's size, (N, H, W, 3) uint8, judged as on the edge, each by itself.

    database: in whose folder the classifier's outputs are kept. what: for the progress bar. Raises DataError if the
    database was made on another classifier.
    """
    wanted = tuple(dict.fromkeys(name for detector in guard.detectors for name in detector.operations))
    # One sweep serves every bundle, where it holds what the bundle asks for.
    asked = OPERATIONS_38 if set(wanted) <= set(OPERATIONS_38) else wanted
    asked_of = on_the_edge(guard.bundle, guard.engine, classifier)
    variants = of_images(database, images, asked_of, asked if wanted else (), what)
    return screened(guard, Measured(images, variants.original, variants.operations, variants.copies))


def screened(guard: Firewall, measured: Measured) -> Screened:
    """The detectors are asked in the order of the edge, and no further than the edge asks."""
    every = {detector.name: measured.scores(detector) for detector in guard.detectors}
    count = len(measured)
    suspicion, released = np.full(count, np.nan), np.zeros(count, bool)
    scores = {name: np.full(count, np.nan) for name in every}
    for index in range(count):
        known: dict[str, float] = {}
        for name, values in every.items():
            if guard.policy.settled(known):
                break
            known[name] = float(values[index])
            scores[name][index] = known[name]
        judgement = guard.policy.judge(known)
        released[index] = judgement.released
        if judgement.suspicion is not None:
            suspicion[index] = judgement.suspicion
    return Screened(suspicion, measured.labels, released, scores)
