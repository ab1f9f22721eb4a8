"""One image or frame in, verdicts out: resize, classify, sweep, detect, decide."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from firewall.bundle import Bundle, PatchSpec, load_bundle
from firewall.bundle.stickers import resolved
from firewall.decision.case import Case, failure_of
from firewall.decision.correction import Correction
from firewall.decision.dial import stricter
from firewall.decision.look import Look, Stages
from firewall.decision.look import passed as _passed
from firewall.decision.panel import Panel
from firewall.decision.policy import contradictions
from firewall.decision.rules import Rules
from firewall.decision.stickers import Stickers
from firewall.decision.values import Values
from firewall.detectors import Detector, Evidence, Keyed, build
from firewall.engines import Engine, Network, Networks, check_device, open_engine
from firewall.errors import ImageError
from firewall.frame import Frame, Pixels, Region, check_pixels
from firewall.sweep.asking import ask_together
from firewall.sweep.copies import open_copies
from firewall.sweep.keyed import KeyedSweep
from firewall.transforms import crops, residual, resize
from firewall.verdict import Reason, Verdict

__all__ = ["Firewall", "Look", "Stages"]


@dataclass(slots=True)
class _Crops:
    """The regions of one frame that are to be classified, and their images at the classifier's size."""

    look: Look
    cases: list[Case]
    images: Pixels = field(default_factory=lambda: np.empty((0, 0, 0, 3), np.uint8))

    def fail(self, reason: Reason, detail: str) -> None:
        for case in self.cases:
            case.failure = reason, detail


