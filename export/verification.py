"""Whether a bundle's networks are the same on every runtime, down to the verdict.

The reference runs the bundle's ONNX graph operator by operator: in torch where the project's interpreter knows all of
them, else in onnx's own reference implementation (slow). On a device without torch, ONNX Runtime on the processor is
the reference for the GPU: a workstation has compared it with torch. Each network is compared by itself, on what it is
asked while the images are judged; and the whole guard is, by its verdicts, with all networks on the runtime that is
compared. The sign finder is looked at in firewall.export.finder_parity.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, ClassifierSpec, PatchSpec
from firewall.bundle.onnx_bytes import PRECISIONS, Precision, precision_of
from firewall.decision.masking import masks_for
from firewall.engines import (
    DeviceEngine,
    Engine,
    Network,
    Networks,
    OnnxRuntimeEngine,
    OnnxRuntimeNetwork,
)
from firewall.engines.frame_network import FrameNetwork, OnnxRuntimeFrames
from firewall.errors import DataError, EngineError, MissingExtraError
from firewall.export.finder_parity import FinderParity, compare_finders
from firewall.export.parity import Parity, compare
from firewall.export.recorded import recorded_inputs
from firewall.export.reference import ReferenceFrames, ReferenceNetwork, reference_of
from firewall.frame import Pixels
from firewall.screening import Firewall
from firewall.sources.image import decode_image
from firewall.sweep.keyed import key_of
from firewall.transforms import resize
from firewall.verdict import Verdict

__all__ = ["Verified", "verify"]

#: Frames that the reference looks at with the finder, and their longest side: it may take a second for each.
_REFERENCE_FRAMES, _REFERENCE_SIDE = 4, 128


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
    bundle: Bundle,
    images: Sequence[Pixels],
    *,
    threads: int = 0,
    plans: Sequence[Engine] = (),
    finders: Sequence[FrameNetwork] = (),
) -> list[Verified | FinderParity]:
    """Compare each runtime that is here with the reference.

    Every detector is asked of every image.

    Args:
        bundle: A verified bundle.
        images: (H, W, 3) uint8 of any size, each judged whole. The finder looks at them and at the bundle's golden
            frames.
        threads: Threads on the processor; 0 = one for each core.
        plans: This bundle's classifier on a GPU: plans of `open_plans`, or a CudaEngine. The bundle's other networks
            are opened beside it and compared too.
        finders: Its sign finder on a GPU.

    Raises:
        DataError: Without images.
        EngineError: If a runtime fails, or has no plan of a network.
        MissingExtraError: If there is neither torch nor a plan: nothing to compare with.
    """
    if len(images) == 0:
        raise DataError("there are no images to compare on")
    spec = bundle.manifest.classifier
    size = spec.input
    pixels = np.stack([resize(image, size.width, size.height) for image in images])
    onnxruntime = OnnxRuntimeEngine(bundle, threads=threads)
    found: list[tuple[str, Engine]] = [(_runtime(onnxruntime), onnxruntime)]
    torch = True
    try:
        reference = reference_of(bundle, spec)
    except ModuleNotFoundError as error:
        if not plans:
            raise MissingExtraError(
                f"onnxruntime has nothing to be compared with: {error.name} is not installed, and there is no TensorRT "
                "plan; pip install 'perception-firewall[lab]'"
            ) from error
        torch, reference = False, found.pop()[1]
    name = _runtime(reference)
    found.extend((_runtime(engine), engine) for engine in plans)
    expected = _logits(reference, pixels)
    # Keyed sweeps have to draw the same copies on both.
    guard = Firewall(bundle, reference, exhaustive=True, threads=threads, sweep_key=key_of(0))
    judged = [guard.screen(image) for image in pixels]  # resized already: that much less is held and decoded
    asked = recorded_inputs(bundle, list(pixels), threads=threads)
    references = {file: _detector_reference(bundle, file, torch=torch) for file in asked}
    answers = {file: references[file](values) for file, values in asked.items()}
    results, beside = list[Verified | FinderParity](), list[Verified | FinderParity]()
    for runtime, engine in found:
        other = Firewall(bundle, engine, exhaustive=True, threads=threads, sweep_key=key_of(0))
        pairs = list(zip(judged, [other.screen(image) for image in pixels], strict=True))
        results.append(
            Verified(
                network=spec.file,
                reference=name,
                runtime=runtime,
                logits=compare(expected, _logits(engine, pixels), precision=_precision(engine)),
                apart=tuple(index for index, (one, two) in enumerate(pairs) if _said(one) != _said(two)),
                score=max((_furthest(one, two) for one, two in pairs), default=0.0),
            )
        )
        if bundle.manifest.masked_classifier is not None:
            beside.append(_under_masks(bundle, bundle.manifest.masked_classifier, pixels, threads, engine, torch))
        for file, values in asked.items():
            network = other.networks[file]
            rows = [np.reshape(each, (len(values), -1)) for each in (answers[file], network(values))]
            parity = compare(
                rows[0], rows[1], precision=_coarser(_precision(network), precision_of(bundle.files[file], file))
            )
            beside.append(Verified(file, _runtime(references[file]), _runtime(network), parity))
    beside.extend(_finders(bundle, images, finders, guard, threads=threads, torch=torch))
    return results + beside


def _under_masks(
    bundle: Bundle, spec: ClassifierSpec, pixels: npt.NDArray[np.uint8], threads: int, beside: Engine, torch: bool
) -> Verified:
    """The classifier for masked images, asked about each image under the next mask."""
    patches = bundle.manifest.patches or PatchSpec(area=0.02)
    masks = masks_for(spec.input.height, spec.input.width, patches.area, patches.masks, patches.fill)
    places = [number % len(masks) for number in range(len(pixels))]
    hidden = np.stack([masks.covered(image, at, at) for image, at in zip(pixels, places, strict=True)])
    on_gpu = isinstance(beside, DeviceEngine)
    engine = Networks(bundle, beside).classifier(spec) if on_gpu else _processor(bundle, threads, spec)
    reference = reference_of(bundle, spec) if torch else _processor(bundle, threads, spec)
    return Verified(
        network=spec.file,
        reference=_runtime(reference),
        runtime=_runtime(engine),
        logits=compare(
            _logits(reference, hidden), _logits(engine, hidden), precision=_coarser(_precision(engine), spec.precision)
        ),
    )


def _finders(
    bundle: Bundle,
    images: Sequence[Pixels],
    finders: Sequence[FrameNetwork],
    guard: Firewall,
    *,
    threads: int,
    torch: bool,
) -> list[FinderParity]:
    """The sign finder, on ONNX Runtime (with torch there) and on each GPU. Verdicts on what is found are the reference
    guard's for both: they tell whether the boxes lead to others."""
    spec = bundle.manifest.finder
    if spec is None:
        return []
    content, what = bundle.files[spec.file], f"{spec.file} of bundle {bundle.path}"
    processor = OnnxRuntimeFrames(spec, content, what, threads=threads)
    told = []
    if torch:  # slow: small frames
        side, few = _REFERENCE_SIDE, list(images[:_REFERENCE_FRAMES])
        small = [np.ascontiguousarray(image[:side, :side]) for image in few]
        reference = ReferenceFrames(spec, content)
        told.append(
            compare_finders(
                bundle,
                (reference, processor),
                (guard, guard),
                small,
                precision=spec.precision,
                reference=reference.provider,
                runtime=_runtime(processor),
            )
        )
    frames = [*images, *_golden_frames(bundle)]
    for network in finders:
        precision = _coarser(_precision(network), spec.precision)
        told.append(
            compare_finders(
                bundle,
                (processor, network),
                (guard, guard),
                frames,
                precision=precision,
                reference=_runtime(processor),
                runtime=_runtime(network),
            )
        )
    return told


