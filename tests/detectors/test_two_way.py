"""The detectors that ask a network with two outputs: image CNN and residual."""

from __future__ import annotations

import numpy as np
import pytest

from firewall.bundle import DetectorSpec
from firewall.detectors import Evidence, build
from firewall.errors import BundleError, EngineError
from firewall.transforms import residual
from tests.detectors.asked import IMAGE, Asked

EVIDENCE = Evidence(IMAGE, np.zeros(3, np.float32), {}, residual)


def detector(name: str, network: Asked, **parameters: object) -> object:
    spec = DetectorSpec(name=name, parameters={"file": "x.onnx", **parameters}, threshold=0.0)
    return build(spec, lambda file: network)


def test_the_image_cnn_sees_the_image() -> None:
    """RGB in 0..1, channels first, one image; the score is adversarial less normal."""
    network = Asked(1.0, 3.5)

    assert detector("image-cnn", network).score(EVIDENCE) == 2.5  # type: ignore[attr-defined]
    assert network.values.shape == (1, 3, 12, 10) and network.values.dtype == np.float32
    assert np.array_equal(network.values[0].transpose(1, 2, 0), IMAGE.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("reading", ["removed", "kept"])
def test_the_residual_detector_sees_the_residual(reading: str) -> None:
    """The exact residual image at the bundle's rate, -1..1; not the image."""
    network = Asked(3.0, 1.0)

    assert detector("residual", network, rate=0.2, reading=reading).score(EVIDENCE) == -2.0  # type: ignore[attr-defined]
    expected = residual(IMAGE, 0.2, reading=reading).astype(np.float32) / np.float32(255)
    assert np.array_equal(network.values[0].transpose(1, 2, 0), expected)
    assert network.values.min() < 0 < network.values.max()


def test_without_a_residual_there_is_no_score() -> None:
    """Evidence that can't make residuals is an error, which withholds, and never a score."""
    with pytest.raises(EngineError, match="no way to make residual images"):
        detector("residual", Asked(0, 0), rate=0.05).score(Evidence(IMAGE, np.zeros(3, np.float32), {}))  # type: ignore[attr-defined]


@pytest.mark.parametrize("outputs", [(1.0,), (1.0, 2.0, 3.0)])
def test_a_network_of_other_outputs(outputs: tuple[float, ...]) -> None:
    """One output or three: nobody knows what they mean."""
    with pytest.raises(EngineError, match=r"expected \(1, 2\)"):
        detector("image-cnn", Asked(*outputs)).score(EVIDENCE)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("image-cnn", {"surprise": 1}),
        ("residual", {}),
        ("residual", {"rate": 0}),
        ("residual", {"rate": 1}),
        ("residual", {"rate": 0.5, "reading": "guessed"}),
        ("residual", {"rate": 0.5, "surprise": 1}),
    ],
)
def test_parameters_that_do_not_fit(name: str, parameters: dict[str, object]) -> None:
    """A bundle with anything missing, unknown or out of range is refused."""
    with pytest.raises(BundleError, match=name):
        detector(name, Asked(0, 0), **parameters)
