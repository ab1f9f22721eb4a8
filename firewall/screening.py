"""One image or frame in, verdicts out: resize, classify, sweep, detect, decide."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from firewall.bundle import Bundle, load_bundle
from firewall.detectors import Detector, Evidence, build
from firewall.engines import Engine, OnnxRuntimeEngine
from firewall.errors import EngineError, ImageError
from firewall.frame import Frame, Pixels, Region, check_pixels
from firewall.policy import Policy
from firewall.transforms import apply_operations, resize
from firewall.verdict import Reason, Verdict

__all__ = ["Firewall", "Stages"]


class Stages(dict[str, float]):
    """Seconds spent in each stage, added up."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time of the block to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self[stage] = self.get(stage, 0.0) + time.perf_counter() - started


class Firewall:
    """A bundle, loaded and ready to judge. Use it from one thread at a time."""

    def __init__(self, bundle: Bundle, engine: Engine, *, exhaustive: bool = False) -> None:
        """exhaustive: ask every detector even when one has settled the verdict; the decision is the same."""
        self.bundle = bundle
        self.engine = engine
        self.exhaustive = exhaustive
        self.detectors: list[Detector] = [build(spec) for spec in bundle.manifest.detectors]
        # What needs only the original image is asked first: most of what isn't a sign costs one classification.
        self.detectors.sort(key=lambda detector: len(detector.operations))
        self.policy = Policy({spec.name: spec.threshold for spec in bundle.manifest.detectors})

    @classmethod
    def load(cls, bundle: str | Path = "default", *, threads: int = 0, exhaustive: bool = False) -> Firewall:
        """Load `default` or a bundle's folder. threads: of the classifier, 0 = one for each core.

        Raises BundleError or EngineError if anything about the bundle is not as it was made.
        """
        loaded = load_bundle(bundle)
        return cls(loaded, OnnxRuntimeEngine(loaded, threads=threads), exhaustive=exhaustive)

    def screen(self, pixels: Pixels, region: Region | None = None) -> Verdict:
        """Judge one image, (H, W, 3) uint8 RGB, or a region (x, y, width, height) of it; bad pixels are withheld."""
        return self.screen_frame(Frame(pixels, "array", 0, time.monotonic()), None if region is None else [region])[0]

    def screen_frame(
        self,
        frame: Frame,
        regions: Sequence[Region] | None = None,
        *,
        deadline: float | None = None,
        stages: Stages | None = None,
    ) -> list[Verdict]:
        """A verdict for each region, in order; for the whole frame if `regions` is None.

        deadline: `time.monotonic()` in seconds after which nothing is released. stages: receives the time spent.
        Whatever goes wrong becomes a verdict that withholds.
        """
        stages = Stages() if stages is None else stages
        try:
            check_pixels(frame.pixels)
        except ImageError as error:
            return [self._withheld(frame, (0, 0, 0, 0), Reason.BAD_IMAGE, str(error))]
        height, width = frame.pixels.shape[:2]
        if regions is None:
            regions = [(0, 0, width, height)]
        elif not regions:
            return [self._withheld(frame, (0, 0, width, height), Reason.NOTHING_FOUND)]
        return [self._screen_region(frame, region, deadline, stages) for region in regions]

    def _screen_region(self, frame: Frame, region: Region, deadline: float | None, stages: Stages) -> Verdict:
        x, y, width, height = region
        if (
            width < 1
            or height < 1
            or x < 0
            or y < 0
            or x + width > frame.pixels.shape[1]
            or y + height > frame.pixels.shape[0]
        ):
            size = f"{frame.pixels.shape[1]}x{frame.pixels.shape[0]}"
            return self._withheld(
                frame, region, Reason.BAD_IMAGE, f"region {region} does not lie within the {size} frame"
            )
        if _passed(deadline):
            return self._withheld(frame, region, Reason.LATE)
        try:
            return self._judge(frame, region, deadline, stages)
        except EngineError as error:
            return self._withheld(frame, region, Reason.ENGINE_ERROR, str(error))
        except Exception as error:  # closed by default: an unforeseen failure of a stage must not release
            return self._withheld(frame, region, Reason.UNKNOWN, f"{type(error).__name__} while screening")

    def _judge(self, frame: Frame, region: Region, deadline: float | None, stages: Stages) -> Verdict:
        x, y, width, height = region
        spec = self.bundle.manifest.classifier
        with stages.timed("resize"):
            image = resize(frame.pixels[y : y + height, x : x + width], spec.input.width, spec.input.height)
        with stages.timed("classify"):
            logits = self.engine.classify(image[np.newaxis])[0]
        variants: dict[str, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
        scores: dict[str, float] = {}
        for detector in self.detectors:
            settled = self.policy.excess(scores) > 0 and not self.exhaustive
            if settled or _passed(deadline):
                break
            missing = [operation for operation in detector.operations if operation not in variants]
            if missing:
                with stages.timed("sweep"):
                    copies = apply_operations(image, missing)
                with stages.timed("classify"):
                    variants.update(zip(missing, self.engine.classify(copies), strict=True))
            with stages.timed("detect"):
                scores[detector.name] = float(detector.score(Evidence(image, logits, variants)))
        label = int(logits.argmax())
        judgement = self.policy.judge(scores, late=_passed(deadline))
        return Verdict(
            frame.source,
            frame.sequence,
            region,
            released=judgement.released,
            label=label if judgement.released else None,
            label_name=spec.labels[label] if judgement.released else None,
            reason=judgement.reason,
            latency_ms=_age_ms(frame),
            suspicion=judgement.suspicion,
            scores=scores,
            suspected_label=label,
            classified=1 + len(variants),
        )

    @staticmethod
    def _withheld(frame: Frame, region: Region, reason: Reason, detail: str = "") -> Verdict:
        return Verdict(frame.source, frame.sequence, region, reason=reason, detail=detail, latency_ms=_age_ms(frame))


def _passed(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() > deadline


def _age_ms(frame: Frame) -> float:
    return (time.monotonic() - frame.captured_at) * 1e3
