"""Run images through the edge's own path and keep what its detectors look at."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import track

from firewall.bundle import Bundle, Calibration, ClassifierSpec, DetectorSpec, FileSpec, Manifest
from firewall.detectors import Detector, Evidence, Keyed
from firewall.engines import Engine, OnnxRuntimeEngine
from firewall.engines.sessions import Optimisation
from firewall.frame import Pixels
from firewall.lab.datasets.reading import at_size
from firewall.sweep.keyed import KeyedSweep
from firewall.transforms import SWEEP_16, SWEEP_76, apply_operations, residual, resize

__all__ = ["SWEEPS", "Measured", "engine_for", "measure"]

SWEEPS: dict[int, tuple[int, ...]] = {16: SWEEP_16, 76: SWEEP_76}


@dataclass(frozen=True)
class Measured:
    """N images and what the classifier with C classes says of them and of their copies.

    Attributes:
        images: uint8 (N, H, W, 3), at the network's input size.
        logits: float32 (N, C).
        operations: What made the copies of each image.
        variants: float32 (N, len(operations), C), the copies' logits.
    """

    images: npt.NDArray[np.uint8]
    logits: npt.NDArray[np.float32]
    operations: tuple[str, ...]
    variants: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Top-1 class of each image, (N,)."""
        labels: npt.NDArray[np.int64] = self.logits.argmax(axis=1)
        return labels

    def agreement_counts(self, operations: Sequence[str]) -> npt.NDArray[np.int64]:
        """How many copies keep each image's label.

        Args:
            operations: Of the copies that are counted.

        Returns:
            int64 (N,), 0 to len(operations).
        """
        columns = [self.operations.index(operation) for operation in operations]
        agree = self.variants[:, columns].argmax(axis=2) == self.labels[:, None]
        counts: npt.NDArray[np.int64] = agree.sum(axis=1)
        return counts

    def scores(self, detector: Detector, sweep: KeyedSweep | None = None) -> npt.NDArray[np.float64]:
        """The detector's score of each image, float64 (N,). sweep: draws what a keyed sweep is asked for."""
        found = []
        for index in range(len(self)):
            evidence = self._evidence(index)
            if isinstance(detector, Keyed) and sweep is not None:
                evidence.drawn[detector.name] = sweep.of(evidence.image, detector.draw, lambda _: nullcontext())
            found.append(detector.score(evidence))
        return np.array(found, np.float64)

    def subset(self, where: npt.NDArray[np.bool_]) -> Measured:
        """The images at which the mask `where`, bool (N,), is true."""
        return Measured(self.images[where], self.logits[where], self.operations, self.variants[where])

    def joined(self, other: Measured) -> Measured:
        """These images and then those of `other`, which has the same operations."""
        return Measured(
            np.concatenate([self.images, other.images]),
            np.concatenate([self.logits, other.logits]),
            self.operations,
            np.concatenate([self.variants, other.variants]),
        )

    def _evidence(self, index: int) -> Evidence:
        variants = dict(zip(self.operations, self.variants[index], strict=True))
        return Evidence(self.images[index], self.logits[index], variants, residual, resize=resize)


def measure(
    engine: Engine,
    images: Sequence[Pixels] | Pixels,
    operations: Sequence[str],
    *,
    width: int,
    height: int,
    label: str = "measuring",
    progress: bool = True,
) -> Measured:
    """Resize, transform and classify each image exactly as the edge does.

    Args:
        engine: The classifier's.
        images: uint8 (H, W, 3) each, of any size; all are read before the first is classified.
        operations: Of the copies.
        width: Of the network's input, pixels.
        height: Of the network's input, pixels.
        label: For the progress bar.
        progress: Show one.

    Raises:
        DataError: An image can't be read.
    """
    resized = at_size(images, width, height, label="reading", progress=progress)
    logits, variants = np.empty((0, 0), np.float32), np.empty((0, 0, 0), np.float32)
    console = Console(stderr=True)
    for index, image in enumerate(track(resized, label, disable=not progress, transient=True, console=console)):
        # Two batches, as on the edge: the sum over a row may depend on how many rows there are.
        first = engine.classify(image[np.newaxis])
        others = engine.classify(apply_operations(image, operations)) if operations else first[:0]
        if index == 0:
            logits = np.empty((len(resized), first.shape[1]), np.float32)
            variants = np.empty((len(resized), *others.shape), np.float32)
        logits[index], variants[index] = first[0], others
    return Measured(resized, logits, tuple(operations), variants)


def engine_for(
    classifier: ClassifierSpec, content: bytes, threads: int = 0, optimisation: Optimisation = "all"
) -> OnnxRuntimeEngine:
    """The classifier on ONNX Runtime before there is a bundle.

    Args:
        classifier: As the manifest will describe it.
        content: Its ONNX file.
        threads: Of the processor; 0 for one on each core.
        optimisation: How far ONNX Runtime rewrites the graph.

    Raises:
        EngineError: ONNX Runtime can't run it.
    """
    card = Calibration(data="none yet", images=1, false_positive_rate=0.5)
    stand_in = DetectorSpec(name="confidence", threshold=0.0)
    files = {classifier.file: FileSpec(sha256="0" * 64, bytes=len(content))}
    manifest = Manifest(
        name="provisional", created="-", files=files, classifier=classifier, detectors=(stand_in,), calibration=card
    )
    return OnnxRuntimeEngine(
        Bundle(Path("provisional"), manifest, {classifier.file: content}, "0" * 64),
        threads=threads,
        optimisation=optimisation,
    )
