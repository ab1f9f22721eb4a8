"""`firewall lab add-jury`: jurors into a bundle, or one line that says why not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.errors import BundleError, DataError, UsageError
from firewall.lab.calibration.jury_bundle import read_juror, with_jury
from tests.fused_bundle import fused_bundle
from tests.jurors import constant_network
from tests.lab.in_process import lab

LABELS = load_bundle(fused_bundle()).manifest.classifier.labels


def folder(
    path: Path, kind: str = "robust", outputs: int = 44, labels: tuple[str, ...] | None = None, **card: Any
) -> Path:
    """A juror's folder with a network that always says class 3; `labels` are written into the file."""
    content = constant_network([9.0 if place == 3 else 0.0 for place in range(outputs)])
    if labels is not None:
        model = onnx.load_model_from_string(content)
        model.metadata_props.add(key="labels", value=json.dumps(labels))
        content = bytes(model.SerializeToString())
    path.mkdir(parents=True)
    (path / "juror.onnx").write_bytes(content)
    about = {"kind": kind, "file": "juror.onnx", "width": 16, "height": 16}
    whole = {"juror": about, "sha256": hashlib.sha256(content).hexdigest(), **card}
    (path / "card.json").write_text(json.dumps(whole))
    return path


def test_jurors_and_contrast_stand_beside_the_detectors(tmp_path: Path) -> None:
    """By the command. What was fitted or measured without them is gone: fusion, tracks, drift, certificate, rates; the
    rest is the bundle's, and the edge asks the jurors."""
    juror, edges = folder(tmp_path / "a"), folder(tmp_path / "b", "edges", 43, LABELS)
    result = lab(
        "add-jury",
        "--juror",
        juror,
        "--juror",
        edges,
        "--out",
        tmp_path / "new",
        "--without",
        "residual",
        "--bundle",
        fused_bundle(),
    )
    assert result.returncode == 0, result.stderr
    old, new = load_bundle(fused_bundle()), load_bundle(tmp_path / "new")
    names = [spec.name for spec in new.manifest.detectors]
    assert names[0] == "contrast" and names[-3:] == ["juror-robust", "juror-edges", "not-a-sign"]
    asked = new.manifest.detectors[-1].parameters["jurors"]
    assert [listed["file"] for listed in asked] == ["juror-robust.onnx"], "only the one of 44 outputs knows it"
    assert set(names[1:-3]) == {spec.name for spec in old.manifest.detectors} - {"residual"}
    assert new.manifest.fusion is None and not new.manifest.calibration.rates and not new.manifest.calibration.attacks
    assert "no rate has been measured since" in new.manifest.calibration.notes
    assert not {"tracks.json", "drift.json", "certificate.json", "residual.onnx"} & set(new.files)
    assert new.files["juror-robust.onnx"] == (juror / "juror.onnx").read_bytes()
    assert new.manifest.classifier == old.manifest.classifier
    guard = Firewall.load(tmp_path / "new", threads=1, exhaustive=True)
    verdict = guard.screen(np.full((40, 40, 3), 120, np.uint8))
    assert not verdict.released and {*names[-3:], "contrast"} <= set(verdict.scores)
    plain = with_jury(new, [tmp_path / "a"], tmp_path / "plain", without=["not-a-sign"])
    assert "not-a-sign" not in [spec.name for spec in plain.manifest.detectors]


def test_a_juror_for_clear_signs_is_asked_by_the_detector_obstructed_alone(tmp_path: Path) -> None:
    """It gives no opinion on the label, and isn't asked what is no sign; one that has no class for it is refused."""
    robust, clear = folder(tmp_path / "a"), folder(tmp_path / "b", "clear")
    new = with_jury(load_bundle(fused_bundle()), [clear, robust], tmp_path / "new")
    specs = {spec.name: spec for spec in new.manifest.detectors}
    assert "juror-clear" not in specs and list(specs)[-3:] == ["juror-robust", "not-a-sign", "obstructed"]
    asked = {name: [juror["file"] for juror in specs[name].parameters["jurors"]] for name in list(specs)[-2:]}
    assert asked == {"not-a-sign": ["juror-robust.onnx"], "obstructed": ["juror-clear.onnx"]}
    verdict = Firewall.load(tmp_path / "new", threads=1, exhaustive=True).screen(np.full((40, 40, 3), 120, np.uint8))
    assert verdict.scores["obstructed"] < -5

    with pytest.raises(UsageError, match="two jurors are called juror-clear"):
        with_jury(new, [clear, folder(tmp_path / "c", "clear")], tmp_path / "d")
    short = folder(tmp_path / "e", "clear", 43)
    with pytest.raises(BundleError, match=r"juror-clear.onnx, which gave shape \(1, 43\); expected \(1, 44\)"):
        with_jury(load_bundle(fused_bundle()), [short], tmp_path / "f")


