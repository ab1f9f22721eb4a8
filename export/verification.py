"""Whether a bundle's classifier is the same network on every runtime, down to the verdict.

The reference runs the bundle's ONNX graph operator by operator: in torch where the project's interpreter knows all of
them, else in onnx's own reference implementation (slow). On a device without torch, ONNX Runtime is the reference for
TensorRT: a workstation has compared it with torch. Detectors with a network of their own run on ONNX Runtime both
times: what is compared is the classifier, and what its rounding does to the verdicts. A bundle's classifier for masked
images is compared too, by its logits for images under a mask.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, ClassifierSpec, PatchSpec
from firewall.bundle.onnx_bytes import Precision
from firewall.decision.masking import masks_for
from firewall.engines import Engine, OnnxRuntimeEngine
from firewall.engines.device_memory import open_device
from firewall.engines.plan_cache import PlanCache
from firewall.engines.tensorrt_engine import TensorRTEngine
from firewall.engines.tensorrt_library import open_tensorrt
from firewall.errors import DataError, EngineError, MissingExtraError
from firewall.export.parity import Parity, compare
from firewall.frame import Pixels
from firewall.screening import Firewall
from firewall.sweep.keyed import key_of
from firewall.transforms import resize
from firewall.verdict import Verdict

__all__ = ["Verified", "open_plans", "verify"]


@dataclass(frozen=True)
class Verified:
    """One runtime against the reference.

    Attributes:
        network: The classifier's file.
        reference: What it is compared with.
        runtime: What is compared.
        logits: How far the logits agree.
        apart: Positions of the images whose verdicts differ.
        score: The largest difference of a detector's score; None where no verdicts are compared.
    """

    network: str
    reference: str
    runtime: str
    logits: Parity
    apart: tuple[int, ...] = ()
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Ready for JSON."""
        told = {
            "network": self.network,
            "reference": self.reference,
            "runtime": self.runtime,
            "logits": self.logits.to_json(),
        }
        if self.score is None:
            return told
        different = {"different": list(self.apart), "largest_score_difference": self.score}
        return {**told, "verdicts": {"images": self.logits.images, **different}}

    def check(self) -> None:
        """Raises EngineError if a logit, a class or a verdict differs."""
        compared = f"{self.network} on {self.runtime} against {self.reference}"
        self.logits.check(compared)
        if self.apart:
            raise EngineError(
                f"{compared}: other verdicts on {len(self.apart)} of {self.logits.images} "
                f"images, the first of them image {self.apart[0]}"
            )


def verify(
    bundle: Bundle, images: Sequence[Pixels], *, threads: int = 0, plans: Sequence[TensorRTEngine] = ()
) -> list[Verified]:
    """Compare each runtime that is here with the reference.

    Every detector is asked of every image.

    Args:
        bundle: A verified bundle.
        images: (H, W, 3) uint8 of any size, each judged whole.
        threads: Threads on the processor; 0 = one for each core.
        plans: Plans of this bundle, from `open_plans`.
            A classifier for masked images, if the bundle has one, is compared on
            ONNX Runtime: on the edge it runs on nothing else.

    Raises:
        DataError: Without images.
        EngineError: If a runtime fails.
        MissingExtraError: If there is neither torch nor a plan: nothing to compare with.
    """
    if len(images) == 0:
        raise DataError("there are no images to compare on")
    spec, masked = bundle.manifest.classifier, bundle.manifest.masked_classifier
    size = spec.input
    pixels = np.stack([resize(image, size.width, size.height) for image in images])
    onnxruntime = OnnxRuntimeEngine(bundle, threads=threads)
    found: list[tuple[str, Engine, Precision]] = [(_runtime(onnxruntime), onnxruntime, "fp32")]
    results, beside = list[Verified](), list[Verified]()
    try:
        reference = _reference(bundle, spec)
        name = reference.provider
        if masked is not None:
            beside.append(_under_masks(bundle, masked, pixels, threads))
    except ModuleNotFoundError as error:
        if not plans:
            raise MissingExtraError(
                f"onnxruntime has nothing to be compared with: {error.name} is not installed, and there is no TensorRT "
                "plan; pip install 'perception-firewall[lab]'"
            ) from error
        name, reference, _ = found.pop()
    found.extend((engine.provider, engine, engine.plan.key.precision) for engine in plans)
    expected = _logits(reference, pixels)
    # Keyed sweeps have to draw the same copies on both.
    guard = Firewall(bundle, reference, exhaustive=True, threads=threads, sweep_key=key_of(0))
    judged = [guard.screen(image) for image in pixels]  # resized already: that much less is held and decoded
    for runtime, engine, precision in found:
        other = Firewall(bundle, engine, exhaustive=True, threads=threads, sweep_key=key_of(0))
        verdicts = [other.screen(image) for image in pixels]
        pairs = list(zip(judged, verdicts, strict=True))
        results.append(
            Verified(
                network=spec.file,
                reference=name,
                runtime=runtime,
                logits=compare(expected, _logits(engine, pixels), precision=precision),
                apart=tuple(index for index, (one, two) in enumerate(pairs) if _said(one) != _said(two)),
                score=max((_furthest(one, two) for one, two in pairs), default=0.0),
            )
        )
    return results + beside


