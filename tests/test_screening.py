from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall import Firewall, Frame
from firewall.bundle import Bundle, DetectorSpec, PatchSpec
from firewall.demo.source import truth
from firewall.detectors import Evidence
from firewall.detectors.draws import DrawSpec
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import EngineError, UsageError
from firewall.frame import Pixels, Region
from firewall.screening import Look, Stages
from firewall.sweep.keyed import copies, made
from firewall.transforms import crops, resize
from firewall.verdict import Reason
from tests.clock import Clock
from tests.fused_bundle import fused_bundle
from tests.jurors import bundle_with


class BrokenEngine:
    """An engine that does what a test tells it."""

    provider = "test"

    def __init__(self, answer: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]) -> None:
        self.classify = answer


def never_sure(bundle: Bundle) -> Bundle:
    """The bundle without early exits: every sign that isn't withheld before is swept."""
    fusion = bundle.manifest.fusion
    assert fusion is not None
    terms = tuple(term.model_copy(update={"release_below": None}) for term in fusion.terms)
    manifest = bundle.manifest.model_copy(update={"fusion": fusion.model_copy(update={"terms": terms})})
    return replace(bundle, manifest=manifest)


def frame(pixels: Pixels) -> Frame:
    return Frame(pixels, "test", 7, time.monotonic())


def test_a_benign_sign_is_released_with_its_label(guard: Firewall, benign_sign: Pixels) -> None:
    """The main job's good end: label, name and a reason, and no scores on the public line."""
    verdict = guard.screen(benign_sign)

    assert verdict.released and verdict.reason is Reason.BENIGN
    assert verdict.label_name == guard.bundle.manifest.classifier.labels[verdict.label or 0]
    assert 1 <= verdict.classified <= 39


def test_noise_is_withheld(guard: Firewall) -> None:
    """An image of nothing is not released as the nearest sign."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)

    assert not guard.screen(noise).released


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 255))
def test_any_size_gives_a_verdict(guard: Firewall, width: int, height: int, grey: int) -> None:
    """From 1x1 up every image is judged, none raises, and a blank one is never released."""
    assert not guard.screen(np.full((height, width, 3), grey, np.uint8)).released


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((9000, 1, 3), np.uint8),
        None,
        "image.png",
    ],
)
def test_pixels_that_can_not_be_judged_are_withheld(guard: Firewall, pixels: Pixels) -> None:
    """Wrong type, shape or size is a verdict with the reason, not an exception and not a release."""
    verdict = guard.screen(pixels)

    assert not verdict.released and verdict.reason is Reason.BAD_IMAGE and verdict.detail


@pytest.mark.parametrize("region", [(-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 49, 48), (40, 40, 9, 9)])
def test_regions_outside_the_frame_are_withheld(
    guard: Firewall, benign_sign: Pixels, region: tuple[int, int, int, int]
) -> None:
    """A region is never clipped silently: what was asked for could not be judged."""
    pixels = np.zeros((48, 48, 3), np.uint8)

    assert guard.screen(pixels, region).reason is Reason.BAD_IMAGE


def test_no_region_means_a_verdict_that_says_so(guard: Firewall) -> None:
    """A frame in which nothing was found is accounted for."""
    (verdict,) = guard.screen_frame(frame(np.zeros((20, 30, 3), np.uint8)), [])

    assert verdict.reason is Reason.NOTHING_FOUND and verdict.region == (0, 0, 30, 20)


def test_late_is_withheld(guard: Firewall, benign_sign: Pixels) -> None:
    """A deadline that has passed withholds what would have been released, and nothing is classified any more."""
    broken = Firewall(guard.bundle, BrokenEngine(fail(EngineError("asked all the same"))))
    (verdict,) = broken.screen_frame(frame(benign_sign), deadline=time.monotonic() - 1)

    assert (verdict.released, verdict.reason, verdict.detail) == (False, Reason.LATE, "")


@pytest.mark.parametrize(("allowed", "reason"), [(0.5, Reason.BENIGN), (0.49, Reason.LATE)])
def test_late_while_screening_is_withheld(
    guard: Firewall, benign_sign: Pixels, clock: Clock, allowed: float, reason: Reason
) -> None:
    """A verdict that was on its way when the deadline passed is withheld too; one that comes just in time is not."""

    def slow(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        clock.sleep(0.25)
        return guard.engine.classify(images)

    firewall = Firewall(never_sure(guard.bundle), BrokenEngine(slow))
    (verdict,) = firewall.screen_frame(Frame(benign_sign, "test", 7, clock.now), deadline=clock.now + allowed)

    assert verdict.reason is reason and verdict.latency_ms == 500


def fail(error: BaseException) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    def answer(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EngineError("the device is gone"), Reason.ENGINE_ERROR),
        (MemoryError(), Reason.UNKNOWN),
        (ZeroDivisionError(), Reason.UNKNOWN),
        (RuntimeError("CUDA error 700"), Reason.UNKNOWN),
    ],
)
def test_a_failing_engine_withholds(guard: Firewall, benign_sign: Pixels, error: Exception, reason: Reason) -> None:
    """Whatever the engine throws, the answer is a withheld verdict with a reason."""
    verdict = Firewall(guard.bundle, BrokenEngine(fail(error))).screen(benign_sign)

    assert not verdict.released and verdict.reason is reason


def test_a_detector_that_gives_nan_withholds(guard: Firewall, benign_sign: Pixels) -> None:
    """A score that is not a number can't be compared: the image is withheld."""
    broken = Firewall(guard.bundle, guard.engine)
    broken.detectors[0].score = lambda evidence: float("nan")  # type: ignore[method-assign]

    verdict = broken.screen(benign_sign)

    assert not verdict.released and verdict.reason is Reason.DETECTOR_ERROR