def test_a_keyed_sweep_is_put_in_and_keeps_its_jurors(tmp_path: Path) -> None:
    """By the command, beside a jury and later alone; a juror that it asks stays in the bundle without the detector."""
    jury, keyed = tmp_path / "jury", tmp_path / "keyed"
    options = ("--keyed", 3, "--keyed-jurors", "robust")
    done = lab("add-jury", "--juror", folder(tmp_path / "a"), *options, "--out", jury, "--bundle", fused_bundle())
    assert done.returncode == 0, done.stderr
    spec = next(spec for spec in load_bundle(jury).manifest.detectors if spec.name == "keyed")
    assert spec.parameters["draw"]["copies"] == 3
    assert spec.parameters["jurors"] == [{"file": "juror-robust.onnx", "width": 16, "height": 16}]

    without = with_jury(load_bundle(jury), [folder(tmp_path / "b", "edges")], tmp_path / "c", without=["juror-robust"])
    names = [spec.name for spec in without.manifest.detectors]
    assert "juror-robust" not in names and "keyed" in names and "juror-robust.onnx" in without.files
    alone = with_jury(load_bundle(jury), [], keyed, keyed=5)
    assert [spec.name for spec in alone.manifest.detectors][-3:] == ["juror-robust", "not-a-sign", "keyed"]
    guard = Firewall.load(keyed, threads=1, exhaustive=True, sweep_key=b"0123456789abcdef")
    verdict = guard.screen(np.full((40, 40, 3), 120, np.uint8))
    assert not verdict.released and verdict.nonce is not None and "keyed" in verdict.scores


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--keyed", 65), "--keyed is a number of copies from 1 to 64, got 65"),
        (("--keyed", -1), "--keyed is a number of copies from 1 to 64, got -1"),
        (("--keyed-jurors", "robust"), "--keyed is a number of copies from 1 to 64, got 0"),
        (("--keyed", 4, "--keyed-jurors", "edges"), "'edges'; the bundle's jurors are robust"),
    ],
)
def test_a_keyed_sweep_that_can_not_be_is_refused(tmp_path: Path, options: tuple[object, ...], words: str) -> None:
    """In one line, and nothing is written."""
    juror = folder(tmp_path / "a")
    done = lab("add-jury", "--juror", juror, *options, "--out", tmp_path / "n", "--bundle", fused_bundle())
    assert done.returncode == 2 and words in done.stderr and not (tmp_path / "n").exists()


def test_a_bundle_can_be_changed_in_place_and_again(tmp_path: Path) -> None:
    """Files of removed detectors are gone from the folder too; a second jury takes the place of the first, and the note
    stands there once; of a network that two detectors share nothing is lost while one of them is there."""
    bundle = with_jury(
        load_bundle(fused_bundle()), [folder(tmp_path / "a"), folder(tmp_path / "b", "edges")], tmp_path / "own"
    )
    again = with_jury(bundle, [folder(tmp_path / "c", "coarse")], tmp_path / "own", without=("residual",))
    there = {path.name for path in (tmp_path / "own").iterdir()}
    assert there == {*again.files, "manifest.json"}
    assert not {"juror-robust.onnx", "juror-edges.onnx", "residual.onnx"} & there and "juror-coarse.onnx" in there
    assert again.manifest.calibration.notes.count("a jury was put in") == 1
    assert [spec.name for spec in again.manifest.detectors].count("contrast") == 1
    specs = again.manifest.detectors
    shared = next(spec for spec in specs if spec.name == "juror-coarse")
    twin = shared.model_copy(update={"name": "juror-twin"})
    from firewall.lab.calibration.bundling import rewritten

    both = rewritten(again, tmp_path / "both", {}, detectors=(*specs, twin))
    kept = with_jury(both, [folder(tmp_path / "d", "coarse")], tmp_path / "both")
    assert "juror-coarse.onnx" in kept.files and load_bundle(tmp_path / "both").sha256 == kept.sha256


