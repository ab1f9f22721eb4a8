from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall.bundle import DetectorSpec
from firewall.detectors import Evidence, build
from firewall.detectors.stability import StabilityScale, hellinger, instability
from firewall.errors import BundleError

IMAGE = np.zeros((8, 8, 3), np.uint8)
SCALES = [{"temperature": 0.5, "median": 0.1, "above": 0.2}, {"temperature": 3.0, "median": 0.2, "above": 0.1}]


def test_the_distance_of_an_example_by_hand() -> None:
    """Two classes with the odds 1:1 and 9:1: 1 - (sqrt(.5 * .9) + sqrt(.5 * .1)) is the square of the distance."""
    found = hellinger(np.array([0.0, 0.0]), np.array([[np.log(9.0), 0.0], [5.0, 5.0]]), 1.0)

    assert found == pytest.approx([np.sqrt(1 - (np.sqrt(0.45) + np.sqrt(0.05))), 0.0], abs=1e-7)


@given(
    st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4), min_size=2, max_size=5),
    st.floats(-100, 100),
    st.sampled_from([0.25, 1.0, 8.0]),
)
def test_the_distance_is_a_distance(logits: list[list[float]], shift: float, temperature: float) -> None:
    """Within 0..1, 0 from itself, the same either way round, and blind to a constant added to all logits."""
    values = np.array(logits)
    original, variants = values[0], values[1:]
    found = hellinger(original, variants, temperature)

    assert ((found >= 0) & (found <= 1)).all()
    assert hellinger(original, original[None] + shift, temperature) == pytest.approx([0], abs=1e-5)
    back = [hellinger(variant, original[None], temperature)[0] for variant in variants]
    assert found == pytest.approx(back, abs=1e-7)


def test_the_temperatures_see_different_things() -> None:
    """A label that barely changes moves the cold distribution most; unlikely classes that rise move the warm one."""
    original = np.array([4.0, 3.9, 0.0, 0.0])
    barely = np.array([[3.9, 4.0, 0.0, 0.0]])
    rising = np.array([[4.0, 3.9, 2.0, 2.0]])

    assert hellinger(original, barely, 0.05) > 0.5 > hellinger(original, barely, 3.0)
    assert hellinger(original, rising, 3.0) > hellinger(original, rising, 0.05)


def test_the_detector_scores_as_the_lab_does() -> None:
    """One image at a time or many at once: the same score; the operations are asked for in the order of the bundle."""
    generator = np.random.default_rng(0)
    originals, variants = generator.normal(size=(6, 9)), generator.normal(size=(6, 2, 9))
    detector = build(
        DetectorSpec(name="stability", parameters={"operations": ["blur:2", "rotate:5"], "scales": SCALES}, threshold=1)
    )
    scales = [StabilityScale(**scale) for scale in SCALES]

    assert tuple(detector.operations) == ("blur:2", "rotate:5")
    batch = instability(originals, variants, scales)
    for original, copies, score in zip(originals, variants, batch, strict=True):
        named = {"rotate:5": copies[1].astype(np.float32), "blur:2": copies[0].astype(np.float32)}
        assert detector.score(Evidence(IMAGE, original.astype(np.float32), named)) == pytest.approx(score, abs=1e-5)


def test_an_image_that_does_not_move_is_at_the_bottom() -> None:
    """No distance at all: the score is the largest of -median / above."""
    detector = build(
        DetectorSpec(name="stability", parameters={"operations": ["blur:2"], "scales": SCALES}, threshold=0)
    )
    logits = np.array([1, 2, 3], np.float32)

    assert detector.score(Evidence(IMAGE, logits, {"blur:2": logits})) == pytest.approx(-0.5, abs=1e-6)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"operations": [], "scales": SCALES},
        {"operations": ["blur:2"], "scales": []},
        {"operations": ["blur:2"], "scales": [{"temperature": 0, "median": 0, "above": 1}]},
        {"operations": ["blur:2"], "scales": [{"temperature": 1, "median": float("nan"), "above": 1}]},
        {"operations": ["blur:2"], "scales": SCALES, "more": 1},
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters: dict[str, object]) -> None:
    """A bundle with wrong parameters doesn't load, whatever is wrong with them."""
    with pytest.raises(BundleError, match="'stability'"):
        build(DetectorSpec(name="stability", parameters=parameters, threshold=0))
