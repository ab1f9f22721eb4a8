"""The attention detector: its losses, its masks, and the detector trained for a moment on a small database."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from firewall.detectors import Evidence
from firewall.detectors.attention import DISAGREEMENT, Attention
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_classifier
from firewall.frame import Pixels
from firewall.lab.calibration.bundling import calibrate_folder
from firewall.lab.calibration.settings import BenignSource, CalibrationSettings
from firewall.lab.database import Database
from firewall.lab.evaluation.bundle_on_database import evaluate_on_database
from firewall.lab.measurement.disagreement import disagreement
from firewall.lab.models import Protected, open_classifier
from firewall.lab.models.attention_network import (
    AttentionNetwork,
    ConvolutionalAttention,
    DenseAttention,
    image_classifier,
    trainable,
)
from firewall.lab.models.saliency import SALIENCY
from firewall.lab.training.detectors.attention import Settings, Sources, lan_loss, train
from tests.lab.coloured_shapes import SIZE, correctly_classified, shapes
from tests.lab.coloured_shapes import trained as shape_network

BRIEF = Settings(epochs=2, batch=8, mask_epochs=1)


@pytest.fixture(scope="module")
def classifier() -> Protected:
    return open_classifier("default")


@pytest.fixture(scope="module")
def trained(made: Path, classifier: Protected, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each form."""
    folders = {form: tmp_path_factory.mktemp(form) for form in ("thesis", "joint")}
    for form, folder in folders.items():
        train(Database(made), classifier, folder, replace(BRIEF, form=form), threads=1)
    return folders


def test_the_loss_is_equation_9() -> None:
    """Without corruption it is the entropy of F(x); with all of it the image doesn't count, and beta is taken off."""
    network = shape_network().eval()
    images, _ = correctly_classified()
    none, full = torch.zeros(len(images), 1, SIZE, SIZE), torch.ones(len(images), 1, SIZE, SIZE)
    with torch.no_grad():
        own = network(images).softmax(1)
        torch.testing.assert_close(lan_loss(network, images, none, 3.0), -(own * own.log()).sum(1))
        torch.manual_seed(0)
        found = lan_loss(network, images, full, 3.0)
        torch.manual_seed(0)
        noise = torch.rand_like(images)
        torch.testing.assert_close(found, cross_entropy(network(noise), own, reduction="none") - 3.0)


def test_masks_learn_what_may_be_corrupted() -> None:
    """Trained for a moment, g corrupts a large share of the values, and the classifier names most images as before."""
    network = shape_network().eval().requires_grad_(requires_grad=False)
    torch.manual_seed(0)
    attention = DenseAttention(SIZE, hidden=64)
    adam = torch.optim.Adam(attention.parameters(), 3e-3)
    images, _ = shapes(512, seed=3)
    for _ in range(12):
        for batch in images.split(64):
            adam.zero_grad()
            lan_loss(network, batch, attention(batch), 2.0).mean().backward()
            adam.step()
    images, labels = shapes(256, seed=4)
    with torch.no_grad():
        mask = attention(images)
        corrupted = mask * torch.rand_like(images) + (1 - mask) * images
        evenly = mask.mean() * torch.rand_like(images) + (1 - mask.mean()) * images
        kept = (network(corrupted).argmax(1) == labels).float().mean()
        blind = (network(evenly).argmax(1) == labels).float().mean()
    network.requires_grad_(requires_grad=True)
    assert 0.3 < mask.mean() < 0.95 and kept > 0.7
    assert kept > blind + 0.1, "where it corrupts matters, not how much alone"


class _Bright(nn.Module):
    """Class 1 as soon as something in the image is bright: only bright places count."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 3, padding=1)
        nn.init.constant_(self.layer.weight, 0.2)
        nn.init.constant_(self.layer.bias, -2.5)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> Tensor:
        bright = 8 * self.layer(image).relu().mean((1, 2, 3)) - 1
        return torch.stack([-bright, bright], 1)


@pytest.mark.parametrize("name", SALIENCY)
def test_saliency_lies_where_the_class_comes_from(name: str) -> None:
    """Within 0..1, one mask for each image, and higher on the bright half, which decides."""
    images = 0.3 * torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    images[..., :12] += 0.7
    masks = SALIENCY[name](_Bright(), images)

    assert masks.shape == (4, 1, 24, 24) and masks.min() >= 0 and masks.max() <= 1 and not masks.requires_grad
    assert masks[..., :10].mean() > masks[..., 14:].mean() + 0.1


def test_grad_cam_needs_a_convolution() -> None:
    """A network without one is named, and what to use instead."""
    with pytest.raises(DataError, match="use rise"):
        SALIENCY["grad-cam"](nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.zeros(1, 3, 4, 4))


def test_the_edge_says_what_the_lab_says(trained: dict[str, Path], made: Path, classifier: Protected) -> None:
    """Of the exported file, for normal and attacked images, the same score and the same decision as the report's."""
    database = Database(made)
    for folder in trained.values():
        judge = Attention(
            {"file": "x.onnx"}, OnnxRuntimeNetwork((folder / "detector.onnx").read_bytes(), "x", threads=1)
        )
        report = json.loads((folder / "detector.json").read_text())["eval"]
        images = database.normal[database.where("eval")]
        logits = classifier.logits(images)
        pairs = zip(images, logits, strict=True)
        scores = np.array([judge.score(Evidence(image, row, {})) for image, row in pairs])
        normal = report["normal"]
        assert normal["n"] == len(images)
        assert normal["true_negative_rate"] == pytest.approx((scores <= DISAGREEMENT).mean())
        counts = {
            name: sum(database.split_of(entry) == "eval" for entry in database.attacked(name).entries)
            for name in database.card.attacks
        }
        assert {name: entry["n"] for name, entry in report["attacks"].items()} == {n: c for n, c in counts.items() if c}


