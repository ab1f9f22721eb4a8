from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall import Firewall, Frame
from firewall.bundle import Bundle
from firewall.demo.source import truth
from firewall.errors import EngineError
from firewall.frame import Pixels
from firewall.screening import Stages
from firewall.transforms import resize
from firewall.verdict import Reason


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
    """A deadline that has passed withholds what would have been released."""
    (verdict,) = guard.screen_frame(frame(benign_sign), deadline=time.monotonic() - 1)

    assert not verdict.released and verdict.reason is Reason.LATE


def test_late_while_screening_is_withheld(guard: Firewall, benign_sign: Pixels) -> None:
    """A verdict that was on its way when the deadline passed is withheld too."""

    def slow(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        time.sleep(0.05)
        return guard.engine.classify(images)

    late = Firewall(never_sure(guard.bundle), BrokenEngine(slow))
    (verdict,) = late.screen_frame(frame(benign_sign), deadline=time.monotonic() + 0.06)

    assert not verdict.released and verdict.reason is Reason.LATE


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
    """Asking every detector, or stopping once one has settled it, never changes the decision."""
    full = Firewall(guard.bundle, guard.engine, exhaustive=True)
    for pixels in demo_frames[::5]:
        for region in [(0, 0, 64, 64), (200, 100, 80, 80)]:
            assert full.screen(pixels, region).released == guard.screen(pixels, region).released


def test_the_same_pixels_give_the_same_verdict(guard: Firewall, benign_sign: Pixels) -> None:
    """Bit for bit the same scores, also with more threads."""
    first = Firewall(guard.bundle, guard.engine, exhaustive=True).screen(benign_sign)
    second = Firewall.load("default", threads=2, exhaustive=True).screen(benign_sign)

    assert first.scores == second.scores


def test_stages_are_timed(guard: Firewall, benign_sign: Pixels) -> None:
    """Each stage's seconds are told, and together they are no more than the whole."""
    stages, sweeping = Stages(), Firewall(never_sure(guard.bundle), guard.engine)
    started = time.perf_counter()
    sweeping.screen_frame(frame(benign_sign), stages=stages)

    assert set(stages) == {"resize", "classify", "sweep", "detect", "policy"}
    assert sum(stages.values()) <= time.perf_counter() - started


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


def test_a_sweep_that_would_end_too_late_is_not_begun(guard: Firewall, two_signs: Pixels) -> None:
    """With time for one sign of two, the first is released in time and the second withheld as late, unswept."""

    def slow(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        time.sleep(0.5 if len(images) > 2 else 0)
        return guard.engine.classify(images)

    steady = Firewall(never_sure(guard.bundle), BrokenEngine(slow))
    steady.screen_frame(frame(two_signs), [LEFT])  # from which it knows what a sweep costs
    first, second = steady.screen_frame(frame(two_signs), [LEFT, RIGHT], deadline=time.monotonic() + 0.95)

    assert first.released and second.reason is Reason.LATE and second.classified == 1
    assert first.latency_ms == second.latency_ms < 950


def test_labels_are_withheld_if_the_last_region_took_too_long(guard: Firewall, two_signs: Pixels) -> None:
    """Labels of a frame go out together: what was benign in time but would leave late is withheld."""
    sweeps = 0

    def slower(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        nonlocal sweeps
        if len(images) > 2:
            sweeps += 1
            time.sleep(1.0 if sweeps == 2 else 0)
        return guard.engine.classify(images)

    verdicts = Firewall(never_sure(guard.bundle), BrokenEngine(slower)).screen_frame(
        frame(two_signs), [LEFT, RIGHT], deadline=time.monotonic() + 0.8
    )

    assert sweeps == 2 and [verdict.reason for verdict in verdicts] == [Reason.LATE, Reason.LATE]
    assert all(verdict.latency_ms > 800 for verdict in verdicts)


def test_one_bad_region_does_not_cost_the_others(guard: Firewall, two_signs: Pixels) -> None:
    """Verdicts keep the order of the regions; only the one outside the frame is a bad image."""
    verdicts = guard.screen_frame(frame(two_signs), [LEFT, (100, 0, 64, 64), RIGHT])

    assert [verdict.region for verdict in verdicts] == [LEFT, (100, 0, 64, 64), RIGHT]
    assert [verdict.reason for verdict in verdicts] == [Reason.BENIGN, Reason.BAD_IMAGE, Reason.BENIGN]
