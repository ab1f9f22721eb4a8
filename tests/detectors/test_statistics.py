from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall.bundle import DetectorSpec
from firewall.detectors import Evidence, build
from firewall.detectors.statistics import (
    Statistics,
    corrected,
    counting,
    differences,
    families,
    label_odds,
    top_labels,
)
from firewall.errors import BundleError
from firewall.transforms import OPERATIONS_38


def logits(*best: int, classes: int = 8) -> npt.NDArray[np.float32]:
    """Logits whose most likely classes are `best`, in this order; the others follow in the order of the classes."""
    order = [*best, *(label for label in range(classes) if label not in best)]
    values = np.empty(classes, np.float32)
    values[order] = np.arange(classes, 0, -1)
    return values


def test_the_features_of_an_example_by_hand() -> None:
    """Equations 1 and 2 of the paper, worked out on paper for three operations of two families."""
    original = top_labels(logits(3, 1, 4, 0, 5))
    variants = top_labels(np.stack([logits(3, 1, 4, 5, 0), logits(1, 3, 4, 0, 5), logits(3, 2, 1, 4, 0)]))

    assert original.tolist() == [3, 1, 4, 0, 5]
    assert differences(original, variants).tolist() == [0, 0, 0, 1, 1, *[1, 1, 0, 0, 0], *[0, 1, 1, 1, 1]]
    assert counting(original, variants, [0, 0, 1]).tolist() == [1, 1, 2, 1, 1, *[1, 0, 0, 0, 0]]


@given(st.lists(st.permutations(range(7)), min_size=1, max_size=6), st.permutations(range(7)))
def test_the_two_features_tell_the_same(variants: list[list[int]], original: list[int]) -> None:
    """What is counted is what doesn't differ: within a family the counts are the operations less the differences."""
    first, others = np.array(original[:5]), np.array([variant[:5] for variant in variants])

    bits = differences(first, others).reshape(len(variants), 5)

    assert (counting(first, others, [0] * len(variants)) == len(variants) - bits.sum(axis=0)).all()


def test_batches_give_what_single_images_give() -> None:
    """The lab computes features of thousands at once, the edge of one: the same numbers."""
    generator = np.random.default_rng(0)
    values = generator.normal(size=(9, 39, 12)).astype(np.float32)
    original, variants = top_labels(values[:, 0]), top_labels(values[:, 1:])
    family_of = families(OPERATIONS_38)

    for index in range(9):
        assert (differences(original, variants)[index] == differences(original[index], variants[index])).all()
        assert (
            counting(original, variants, family_of)[index] == counting(original[index], variants[index], family_of)
        ).all()


def test_the_38_operations_have_four_families() -> None:
    """16 JPEG qualities, 4 blurs, 8 rotations, 10 scales: 20 counts, 190 bits."""
    family_of = families(OPERATIONS_38)

    assert np.bincount(family_of).tolist() == [16, 4, 8, 10]
    labels = top_labels(np.random.default_rng(0).normal(size=(39, 43)).astype(np.float32))
    assert counting(labels[0], labels[1:], family_of).shape == (20,)
    assert differences(labels[0], labels[1:]).shape == (190,)


def test_a_classifier_of_fewer_than_five_classes() -> None:
    """Places that no class is left for never differ."""
    original, variant = top_labels(logits(1, 0, 2, classes=3)), top_labels(logits(0, 1, 2, classes=3)[np.newaxis])

    assert original.tolist() == [1, 0, 2, -1, -1]
    assert differences(original, variant).tolist() == [1, 1, 0, 0, 0]


def test_correction_takes_the_most_frequent_labels() -> None:
    """Labels that keep coming back win, whatever the image was named; ties go to the one nearer to the first place."""
    variants = top_labels(np.stack([logits(2, 6, 1, 0, 3), logits(2, 1, 6, 0, 4), logits(7, 2, 1, 6, 5)]))

    assert corrected(variants).tolist() == [2, 1, 6, 0, 7]


def test_the_score_is_the_networks() -> None:
    """The feature goes to the bundle's network as one row of float32; what it says is the score."""
    asked: list[npt.NDArray[np.float32]] = []

    def network(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        asked.append(values)
        return values.sum(axis=1, keepdims=True)

    spec = DetectorSpec(
        name="statistics",
        parameters={"file": "x.onnx", "feature": "differences", "operations": ["jpeg:90", "blur:2"]},
        threshold=3.0,
    )
    detector = build(spec, lambda file: network)
    variants = {"jpeg:90": logits(3, 1, 4, 5, 0), "blur:2": logits(1, 3, 4, 0, 5)}

    assert detector.score(Evidence(np.zeros((8, 8, 3), np.uint8), logits(3, 1, 4, 0, 5), variants)) == 4.0
    assert asked[0].shape == (1, 10) and asked[0].dtype == np.float32


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"file": "x.onnx"},
        {"file": "x.onnx", "feature": "guess", "operations": ["jpeg:90"]},
        {"file": "x.onnx", "feature": "counting", "operations": []},
        {"file": "x.onnx", "feature": "counting", "operations": ["jpeg:90"], "surprise": 1},
    ],
)
def test_parameters_that_do_not_fit(parameters: dict[str, object]) -> None:
    """A bundle with anything missing, unknown or out of range is refused."""
    with pytest.raises(BundleError, match="statistics"):
        build(DetectorSpec(name="statistics", parameters=parameters, threshold=0.0), lambda file: lambda values: values)


def test_a_network_is_needed() -> None:
    """Without one the detector can't be had, and says so."""
    spec = DetectorSpec(name=Statistics.name, parameters={"file": "x.onnx"}, threshold=0.0)
    with pytest.raises(BundleError, match="needs a network"):
        build(spec)


def test_the_odds_of_an_example_by_hand() -> None:
    """log(p / (1 - p)) of the original's label, also where a copy has lost it; the original's own comes first."""
    original = np.log(np.array([6, 3, 1], np.float32))
    variants = np.log(np.array([[8, 1, 1], [1, 8, 1]], np.float32))

    assert label_odds(original, variants) == pytest.approx(np.log([6 / 4, 8 / 2, 1 / 9]), abs=1e-6)


def test_odds_are_finite_for_any_logits() -> None:
    """A classifier that is very sure gives large numbers, never infinite ones; batches are as single images."""
    values = np.random.default_rng(1).normal(scale=1e4, size=(5, 3, 6)).astype(np.float32)
    batch = label_odds(values[:, 0], values[:, 1:])

    assert np.isfinite(batch).all()
    assert np.array_equal(batch[2], label_odds(values[2, 0], values[2, 1:]))


def test_the_detector_asks_its_network_about_the_odds() -> None:
    """One number for the original and one for each operation, in the order of the bundle."""
    parameters = {"file": "n.onnx", "feature": "odds", "operations": ["blur:2", "jpeg:50"]}
    seen: list[npt.NDArray[np.float32]] = []

    def network(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        seen.append(features)
        return np.array([[0.25]], np.float32)

    detector = build(DetectorSpec(name="statistics", parameters=parameters, threshold=0), lambda _: network)
    variants = {"jpeg:50": logits(1), "blur:2": logits(0)}

    assert detector.score(Evidence(np.zeros((8, 8, 3), np.uint8), logits(0), variants)) == 0.25
    expected = label_odds(logits(0), np.stack([variants["blur:2"], variants["jpeg:50"]]))
    assert np.array_equal(seen[0], expected[np.newaxis])
