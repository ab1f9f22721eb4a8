"""What a network's file computes in is read from its bytes, and a bundle that says otherwise isn't used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from firewall import Firewall, cli
from firewall.bundle import DEFAULT, load_bundle
from firewall.bundle.onnx_bytes import PRECISIONS, is_classical, precision_of
from firewall.errors import BundleError, UsageError
from firewall.export.precision import prepare, to_float16, to_int8, with_half_weights
from firewall.frame import Pixels
from firewall.lab.calibration.bundling import _converted
from firewall.transforms import resize


@pytest.fixture(scope="module")
def values(guard: Firewall, demo_frames: list[Pixels]) -> np.ndarray:
    images = np.stack([resize(frame[:200, :200], 48, 48) for frame in demo_frames[:64]])
    return prepare(images, guard.bundle.manifest.classifier.input)


def test_each_precision_is_read_back(guard: Firewall, values: np.ndarray) -> None:
    """fp32 as it is, fp16 and int8 of both kinds after conversion; what is no ONNX file is an error in one line."""
    content = guard.bundle.files[guard.bundle.manifest.classifier.file]
    assert precision_of(content, "it") == guard.bundle.manifest.classifier.precision == "fp32"
    assert precision_of(to_float16(content), "it") == "fp16"
    assert precision_of(to_int8(content, values, target="cpu"), "it") == "int8"
    assert precision_of(to_int8(content, values), "it") == "int8"
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        precision_of(content[:-20], "it")


def test_classical_networks_are_known_by_their_nodes(guard: Firewall) -> None:
    """Trees are; a network is not, nor one that only names the trees' operators among its versions; what is no ONNX
    file is an error in one line."""
    content = guard.bundle.files[guard.bundle.manifest.classifier.file]
    assert not is_classical(content, "it")
    model = onnx.load_model_from_string(content)
    model.opset_import.append(onnx.helper.make_opsetid("ai.onnx.ml", 3))
    assert not is_classical(model.SerializeToString(), "it")
    node = onnx.helper.make_node("Normalizer", ["logits"], ["more"], domain="ai.onnx.ml", norm="MAX")
    model.graph.node.append(node)
    assert is_classical(model.SerializeToString(), "it")
    with pytest.raises(BundleError, match="not a readable ONNX file"):
        is_classical(content[:-20], "it")


def test_weights_stored_in_half_are_no_precision_to_compute_in(guard: Firewall, demo_frames: list[Pixels]) -> None:
    """A classifier that only stores its weights in float16 can be turned into each precision; one that computes in
    float16 can't."""
    spec = guard.bundle.manifest.classifier
    content = guard.bundle.files[spec.file]
    images = [frame[:200, :200] for frame in demo_frames[:40]]
    for precision in PRECISIONS:
        made = _converted(with_half_weights(content), precision, spec, images, Path("net"))
        assert precision_of(made, "it") == precision
    for precision in ("fp32", "int8"):
        with pytest.raises(UsageError, match=f"can't be turned into {precision}"):
            _converted(to_float16(content), precision, spec, images, Path("net"))


def test_a_bundle_for_another_precision_is_refused(tmp_path: Path) -> None:
    """The manifest's word is compared with the file, hashes or not: thresholds hold for one precision."""
    shutil.copytree(DEFAULT, tmp_path / "b")
    manifest = json.loads((tmp_path / "b" / "manifest.json").read_text())
    manifest["classifier"]["precision"] = "int8"
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"calibrated for int8, but .* computes in fp32"):
        load_bundle(tmp_path / "b")


def test_an_int8_bundle_is_made_and_judges_alike(
    guard: Firewall, benign_sign: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """export bundle --precision int8: a smaller file, thresholds set with it, and the same labels; --database, whose
    attacks were made on another network, and a precision that is none are wrong use."""
    benign = tmp_path / "benign"
    benign.mkdir()
    rng = np.random.default_rng(0)
    for number in range(120):
        moved = np.clip(
            benign_sign.astype(np.int16) + rng.integers(-9, 10) + rng.integers(-3, 4, benign_sign.shape), 0, 255
        )
        Image.fromarray(moved.astype(np.uint8)).save(benign / f"{number:03d}.png")
    made = ("--classifier", "default", "--detectors", "agreement", "--false-positive-rate", "0.05")
    made = (*made, "--accept-preparation")  # all of one sign, as they are meant to be
    command = ["export", "bundle", *made, "--images", str(benign), "--out", str(tmp_path / "b")]
    assert cli.run(cli.app, [*command, "--precision", "int8"], "firewall") == 0
    assert "int8" in capsys.readouterr().out

    bundle = load_bundle(tmp_path / "b")
    file = bundle.manifest.classifier.file
    assert bundle.manifest.classifier.precision == "int8"
    assert len(bundle.files[file]) < 0.5 * len(guard.bundle.files[guard.bundle.manifest.classifier.file])
    images = np.stack([resize(np.array(Image.open(path)), 48, 48) for path in sorted(benign.iterdir())[:20]])
    eight = Firewall(bundle, Firewall.load(tmp_path / "b", threads=1).engine)
    assert np.array_equal(eight.engine.classify(images).argmax(1), guard.engine.classify(images).argmax(1))

    assert cli.run(cli.app, [*command, "--precision", "int4"], "firewall") == 2
    assert "'int4'" in capsys.readouterr().err
    again = ["export", "bundle", "--classifier", str(tmp_path / "b"), "--images", str(benign), "--precision", "fp16"]
    again.append("--accept-preparation")
    assert cli.run(cli.app, [*again, "--detectors", "agreement", "--out", str(tmp_path / "c")], "firewall") == 2
    assert "can't be turned into fp16" in capsys.readouterr().err
