"""Statistics and residual evidence without any attack: fitted to normal images, and yet they tell attacked ones."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from firewall.bundle import ClassifierSpec, DetectorSpec, InputSpec, load_bundle
from firewall.detectors import Detector, build
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_classifier
from firewall.lab.calibration.settings import BenignImages, CalibrationSettings
from firewall.lab.calibration.thresholds import calibrate
from firewall.lab.measurement.conformal import conformal_threshold
from firewall.lab.measurement.edge import Measured, engine_for, measure
from firewall.lab.training.detectors.one_class import OneClass, fit_residual, fit_statistics
from tests.lab.coloured_shapes import SIZE, shapes, trained

#: Few of each family: the tests are about the distance, not about the copies.
OPERATIONS = ("jpeg:75", "jpeg:30", "blur:2", "rotate:8", "scale:0.75", "scale:1.25")


def pixels(count: int, seed: int) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = (shapes(count, seed=seed)[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return found


@pytest.fixture(scope="module")
def spec_and_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClassifierSpec, bytes]:
    network = copy.deepcopy(trained()).eval()
    classes = network(torch.zeros(1, 3, SIZE, SIZE)).shape[1]
    labels = tuple("abcdefgh"[:classes])
    path = tmp_path_factory.mktemp("shapes") / "net.onnx"
    export_classifier(network, path, size=SIZE, labels=labels)
    return ClassifierSpec(file=path.name, input=InputSpec(width=SIZE, height=SIZE), labels=labels), path.read_bytes()


def look(spec_and_file: tuple[ClassifierSpec, bytes], images: npt.NDArray[np.uint8]) -> Measured:
    engine = engine_for(*spec_and_file, threads=1)
    return measure(engine, list(images), OPERATIONS, width=SIZE, height=SIZE, progress=False)


@pytest.fixture(scope="module")
def normal(spec_and_file: tuple[ClassifierSpec, bytes]) -> Measured:
    return look(spec_and_file, pixels(220, 5))


@pytest.fixture(scope="module")
def fresh(spec_and_file: tuple[ClassifierSpec, bytes]) -> Measured:
    return look(spec_and_file, pixels(120, 6))


def detector_of(fitted: OneClass) -> Detector:
    network = OnnxRuntimeNetwork(fitted.network, fitted.file, threads=1)
    return build(DetectorSpec(name=fitted.name, parameters=fitted.parameters, threshold=0), lambda file: network)


@pytest.fixture(scope="module", params=["statistics", "residual"])
def fitted(request: pytest.FixtureRequest, normal: Measured) -> OneClass:
    return fit_statistics(normal, OPERATIONS) if request.param == "statistics" else fit_residual(normal)


def test_a_threshold_holds_on_images_that_were_not_there(fitted: OneClass, normal: Measured, fresh: Measured) -> None:
    """At 5 % asked for, about that share of new normal images lies above it: each of the scores that it is set on comes
    from what was fitted without its image. What was fitted to all of them gives those same images lower scores."""
    detector = detector_of(fitted)
    above = fresh.scores(detector) > conformal_threshold(fitted.scores, 0.05)
    assert above.mean() <= 0.12  # 5 % of 120 is 6; more than 14 would come about once in 1,000
    own = normal.scores(detector)
    assert own.mean() < fitted.scores.mean() if fitted.name == "statistics" else abs(own.mean()) < 1e-3


def test_perturbed_images_score_higher(
    fitted: OneClass, spec_and_file: tuple[ClassifierSpec, bytes], fresh: Measured
) -> None:
    """Signs of the loss's gradient, 8 of 255: an attacked image mostly scores above a normal one, though none was ever
    shown. Few copies of tiny pictures: what real ones give is in benchmarks/results/own_classifier.json."""
    network = copy.deepcopy(trained()).eval()
    values = torch.from_numpy(fresh.images).permute(0, 3, 1, 2).float() / 255
    values.requires_grad_()
    logits = network(values)
    torch.nn.functional.cross_entropy(logits, logits.argmax(1)).backward()
    assert values.grad is not None
    moved = (values + 8 / 255 * values.grad.sign()).clamp(0, 1).detach()
    attacked = look(spec_and_file, (moved * 255).round().byte().permute(0, 2, 3, 1).numpy())
    fooled = attacked.labels != fresh.labels
    assert fooled.sum() > 10
    detector = detector_of(fitted)
    benign, adversarial = fresh.scores(detector), attacked.scores(detector)[fooled]
    assert (adversarial[:, None] > benign[None]).mean() > 0.55


def test_calibrate_makes_a_bundle_of_them(
    spec_and_file: tuple[ClassifierSpec, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """By name, beside the others, with networks in the bundle that its manifest vouches for; the share asked for is
    that of the whole."""
    out = tmp_path_factory.mktemp("bundle")
    names = ["agreement", "confidence", "statistics-one-class", "residual-one-class"]
    images = list(pixels(240, 5))
    calibrate(*spec_and_file, BenignImages(images, "shapes"), out, CalibrationSettings(names, rate=0.1))

    bundle = load_bundle(out)
    assert [spec.name for spec in bundle.manifest.detectors] == ["agreement", "confidence", "statistics", "residual"]
    assert {"statistics.onnx", "residual.onnx"} < set(bundle.files)
    rates = bundle.manifest.calibration.rates
    assert rates["withheld by statistics"] <= 0.025 and rates["withheld on calibration images"] <= 0.1


def test_too_few_images_and_two_of_a_kind(normal: Measured, spec_and_file: tuple[ClassifierSpec, bytes]) -> None:
    """How many are needed is told; a bundle has no two detectors of one kind."""
    few = normal.subset(np.arange(len(normal)) < 20)
    with pytest.raises(DataError, match="needs at least 28 normal images, got 20"):
        fit_statistics(few, OPERATIONS)
    with pytest.raises(UsageError, match="unknown detector statistics-two"):
        calibrate(
            *spec_and_file, BenignImages(list(pixels(2, 5)), "-"), Path("b"), CalibrationSettings(["statistics-two"])
        )
