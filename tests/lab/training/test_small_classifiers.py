"""Small classifiers of digits and photographs, trained on a data set in miniature."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from firewall.errors import DataError, UsageError
from firewall.lab.cli import app
from firewall.lab.models import open_classifier
from firewall.lab.models.small_networks import ARCHITECTURES
from firewall.lab.training.classifiers.small_classifiers import Settings, train_small


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten grey levels for digits, 40 images each to train on."""
    root = tmp_path_factory.mktemp("digits")
    generator = np.random.default_rng(0)

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 10
        images = np.zeros((count, 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 6] = 200
        return np.clip(images + generator.normal(20, 8, images.shape), 0, 255).astype(np.uint8), labels.astype(np.uint8)

    (x_train, y_train), (x_test, y_test) = drawn(400), drawn(50)
    np.savez(root / "mnist.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return root


def settings(architecture: str, epochs: int = 3) -> Settings:
    return Settings.of(architecture, None, epochs=epochs, learning_rate=3e-3, seed=0)


@pytest.mark.timeout(300)
def test_an_architecture_becomes_a_classifier_to_protect(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the command that a user runs: a folder with an ONNX file of grey images, found by its name afterwards, and
    the same command run again changes nothing."""
    monkeypatch.chdir(tmp_path)
    command = ["train", "classifier", "--data", str(digits), "--architecture", "two-layer", "--epochs", "3"]

    first, again = (CliRunner().invoke(app, [*command, "--threads", "1", "--workers", "0"]) for _ in range(2))

    assert first.exit_code == 0, first.output
    folder = tmp_path / "runs" / "classifiers" / "two-layer"
    card = json.loads((folder / "card.json").read_text())
    assert card["test"]["images"] == 50 and card["test"]["data"] == "mnist" and again.exit_code == 0
    assert json.loads((folder / "card.json").read_text()) == card
    classifier = open_classifier("two-layer")
    assert (classifier.channels, classifier.height, classifier.width) == (1, 28, 28) and classifier.differentiable
    assert classifier.sha256 == card["sha256"] and classifier.labels == tuple("0123456789")
    with np.load(digits / "mnist.npz") as data:
        right = classifier.logits(data["x_test"][..., None]).argmax(1) == data["y_test"]
    assert right.mean() == pytest.approx(card["test"]["accuracy"]) and right.mean() > 0.5

    (folder / "classifier.onnx").write_bytes(b"another file")
    with pytest.raises(DataError, match="not the file"):
        open_classifier(str(folder))


def test_other_settings_are_another_run(digits: Path, tmp_path: Path) -> None:
    """Going on with more epochs than the schedule was made for would be a run that nobody can repeat."""
    train_small(digits, tmp_path, settings("two-layer", 1), threads=1, workers=0)

    with pytest.raises(DataError, match="other settings"):
        train_small(digits, tmp_path, settings("two-layer", 2), threads=1, workers=0)


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_an_architecture_takes_its_images(name: str) -> None:
    """Ten logits of images in 0..1, with gradients for every weight."""
    architecture = ARCHITECTURES[name]
    network = architecture.build(10)

    logits = network(torch.rand(4, architecture.channels, architecture.size, architecture.size))
    logits.square().sum().backward()

    assert logits.shape == (4, 10)
    assert all(weight.grad is not None for weight in network.parameters())
    assert sum(weight.numel() for weight in network.parameters()) < 2_000_000


def test_options_of_another_architecture_are_wrong_use(tmp_path: Path) -> None:
    """Each architecture has its own data, and outliers are the sign classifier's."""
    with pytest.raises(UsageError, match="known"):
        settings("resnet")
    with pytest.raises(UsageError, match="mnist"):
        Settings.of("lenet", "cifar10", epochs=1, learning_rate=1e-3, seed=0)
    command = ["train", "classifier", "--data", str(tmp_path), "--architecture"]
    for wrong in (["lenet", "--outliers", str(tmp_path)], ["sign", "--dataset", "mnist"]):
        result = CliRunner().invoke(app, [*command, *wrong])
        assert isinstance(result.exception, UsageError)