def test_an_early_verdict_is_the_full_verdict(guard: Firewall, demo_frames: list[Pixels]) -> None:
    """Asking every detector, or stopping once one has settled it, never changes the decision, its reason or its label:
    for signs, attacked signs and what is no sign. Some of each are released and withheld on the way."""
    full, decided = Firewall(guard.bundle, guard.engine, exhaustive=True), set()
    for sequence in range(0, len(demo_frames), 5):
        for region in (truth(sequence).box, (0, 0, 64, 64)):
            brief, all_asked = (each.screen(demo_frames[sequence], region) for each in (guard, full))
            assert (brief.decision, brief.reason, brief.label) == (
                all_asked.decision,
                all_asked.reason,
                all_asked.label,
            )
            assert brief.scores.items() <= all_asked.scores.items() and brief.suspicion == all_asked.suspicion
            decided.add(brief.decision)
    assert decided == {"release", "withhold"}


def test_the_same_pixels_give_the_same_verdict(guard: Firewall, benign_sign: Pixels) -> None:
    """Bit for bit the same scores, also with more threads."""
    first = Firewall(guard.bundle, guard.engine, exhaustive=True).screen(benign_sign)
    second = Firewall.load(fused_bundle(), threads=2, exhaustive=True).screen(benign_sign)

    assert first.scores == second.scores


def scored(guard: Firewall, scores: dict[str, float], **options: Any) -> tuple[Firewall, list[str]]:
    """The default bundle with detectors that give these scores, and the list of those that were asked."""
    made, asked = Firewall(options.pop("bundle", guard.bundle), guard.engine, **options), list[str]()

    def answer(name: str) -> Callable[[object], float]:
        def score(evidence: object) -> float:
            asked.append(name)
            return scores[name]

        return score

    for detector in made.detectors:
        detector.score = answer(detector.name)  # type: ignore[method-assign]
    return made, asked


def thresholds_alone(bundle: Bundle) -> Bundle:
    """The bundle without its fusion: each detector's own threshold counts."""
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"fusion": None, "correction": None}))


def test_a_verdict_says_all_that_was_found(guard: Firewall, two_signs: Pixels) -> None:
    """Where it comes from, what was asked and what it came to; released with number and name, withheld with neither."""
    taken = Frame(two_signs, "camera 7", 41, time.monotonic() - 2.0)
    (verdict,) = guard.screen_frame(taken, [LEFT])
    labels = guard.bundle.manifest.classifier.labels
    own = int(guard.engine.classify(resize(two_signs[:, :64], 48, 48)[None]).argmax())

    assert (verdict.source, verdict.sequence, verdict.region) == ("camera 7", 41, LEFT)
    assert verdict.released and (verdict.label, verdict.label_name) == (own, labels[own]) and verdict.detail == ""
    assert verdict.suspected_label == own and verdict.corrected_label is None and verdict.unsigned
    assert 2000 <= verdict.latency_ms < 60_000
    assert guard.fusion is not None and verdict.evidence == guard.fusion.shares(verdict.scores)
    assert verdict.suspicion == guard.policy.excess(verdict.scores) <= 0

    high, _ = scored(guard, dict.fromkeys(guard.fusion.order, 1e3), bundle=replace(guard.bundle, standing="unsigned"))
    (withheld,) = high.screen_frame(taken, [LEFT])
    assert (withheld.released, withheld.label, withheld.label_name) == (False, None, None)
    assert withheld.reason is Reason.SUSPICIOUS and withheld.suspected_label == own and withheld.unsigned
    assert withheld.suspicion == high.policy.excess(withheld.scores) > 0 and withheld.classified == 1


