"""A bundle, ready to judge many images of which the classifier's outputs are known: scores, and the edge's verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle
from firewall.bundle.numerics import FUSED
from firewall.decision.policy import Policy
from firewall.detectors import Detector
from firewall.engines import OnnxRuntimeEngine
from firewall.lab.database import Database
from firewall.lab.database.variants import Answering, Variants, of_database, of_images, of_reserve
from firewall.lab.measurement.edge import Measured
from firewall.lab.measurement.edge_classifier import on_the_edge
from firewall.lab.models import Protected
from firewall.screening import Firewall

__all__ = ["SUSPICION", "Judge", "judge_of"]

#: Name of what a bundle with a fusion makes of all scores, beside those of its detectors.
SUSPICION = FUSED

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Judge:
    """classifier: the bundle's own, as the edge runs it. detectors: in the order in which the edge asks them. policy:
    the edge's. thresholds: the detectors' own; with a fusion, that of SUSPICION, 0, alone withholds."""

    bundle: Bundle
    classifier: Answering
    detectors: tuple[Detector, ...]
    policy: Policy
    thresholds: Mapping[str, float]

    @property
    def operations(self) -> list[str]:
        """All that any of the detectors asks for."""
        return list(dict.fromkeys(name for detector in self.detectors for name in detector.operations))

    def normals(self, database: Database) -> Measured:
        """All normal images of a database, in the order of `normal_entries`."""
        first = of_database(database, self.classifier, self.operations)
        second = of_reserve(database, self.classifier, self.operations)
        return Measured(
            np.concatenate([database.normal, database.reserve]),
            np.concatenate([first.original, second.original]),
            first.operations,
            np.concatenate([first.copies, second.copies]),
        )

    def attacked(self, database: Database, attack: str) -> Measured:
        """An attack's images, in their order."""
        images = database.attacked(attack).images
        return _measured(images, of_database(database, self.classifier, self.operations, attack))

    def changed(self, database: Database, images: npt.NDArray[np.uint8], what: str) -> Measured:
        """Images made of a database's, (N, H, W, 3) uint8. what: for the progress bar."""
        return _measured(images, of_images(database, images, self.classifier, self.operations, what))

    def scores(self, measured: Measured) -> dict[str, Floats]:
        """By detector, (N,) each; of a bundle with a fusion also SUSPICION."""
        scores = {detector.name: measured.scores(detector) for detector in self.detectors}
        if self.bundle.manifest.fusion is not None:
            rows = (dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True))
            scores[SUSPICION] = np.array([self.policy.excess(row) for row in rows], np.float64)
        return scores

    def verdicts(self, scores: Mapping[str, Floats]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Which images the bundle withholds, and how many images the classifier sees for each, as on the edge."""
        count = len(next(iter(scores.values())))
        withheld, classified = np.zeros(count, bool), np.ones(count, np.int64)
        for index in range(count):
            known: dict[str, float] = {}
            seen: set[str] = set()
            for detector in self.detectors:
                if self.policy.settled(known):
                    break
                seen.update(detector.operations)
                known[detector.name] = float(scores[detector.name][index])
            withheld[index] = not self.policy.judge(known).released
            classified[index] += len(seen)
        return withheld, classified


def judge_of(bundle: Bundle, classifier: Protected) -> Judge:
    """The bundle as the edge loads it. Raises BundleError or EngineError as that does."""
    engine = OnnxRuntimeEngine(bundle, threads=1)
    guard = Firewall(bundle, engine, threads=1)
    thresholds = {spec.name: spec.threshold for spec in bundle.manifest.detectors}
    if guard.fusion is not None:
        thresholds[SUSPICION] = 0.0
    return Judge(bundle, on_the_edge(bundle, engine, classifier), tuple(guard.detectors), guard.policy, thresholds)


def _measured(images: npt.NDArray[np.uint8], variants: Variants) -> Measured:
    return Measured(images, variants.original, variants.operations, variants.copies)
