"""The detectors that look at pixels, trained for a moment on a small database."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from firewall import Firewall
from firewall.detectors.evidence import Evidence
from firewall.detectors.residual import Residual
from firewall.engines import OnnxRuntimeNetwork
from firewall.errors import DataError, UsageError
from firewall.frame import Pixels
from firewall.lab.calibration.bundling import calibrate_folder
from firewall.lab.calibration.settings import BenignSource, CalibrationSettings
from firewall.lab.database import Database
from firewall.lab.training.detectors.pixel_detectors import Settings, raw_loss, train
from firewall.lab.training.detectors.pixel_images import as_input
from firewall.transforms import residual

BRIEF = Settings(epochs=2, batch=16)


@pytest.fixture(scope="module")
def trained(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of each kind."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("image-cnn", "residual")}
    for name, folder in folders.items():
        train(Database(made), folder, replace(BRIEF, detector=name), threads=1)
    return folders


def test_both_run_on_the_edge(trained: dict[str, Path], made: Path, tmp_path: Path, benign_sign: Pixels) -> None:
    """In one bundle, each with a threshold of its own, they give finite scores without a single copy."""
    bundle = calibrate_folder(
        Path("default"),
        tmp_path / "bundle",
        BenignSource(database=made),
        CalibrationSettings([str(folder) for folder in trained.values()], 0.3, name="pixels"),
    )
    verdict = Firewall.load(bundle.path, threads=1, exhaustive=True).screen(benign_sign)

    assert set(verdict.scores) == {"image-cnn", "residual"} and np.isfinite(list(verdict.scores.values())).all()
    assert verdict.classified == 1
    assert set(bundle.files) >= {"image-cnn.onnx", "residual.onnx"}


def test_the_report_is_of_the_eval_split(trained: dict[str, Path], made: Path) -> None:
    """Counts are the split's; accuracy is that of the very counts."""
    database = Database(made)
    for folder in trained.values():
        report = json.loads((folder / "detector.json").read_text())["eval"]
        counts = {
            name: sum(database.split_of(entry) == "eval" for entry in database.attacked(name).entries)
            for name in database.card.attacks
        }
        assert {name: entry["n"] for name, entry in report["attacks"].items()} == {n: c for n, c in counts.items() if c}
        normal = report["normal"]
        hits = sum(entry["n"] * entry["true_positive_rate"] for entry in report["attacks"].values())
        right = normal["n"] * (1 - normal["false_positive_rate"]) + hits
        total = normal["n"] + sum(entry["n"] for entry in report["attacks"].values())
        assert report["accuracy"] == pytest.approx(right / total)


def test_the_same_settings_give_the_same_detector(trained: dict[str, Path], made: Path, tmp_path: Path) -> None:
    """Byte for byte, and a finished run that is started again trains no further."""
    settings = replace(BRIEF, detector="residual")
    train(Database(made), tmp_path, settings, threads=1)
    assert (tmp_path / "detector.onnx").read_bytes() == (trained["residual"] / "detector.onnx").read_bytes()
    again = train(Database(made), tmp_path, settings, threads=1)
    assert again["eval"] == json.loads((trained["residual"] / "detector.json").read_text())["eval"]


def test_the_loss_without_softmax() -> None:
    """It falls as the right output rises and the wrong one falls, up to a bound, and has gradients for both."""
    labels = torch.tensor([0, 1])
    good, bad = torch.tensor([[2.0, -1.0], [-1.0, 2.0]]), torch.tensor([[-1.0, 2.0], [2.0, -1.0]])
    assert raw_loss(good, labels) < raw_loss(torch.zeros(2, 2), labels) < raw_loss(bad, labels)
    far = torch.tensor([[100.0, -100.0], [-100.0, 100.0]])
    assert raw_loss(far, labels) == raw_loss(10 * far, labels) == -20
    outputs = torch.zeros(2, 2, requires_grad=True)
    raw_loss(outputs, labels).backward()
    assert outputs.grad is not None and (outputs.grad != 0).all()