def test_a_verdict_without_a_look_says_why(guard: Firewall) -> None:
    """No pixels, nothing found, a region that isn't there: source, number, age and whether the bundle is vouched for
    stand there all the same."""
    unsigned = Firewall(replace(guard.bundle, standing="unsigned"), guard.engine)
    wide = np.zeros((20, 30, 3), np.uint8)
    for pixels, regions, region, reason, detail in (
        (None, None, (0, 0, 0, 0), Reason.BAD_IMAGE, "pixels"),
        (wide, [], (0, 0, 30, 20), Reason.NOTHING_FOUND, ""),
        (wide, [(1, 2, 3, 40)], (1, 2, 3, 40), Reason.BAD_IMAGE, "region (1, 2, 3, 40) does not lie within the 30x20"),
    ):
        taken = Frame(pixels, "camera 7", 41, time.monotonic() - 2.0)  # type: ignore[arg-type]
        (verdict,) = unsigned.screen_frame(taken, regions)
        assert (verdict.source, verdict.sequence, verdict.region, verdict.reason) == ("camera 7", 41, region, reason)
        assert detail in verdict.detail and bool(verdict.detail) == bool(detail)
        assert 2000 <= verdict.latency_ms < 60_000 and verdict.unsigned and verdict.classified == 0


@pytest.mark.parametrize(
    ("region", "inside"),
    [
        ((0, 0, 30, 20), True),
        ((29, 19, 1, 1), True),
        ((0, 0, 31, 20), False),
        ((0, 0, 30, 21), False),
        ((30, 0, 1, 1), False),
        ((0, 20, 1, 1), False),
        ((-1, 0, 5, 5), False),
        ((0, -1, 5, 5), False),
        ((3, 3, 0, 5), False),
        ((3, 3, 5, 0), False),
        ((3, 3, 1, 1), True),
    ],
)
def test_a_region_lies_within_the_frame_to_its_last_pixel(
    guard: Firewall, region: tuple[int, int, int, int], inside: bool
) -> None:
    """Width counts along x, height along y."""
    (verdict,) = guard.screen_frame(frame(np.zeros((20, 30, 3), np.uint8)), [region])
    assert (verdict.reason is not Reason.BAD_IMAGE) == inside


def test_a_failure_is_told_to_the_operator(guard: Firewall, benign_sign: Pixels) -> None:
    """An engine's own words; of what nobody foresaw the kind, and nothing of what it holds."""
    for error, detail in (
        (EngineError("the device is gone"), "the device is gone"),
        (ZeroDivisionError("secret"), "ZeroDivisionError while screening"),
    ):
        assert Firewall(guard.bundle, BrokenEngine(fail(error))).screen(benign_sign).detail == detail


