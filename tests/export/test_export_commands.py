"""`firewall export onnx | bundle | verify` as a user runs them, on networks made here."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the export extra is not installed")
onnx = pytest.importorskip("onnx", reason="the export extra is not installed")

from torch.optim.swa_utils import AveragedModel  # noqa: E402

from firewall.bundle import load_bundle, write_bundle  # noqa: E402
from firewall.bundle.signature import generate  # noqa: E402
from firewall.bundle.trust import Trust  # noqa: E402
from firewall.cli import app, run  # noqa: E402
from firewall.errors import EngineError  # noqa: E402
from firewall.export.onnx import export_classifier  # noqa: E402
from firewall.export.parity import compare  # noqa: E402
from firewall.export.verification import verify  # noqa: E402
from firewall.lab.models.sign_classifier import SignClassifier  # noqa: E402
from firewall.lab.models.small_networks import ARCHITECTURES  # noqa: E402
from firewall.lab.training.classifiers.sign_training import Settings as SignSettings  # noqa: E402
from firewall.lab.training.classifiers.small_classifiers import Settings  # noqa: E402
from firewall.lab.training.loop import Schedule  # noqa: E402
from tests.lab.coloured_shapes import SIZE, shapes, trained  # noqa: E402


def export(*arguments: object) -> int:
    return run(app, ["export", *map(str, arguments)], "firewall")


@pytest.fixture(scope="module")
def benign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 320 coloured shapes."""
    folder = tmp_path_factory.mktemp("benign")
    for number, image in enumerate((shapes(320, seed=4)[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of the shapes' network."""
    path = tmp_path_factory.mktemp("own") / "net.onnx"
    export_classifier(copy.deepcopy(trained()).eval(), path, size=SIZE, labels=tuple("abcdef"))
    return path


def checkpoint(folder: Path, architecture: str) -> Path:
    """As `lab train classifier` writes it, with weights that nobody trained."""
    torch.manual_seed(1)
    if architecture == "sign":
        settings: Schedule = SignSettings(epochs=1)
        average = AveragedModel(SignClassifier(43), use_buffers=True)
    else:
        settings = Settings.of(architecture, None, epochs=1, learning_rate=1e-3, seed=0)
        average = AveragedModel(ARCHITECTURES[architecture].build(10), use_buffers=True)
    torch.save({"average": average.state_dict(), "settings": asdict(settings), "epoch": 1}, folder / "checkpoint.pt")
    return folder


@pytest.mark.parametrize("architecture", ["lenet", "sign"])
def test_a_checkpoint_becomes_an_onnx_file_that_says_the_same(
    architecture: str, tmp_path: Path, benign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Free batch, labels inside, the table tells the differences; the JSON has them as numbers."""
    out, told = tmp_path / "m.onnx", tmp_path / "told.json"
    command = ("onnx", "--checkpoint", checkpoint(tmp_path, architecture), "--out", out, "--images", benign)

    assert export(*command, "--limit", 20, "--json", told) == 0

    said, found = capsys.readouterr().out, json.loads(told.read_text())
    assert "20 of 20" in said and "mean difference" in said
    assert found["same_label"] == found["images"] == 20 and 0 < found["mean"] <= found["largest"] <= found["allowed"]
    model = onnx.load(str(out))
    labels = json.loads({entry.key: entry.value for entry in model.metadata_props}["labels"])
    assert labels[0] in ("0", "speed limit 20")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param


def test_what_is_no_checkpoint(tmp_path: Path, benign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing, no file of torch's, pickled code, a detector's, weights of another architecture: one line, no file."""
    out = tmp_path / "m.onnx"
    good = torch.load(checkpoint(tmp_path, "lenet") / "checkpoint.pt", weights_only=True)
    (tmp_path / "text.pt").write_text("no checkpoint")
    torch.save({"settings": Path("a class that is no plain value")}, tmp_path / "code.pt")
    torch.save({**good, "settings": {"detector": "residual"}}, tmp_path / "detector.pt")
    torch.save({**good, "settings": {**good["settings"], "architecture": "two-layer"}}, tmp_path / "other.pt")
    for name, words in (
        ("missing.pt", "is missing"),
        ("text.pt", "not a readable checkpoint"),
        ("code.pt", "not a readable checkpoint"),
        ("detector.pt", "no checkpoint of a classifier"),
        ("other.pt", "doesn't hold the weights"),
    ):
        assert export("onnx", "--checkpoint", tmp_path / name, "--out", out, "--images", benign) == 1
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1 and not out.exists()


def test_differences_of_logits_are_counted_and_refused() -> None:
    """Rounding passes; a larger difference, another class, or values that are not finite don't."""
    logits = np.random.default_rng(0).normal(size=(30, 12)).astype(np.float32)
    near = compare(logits, logits + np.float32(1e-5))
    near.check("near")
    assert near.same_label == near.same_top5 == 30 and near.largest == pytest.approx(1e-5, rel=0.1)
    with pytest.raises(EngineError, match=r"a logit differs by 0\.5"):
        compare(logits, logits + np.float32(0.5)).check("far")
    swapped = compare(logits, logits[:, ::-1])
    assert swapped.same_label < 30
    with pytest.raises(EngineError, match="of 30 images get another class"):
        replace(swapped, largest=0.0).check("swapped")
    with pytest.raises(EngineError, match="not finite"):
        compare(logits, np.full_like(logits, np.nan))
    with pytest.raises(EngineError, match="shape"):
        compare(logits, logits[:, :3])


def test_from_an_onnx_file_to_a_signed_bundle_that_is_verified(
    own: Path, benign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """export bundle calibrates, signs and writes the version; export verify finds no other verdict; the trusted key
    is asked for."""
    monkeypatch.setenv("FIREWALL_TRUST_STATE", str(tmp_path / "state.json"))
    generate(tmp_path / "k")
    generate(tmp_path / "other")
    out, told = tmp_path / "bundle", tmp_path / "told.json"
    named = ("--classifier", own, "--images", benign, "--out", out, "--name", "shapes")
    assert export("bundle", *named, "--version", 3, "--key", tmp_path / "k") == 0
    assert "shapes version 3, agreement, stability, confidence" in capsys.readouterr().out
    trusted = load_bundle(out, trust=Trust.configured(tmp_path / "k.pub"))
    assert trusted.standing == "signed" and trusted.manifest.version == 3

    checked = ("verify", "--bundle", out, "--images", benign, "--limit", 12, "--threads", 1)
    assert export(*checked, "--trust", tmp_path / "k.pub", "--json", told) == 0
    said = capsys.readouterr().out
    assert "same verdict" in said and "12 of 12" in said and "TensorRT: not compared" in said
    (found,) = json.loads(told.read_text())["compared"]
    assert found["verdicts"]["different"] == [] and found["logits"]["same_top5"] == 12
    assert export(*checked, "--trust", tmp_path / "other.pub") == 1
    assert "is not that of a trusted key" in capsys.readouterr().err

    assert export("bundle", *named, "--version", 4) == 2
    assert export("bundle", "--classifier", own, "--out", out) == 2


def plain() -> dict[str, Any]:
    """A manifest, but for its classifier, whose detectors fit any classifier: none has a network of its own."""
    made = load_bundle().manifest.model_dump(
        exclude={"files", "classifier", "masked_classifier", "fusion", "correction", "finder", "golden"}
    )
    stability = {"operations": ["blur:2", "rotate:4"], "scales": [{"temperature": 1.0, "median": 0.01, "above": 0.1}]}
    confidence = {"median": 2.0, "below": 1.0, "above": 2.0}
    detectors = [("confidence", confidence, 1.2), ("stability", stability, 3.0)]
    named = [{"name": name, "parameters": found, "threshold": most} for name, found, most in detectors]
    return {**made, "detectors": named}


def test_a_runtime_that_says_something_else_is_found(
    own: Path, benign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime given logits shifted by class: other labels, other verdicts, an error that counts them."""
    from firewall.export import verification

    classifier = {"file": "n.onnx", "input": {"width": SIZE, "height": SIZE}, "labels": tuple("abcdef")}
    bundle = write_bundle(tmp_path / "b", {"n.onnx": own.read_bytes()}, **plain(), classifier=classifier)
    images = [np.array(Image.open(path)) for path in sorted(benign.iterdir())[:6]]
    (honest,) = verify(bundle, images, threads=1)
    honest.check()

    class Rolled(verification.OnnxRuntimeEngine):
        def classify(self, images: Any) -> Any:
            return np.roll(super().classify(images), 1, axis=1)

    monkeypatch.setattr(verification, "OnnxRuntimeEngine", Rolled)
    (found,) = verify(bundle, images, threads=1)
    assert found.logits.same_label < 6 and found.apart
    with pytest.raises(EngineError, match="a logit differs"):
        found.check()


def test_the_classifier_for_masked_images_is_compared_too(
    own: Path, benign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logits on images under masks, by its own preparation; it is told apart from the protected classifier."""
    from firewall.export import verification

    size = {"width": SIZE, "height": SIZE}
    classifier = {"file": "n.onnx", "input": size, "labels": tuple("abcdef")}
    masked = {**classifier, "file": "m.onnx", "input": {**size, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5)}}
    files = dict.fromkeys(("n.onnx", "m.onnx"), own.read_bytes())
    bundle = write_bundle(tmp_path / "b", files, **plain(), classifier=classifier, masked_classifier=masked)
    images = [np.array(Image.open(path)) for path in sorted(benign.iterdir())[:6]]
    protected, under_masks = verify(bundle, images, threads=1)
    protected.check()
    under_masks.check()
    assert (protected.network, under_masks.network) == ("n.onnx", "m.onnx")
    assert under_masks.logits.images == 6 and under_masks.logits.scale != protected.logits.scale
    assert "verdicts" in protected.to_json() and "verdicts" not in under_masks.to_json()

    class Rolled(verification.OnnxRuntimeEngine):
        def classify(self, images: Any) -> Any:
            logits = super().classify(images)
            return logits if self._spec.file == "n.onnx" else np.roll(logits, 1, axis=1)

    monkeypatch.setattr(verification, "OnnxRuntimeEngine", Rolled)
    protected, under_masks = verify(bundle, images, threads=1)
    protected.check()
    with pytest.raises(EngineError, match=r"m\.onnx on onnxruntime .* a logit differs"):
        under_masks.check()


def test_operators_that_torch_does_not_know_are_left_to_the_reference(own: Path, benign: Path, tmp_path: Path) -> None:
    """A network with one of them is compared all the same, by onnx's own implementation."""
    helper, model = onnx.helper, onnx.load(str(own))
    model.graph.node.append(helper.make_node("Mish", ["logits"], ["mish"]))
    model.graph.output[0].name = "mish"
    size = {"width": SIZE, "height": SIZE}
    classifier = {"file": "n.onnx", "input": size, "output": "mish", "labels": tuple("abcdef")}
    bundle = write_bundle(tmp_path / "b", {"n.onnx": model.SerializeToString()}, **plain(), classifier=classifier)
    images = [np.array(Image.open(path)) for path in sorted(benign.iterdir())[:2]]
    (found,) = verify(bundle, images, threads=1)
    found.check()
    assert found.reference.startswith("onnx") and found.logits.images == 2
