"""A denoiser before a classifier that never saw noise: what it learns, what its folder holds, what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from firewall import cli
from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_classifier
from firewall.lab.certification.classifier import open_subject
from firewall.lab.cli import app
from firewall.lab.datasets import gtsrb
from firewall.lab.models.opening import load_torch
from firewall.lab.models.robust_networks import Denoiser
from firewall.lab.training.classifiers import small_signs
from firewall.lab.training.classifiers.denoiser import Denoised, DenoiserSettings, Lessons, train_denoiser
from firewall.lab.training.classifiers.smoothed_classifier import Run, with_noise
from firewall.lab.training.loop import CHECKPOINT, read_checkpoint

SMALL = ["--workers", "0", "--threads", "1", "--sigma", "0.3"]


@pytest.fixture(scope="module")
def clean(small_gtsrb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier that never saw noise."""
    out = tmp_path_factory.mktemp("denoiser") / "clean"
    asked = ["--out", str(out), "--data", str(small_gtsrb), "--epochs", "1", "--workers", "0", "--threads", "1"]
    asked += ["--sigma", "0", "--consistency", "0", "--float32"]
    assert cli.run(app, ["train", "smoothed", *asked], "firewall lab") == 0
    return out


def _denoiser(out: Path) -> Denoiser:
    """The averaged denoiser of a run's checkpoint."""
    average = AveragedModel(Denoised(Denoiser(), nn.Identity()), use_buffers=True)
    average.load_state_dict(read_checkpoint(out / CHECKPOINT)["average"])
    found = average.module.eval().denoiser
    assert isinstance(found, Denoiser)
    return found


def test_the_file_is_denoiser_and_classifier_and_is_what_is_certified(
    small_gtsrb: Path, clean: Path, tmp_path: Path
) -> None:
    """By the documented commands: one ONNX file gives the classifier's logits of the denoised image, the classifier's
    own weights unchanged, and `certify smoothing` measures that file."""
    out, result = tmp_path / "denoised", tmp_path / "certificates.json"
    data = ["--data", str(small_gtsrb), *SMALL]
    asked = ["--out", str(out), "--classifier", str(clean), "--epochs", "2", "--varied", "--float32"]
    assert cli.run(app, ["train", "denoiser", *asked, *data], "firewall lab") == 0
    card, file = json.loads((out / "card.json").read_text()), (out / "classifier.onnx").read_bytes()
    sha256 = hashlib.sha256(file).hexdigest()
    before = json.loads((clean / "card.json").read_text())["sha256"]
    assert card["sha256"] == sha256 != before and card["training"]["settings"]["classifier"] == before
    assert hashlib.sha256((clean / "classifier.onnx").read_bytes()).hexdigest() == before

    images, classifier = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), np.uint8), load_torch(clean)
    with torch.no_grad():
        values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        wanted, plain = classifier(_denoiser(out)(values)).numpy(), classifier(values).numpy()
    found = open_subject(str(out)).engine.classify(images)
    assert np.allclose(found, wanted, rtol=0, atol=1e-5) and not np.allclose(found, plain, rtol=0, atol=1e-4)

    asked = ["--bundle", str(out), "--data", str(small_gtsrb), "--limit", "2", "--samples", "100", "--sigma", "0.3"]
    assert cli.run(app, ["certify", "smoothing", *asked, "--json", str(result)], "firewall lab") == 0
    assert json.loads(result.read_text())["about"]["classifier_sha256"] == sha256