def test_a_failure_in_one_sweep_is_that_regions_alone(guard: Firewall, two_signs: Pixels) -> None:
    """The second sign's copies can't be classified: the first is released."""
    calls = 0

    def second_fails(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        nonlocal calls
        calls += len(images) > 2
        if calls == 2:
            raise EngineError("out of memory")
        return guard.engine.classify(images)

    first, second = Firewall(never_sure(guard.bundle), BrokenEngine(second_fails)).screen_frame(
        frame(two_signs), [LEFT, RIGHT]
    )
    assert first.released and (second.reason, second.detail) == (Reason.ENGINE_ERROR, "out of memory")


@pytest.mark.parametrize("more", [-1, 1])
@pytest.mark.parametrize("copies", [False, True], ids=["originals", "copies"])
def test_an_engine_that_answers_for_another_number_of_images_releases_nothing(
    guard: Firewall, two_signs: Pixels, copies: bool, more: int
) -> None:
    """A row too few or too many: nobody knows which image a row is of, so no label of the frame goes out. No
    detector is asked about such originals."""

    def miscounted(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        logits = guard.engine.classify(images)
        if (len(images) > 2) != copies:
            return logits
        return logits[:-1] if more < 0 else np.concatenate([logits, logits[-1:]])

    stages = Stages()
    verdicts = Firewall(never_sure(guard.bundle), BrokenEngine(miscounted)).screen_frame(
        frame(two_signs), [LEFT, RIGHT], stages=stages
    )

    assert ("detect" in stages) == copies
    assert [(verdict.released, verdict.reason) for verdict in verdicts] == [(False, Reason.UNKNOWN)] * 2


def test_thresholds_alone_are_asked_cheapest_first(guard: Firewall, benign_sign: Pixels) -> None:
    """Without a fusion what needs only the original comes first, and one score above its threshold ends it, before any
    copy is classified; a score on its threshold passes."""
    plain = thresholds_alone(guard.bundle)
    limits = {spec.name: spec.threshold for spec in plain.manifest.detectors}
    firewall, asked = scored(guard, limits, bundle=plain)
    needs = [len(detector.operations) for detector in firewall.detectors]
    assert needs == sorted(needs) and needs[0] == 0 < needs[-1]

    verdict = firewall.screen(benign_sign)
    assert verdict.released and verdict.suspicion == 0.0 and verdict.scores == limits and verdict.evidence == {}
    assert asked == [detector.name for detector in firewall.detectors] and verdict.classified == 1 + needs[-1]

    first = firewall.detectors[0].name
    firewall, asked = scored(guard, {**limits, first: limits[first] + 0.5}, bundle=plain)
    verdict = firewall.screen(benign_sign)
    assert verdict.reason is Reason.SUSPICIOUS and verdict.suspicion == pytest.approx(0.5)
    assert asked == [first] and verdict.classified == 1


def test_who_sees_all_scores_pays_for_them_and_gets_the_same_verdict(guard: Firewall, benign_sign: Pixels) -> None:
    """With `exhaustive` a withheld image's other detectors are asked too; the verdict rests on what settled it."""
    plain = thresholds_alone(guard.bundle)
    scores = {spec.name: spec.threshold - 1 for spec in plain.manifest.detectors}
    first = scored(guard, scores, bundle=plain)[0].detectors[0].name
    last = scored(guard, scores, bundle=plain)[0].detectors[-1].name
    scores |= {first: scores[first] + 1.5, last: scores[last] + 9}
    brief, asked = scored(guard, scores, bundle=plain)
    full, all_asked = scored(guard, scores, bundle=plain, exhaustive=True)

    one, other = brief.screen(benign_sign), full.screen(benign_sign)

    assert asked == [first] and len(all_asked) == len(scores)
    assert one.suspicion == other.suspicion == pytest.approx(0.5)
    assert one.scores == {first: scores[first]} and other.scores == scores


def test_a_correction_of_copies_that_are_there_costs_nothing(guard: Firewall, benign_sign: Pixels) -> None:
    """Its operations have been swept for the detectors: they are not classified again, and the vote is over them."""
    sweeping = next(spec for spec in guard.bundle.manifest.detectors if "operations" in spec.parameters)
    operations = list(sweeping.parameters["operations"])
    correction = {"operations": operations[:3], "weights": [1.0, 0.5, 0.25]}
    bundle = replace(
        guard.bundle, manifest=guard.bundle.manifest.model_copy(update={"correction": correction, "fusion": None})
    )
    scores = {spec.name: spec.threshold + 1 for spec in bundle.manifest.detectors}
    firewall, _ = scored(guard, scores, bundle=bundle, exhaustive=True)

    verdict = firewall.screen(benign_sign)

    assert verdict.classified == 1 + len(operations) and not verdict.released
    assert verdict.corrected_label == verdict.suspected_label


def test_a_contradiction_is_not_corrected_away(guard: Firewall, two_signs: Pixels) -> None:
    """With all detectors asked of it, what contradicts itself stays withheld as that, with the suspicion unknown until
    then; and the operator gets a corrected label."""

    def swayed(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        logits = guard.engine.classify(images)
        if len(images) == 2:
            logits[1] = np.roll(logits[1], 1)
        return logits

    firewall = Firewall(guard.bundle, BrokenEngine(swayed), exhaustive=True)
    first, second = firewall.screen_frame(frame(two_signs), [LEFT, (2, 2, 60, 60)])

    assert first.reason is second.reason is Reason.CONTRADICTORY and first.suspicion is None
    assert set(first.scores) == {detector.name for detector in firewall.detectors}
    assert first.corrected_label == first.suspected_label != second.suspected_label


def test_nothing_is_asked_once_it_is_too_late(guard: Firewall, benign_sign: Pixels, clock: Clock) -> None:
    """A deadline that passes while the sign is classified ends it there: no detector, no masks, no correction."""
    under_masks = 0

    def slow(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        nonlocal under_masks
        under_masks += len(images) == 36
        clock.sleep(0.3)
        return guard.engine.classify(images)

    bundle = replace(guard.bundle, manifest=guard.bundle.manifest.model_copy(update={"masked_classifier": None}))
    assert guard.fusion is not None
    low = dict.fromkeys(guard.fusion.order, -1e3)
    for wait, expected in ((0.2, 0), (600.0, 1)):
        firewall, asked = scored(guard, low, bundle=bundle, exhaustive=True, patches=PatchSpec(area=0.02))
        firewall.engine = firewall.under_masks = BrokenEngine(slow)
        (verdict,) = firewall.screen_frame(Frame(benign_sign, "test", 7, clock.now), deadline=clock.now + wait)
        assert bool(asked) == bool(under_masks) == bool(expected)
        if not expected:
            assert verdict.reason is Reason.LATE and verdict.classified == 1 and verdict.corrected_label is None


@pytest.mark.parametrize(("allowed", "masked"), [(0.9, 0), (1.9, 36), (600.0, 36 + 630)])
def test_masks_are_asked_while_there_is_time(
    guard: Firewall, benign_sign: Pixels, clock: Clock, allowed: float, masked: int
) -> None:
    """A detector takes a second, and so does each batch of masked images: what would have gone out is late, and nothing
    more is classified for it. The masks have a stage of their own."""
    assert guard.fusion is not None
    demand = PatchSpec(area=0.02, rounds=2)
    firewall, _ = scored(guard, dict.fromkeys(guard.fusion.order, -1e3), patches=demand)
    logits = guard.engine.classify(resize(benign_sign, 48, 48)[None])

    def kept(images: Pixels) -> npt.NDArray[np.float32]:
        clock.sleep(1.0)
        return np.repeat(logits, len(images), axis=0)

    def slow(evidence: object) -> float:
        clock.sleep(1.0)
        return -1e3

    firewall.under_masks = BrokenEngine(kept)
    firewall.detectors[1].score = slow  # type: ignore[method-assign] # after which the others need not be asked
    stages = Stages()
    (verdict,) = firewall.screen_frame(
        Frame(benign_sign, "test", 7, clock.now), deadline=clock.now + allowed, stages=stages
    )

    assert verdict.classified == 1 + masked and ("masks" in stages) == (masked > 0)
    assert verdict.reason is (Reason.BENIGN if allowed == 600 else Reason.LATE)


def test_who_was_asked_under_masks_had_the_frames_first_turn(guard: Firewall, two_signs: Pixels) -> None:
    """That takes as long as a sweep: where sweeps are slow, none is begun for the next sign."""
    fusion = guard.bundle.manifest.fusion
    assert fusion is not None
    first = fusion.terms[0].model_copy(update={"centre": 0.0, "unit": 1.0, "weight": 1.0, "release_below": 0.25})
    terms = (first, *(term.model_copy(update={"release_below": None}) for term in fusion.terms[1:]))
    manifest = guard.bundle.manifest.model_copy(
        update={"fusion": fusion.model_copy(update={"terms": terms, "threshold": 1e3})}
    )
    scores = dict.fromkeys((term.detector for term in terms), 0.0)
    firewall, _ = scored(guard, scores, bundle=replace(guard.bundle, manifest=manifest), patches=PatchSpec(area=0.02))
    firewall._sweep_cost = 1e6
    turns = iter([0.0, 0.5])  # sure of the first sign at once, and not of the second
    firewall.detectors[0].score = lambda evidence: next(turns)  # type: ignore[method-assign]
    sure, open_ = firewall.screen_frame(frame(two_signs), [LEFT, RIGHT], deadline=time.monotonic() + 600)

    assert sure.classified > 1 and (open_.reason, open_.classified) == (Reason.LATE, 1)


def test_detectors_see_the_regions_own_pixels(guard: Firewall, two_signs: Pixels) -> None:
    """As they came, beside what was resized for the classifier."""
    firewall, seen = Firewall(guard.bundle, guard.engine), list[Evidence]()

    def look(evidence: Evidence) -> float:
        seen.append(evidence)
        return 1e3

    firewall.detectors[0].score = look  # type: ignore[method-assign]
    firewall.screen_frame(frame(two_signs), [(64, 0, 50, 60)])
    own = two_signs[:60, 64:114]
    assert np.array_equal(seen[0].crop, own)  # type: ignore[arg-type]
    assert np.array_equal(seen[0].image, resize(np.ascontiguousarray(own), 48, 48))


def test_one_hiccup_does_not_count_for_ever(guard: Firewall, benign_sign: Pixels, clock: Clock) -> None:
    """What a sweep is expected to cost falls with every quicker one after a slow one."""
    hiccup = True

    def uneven(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        nonlocal hiccup
        if len(images) > 2 and hiccup:
            hiccup = False
            clock.sleep(2.0)
        return guard.engine.classify(images)

    firewall = Firewall(never_sure(guard.bundle), BrokenEngine(uneven))
    firewall.screen(benign_sign)
    first = firewall._sweep_cost
    for _ in range(5):
        firewall.screen(benign_sign)
    assert first == 2.0 and firewall._sweep_cost == pytest.approx(0.9**5 * first)


def test_the_first_sweep_of_a_frame_is_always_tried(guard: Firewall, two_signs: Pixels) -> None:
    """Also where sweeps have been slow so far, and where a region before it was settled without one."""
    firewall = Firewall(never_sure(guard.bundle), guard.engine)
    firewall._sweep_cost = 1e6
    regions = [(0, 0, 128, 200), LEFT, RIGHT]  # the first lies not within the frame
    verdicts = firewall.screen_frame(frame(two_signs), regions, deadline=time.monotonic() + 600)
    assert [verdict.reason for verdict in verdicts] == [Reason.BAD_IMAGE, Reason.BENIGN, Reason.LATE]

    settled = Firewall(never_sure(guard.bundle), guard.engine)
    settled._sweep_cost = 1e6
    noisy = two_signs.copy()
    noisy[:, :64] = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    noise, sign = settled.screen_frame(frame(noisy), [LEFT, RIGHT], deadline=time.monotonic() + 600)
    assert noise.reason is Reason.SUSPICIOUS and noise.classified == 1, "settled by the original alone"
    assert sign.released
    careful = Firewall(settled.bundle, guard.engine, patches=PatchSpec(area=0.02))
    careful._sweep_cost = 1e6
    _, sign = careful.screen_frame(frame(noisy), [LEFT, RIGHT], deadline=time.monotonic() + 600)
    assert sign.reason is not Reason.LATE, "neither was the noise asked under masks"
    three = frame(np.concatenate([two_signs[:, 64:], noisy], axis=1))
    verdicts = settled.screen_frame(three, [LEFT, RIGHT, (128, 0, 64, 64)], deadline=time.monotonic() + 600)
    assert [verdict.reason for verdict in verdicts] == [Reason.BENIGN, Reason.SUSPICIOUS, Reason.LATE], (
        "one is the first"
    )


def test_times_add_up_also_where_something_fails(clock: Clock) -> None:
    """Of a stage that is entered twice, and of one that raises."""
    stages = Stages()
    for _ in range(2):
        with stages.timed("sweep"):
            clock.sleep(0.25)

    def fail_late() -> None:
        with stages.timed("detect"):
            clock.sleep(3)
            raise KeyError

    with pytest.raises(KeyError):
        fail_late()
    assert stages == {"sweep": 0.5, "detect": 3}


def test_an_image_that_no_camera_sent_says_so(guard: Firewall, benign_sign: Pixels) -> None:
    """The verdict of an array: its source and number, and an age that begins with the call."""
    started = time.monotonic()
    verdict = guard.screen(benign_sign)

    assert (verdict.source, verdict.sequence) == ("array", 0)
    assert 0 <= verdict.latency_ms <= 1e3 * (time.monotonic() - started)


def test_stages_are_timed(guard: Firewall, benign_sign: Pixels) -> None:
    """Each stage's seconds are told, and together they are no more than the whole."""
    stages, sweeping = Stages(), Firewall(never_sure(guard.bundle), guard.engine)
    started = time.perf_counter()
    sweeping.screen_frame(frame(benign_sign), stages=stages)

    assert set(stages) == {"resize", "classify", "sweep", "detect", "policy"}
    assert sum(stages.values()) <= time.perf_counter() - started
    nothing = Stages()
    sweeping.screen_frame(frame(benign_sign), [(0, 0, 9000, 1)], stages=nothing)
    assert set(nothing) == {"policy"}, "no region lies within the frame"


@pytest.fixture
def two_signs(demo_frames: list[Pixels]) -> Pixels:
    """Two different signs of the demo side by side, each 64 x 64 with some ground around it."""
    crops = []
    for sequence in (8, 38):
        fact = truth(sequence)
        x, y, width, height = fact.box
        margin = width // 8
        crops.append(
            resize(demo_frames[sequence][y - margin : y + height + margin, x - margin : x + width + margin], 64, 64)
        )
    return np.ascontiguousarray(np.concatenate(crops, axis=1))


LEFT, RIGHT = (0, 0, 64, 64), (64, 0, 64, 64)


def test_regions_of_one_place_that_name_different_things_are_withheld(guard: Firewall, two_signs: Pixels) -> None:
    """A box that reads another label from the same place takes a released label back; a box elsewhere doesn't."""

    def swayed(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        logits = guard.engine.classify(images)
        if len(images) == 3:  # the originals of all regions: the second box sees something else, and is sure of it
            logits[1] = np.roll(logits[1], 1)
        return logits

    alone = guard.screen_frame(frame(two_signs), [LEFT, RIGHT])
    doubted = Firewall(guard.bundle, BrokenEngine(swayed)).screen_frame(frame(two_signs), [LEFT, (2, 2, 60, 60), RIGHT])

    assert [verdict.released for verdict in alone] == [True, True] and alone[0].label != alone[1].label
    assert [verdict.released for verdict in doubted] == [False, False, True]
    assert doubted[0].reason is Reason.CONTRADICTORY and doubted[0].label is None and doubted[0].classified == 1


@pytest.mark.parametrize(("allowed", "swept"), [(0.99, 1), (1.0, 2)])
def test_a_sweep_that_would_end_too_late_is_not_begun(
    guard: Firewall, two_signs: Pixels, clock: Clock, allowed: float, swept: int
) -> None:
    """With time for one sign of two, the first is released in time and the second withheld as late, unswept. With time
    for both, both are released."""

    def slow(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        clock.sleep(0.5 if len(images) > 2 else 0)
        return guard.engine.classify(images)

    steady = Firewall(never_sure(guard.bundle), BrokenEngine(slow))
    steady.screen_frame(Frame(two_signs, "test", 7, clock.now), [LEFT])  # from which it knows what a sweep costs
    first, second = steady.screen_frame(
        Frame(two_signs, "test", 8, clock.now), [LEFT, RIGHT], deadline=clock.now + allowed
    )

    assert first.released and first.latency_ms == second.latency_ms == 500 * swept
    if swept == 1:
        assert second.reason is Reason.LATE and second.classified == 1
    else:
        assert second.released


def test_labels_are_withheld_if_the_last_region_took_too_long(guard: Firewall, two_signs: Pixels, clock: Clock) -> None:
    """Labels of a frame go out together: what was benign in time but would leave late is withheld."""
    sweeps = 0

    def slower(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        nonlocal sweeps
        if len(images) > 2:
            sweeps += 1
            clock.sleep(1.0 if sweeps == 2 else 0)
        return guard.engine.classify(images)

    verdicts = Firewall(never_sure(guard.bundle), BrokenEngine(slower)).screen_frame(
        Frame(two_signs, "test", 7, clock.now), [LEFT, RIGHT], deadline=clock.now + 0.8
    )

    assert sweeps == 2 and [verdict.reason for verdict in verdicts] == [Reason.LATE, Reason.LATE]
    assert [verdict.latency_ms for verdict in verdicts] == [1000, 1000]


def test_one_bad_region_does_not_cost_the_others(guard: Firewall, two_signs: Pixels) -> None:
    """Verdicts keep the order of the regions; only the one outside the frame is a bad image."""
    verdicts = guard.screen_frame(frame(two_signs), [LEFT, (100, 0, 64, 64), RIGHT])

    assert [verdict.region for verdict in verdicts] == [LEFT, (100, 0, 64, 64), RIGHT]
    assert [verdict.reason for verdict in verdicts] == [Reason.BENIGN, Reason.BAD_IMAGE, Reason.BENIGN]


KEY = b"0123456789abcdef"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Firewall:
    """The default classifier, `contrast` and a keyed sweep of three copies, drawn by a key; see tests/sweep."""
    detectors = [
        DetectorSpec(name="keyed", parameters={"draw": {"copies": 3}}, threshold=1e3),
        DetectorSpec(name="contrast", threshold=99.0),
    ]
    bundle = bundle_with(tmp_path_factory.mktemp("keyed") / "b", detectors, {})
    return Firewall(bundle, OnnxRuntimeEngine(bundle, threads=1), threads=1, sweep_key=KEY)


def test_a_keyed_sweep_counts_its_copies_and_tells_the_operator_its_nonce(
    keyed: Firewall, guard: Firewall, benign_sign: Pixels
) -> None:
    """On the operator's line alone, and from it and the key the copies can be made again; a bundle without such a sweep
    has none and draws no key."""
    classified: list[Pixels] = []

    def seen(images: Pixels) -> npt.NDArray[np.float32]:
        classified.append(images.copy())
        return keyed.engine.classify(images)

    watched = Firewall(keyed.bundle, BrokenEngine(seen), sweep_key=KEY)
    verdict = watched.screen(benign_sign)
    assert verdict.released and verdict.classified == 1 + 3
    (image,), swept = classified
    draw = DrawSpec(copies=3)
    assert np.array_equal(swept, made(image, copies(KEY, bytes.fromhex(verdict.nonce or ""), draw)))
    assert len(bytes.fromhex(str(verdict.line(operator=True)["nonce"]))) == 16 and "nonce" not in verdict.line()
    other = guard.screen(benign_sign)
    assert guard.keyed is None and other.nonce is None and "nonce" not in other.line(operator=True)


def test_a_keyed_sweep_stands_beside_one_that_everybody_knows(
    guard: Firewall, tmp_path: Path, benign_sign: Pixels
) -> None:
    """Each detector gets its own copies: those that are drawn, and those of the operations that it names."""
    known = next(spec for spec in guard.bundle.manifest.detectors if "operations" in spec.parameters)
    drawn = DetectorSpec(name="keyed", parameters={"draw": {"copies": 3}}, threshold=1e3)
    bundle = bundle_with(tmp_path / "b", [drawn, known.model_copy(update={"threshold": 1e3})], {})
    verdict = Firewall(bundle, guard.engine, sweep_key=KEY).screen(benign_sign)

    assert verdict.released and set(verdict.scores) == {"keyed", known.name}
    assert verdict.classified == 1 + 3 + len(known.parameters["operations"])


def test_a_keyed_sweep_counts_for_the_deadline(
    keyed: Firewall, benign_sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two regions is not swept where the last sweep took longer than there is time; it is late."""
    wide = np.concatenate([benign_sign, benign_sign[:, ::-1]], axis=1)
    height, width = benign_sign.shape[:2]
    regions = [(0, 0, width, height), (width, 0, width, height)]
    asked: list[int] = []
    sweep = keyed.keyed
    assert sweep is not None

    class Slow:
        own_key = True

        def of(self, image: Pixels, draw: DrawSpec, timed: object) -> object:
            asked.append(len(image))
            return sweep.of(image, draw, lambda _: nullcontext())

    monkeypatch.setattr(keyed, "keyed", Slow())
    monkeypatch.setattr(keyed, "_sweep_cost", 1e6)
    found = keyed.screen_frame(Frame(wide, "test", 0, time.monotonic()), regions, deadline=time.monotonic() + 3600)
    assert len(asked) == 1 and found[0].scores and not found[1].released and found[1].reason is Reason.LATE
    past = keyed.screen_frame(Frame(wide, "test", 1, time.monotonic()), regions, deadline=time.monotonic() - 1)
    assert {verdict.reason for verdict in past} == {Reason.LATE} and len(asked) == 1


def test_a_key_that_is_too_short_is_refused(keyed: Firewall) -> None:
    """Before any copy is drawn by it; without a key one is drawn for this run."""
    with pytest.raises(UsageError, match="16"):
        Firewall(keyed.bundle, keyed.engine, sweep_key=b"short")
    drawn = Firewall(keyed.bundle, keyed.engine).keyed
    assert drawn is not None and not drawn.own_key


def test_several_frames_share_one_classification_and_nothing_else(
    guard: Firewall, benign_sign: Pixels, two_signs: Pixels, clock: Clock
) -> None:
    """Frames of several cameras: the classifier is asked once for all their regions; each gets the verdicts that it
    would get alone, with its own deadline, in the order given, and the first is handed out before the next one is asked
    about. Regions at one place of two frames don't contradict each other. Each has waited for the whole batch."""
    batches: list[int] = []

    def counting(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        batches.append(len(images))
        clock.sleep(0.5)
        return guard.engine.classify(images)

    together = Firewall(guard.bundle, BrokenEngine(counting), threads=1)
    scores = [detector.score for detector in together.detectors]
    asked: list[int] = []
    for detector, score in zip(together.detectors, scores, strict=True):

        def noted(evidence: Evidence, score: Callable[[Evidence], float] = score) -> float:
            asked.append(len(evidence.logits))
            return score(evidence)

        detector.score = noted  # type: ignore[method-assign]
    noise = np.random.default_rng(0).integers(0, 256, benign_sign.shape, np.uint8)
    now = clock.monotonic()
    frames = [Frame(pixels, "test", n, now) for n, pixels in enumerate([benign_sign, two_signs, noise, benign_sign])]
    looks = [
        Look(frames[0], deadline=now + 600),
        Look(frames[1], [LEFT, RIGHT]),
        Look(frames[2]),
        Look(frames[3], deadline=now - 1),
    ]
    handed = together.screen_frames(looks)
    first = next(handed)
    assert batches[0] == 4 and first[0].released
    so_far = len(asked)
    rest = list(handed)
    assert 0 < so_far < len(asked), "the others are looked at when their turn comes"
    alone = [guard.screen_frame(frames[0]), guard.screen_frame(frames[1], [LEFT, RIGHT]), guard.screen_frame(frames[2])]
    for together_, by_itself in zip([first, *rest[:2]], alone, strict=True):
        told = [(each.sequence, each.region, each.released, each.label, each.reason) for each in together_]
        assert told == [(each.sequence, each.region, each.released, each.label, each.reason) for each in by_itself]
    assert [each.reason for each in rest[2]] == [Reason.LATE]
    assert [look.stages.get("classify") for look in looks] == [0.5, 0.5, pytest.approx(0.5), None]
    assert list(together.screen_frames([])) == []


def test_what_goes_wrong_with_one_frame_withholds_it_alone(
    guard: Firewall, benign_sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of frames that are judged together one can't be resized, one spoils the batch, one has grey pixels and one has
    nothing to look at: the good one's label goes out, and a batch of nothing but bad frames releases nothing."""
    poison = np.full((48, 48, 3), 251, np.uint8)

    def delicate(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if (images == 251).all(axis=(1, 2, 3)).any():
            raise EngineError("that picture again")
        return guard.engine.classify(images)

    def fragile(pixels: Pixels, regions: Sequence[Region], width: int, height: int) -> Pixels:
        if pixels.shape[0] == 31:
            raise ValueError("can't be resized")
        return crops(pixels, regions, width, height)

    monkeypatch.setattr("firewall.screening.crops", fragile)
    together = Firewall(guard.bundle, BrokenEngine(delicate), threads=1)
    pictures = [poison, benign_sign, np.zeros((31, 31, 3), np.uint8), benign_sign[..., 0], benign_sign]
    looks = [Look(frame(pixels), [] if place == 4 else None) for place, pixels in enumerate(pictures)]
    verdicts = [each for (each,) in together.screen_frames(looks)]
    assert [(each.reason, each.detail) for each in verdicts[:3]] == [
        (Reason.ENGINE_ERROR, "that picture again"),
        (Reason.BENIGN, ""),
        (Reason.UNKNOWN, "ValueError while screening"),
    ]
    assert [each.reason for each in verdicts[3:]] == [Reason.BAD_IMAGE, Reason.NOTHING_FOUND]
    bad = [each for (each,) in together.screen_frames([looks[0], looks[2], Look(frame(poison))])]
    assert not any(each.released for each in bad)
