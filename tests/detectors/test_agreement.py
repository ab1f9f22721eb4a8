from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall.detectors import Evidence
from firewall.detectors.agreement import Agreement, agreement_count, one_sided_score, two_sided_score
from firewall.errors import BundleError

IMAGE = np.zeros((8, 8, 3), np.uint8)


def evidence(label: int, variants: list[int], operations: list[str]) -> Evidence:
    def one_hot(index: int) -> np.ndarray:
        return np.eye(5, dtype=np.float32)[index]

    return Evidence(
        IMAGE, one_hot(label), {name: one_hot(index) for name, index in zip(operations, variants, strict=True)}
    )


def test_the_count_is_the_papers() -> None:
    """It counts the qualities whose top-1 label equals the uncompressed image's, nothing else."""
    assert agreement_count(2, np.array([2, 2, 1, 0, 2])) == 3


@given(st.integers(0, 76), st.integers(0, 76))
def test_count_below_t_is_score_above_the_matching_threshold(count: int, t: int) -> None:
    """`count < T` of the paper and `score > (76 - T) / 76` of ours are the same decision, for every T and count."""
    assert (count < t) == (one_sided_score(count, 76) > (76 - t) / 76)


def test_two_sides_find_both_tails_rare() -> None:
    """Where normal images usually agree 8 to 12 times of 16, both 0 and 16 are more suspicious than 10."""
    normal = [0] * 8 + [100, 200, 400, 200, 100] + [0] * 4

    usual, low, high = (two_sided_score(count, normal) for count in (10, 0, 16))

    assert usual == 0
    assert low > 0.99 and high > 0.99


def test_two_sides_can_not_tell_a_count_that_is_usual() -> None:
    """Where most normal images agree everywhere, full agreement is no evidence of anything."""
    assert two_sided_score(16, [1] * 16 + [900]) == 0


@given(st.lists(st.integers(0, 4), min_size=4, max_size=4), st.integers(0, 4))
def test_score_of_evidence(variants: list[int], label: int) -> None:
    """The detector scores the share of its operations that changed the label."""
    detector = Agreement({"qualities": [100, 75, 50, 25]})

    score = detector.score(evidence(label, variants, list(detector.operations)))

    assert score == sum(variant != label for variant in variants) / 4


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"qualities": []},
        {"qualities": [0]},
        {"qualities": [101]},
        {"qualities": [50], "sides": "three"},
        {"qualities": [50], "sides": "two"},
        {"qualities": [50], "sides": "two", "normal_counts": [1, 2, 3]},
        {"qualities": [50], "surprise": 1},
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters: dict[str, object]) -> None:
    """A bundle with other parameters than the detector knows is not loaded."""
    with pytest.raises(BundleError, match="agreement"):
        Agreement(parameters)
