"""The attention detector on the edge: f2's answer against the classifier's."""

from __future__ import annotations

import numpy as np
import pytest

from firewall.bundle import DetectorSpec
from firewall.detectors import Detector, Evidence, build
from firewall.detectors.attention import DISAGREEMENT
from firewall.errors import BundleError, EngineError
from tests.detectors.asked import IMAGE, Asked


def detector(network: Asked, **parameters: object) -> Detector:
    spec = DetectorSpec(name="attention", parameters={"file": "x.onnx", **parameters}, threshold=0.0)
    return build(spec, lambda file: network)


def evidence(*logits: float) -> Evidence:
    return Evidence(IMAGE, np.array(logits, np.float32), {})


def test_it_sees_the_image_and_needs_no_copies() -> None:
    """RGB in 0..1, channels first, one image; no operation is asked for."""
    network = Asked(0.0, 0.0, 0.0)
    judge = detector(network)
    judge.score(evidence(0, 1, 0))

    assert judge.operations == ()
    assert list(network.values.shape) == [1, 3, 12, 10] and network.values.dtype == np.float32
    assert np.array_equal(network.values[0].transpose(1, 2, 0), IMAGE.astype(np.float32) / np.float32(255))


def test_the_score_is_the_best_other_class_less_the_classifiers() -> None:
    """In f2's logits; how sure the classifier itself is does not count."""
    judge = detector(Asked(1.0, 4.0, -2.0))

    assert judge.score(evidence(9, 0, 0)) == 3.0
    assert judge.score(evidence(0, 9, 0)) == -3.0
    assert judge.score(evidence(0, 0, 9)) == judge.score(evidence(0, 0, 1)) == 6.0


@pytest.mark.parametrize("seed", range(20))
def test_above_its_boundary_means_disagreement(seed: int) -> None:
    """The thesis' decision, f2's class is another than f1's, is the score at the threshold DISAGREEMENT."""
    generator = np.random.default_rng(seed)
    theirs, own = generator.normal(size=(2, 5))
    score = detector(Asked(*theirs)).score(evidence(*own))

    assert (score > DISAGREEMENT) == (theirs.argmax() != own.argmax())


@pytest.mark.parametrize("outputs", [(1.0, 2.0), (1.0, 2.0, 3.0, 4.0)])
def test_a_network_of_other_classes(outputs: tuple[float, ...]) -> None:
    """One that was made for another number of classes is an error, which withholds, and never a score."""
    with pytest.raises(EngineError, match=r"expected \(1, 3\)"):
        detector(Asked(*outputs)).score(evidence(0, 1, 2))


def test_parameters_that_do_not_fit() -> None:
    """A bundle with anything unknown, or without the network, is refused."""
    with pytest.raises(BundleError, match="attention"):
        detector(Asked(0, 0), surprise=1)
    with pytest.raises(BundleError, match="needs a network"):
        build(DetectorSpec(name="attention", parameters={}, threshold=0.0), lambda file: Asked(0, 0))
