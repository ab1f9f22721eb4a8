"""How a bundle was made, in its manifest: written from the recipe's record, bounded, and of that bundle alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from firewall.bundle import MANIFEST, load_bundle
from firewall.errors import BundleError, DataError, UsageError
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.calibration.provenance import read_record, with_provenance

HASH = "0123456789abcdef0123456789abcdef"


def _file(path: str, **further: Any) -> dict[str, Any]:
    return {"path": path, "hash": "md5", "md5": HASH, "size": 3, **further}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A recipe's folder with a graph of three stages, the first of which is written last, and DVC's record of them."""
    stages: dict[str, Any] = {
        "fuse": {"cmd": "exec python resume.py firewall lab fuse\n  --bundle a --out b", "deps": [_file("a")]},
        "train": {"cmd": "exec python resume.py firewall lab train --out a", "outs": [_file("a", nfiles=2)]},
        "bundle": {"cmd": "old"},
        "gone": {"cmd": "of an older graph"},
    }
    stages["train"]["params"] = {"params.yaml": {"train": {"epochs": 3, "attacks": "fgsm,pgd"}}}
    stages["fuse"]["outs"] = [_file("b")]
    graph = {"stages": {name: {"cmd": "x"} for name in ("fuse", "train", "bundle")}}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    rewritten(load_bundle("default"), tmp_path / "b", {})
    return tmp_path


def _record(work: Path) -> Any:
    return read_record(work / "dvc.yaml", work / "dvc.lock", "bundle")


def test_the_record_is_dvcs_in_the_order_of_the_run(work: Path) -> None:
    """Stages of the graph alone, each after what it needs, without the one that asks; commands as the project's own."""
    record = _record(work)
    assert list(record.stages) == ["train", "fuse"]
    assert record.stages["train"].parameters == {"train": {"epochs": 3, "attacks": "fgsm,pgd"}}
    assert record.stages["fuse"].command == "firewall lab fuse --bundle a --out b"
    (output,) = record.stages["train"].outputs
    assert (output.path, output.hash, output.bytes, output.files) == ("a", f"md5:{HASH}", 3, 2)


def test_the_manifest_has_it_and_the_card_shows_it(work: Path) -> None:
    """`lab provenance` writes it with a raised version; it reads back the same, and `bundle show` lists the stages."""
    command = [sys.executable, "-m", "firewall", "lab", "provenance", "--bundle", "b", "--graph", "dvc.yaml"]
    command += ["--record", "dvc.lock", "--out", "c", "--version", "9"]
    subprocess.run(command, check=True, cwd=work, env={"DVC_STAGE": "bundle"})
    written = load_bundle(work / "c")
    assert written.manifest.provenance == _record(work)
    assert written.manifest.version == 9
    assert written.files == load_bundle("default").files
    show = [sys.executable, "-m", "firewall", "bundle", "show", str(work / "c")]
    shown = subprocess.run(show, check=True, capture_output=True, text=True, env={"COLUMNS": "200"}).stdout
    assert "made by a recipe of 2 stages" in shown
    assert "md5:01234567" in shown
    card = json.loads(subprocess.run([*show, "--json"], check=True, capture_output=True, text=True, env={}).stdout)
    assert list(card["provenance"]["stages"]) == ["train", "fuse"]


def test_a_bundle_without_it_is_as_before(work: Path) -> None:
    """A manifest that doesn't have the field loads, and one without a record is written without it, so that versions
    that don't know of it read it."""
    assert load_bundle("default").manifest.provenance is None
    assert "provenance" not in json.loads((work / "b" / MANIFEST).read_text())


def test_what_is_made_of_a_bundle_was_not_made_that_way(work: Path) -> None:
    """A bundle derived from one with a record has none: its record would tell of another bundle."""
    with_provenance(load_bundle(work / "b"), work / "b", _record(work))
    assert load_bundle(work / "b").manifest.provenance is not None
    assert rewritten(load_bundle(work / "b"), work / "d", {}).manifest.provenance is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lock: lock["stages"].pop("train"), "nothing of train"),
        (lambda lock: lock["stages"].update(train={"cmd": "x" * 9000}), "command"),
        (lambda lock: lock["stages"]["train"]["outs"][0].update(md5="0" * 31), "hash"),
        (lambda lock: lock["stages"]["train"].update(outs=[_file("a")] * 65), "outputs"),
        (lambda lock: lock["stages"]["train"].update(params={"p": {"train": "x" * (1 << 20)}}), "allowed"),
        (lambda lock: lock["stages"]["train"].update(params={"p": {"train": float("nan")}}), "parameters"),
        (lambda lock: lock["stages"]["train"].update(deps=[_file("b")]), "need each other"),
        (lambda lock: lock["stages"].update(train=7), "no record of DVC"),
        (lambda lock: lock.update(stages=[]), "no graph of DVC"),
    ],
)
def test_a_record_that_is_none_is_refused(work: Path, change: Any, told: str) -> None:
    """A stage that wasn't run, what is too large or misformed, circles: one error that says which, nothing written."""
    lock = yaml.safe_load((work / "dvc.lock").read_text())
    change(lock)
    (work / "dvc.lock").write_text(yaml.safe_dump(lock))
    with pytest.raises(DataError, match=told):
        _record(work)


@pytest.mark.parametrize("content", ["", "a: [", "\x00", "- 1"])
def test_files_that_are_no_record(work: Path, content: str) -> None:
    """Empty, damaged and other YAML is an error, never an empty record."""
    (work / "dvc.lock").write_text(content)
    with pytest.raises(DataError):
        _record(work)


def test_the_record_has_to_be_of_the_bundle(work: Path) -> None:
    """A bundle that no stage wrote gets no record, and a version never goes back."""
    with pytest.raises(BundleError, match="no stage of the record wrote"):
        with_provenance(load_bundle("default"), work / "e", _record(work))
    shipped = load_bundle("default").manifest.version
    with pytest.raises(UsageError, match=f"--version must be at least {shipped}"):
        with_provenance(load_bundle(work / "b"), work / "e", _record(work), 1)
    assert not (work / "e").exists()


def test_a_manifest_with_an_oversized_record_does_not_load(work: Path) -> None:
    """The edge's own limit: a manifest from elsewhere is bounded too."""
    with_provenance(load_bundle(work / "b"), work / "b", _record(work))
    manifest = json.loads((work / "b" / MANIFEST).read_text())
    stage = manifest["provenance"]["stages"]["train"]
    for wrong in ({**stage, "command": ""}, {**stage, "extra": 1}, {**stage, "parameters": {"x": "y" * (1 << 20)}}):
        manifest["provenance"]["stages"]["train"] = wrong
        (work / "b" / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match="provenance"):
            load_bundle(work / "b")
    manifest["provenance"]["stages"] = {f"s{number}": stage for number in range(65)}
    (work / "b" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="provenance"):
        load_bundle(work / "b")