def _under_masks(bundle: Bundle, spec: ClassifierSpec, pixels: npt.NDArray[np.uint8], threads: int) -> Verified:
    """The classifier for masked images, asked about each image under the next mask."""
    patches = bundle.manifest.patches or PatchSpec(area=0.02)
    masks = masks_for(spec.input.height, spec.input.width, patches.area, patches.masks, patches.fill)
    places = [number % len(masks) for number in range(len(pixels))]
    hidden = np.stack([masks.covered(image, at, at) for image, at in zip(pixels, places, strict=True)])
    reference, engine = _reference(bundle, spec), OnnxRuntimeEngine(bundle, threads=threads, spec=spec)
    return Verified(
        network=spec.file,
        reference=reference.provider,
        runtime=_runtime(engine),
        logits=compare(_logits(reference, hidden), _logits(engine, hidden), precision=spec.precision),
    )


def _runtime(engine: OnnxRuntimeEngine) -> str:
    return f"onnxruntime {engine.provider}"


def open_plans(bundle: Bundle, *, folder: Path | None = None, device_id: int = 0) -> tuple[list[TensorRTEngine], str]:
    """(the TensorRT plans of a bundle for this GPU, why there are none).

    Where TensorRT, a GPU or a plan is missing the second says which.

    Args:
        bundle: A verified bundle.
        folder: Folder of the plans; None = `plan_folder()`.
        device_id: Number of the GPU, as CUDA counts.

    Raises:
        EngineError: If there is a plan that can't be used: it isn't passed over in silence.
    """
    content = bundle.files[bundle.manifest.classifier.file]
    try:
        version = str(open_tensorrt().__version__)
        memory = open_device(device_id)
        gpu = memory.name
        memory.close()
    except (MissingExtraError, EngineError) as error:
        return [], f"not compared: {error}"
    digest = hashlib.sha256(content).hexdigest()
    try:
        cache = PlanCache(folder)
        keys = [key for key in cache.entries() if (key.onnx, key.tensorrt, key.gpu) == (digest, version, gpu)]
    except EngineError as error:
        return [], f"not compared: {error}"
    if not keys:
        return [], (
            f"not compared: {cache.folder} has no plan of this classifier for {gpu} and TensorRT {version}; build one "
            "with 'firewall export tensorrt'"
        )
    precisions = sorted({key.precision for key in keys})
    return [
        TensorRTEngine.from_cache(bundle, precision=precision, folder=folder, device_id=device_id)
        for precision in precisions
    ], ""


class _Interpreter:
    """A classifier as an Engine that computes with `run`: float32 (N, 3, H, W), prepared -> logits."""

    def __init__(self, spec: ClassifierSpec, provider: str, run: Any) -> None:
        self.provider = provider
        self._run = run
        self._mean = np.array(spec.input.mean, np.float64)
        self._std = np.array(spec.input.std, np.float64)

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """See Engine.classify. The preparation is written out, so that the edge's folded one is compared with it."""
        values = (images.astype(np.float64) / 255 - self._mean) / self._std
        result = np.asarray(self._run(np.ascontiguousarray(values.transpose(0, 3, 1, 2), np.float32)), np.float32)
        if result.ndim != 2 or len(result) != len(images) or not np.isfinite(result).all():
            raise EngineError(f"the reference gave shape {result.shape}, not finite logits for {len(images)} images")
        return result


def _reference(bundle: Bundle, spec: ClassifierSpec) -> Engine:
    import onnx
    import torch
    from onnx.reference import ReferenceEvaluator

    from firewall.lab.models.onnx_network import OnnxNetwork

    model = onnx.load_model_from_string(bundle.files[spec.file])
    try:
        network = OnnxNetwork(model, spec.output).eval()
    except (DataError, EngineError):
        evaluator = ReferenceEvaluator(model)

        def evaluate(values: npt.NDArray[np.float32]) -> Any:
            answers: Any = evaluator.run([spec.output], {spec.input.name: values})
            return answers[0]

        return _Interpreter(spec, f"onnx {onnx.__version__} reference", evaluate)

    @torch.no_grad()
    def run(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = network(torch.from_numpy(values)).numpy()
        return logits

    return _Interpreter(spec, f"torch {torch.__version__}", run)


def _logits(engine: Engine, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.concatenate([engine.classify(pixels[start : start + 64]) for start in range(0, len(pixels), 64)])


def _said(verdict: Verdict) -> tuple[object, ...]:
    return verdict.released, verdict.label, verdict.reason, verdict.suspected_label


def _furthest(one: Verdict, two: Verdict) -> float:
    return max(
        (abs(one.scores[name] - two.scores[name]) for name in one.scores.keys() & two.scores.keys()), default=0.0
    )