def test_a_stopped_run_ends_with_the_same_weights(
    small_gtsrb: Path, clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its second epoch, after the first loss, and started again; another classifier can't go on with it."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = DenoiserSettings(epochs=2, sigma=0.3, restoring=0.5, batch=64)
    run = Run(int8=False)
    first = train_denoiser(small_gtsrb, whole, str(clean), settings, run)

    shown, asked = Lessons.shown, []

    def once(self: Lessons, model: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, done: float) -> torch.Tensor:
        asked.append(done)
        if done >= 0.5:
            raise KeyboardInterrupt
        return shown(self, model, pixels, labels, done)

    with monkeypatch.context() as patched:
        patched.setattr(Lessons, "shown", once)
        with pytest.raises(KeyboardInterrupt):
            train_denoiser(small_gtsrb, stopped, str(clean), settings, run)
    assert len(asked) > 1 and not (stopped / "card.json").exists()
    with pytest.raises(UsageError, match=r"has no classifier\.onnx; name the folder of a finished run"):
        train_denoiser(small_gtsrb, tmp_path / "next", str(clean), settings, Run(start=stopped))
    again = train_denoiser(small_gtsrb, stopped, str(clean), settings, run)

    assert again["sha256"] == first["sha256"]
    lines = (stopped / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    with pytest.raises(DataError, match="other settings"):
        train_denoiser(small_gtsrb, stopped, "default", settings, run)


def test_it_learns_to_take_noise_out_and_then_what_the_classifier_names() -> None:
    """First the images are wanted, then the classifier's own labels of the clean images, whatever theirs are; no
    gradient reaches the classifier and its weights are in no checkpoint."""
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 48 * 48, 5)).eval().requires_grad_(requires_grad=False)
    model, settings = Denoised(Denoiser(), classifier), DenoiserSettings(sigma=0.3, restoring=0.5, strength=0.0)
    assert all(name.startswith("denoiser.") for name in model.state_dict())
    pixels, lessons = torch.randint(0, 256, (8, 3, 48, 48), dtype=torch.uint8), Lessons(settings)
    coarse = pixels[:, :, ::12, ::12].repeat_interleave(12, 2).repeat_interleave(12, 3)
    labels, optimizer = torch.zeros(8, dtype=torch.int64), torch.optim.Adam(model.parameters(), 3e-3)
    errors = []
    for _ in range(40):
        outputs = model(lessons.shown(model, coarse, labels, 0.49))
        assert outputs.shape == (16, 3, 48, 48)
        loss = lessons.loss(outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(float(loss.detach()))
    noisy = lessons.shown(model, coarse, labels, 0.0)
    assert np.mean(errors[-5:]) < 0.5 * float(lessons.loss(noisy, labels))

    logits = model(lessons.shown(model, coarse, labels, 0.5))
    named = classifier(coarse.float() / 255).argmax(1)
    assert logits.shape == (16, 5) and len(named.unique()) > 1
    right, wrong = 9 * nn.functional.one_hot(named.repeat(2), 5).float(), 9 * nn.functional.one_hot(labels, 5).float()
    assert lessons.loss(right, labels) < 0.01 < lessons.loss(wrong.repeat(2, 1), labels)
    lessons.loss(logits, labels).backward()
    assert all(weight.grad is None for weight in classifier.parameters())


def test_as_it_is_run_it_says_the_same() -> None:
    """Squares taken out of the image by a convolution of pixels, whatever the weights and the statistics."""
    torch.manual_seed(0)
    denoiser, images = Denoiser(width=8), torch.rand(2, 3, 48, 48)
    denoiser(images)
    denoiser.eval()
    found = denoiser.as_run()
    with torch.no_grad():
        assert torch.allclose(found(images), denoiser(images), atol=1e-5)
    assert not any(isinstance(layer, nn.PixelUnshuffle) for layer in found.layers) and not found.training


def test_one_copy_is_shown_where_none_need_be_named_alike() -> None:
    """The second copy is for the term of consistency alone."""
    images = torch.rand(3, 3, 48, 48)
    assert len(with_noise(images, DenoiserSettings(consistency=0))) == 3
    assert len(with_noise(images, DenoiserSettings(consistency=1))) == 6
    lessons = Lessons(DenoiserSettings(consistency=0, restoring=0))
    model = Denoised(Denoiser(), nn.Flatten())
    outputs = model(lessons.shown(model, (images * 255).to(torch.uint8), torch.zeros(3), 0.0))
    assert torch.isfinite(lessons.loss(outputs, torch.zeros(3)))


@pytest.mark.parametrize(
    ("size", "labels", "said"),
    [
        (32, gtsrb.CLASS_NAMES, "takes images of 32x32x3; the denoiser's are 48x48x3"),
        (48, ("a", "b"), "2 classes that are not GTSRB's 43"),
    ],
)
def test_another_classifier_is_refused(
    size: int, labels: tuple[str, ...], said: str, small_gtsrb: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One of another input size or other classes: in one line, and nothing is written."""
    file, out = tmp_path / "other.onnx", tmp_path / "out"
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, len(labels)))
    export_classifier(network, file, size=size, labels=labels)
    asked = ["train", "denoiser", "--out", str(out), "--classifier", str(file), "--data", str(small_gtsrb), *SMALL]
    assert cli.run(app, asked, "firewall lab") != 0
    error = capfd.readouterr().err.strip()
    assert said in error and len(error.splitlines()) == 1 and not out.exists()


def test_a_classifier_in_eight_bits_has_no_gradients(small_gtsrb: Path, clean: Path, tmp_path: Path) -> None:
    """Nothing can be trained through it, and the error names what can."""
    from firewall.export.precision import to_int8

    file = tmp_path / "int8.onnx"
    values = np.random.default_rng(0).random((64, 3, 48, 48), np.float32)
    file.write_bytes(to_int8((clean / "classifier.onnx").read_bytes(), values, target="cpu"))
    with pytest.raises(DataError, match=r"no gradients to train by .* --float32"):
        train_denoiser(small_gtsrb, tmp_path / "out", str(file), DenoiserSettings(), Run())


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"sigma": -1.0}, {"restoring": 1.1}, {"restoring": float("nan")}])
def test_settings_that_can_not_be_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    """By the option's name, before a classifier or data is read."""
    with pytest.raises(UsageError, match=f"--{next(iter(wrong))}"):
        train_denoiser(tmp_path / "none", tmp_path / "out", "none", DenoiserSettings(**wrong), Run())


def test_a_run_begins_with_the_denoiser_of_another(small_gtsrb: Path, clean: Path, tmp_path: Path) -> None:
    """`--start`: the denoiser's weights alone, whatever classifier it was trained for."""
    base = tmp_path / "base"
    train_denoiser(small_gtsrb, base, str(clean), DenoiserSettings(epochs=1, batch=64), Run(int8=False))
    model = Denoised(Denoiser(), nn.Identity())
    small_signs.begin(model, base)
    for name, value in _denoiser(base).state_dict().items():
        assert torch.equal(model.denoiser.state_dict()[name], value)