def _golden_frames(bundle: Bundle) -> list[Pixels]:
    """The bundle's own pictures that the finder looks at."""
    return [
        decode_image(io.BytesIO(bundle.files[frame.file]), frame.file)
        for frame in bundle.manifest.golden or ()
        if frame.regions == "signs"
    ]


def _detector_reference(bundle: Bundle, file: str, *, torch: bool) -> Network:
    content, what = bundle.files[file], f"{file} of bundle {bundle.path}"
    return ReferenceNetwork(content, what) if torch else OnnxRuntimeNetwork(content, what, threads=1)


def _processor(bundle: Bundle, threads: int, spec: ClassifierSpec) -> OnnxRuntimeEngine:
    return OnnxRuntimeEngine(bundle, threads=threads, spec=spec)


def _coarser(one: Precision, two: Precision) -> Precision:
    return max(one, two, key=PRECISIONS.index)


def _precision(network: Engine | Network | FrameNetwork) -> Precision:
    """What a network computes in here, if a plan of it says so."""
    plan = getattr(network, "plan", None)
    found: Precision = plan.key.precision if plan is not None else getattr(network, "precision", "fp32")
    return found


def _runtime(network: Engine | Network | FrameNetwork) -> str:
    """What runs a network, for people."""
    return f"onnxruntime {network.provider}" if network.provider.endswith("ExecutionProvider") else network.provider


def _logits(engine: Engine, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.concatenate([engine.classify(pixels[start : start + 64]) for start in range(0, len(pixels), 64)])


def _said(verdict: Verdict) -> tuple[object, ...]:
    return verdict.released, verdict.label, verdict.reason, verdict.suspected_label


def _furthest(one: Verdict, two: Verdict) -> float:
    return max(
        (abs(one.scores[name] - two.scores[name]) for name in one.scores.keys() & two.scores.keys()), default=0.0
    )
