"""Whether a bundle's classifier is the same network on every runtime, down to the verdict.

The reference runs the bundle's ONNX graph operator by operator: in torch where the project's interpreter knows all of
them, else in onnx's own reference implementation (slow). Detectors with a network of their own run on ONNX Runtime both
times: what is compared is the classifier, and what its rounding does to the verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from firewall.bundle import Bundle
from firewall.engines import Engine, OnnxRuntimeEngine
from firewall.errors import DataError, EngineError
from firewall.export.parity import Parity, compare
from firewall.frame import Pixels
from firewall.lab.models.onnx_network import OnnxNetwork
from firewall.screening import Firewall
from firewall.transforms import resize
from firewall.verdict import Verdict

__all__ = ["Verified", "verify"]


@dataclass(frozen=True)
class Verified:
    """One runtime against the reference. apart: positions of the images whose verdicts differ. score: the largest
    difference of a detector's score."""

    reference: str
    runtime: str
    logits: Parity
    apart: tuple[int, ...]
    score: float

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "reference": self.reference,
            "runtime": self.runtime,
            "logits": self.logits.to_json(),
            "verdicts": {
                "images": self.logits.images,
                "different": list(self.apart),
                "largest_score_difference": self.score,
            },
        }

    def check(self) -> None:
        """Raises EngineError if a logit, a class or a verdict differs."""
        self.logits.check(f"{self.runtime} against {self.reference}")
        if self.apart:
            raise EngineError(
                f"{self.runtime} against {self.reference}: other verdicts on {len(self.apart)} of {self.logits.images} "
                f"images, the first of them image {self.apart[0]}"
            )


def verify(bundle: Bundle, images: Sequence[Pixels], *, threads: int = 0) -> list[Verified]:
    """Compare each runtime that is here with the reference. images: (H, W, 3) uint8 of any size, each judged whole.

    Every detector is asked of every image. Raises DataError without images, EngineError if a runtime fails.
    """
    if len(images) == 0:
        raise DataError("there are no images to compare on")
    size = bundle.manifest.classifier.input
    pixels = np.stack([resize(image, size.width, size.height) for image in images])
    reference = _reference(bundle)
    expected = _logits(reference, pixels)
    guard = Firewall(bundle, reference, exhaustive=True)
    judged = [guard.screen(image) for image in images]
    results = []
    for engine in (OnnxRuntimeEngine(bundle, threads=threads),):
        other = Firewall(bundle, engine, exhaustive=True)
        verdicts = [other.screen(image) for image in images]
        pairs = list(zip(judged, verdicts, strict=True))
        results.append(
            Verified(
                reference=reference.provider,
                runtime=f"onnxruntime {engine.provider}",
                logits=compare(expected, _logits(engine, pixels)),
                apart=tuple(index for index, (one, two) in enumerate(pairs) if _said(one) != _said(two)),
                score=max((_furthest(one, two) for one, two in pairs), default=0.0),
            )
        )
    return results


class _Interpreter:
    """A bundle's classifier as an Engine that computes with `run`: float32 (N, 3, H, W), prepared -> logits."""

    def __init__(self, bundle: Bundle, provider: str, run: Any) -> None:
        spec = bundle.manifest.classifier.input
        self.provider = provider
        self._run = run
        self._mean = np.array(spec.mean, np.float64)
        self._std = np.array(spec.std, np.float64)

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See Engine.classify. The preparation is written out, so that the edge's folded one is compared with it."""
        values = (images.astype(np.float64) / 255 - self._mean) / self._std
        result = np.asarray(self._run(np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)), np.float32)
        if result.ndim != 2 or len(result) != len(images) or not np.isfinite(result).all():
            raise EngineError(f"the reference gave shape {result.shape}, not finite logits for {len(images)} images")
        return result


def _reference(bundle: Bundle) -> Engine:
    import torch

    spec = bundle.manifest.classifier
    model = onnx.load_model_from_string(bundle.files[spec.file])
    try:
        network = OnnxNetwork(model, spec.output).eval()
    except (DataError, EngineError):
        evaluator = ReferenceEvaluator(model)

        def evaluate(values: npt.NDArray[np.float32]) -> Any:
            answers: Any = evaluator.run([spec.output], {spec.input.name: values})
            return answers[0]

        return _Interpreter(bundle, f"onnx {onnx.__version__} reference", evaluate)

    @torch.no_grad()
    def run(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = network(torch.from_numpy(values)).numpy()
        return logits

    return _Interpreter(bundle, f"torch {torch.__version__}", run)


def _logits(engine: Engine, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.concatenate([engine.classify(pixels[start : start + 64]) for start in range(0, len(pixels), 64)])


def _said(verdict: Verdict) -> tuple[object, ...]:
    return verdict.released, verdict.label, verdict.reason, verdict.suspected_label


def _furthest(one: Verdict, two: Verdict) -> float:
    return max(
        (abs(one.scores[name] - two.scores[name]) for name in one.scores.keys() & two.scores.keys()), default=0.0
    )