class Firewall:
    """A bundle, loaded and ready to judge. Use it from one thread at a time."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        *,
        exhaustive: bool = False,
        patches: PatchSpec | None = None,
        values: float | None = None,
        threads: int = 0,
        sweep_key: bytes | None = None,
    ) -> None:
        """Make ready to judge.

        Args:
            bundle: A verified bundle.
            engine: The bundle's classifier on a device.
            exhaustive: Ask every detector even if the verdict is settled, and correct withheld labels. The decision is
                the same.
            patches: Release only labels that pass under masks over such stickers. If the bundle asks for that too, the
                stricter demand counts.
            values: Release only labels that are proved for changes of every value by at most this, a share of 0..1, see
                firewall.decision.values. None: that isn't asked.
            threads: Threads of the bundle's classifier for masked images, if it has one, on the processor; 0 = one for
                each core. It and the detectors' networks run where the engine runs.
            sweep_key: The device's secret that a keyed sweep is drawn by, 16 bytes at least. None: one is drawn for
                this run. It is asked only if the bundle has the detector `keyed`.

        Raises:
            BundleError: If a detector is unknown or unfit, or nothing can be proved of the network that `values` asks.
            EngineError: If a network of the bundle can't be run.
            UsageError: If the network's input is too small for such stickers, the key too short, or the bundle has no
                network for `values`.
        """
        self.bundle = bundle
        self.engine = engine
        self.exhaustive = exhaustive
        beside = Networks(bundle, engine, threads=threads)
        self.networks: dict[str, Network] = beside.opened  # of the detectors, by file
        classes = len(bundle.manifest.classifier.labels)
        self.detectors: list[Detector] = [build(spec, beside.network, classes) for spec in bundle.manifest.detectors]
        asked = dict.fromkeys(name for detector in self.detectors for name in detector.operations)
        self.copies = open_copies(engine, bundle.manifest.classifier.input, tuple(asked))
        self._draws = {each.name: each.draw for each in self.detectors if isinstance(each, Keyed)}
        self.keyed = KeyedSweep(engine, sweep_key) if self._draws else None
        self._sweep_cost = 0.0
        self.patches = stricter(resolved(bundle.manifest.patches, bundle), resolved(patches, bundle))
        masked = bundle.manifest.masked_classifier
        self._stickers = None if self.patches is None else Stickers(self.patches, masked or bundle.manifest.classifier)
        self.masks = None if self._stickers is None else self._stickers.masks
        self.under_masks = engine if masked is None or self._stickers is None else beside.classifier(masked)
        if self._stickers is not None:
            self._stickers.check(self.under_masks.classify, bundle.path)
        self.values = None if values is None else Values(bundle, values)
        self.correction = None if bundle.manifest.correction is None else Correction(bundle.manifest.correction)
        self.rules = Rules(bundle)
        self.fusion = self.rules.fusion
        #: What decides about images at the classifier's size. A region is judged by `rules.policy` of its own size.
        self.policy = self.rules.policy()
        self.detectors = self.rules.in_order(self.detectors)

    @classmethod
    def load(
        cls,
        bundle: str | Path = "default",
        *,
        device: str = "cpu",
        threads: int = 0,
        exhaustive: bool = False,
        sweep_key: bytes | None = None,
    ) -> Firewall:
        """Load a bundle, ready to judge.

        Args:
            bundle: `default`, or a bundle's folder.
            device: What the networks run on, and nothing else: "cpu", "cuda" or "tensorrt".
            threads: Threads of the classifier on the processor; 0 = one for each core.
            exhaustive: See Firewall.
            sweep_key: See Firewall.

        Returns:
            The firewall.

        Raises:
            BundleError: If the bundle is missing, altered, incomplete, or not signed as it has to be.
            EngineError: If the device or a network can't be used.
            UsageError: If there is no such device, or the key is too short.
        """
        check_device(device)
        loaded = load_bundle(bundle)
        engine = open_engine(loaded, device=device, threads=threads)
        return cls(loaded, engine, exhaustive=exhaustive, threads=threads, sweep_key=sweep_key)

    def screen(self, pixels: Pixels, region: Region | None = None) -> Verdict:
        """Judge one image, or a region of it. Whatever goes wrong becomes a verdict that withholds.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            region: (x, y, width, height) in pixels; None: the whole image.

        Returns:
            The verdict.
        """
        return self.screen_frame(Frame(pixels, "array", 0, time.monotonic()), None if region is None else [region])[0]

    def screen_frame(
        self,
        frame: Frame,
        regions: Sequence[Region] | None = None,
        *,
        deadline: float | None = None,
        stages: Stages | None = None,
    ) -> list[Verdict]:
        """Judge the regions of one frame. Whatever goes wrong becomes a verdict that withholds.

        Two regions at one place with different labels contradict each other, and neither label is released. The
        verdicts are returned together, so all have the latency of the last.

        Args:
            frame: The frame.
            regions: (x, y, width, height) in pixels each. None: the whole frame. Empty: nothing was found.
            deadline: `time.monotonic()` in seconds after which nothing is released. None: no deadline.
            stages: The time spent in each stage is added to it.

        Returns:
            A verdict for each region, in order; one verdict if nothing was found or the pixels can't be judged.
        """
        return next(self.screen_frames([Look(frame, regions, deadline, Stages() if stages is None else stages)]))

    def screen_frames(self, looks: Sequence[Look]) -> Iterator[list[Verdict]]:
        """Judge the regions of several frames. All are classified in one batch; then frame by frame is judged, and
        handed out at once. Whatever goes wrong with one frame withholds that frame alone.

        Args:
            looks: The frames, the most urgent first.

        Yields:
            For each frame what `screen_frame` returns.
        """
        opened = [self._opened(look) for look in looks]
        shown = [
            self._shown(look, [c for c in cases if c.failure is None])
            for look, cases in zip(looks, opened, strict=True)
        ]
        self._classify([each for each in shown if each is not None])
        for look, cases in zip(looks, opened, strict=True):
            with look.stages.timed("policy"):
                panel = Panel(self.rules, [detector.name for detector in self.detectors], cases)
            ask_together(self.detectors, self._draws, panel, look, exhaustive=self.exhaustive)
            begun = False
            for place, evidence in panel.looked_at():
                begun |= self._ask(panel, place, evidence, look, first=not begun)
            late, age = _passed(look.deadline), _age_ms(look.frame)
            with look.stages.timed("policy"):
                verdicts = [self._verdict(look.frame, panel, place, late, age) for place in range(len(cases))]
            yield verdicts

    def _opened(self, look: Look) -> list[Case]:
        """A case for each region; if there is none to judge, one that says why."""
        try:
            check_pixels(look.frame.pixels)
        except ImageError as error:
            return [Case((0, 0, 0, 0), failure=(Reason.BAD_IMAGE, str(error)))]
        height, width = look.frame.pixels.shape[:2]
        whole = (0, 0, width, height)
        regions = [whole] if look.regions is None else look.regions
        if not regions:
            return [Case(whole, failure=(Reason.NOTHING_FOUND, ""))]
        return [Case(region, failure=self._misfit(region, width, height)) for region in regions]

    def _misfit(self, region: Region, frame_width: int, frame_height: int) -> tuple[Reason, str] | None:
        """Why a region can't be judged at all."""
        x, y, width, height = region
        if min(width, height) < 1 or min(x, y) < 0 or x + width > frame_width or y + height > frame_height:
            return Reason.BAD_IMAGE, f"region {region} does not lie within the {frame_width}x{frame_height} frame"
        unfit = self.rules.unfit(region)
        return (Reason.UNFIT, unfit) if unfit else None

    def _shown(self, look: Look, cases: list[Case]) -> _Crops | None:
        """What the classifier is shown of these regions of a frame; None if that is nothing."""
        shown, spec = _Crops(look, cases), self.bundle.manifest.classifier.input
        try:
            if not cases or _passed(look.deadline):
                shown.fail(Reason.LATE, "")
                return None
            with look.stages.timed("resize"):
                shown.images = crops(look.frame.pixels, [case.region for case in cases], spec.width, spec.height)
        except Exception as error:
            shown.fail(*failure_of(error))
            return None
        return shown

    def _classify(self, shown: Sequence[_Crops]) -> None:
        """Classify the regions as they are, all in one batch: that is cheap, and often enough for the verdict."""
        if not shown:
            return
        try:
            with ExitStack() as timing:
                for each in shown:  # each frame has waited for all of them
                    timing.enter_context(each.look.stages.timed("classify"))
                logits = self.engine.classify(
                    shown[0].images if len(shown) == 1 else np.concatenate([each.images for each in shown])
                )
            ends = list(accumulate(len(each.cases) for each in shown[:-1]))
            for each, start, end in zip(shown, [0, *ends], [*ends, len(logits)], strict=True):
                self._labelled(each, logits[start:end])
        except Exception as error:
            if len(shown) == 1:
                shown[0].fail(*failure_of(error))
            else:  # one frame may have spoilt the batch, and the others are not to pay for it
                for each in shown:
                    self._classify([each])

    def _labelled(self, shown: _Crops, logits: npt.NDArray[np.float32]) -> None:
        """Lay down what the classifier says of one frame's regions, logits (N, classes)."""
        with shown.look.stages.timed("policy"):
            labels = [int(label) for label in logits.argmax(axis=1)]
            contradicted = contradictions([case.region for case in shown.cases], labels)
        for case, image, row, doubt in zip(shown.cases, shown.images, logits, contradicted, strict=True):
            x, y, width, height = case.region
            crop = shown.look.frame.pixels[y : y + height, x : x + width]
            sizes = {(image.shape[1], image.shape[0]): image}
            case.evidence = Evidence(image, row, case.variants, residual, crop, resize, sizes=sizes)
            case.contradicted = doubt

    def _ask(self, panel: Panel, place: int, evidence: Evidence, look: Look, *, first: bool) -> bool:
        """Ask the detectors about a region while its verdict is open and there is time; True if a sweep was begun.

        A sweep is not begun if, going by the last ones, it would end after the deadline: that would make the verdicts
        that are already known late too. The first sweep of a frame is always tried.
        """
        begun, case, deadline, stages = False, panel.cases[place], look.deadline, look.stages
        try:
            for detector in self.detectors[panel.asked(place) :]:  # the others were asked by ask_together
                if not (self.exhaustive or panel.open(place)) or _passed(deadline):
                    break
                missing = [operation for operation in detector.operations if operation not in case.variants]
                draw = self._draws.get(detector.name)
                if missing or draw is not None:
                    if not first and _passed(deadline, self._sweep_cost):
                        break
                    begun, started = True, time.monotonic()
                    self._sweep(case, evidence, missing, stages)
                    if draw is not None and self.keyed is not None:
                        evidence.drawn[detector.name] = self.keyed.of(evidence.image, draw, stages.timed)
                    # The slowest recent sweep counts, but one slow sweep must not count for ever.
                    self._sweep_cost = max(time.monotonic() - started, 0.9 * self._sweep_cost)
                with stages.timed("detect"):
                    score = float(detector.score(evidence))
                with stages.timed("policy"):
                    panel.lay([place], [score])
            begun |= self._certify(panel, place, evidence, look)
            if self.exhaustive and self.correction is not None and not _passed(deadline):
                self._correct(panel, place, evidence, self.correction, stages)
        except Exception as error:
            case.failure = failure_of(error)
        return begun

    def _certify(self, panel: Panel, place: int, evidence: Evidence, look: Look) -> bool:
        """Find out whether a change that is guarded against can have made a label that would be released; True if that
        was asked. The proof costs less than masks, which are asked only of what it leaves."""
        case, deadline, stages = panel.cases[place], look.deadline, look.stages
        if (self._stickers is None and self.values is None) or _passed(deadline):
            return False
        if not panel.judge(place).released:
            return False
        if self.values is not None:
            with stages.timed("values"):
                case.proved = self.values.hold(evidence)
        if self._stickers is None or case.proved is False or _passed(deadline):
            return True
        with stages.timed("masks"):
            case.kept = self._stickers.kept(evidence, self.under_masks.classify, expired=lambda: _passed(deadline))
        return True

    def _correct(self, panel: Panel, place: int, evidence: Evidence, correction: Correction, stages: Stages) -> None:
        """Find the label that a withheld image would probably have had."""
        if panel.judge(place).released:
            return
        case = panel.cases[place]
        missing = [operation for operation in correction.operations if operation not in case.variants]
        self._sweep(case, evidence, missing, stages)
        case.corrected = correction.label(evidence.logits, case.variants)

    def _sweep(self, case: Case, evidence: Evidence, operations: list[str], stages: Stages) -> None:
        """The classifier's outputs of more transformed copies."""
        if operations:
            logits = self.copies.classify(evidence.image, operations, stages.timed)
            case.variants.update(zip(operations, logits, strict=True))

    def _verdict(self, frame: Frame, panel: Panel, place: int, late: bool, age_ms: float) -> Verdict:
        case = panel.cases[place]
        evidence = case.evidence
        if case.failure is not None or evidence is None:
            return self._closed(frame, case.region, *(case.failure or (Reason.UNKNOWN, "")))
        label = int(evidence.logits.argmax())
        passes = case.certified(values=self.values is not None, masks=self._stickers is not None)
        judgement = panel.judge(place, late=late or panel.late(place), certified=passes)
        spec = self.bundle.manifest.classifier
        drawn = list(evidence.drawn.values())
        return Verdict(
            frame.source,
            frame.sequence,
            case.region,
            released=judgement.released,
            label=label if judgement.released else None,
            label_name=spec.labels[label] if judgement.released else None,
            reason=judgement.reason,
            detail=self._unproved(case, judgement.reason),
            latency_ms=age_ms,
            suspicion=judgement.suspicion,
            scores=panel.scores(place),
            evidence=panel.shares(place),
            suspected_label=label,
            corrected_label=case.corrected,
            certified=case.kept.certified if case.kept is not None and judgement.released else None,
            proved_within=None if self.values is None or not judgement.released else self.values.eps,
            classified=1
            + len(case.variants)
            + (case.kept.seen if case.kept else 0)
            + sum(len(d.pixels) for d in drawn),
            nonce=drawn[0].nonce.hex() if drawn else None,
            unsigned=self.bundle.unsigned,
        )

    def _unproved(self, case: Case, reason: Reason) -> str:
        """Which promise could not be given, where there are several."""
        if self.values is None or reason is not Reason.UNCERTIFIED:
            return ""
        return "under masks" if case.proved else f"values within {self.values.told}"

    def _closed(self, frame: Frame, region: Region, reason: Reason, detail: str = "") -> Verdict:
        return Verdict(
            frame.source,
            frame.sequence,
            region,
            reason=reason,
            detail=detail,
            latency_ms=_age_ms(frame),
            unsigned=self.bundle.unsigned,
        )


def _age_ms(frame: Frame) -> float:
    return (time.monotonic() - frame.captured_at) * 1e3