def test_what_can_not_be_trained_on(made: Path, tmp_path: Path) -> None:
    """Oblong images, a split without attacks and unknown losses, augmentations, networks and attacks are named."""
    with pytest.raises(UsageError, match="--loss must be one of"):
        replace(BRIEF, loss="guess")
    with pytest.raises(UsageError, match="--augment must be one of"):
        replace(BRIEF, augment="guess")
    with pytest.raises(UsageError, match="no detector network is named 'guess'"):
        train(Database(made), tmp_path, replace(BRIEF, network="guess"), threads=1)
    with pytest.raises(UsageError, match="has no attack guess"):
        train(Database(made), tmp_path, replace(BRIEF, leave_out=("guess",)), threads=1)
    database = Database(made)
    oblong = database.card.classifier.model_copy(update={"width": 40})
    database.card = database.card.model_copy(update={"classifier": oblong})
    with pytest.raises(DataError, match="48x40x3; square RGB or grey"):
        train(database, tmp_path, BRIEF, threads=1)
    database = Database(made)
    database.card = database.card.model_copy(update={"attacks": {}})
    with pytest.raises(DataError, match="no adversarial images in its split 'train'"):
        train(database, tmp_path, BRIEF, threads=1)


def test_attacks_left_out_are_only_measured(made: Path, tmp_path: Path) -> None:
    """Training knows the chosen attacks alone, shifts change what it sees, and the report says what was unseen."""
    settings = replace(BRIEF, epochs=1, attacks=("fgsm", "deepfool"), leave_out=("fgsm",), augment="shifts")
    report = train(Database(made), tmp_path, settings, threads=1)
    assert set(report["trained_with"]) == {"deepfool"}
    assert {name: entry["seen"] for name, entry in report["eval"]["attacks"].items()} == {
        name: name == "deepfool" for name in report["eval"]["attacks"]
    }
    assert len(report["eval"]["attacks"]) > 1


def test_several_rates_are_channels(made: Path, tmp_path: Path, benign_sign: Pixels) -> None:
    """The edge scores as the training did: the same residuals, in the same order."""
    settings = replace(BRIEF, epochs=1, network="noise", also=(0.75,))
    report = train(Database(made), tmp_path, settings, threads=1)
    session = OnnxRuntimeNetwork((tmp_path / "detector.onnx").read_bytes(), "detector.onnx", threads=1)
    detector = Residual(report["parameters"], session)
    image = Database(made).normal[0]
    score = detector.score(Evidence(image, np.zeros(43, np.float32), {}, residual))
    outputs = session(as_input(image[None], settings))[0]
    assert score == pytest.approx(outputs[1] - outputs[0], abs=1e-4)


def test_judged_tracks_are_not_trained_on(made: Path, tmp_path: Path) -> None:
    """A further database may not hold images of the splits dev and eval, nor be of another classifier."""
    with pytest.raises(DataError, match="which is of a track that"):
        train(Database(made), tmp_path, BRIEF, threads=1, more=[Database(made)])
    further = Database(made)
    other = further.card.classifier.model_copy(update={"sha256": "0" * 64})
    further.card = further.card.model_copy(update={"classifier": other})
    with pytest.raises(DataError, match="another classifier"):
        train(Database(made), tmp_path, BRIEF, threads=1, more=[further])


def test_further_databases_are_trained_on(made: Path, tmp_path: Path) -> None:
    """All their images are, each adversarial one beside its own normal image."""
    database, further = Database(made), Database(made)
    train_only = [entry for entry in further.card.normal if entry.split == "train"]
    places = {entry.source: place for place, entry in enumerate(database.card.normal)}
    kept = [places[entry.source] for entry in train_only]
    further.normal = database.normal[kept]
    attacked = {}
    for name in database.card.attacks:
        own = database.attacked(name)
        here = [i for i, entry in enumerate(own.entries) if entry.normal in kept]
        entries = tuple(own.entries[i].model_copy(update={"normal": kept.index(own.entries[i].normal)}) for i in here)
        attacked[name] = replace(own, images=own.images[here], entries=entries)
    further.card = further.card.model_copy(update={"normal": tuple(train_only)})
    further.attacked = attacked.__getitem__  # type: ignore[method-assign]
    alone = train(database, tmp_path / "alone", replace(BRIEF, epochs=1), threads=1)
    both = train(database, tmp_path / "both", replace(BRIEF, epochs=1), threads=1, more=[further])
    assert both["trained_with"] == {name: 2 * count for name, count in alone["trained_with"].items()}
    assert both["more"][0]["normal"] == len(train_only)
