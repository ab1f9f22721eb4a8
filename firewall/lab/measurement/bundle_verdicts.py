"""What a bundle says of many images: the scores of its detectors, and the edge's own verdicts.

Nothing is decided here: `firewall.decision.policy.Policy` says when enough is known and what follows from the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, Manifest, Seen
from firewall.bundle.numerics import FUSED
from firewall.decision.policy import Policy
from firewall.detectors import Detector, Keyed
from firewall.engines import OnnxRuntimeEngine
from firewall.lab.database import Database
from firewall.lab.database.variants import Answering, of_images
from firewall.lab.measurement.edge import Measured
from firewall.lab.measurement.edge_classifier import on_the_edge
from firewall.lab.models import Protected
from firewall.screening import Firewall
from firewall.sweep.keyed import KeyedSweep, key_of

__all__ = ["SUSPICION", "Judge", "Verdicts", "early_verdicts", "judge_of", "trained_detectors"]

#: Name of what a bundle with a fusion makes of all scores, beside those of its detectors.
SUSPICION = FUSED

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """A bundle's verdicts on N images, with D detectors.

    Attributes:
        released: bool (N,), the label may go out.
        suspicion: float64 (N,), how far the scores lie above what is released; NaN where the policy gives none.
        asked: bool (N, D), the detectors that were asked before the verdict was settled.
    """

    released: npt.NDArray[np.bool_]
    suspicion: Floats
    asked: npt.NDArray[np.bool_]

    def classified(self, operations: Sequence[Sequence[str]]) -> npt.NDArray[np.int64]:
        """How many images the classifier sees for each verdict: the image itself and the copies that were asked for.

        Args:
            operations: The operations of each of the D detectors, in the order in which they are asked.

        Returns:
            int64 (N,), 1 or more.
        """
        seen: set[str] = set()
        new = []
        for names in operations:
            new.append(len(set(names) - seen))
            seen |= set(names)
        counts: npt.NDArray[np.int64] = 1 + self.asked @ np.array(new, np.int64)
        return counts


def early_verdicts(policy: Policy, scores: Mapping[str, Floats]) -> Verdicts:
    """Ask the detectors of each image one after the other, and no further than the policy needs.

    Args:
        policy: The edge's.
        scores: By detector, in the order in which they are asked, float64 (N,) each.

    Returns:
        The verdicts on all N images.
    """
    count = len(next(iter(scores.values())))
    released, suspicion = np.zeros(count, bool), np.full(count, np.nan)
    asked = np.zeros((count, len(scores)), bool)
    for index in range(count):
        known: dict[str, float] = {}
        for place, (name, values) in enumerate(scores.items()):
            if policy.settled(known):
                break
            known[name] = float(values[index])
            asked[index, place] = True
        judgement = policy.judge(known)
        released[index] = judgement.released
        if judgement.suspicion is not None:
            suspicion[index] = judgement.suspicion
    return Verdicts(released, suspicion, asked)


@dataclass(frozen=True, eq=False)
class Judge:
    """A bundle as the edge loads it, ready for the images of a database.

    Attributes:
        bundle: The bundle.
        classifier: Its own classifier, as the edge runs it.
        detectors: In the order in which the edge asks them.
        policy: The edge's.
        thresholds: By detector. In a bundle with a fusion or conditional limits only that of SUSPICION, 0, withholds.
        sweep: Draws what a keyed sweep is asked for, by a key that everybody knows: scores can be repeated.
    """

    bundle: Bundle
    classifier: Answering
    detectors: tuple[Detector, ...]
    policy: Policy
    thresholds: Mapping[str, float]
    sweep: KeyedSweep | None = None

    @property
    def operations(self) -> list[str]:
        """All operations that any of the detectors asks for."""
        return list(dict.fromkeys(name for detector in self.detectors for name in detector.operations))

    def measured(
        self, database: Database, images: Pixels, what: str, operations: Sequence[str] | None = None
    ) -> Measured:
        """What the classifier says of images and of their copies; kept in the database's folder.

        Args:
            database: Made on the bundle's classifier; the images are its own, or made of them.
            images: uint8 (N, H, W, 3) at the classifier's input size.
            what: Their name, for the progress bar.
            operations: Of the copies; None for those that the detectors ask for.

        Raises:
            DataError: The database was made on another classifier.
        """
        asked = self.operations if operations is None else operations
        variants = of_images(database, images, self.classifier, asked, what)
        return Measured(images, variants.original, variants.operations, variants.copies)

    def normals(self, database: Database) -> Measured:
        """All benign images of a database, attacked or in reserve, in the order of `normal_entries`."""
        first = self.measured(database, database.normal, "benign images")
        return first.joined(self.measured(database, database.reserve, "the reserve"))

    def attacked(self, database: Database, attack: str) -> Measured:
        """The images of an attack, in the database's order."""
        return self.measured(database, database.attacked(attack).images, attack)

    def own_scores(self, measured: Measured) -> dict[str, Floats]:
        """The score of each detector in the order in which they are asked, float64 (N,) each."""
        return {detector.name: measured.scores(detector, self.sweep) for detector in self.detectors}

    def scores(self, measured: Measured) -> dict[str, Floats]:
        """As `own_scores`; of a bundle with a fusion or conditional limits also SUSPICION, with all detectors asked."""
        scores = self.own_scores(measured)
        if SUSPICION in self.thresholds:
            scores[SUSPICION] = self.suspicion(scores)
        return scores

    def suspicion(self, scores: Mapping[str, Floats]) -> Floats:
        """How far the scores of all detectors together lie above what is released, float64 (N,); above 0 withholds.

        Args:
            scores: By detector, float64 (N,) each.
        """
        rows = (dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True))
        return np.array([self.policy.excess(row) for row in rows], np.float64)

    def verdicts(self, scores: Mapping[str, Floats]) -> Verdicts:
        """The edge's verdicts on N images.

        Args:
            scores: By detector, float64 (N,) each; further names are not looked at.
        """
        return early_verdicts(self.policy, {detector.name: scores[detector.name] for detector in self.detectors})

    def classified(self, verdicts: Verdicts) -> npt.NDArray[np.int64]:
        """How many images the classifier sees for each verdict, int64 (N,)."""
        copies = [
            [f"keyed:{place}" for place in range(detector.draw.copies)] if isinstance(detector, Keyed) else ()
            for detector in self.detectors
        ]
        return verdicts.classified(
            [[*detector.operations, *drawn] for detector, drawn in zip(self.detectors, copies, strict=True)]
        )


def judge_of(bundle: Bundle, classifier: Protected) -> Judge:
    """The bundle as the edge loads it.

    Args:
        bundle: The bundle.
        classifier: What the databases were made on, with which images are prepared.

    Raises:
        BundleError: The bundle is not as it was made.
        EngineError: Its classifier can't be run.
    """
    engine = OnnxRuntimeEngine(bundle, threads=1)
    guard = Firewall(bundle, engine, threads=1, sweep_key=key_of(0))
    thresholds = {spec.name: spec.threshold for spec in bundle.manifest.detectors}
    if guard.rules.fused:
        thresholds[SUSPICION] = 0.0
    asked = tuple(guard.detectors)
    return Judge(bundle, on_the_edge(bundle, engine, classifier), asked, guard.policy, thresholds, guard.keyed)


def trained_detectors(manifest: Manifest) -> list[tuple[str, Seen | None]]:
    """The detectors of a bundle that learnt from images, each with the record of these; None where there is none."""
    specs = manifest.detectors
    return [(spec.name, spec.fitted) for spec in specs if spec.fitted is not None or "file" in spec.parameters]
