from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from firewall import Firewall
from firewall.bundle import DEFAULT, load_bundle
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import BundleError


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The default bundle in a folder of its own."""
    return Path(shutil.copytree(DEFAULT, tmp_path / "bundle"))


def edit(bundle: Path, **changes: object) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_default_bundle_is_whole_and_small() -> None:
    """It loads, knows 43 signs, says what it was calibrated on, and takes at most 10 MB."""
    bundle = load_bundle()

    assert len(bundle.manifest.classifier.labels) == 43
    assert bundle.manifest.calibration.images >= 1000
    assert sum(path.stat().st_size for path in DEFAULT.iterdir()) <= 10_000_000


def test_one_flipped_byte_is_refused_wherever_it_is(copy: Path) -> None:
    """Any bit of the classifier's file changed: the bundle does not load."""
    file = copy / load_bundle(copy).manifest.classifier.file
    whole = file.read_bytes()
    for position in (0, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(BundleError, match="is not the file that its bundle was made with"):
            Firewall.load(copy)


def test_a_shortened_file_is_refused(copy: Path) -> None:
    """A file cut off while copying does not load."""
    file = copy / load_bundle(copy).manifest.classifier.file
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleError, match="install the bundle again"):
        load_bundle(copy)


@pytest.mark.parametrize("path", ["../outside.onnx", "/etc/passwd", "sub/classifier.onnx", ".hidden"])
def test_files_outside_the_bundle_are_refused(copy: Path, path: str) -> None:
    """A manifest can't make the firewall read elsewhere."""
    files = json.loads((copy / "manifest.json").read_text())["files"]
    edit(copy, files={path: next(iter(files.values()))})
    with pytest.raises(BundleError, match="own folder"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "format 2"),
        ({"format": None}, "format None"),
        ({"surprise": 1}, "surprise"),
        ({"detectors": []}, "detectors"),
        ({"files": {}}, "doesn't list it"),
        ({"calibration": {}}, "calibration"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(copy: Path, changes: dict[str, object], words: str) -> None:
    """Another format, an unknown key, no detectors, unlisted files: each error says which."""
    edit(copy, **changes)
    with pytest.raises(BundleError, match=words):
        load_bundle(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\xff", "[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(copy: Path, text: str) -> None:
    """Whatever stands in the manifest's place, the answer is one clear error."""
    (copy / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError):
        load_bundle(copy)


def test_a_missing_bundle_says_what_to_do(tmp_path: Path) -> None:
    """The error names the path and the option."""
    with pytest.raises(BundleError, match="--bundle"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("jurors", [[{"file": "second.onnx"}], [{"width": 8}, {"file": "second.onnx"}]])
def test_a_juror_of_a_keyed_sweep_has_to_be_listed(copy: Path, jurors: list[object]) -> None:
    """Its network is one of the bundle's files like any other: hashed, and never taken from elsewhere."""
    detectors = json.loads((copy / "manifest.json").read_text())["detectors"]
    keyed = {"name": "keyed", "parameters": {"jurors": jurors}, "threshold": 0.0}
    edit(copy, detectors=[*detectors, keyed], fusion=None)
    with pytest.raises(BundleError, match=r"uses 'second\.onnx' but doesn't list it"):
        load_bundle(copy)


@pytest.mark.parametrize("jurors", ["x", 3, None, ["second.onnx"], {"file": "second.onnx"}])
def test_jurors_that_are_none_are_refused_when_the_bundle_is_used(copy: Path, jurors: object) -> None:
    """Whatever stands there, the answer is one clear error."""
    detectors = json.loads((copy / "manifest.json").read_text())["detectors"]
    keyed = {"name": "keyed", "parameters": {"jurors": jurors}, "threshold": 0.0}
    edit(copy, detectors=[*detectors, keyed], fusion=None)
    bundle = load_bundle(copy)
    with pytest.raises(BundleError, match="parameters of detector 'keyed'"):
        Firewall(bundle, OnnxRuntimeEngine(bundle, threads=1), threads=1)


def test_a_detector_that_is_there_twice_is_refused(copy: Path) -> None:
    """Scores are kept by name, so one of the two would not count."""
    detectors = json.loads((copy / "manifest.json").read_text())["detectors"]
    edit(copy, detectors=[*detectors, detectors[0]], fusion=None)
    with pytest.raises(BundleError, match=f"{detectors[0]['name']} is there more than once"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("finder", "words"),
    [
        ({"file": "classifier.onnx", "threshold": 0.5}, "file classifier.onnx is another network's too"),
        ({"file": "juror-robust.onnx", "threshold": 0.5}, "file juror-robust.onnx is another network's too"),
        (
            {"file": "finder.onnx", "threshold": 0.5, "stride": 8, "multiple": 20},
            "multiple 20 must be one of its stride 8",
        ),
        ({"file": "finder.onnx", "threshold": 1.0}, "threshold"),
        ({"file": "another.onnx", "threshold": 0.5}, "doesn't list it"),
    ],
)
def test_a_finder_that_does_not_fit_is_refused(copy: Path, finder: dict[str, object], words: str) -> None:
    """Another network's file, sides that its map doesn't divide, a threshold that nothing reaches, a missing file."""
    edit(copy, finder=finder)
    with pytest.raises(BundleError, match=words):
        load_bundle(copy)


def test_an_unknown_detector_is_refused(copy: Path) -> None:
    """A bundle that asks for a detector this version doesn't have is not run without it."""
    edit(copy, detectors=[{"name": "crystal-ball", "threshold": 0.5}], fusion=None)
    with pytest.raises(BundleError, match="unknown detector 'crystal-ball'"):
        Firewall.load(copy)


def test_a_threshold_that_is_no_number_is_refused(copy: Path) -> None:
    """NaN compares false with everything: it may not become a threshold."""
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["detectors"][0]["threshold"] = float("nan")
    path.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="threshold"):
        load_bundle(copy)


@pytest.mark.parametrize(
    ("count", "size", "said"), [(65, 1, "65 files of 65 bytes"), (3, 1 << 30, "3 files of 3221225472")]
)
def test_a_bundle_that_would_fill_the_memory_is_refused(copy: Path, count: int, size: int, said: str) -> None:
    """Too many files, or too much in all, by what the manifest says: before any of them is read."""
    edit(copy, files={f"f{number}": {"sha256": "0" * 64, "bytes": size} for number in range(count)})
    with pytest.raises(BundleError, match=said):
        load_bundle(copy)


def test_what_is_missing_says_what_to_do(tmp_path: Path) -> None:
    """No bundle at all: name another; a file that is gone from one: install it again; another format or a field that
    isn't known: a version that reads it."""
    with pytest.raises(BundleError, match=r"manifest.json .No such file or directory.; name a bundle's folder"):
        load_bundle(tmp_path / "none")
    folder = tmp_path / "b"
    shutil.copytree(DEFAULT, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for changed, words in (({"format": 2}, "install a version that reads it"), ({"new": 1}, "new: .*newer version")):
        (folder / "manifest.json").write_text(json.dumps({**manifest, **changed}))
        with pytest.raises(BundleError, match=words):
            load_bundle(folder)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "classifier.onnx").unlink()
    with pytest.raises(BundleError, match=r"classifier.onnx .No such file or directory.; install the bundle again"):
        load_bundle(folder)