def test_it_works_from_a_bundle(trained: dict[str, Path], made: Path, tmp_path: Path, benign_sign: Pixels) -> None:
    """Calibrated by its folder, judged on the database, and asked by `firewall screen`, which tells an operator."""
    bundle = calibrate_folder(
        Path("default"),
        tmp_path / "bundle",
        BenignSource(database=made),
        CalibrationSettings([str(trained["joint"])], 0.3, name="attention"),
    )
    assert [spec.name for spec in bundle.manifest.detectors] == ["attention"] and "attention.onnx" in bundle.files
    summary = evaluate_on_database(bundle, Database(made), open_classifier("default")).summary
    assert set(summary["attention"]) >= {"deepfool"}

    Image.fromarray(benign_sign).save(tmp_path / "sign.png")
    command = [sys.executable, "-m", "firewall", "screen", str(tmp_path / "sign.png"), "--operator"]
    result = subprocess.run(
        [*command, "--bundle", str(bundle.path)], check=False, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    verdict = json.loads(result.stdout)
    assert np.isfinite(verdict["scores"]["attention"]) and verdict["classified"] == 1


def test_the_same_settings_give_the_same_detector(
    trained: dict[str, Path], made: Path, classifier: Protected, tmp_path: Path
) -> None:
    """Byte for byte; and other settings do not go on from the checkpoint of these."""
    again = train(Database(made), classifier, tmp_path, replace(BRIEF, form="joint"), threads=1)
    assert (tmp_path / "detector.onnx").read_bytes() == (trained["joint"] / "detector.onnx").read_bytes()
    assert json.loads(json.dumps(again)) == json.loads((trained["joint"] / "detector.json").read_text())
    with pytest.raises(DataError, match="other settings"):
        train(Database(made), classifier, tmp_path, replace(BRIEF, form="joint", hardened=0.5), threads=1)


def test_another_teacher_and_hardening(made: Path, classifier: Protected, tmp_path: Path) -> None:
    """They train and export; the report says from which images, and that the train split is what was fitted."""
    settings = replace(BRIEF, epochs=1, teacher="grad-cam", hardened=0.5)
    database = Database(made)
    report = train(database, classifier, tmp_path, settings, also=[Database(made)], threads=1)
    judged = report["judged"][made.name]
    assert judged["normal"]["n"] == int(database.where("eval").sum()), "neither fitted to nor calibrated on"
    assert judged["calibrated_on"]["normals"] == int(database.where("dev").sum())
    assert all(len(entry["calibrated"]) == 2 for entry in judged["attacks"].values())
    assert report["trained_on"]["images"] == int(database.where("train").sum())
    assert list(report["fitted"]["splits"]) == ["train"]


def test_a_classifier_read_from_a_file_can_be_trained_further(tmp_path: Path) -> None:
    """Its weights become parameters with gradients, and it says what it said before."""
    export_classifier(shape_network().eval(), tmp_path / "net.onnx", size=SIZE, labels=tuple("abcdef"))
    opened = open_classifier(str(tmp_path / "net.onnx"))
    images, labels = correctly_classified()
    before = opened.network(images)
    network = trainable(opened, SIZE)
    torch.testing.assert_close(network(images), before)
    cross_entropy(network(images), labels).backward()
    weights = list(network.parameters())
    assert len(weights) >= 6 and all(weight.grad is not None for weight in weights)
    with pytest.raises(DataError, match="--start"):
        trainable(opened, SIZE + 1)


def test_disagreement_of_no_images() -> None:
    """An attack that made nothing has no scores, and is no error."""
    assert disagreement(nn.Identity(), np.zeros((0, 8, 8, 3), np.uint8), np.zeros(0, np.int64)).shape == (0,)


def test_what_can_not_be_trained_on(made: Path, classifier: Protected, tmp_path: Path) -> None:
    """Unknown options and another classifier's database are named."""
    for wrong in ({"form": "guess"}, {"teacher": "guess"}, {"hardened": 2.0}, {"form": "thesis", "start": "alexnet"}):
        with pytest.raises(UsageError, match="--"):
            replace(BRIEF, **wrong)
    with pytest.raises(UsageError, match="--images must be one of"):
        train(Database(made), classifier, tmp_path, BRIEF, sources=Sources(images="guess"), threads=1)
    with pytest.raises(DataError, match="was made on"):
        train(Database(made), replace(classifier, sha256="0" * 64), tmp_path, BRIEF, threads=1)


def test_the_mirror_image_is_asked_about_too() -> None:
    """With `mirrored` an image and its mirror image get the same logits, the mean of what each gets without."""
    torch.manual_seed(0)
    attention, reader = ConvolutionalAttention(SIZE), image_classifier(3, SIZE)
    plain, both = (AttentionNetwork(attention, reader, masked=True, mirrored=twice).eval() for twice in (False, True))
    images, _ = correctly_classified()
    with torch.no_grad():
        torch.testing.assert_close(both(images), (plain(images) + plain(images.flip(3))) / 2)
        torch.testing.assert_close(both(images), both(images.flip(3)))
        assert not torch.allclose(plain(images), plain(images.flip(3)))