def damage(path: Path, what: str) -> Path:
    """A juror's folder with a fault."""
    card = json.loads((path / "card.json").read_text())
    if what == "no card":
        (path / "card.json").unlink()
    elif what == "no json":
        (path / "card.json").write_text("{")
    elif what == "a list":
        (path / "card.json").write_text("[1]")
    elif what == "no file":
        (path / "juror.onnx").unlink()
    elif what == "half a file":
        content = (path / "juror.onnx").read_bytes()
        (path / "juror.onnx").write_bytes(content[: len(content) // 2])
    elif what in ("Robust!", "../up"):
        card["juror"]["kind"] = what
        (path / "card.json").write_text(json.dumps(card))
    elif what == "too wide":
        card["juror"]["width"] = 5000
        (path / "card.json").write_text(json.dumps(card))
    elif what == "another size":
        card["juror"]["width"] = 24
        (path / "card.json").write_text(json.dumps(card))
    return path


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("no card", "holds no juror"),
        ("no json", "holds no juror"),
        ("a list", "holds no juror"),
        ("no file", "holds no juror"),
        ("half a file", "not the file that its card.json describes"),
        ("Robust!", "no name for a juror"),
        ("../up", "no name for a juror"),
        ("too wide", "holds no juror"),
    ],
)
def test_a_folder_that_holds_no_juror_is_refused(tmp_path: Path, what: str, words: str) -> None:
    """One line that names the folder, and no bundle."""
    made = damage(folder(tmp_path / "juror"), what)
    result = lab("add-jury", "--juror", made, "--out", tmp_path / "new")
    assert result.returncode == 1 and words in result.stderr and str(made) in result.stderr.replace("\n", "")
    assert not (tmp_path / "new").exists()
    with pytest.raises(DataError):
        read_juror(tmp_path / "nowhere")


def test_a_juror_for_other_classes_is_refused_and_the_bundle_stays(tmp_path: Path) -> None:
    """Another number of classes, other labels, the labels in another order, another classifier's pupil, a network that
    doesn't run at its size: nothing is written, not even over the bundle's own folder."""
    bundle = with_jury(load_bundle(fused_bundle()), [folder(tmp_path / "good")], tmp_path / "own")
    before = {path.name: path.read_bytes() for path in (tmp_path / "own").iterdir()}
    turned = (LABELS[1], LABELS[0], *LABELS[2:])
    for number, (made, error, words) in enumerate(
        (
            (lambda to: folder(to, outputs=10), BundleError, r"\(1, 43\)"),
            (lambda to: folder(to, outputs=45), BundleError, r"\(1, 43\)"),
            (lambda to: folder(to, outputs=43, labels=turned), DataError, "other labels.*class 0"),
            (lambda to: folder(to, outputs=43, labels=LABELS[:9]), DataError, "other labels.*fewer"),
            (lambda to: folder(to, classifier="0" * 64), DataError, "taught by another classifier"),
            (lambda to: damage(folder(to), "another size"), Exception, "16"),
        )
    ):
        with pytest.raises(error, match=words):
            with_jury(bundle, [made(tmp_path / f"bad{number}")], tmp_path / "own")
    assert {path.name: path.read_bytes() for path in (tmp_path / "own").iterdir()} == before


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    """The same kind twice, a detector to leave out that isn't there, no juror at all."""
    one, two = folder(tmp_path / "a"), folder(tmp_path / "b")
    for jurors, without, words in (
        ([one, two], (), "two jurors are called juror-robust"),
        ([one], ("residul",), "--without names 'residul'"),
        ([], (), "at least one juror"),
    ):
        with pytest.raises(UsageError, match=words):
            with_jury(load_bundle(fused_bundle()), jurors, tmp_path / "new", without=without)
    assert not (tmp_path / "new").exists()
