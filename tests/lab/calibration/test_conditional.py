"""`firewall lab conditional`: a bundle gets limits by size, set on benign images alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall import Firewall, cli
from firewall.bundle import Bundle, DetectorSpec, load_bundle
from firewall.bundle.conditional import CONDITIONAL_FILE, CoverageSpec, conditional_spec
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import DataError, UsageError
from firewall.frame import Pixels
from firewall.lab.calibration.conditional import ConditionalSettings, benign_images, conditional
from firewall.lab.datasets.shifts import SHIFTS
from firewall.service import DRIFT_FILE, TRACKS_FILE
from firewall.transforms import resize
from tests.conftest import SHARED_DATA
from tests.fused_bundle import fused_bundle
from tests.jurors import bundle_with, constant_network, juror
from tests.lab.in_process import lab

TRACKS, RATE = 26, 0.05
QUICK = ConditionalSettings(rate=RATE, frames=2, far=1, shifts=("fog", "jpeg-85"), least=5)


@pytest.fixture(scope="module")
def label(guard: Firewall, benign_sign: Pixels) -> int:
    found = guard.screen(benign_sign).label
    assert found is not None
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, label: int, benign_sign: Pixels) -> Path:
    """Tracks of one sign at growing sizes, in a folder of its class; the other classes hold wrong pictures."""
    root = tmp_path_factory.mktemp("signs")
    generator = np.random.default_rng(0)
    for number in range(43):
        (root / f"{number:02d}").mkdir()
        for track in range(TRACKS if number == label else 1):
            light = generator.uniform(0.8, 1.1)
            for frame in range(3):
                side = 26 + 14 * frame + track % 5
                pixels = resize(benign_sign, side, side) * light + generator.normal(0, 2, (side, side, 3))
                path = root / f"{number:02d}" / f"{track:05d}_{frame:05d}.png"
                Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return root


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, label: int) -> Bundle:
    """The default classifier with cheap detectors, one of them a juror that always sees the sign."""
    detectors = [
        DetectorSpec(name="confidence", parameters={"median": 2.6, "below": 0.8, "above": 2.3}, threshold=-99.0),
        juror("juror-a", threshold=-99.0),
        DetectorSpec(name="contrast", threshold=-99.0),
    ]
    logits = [9.0 if index == label else 0.0 for index in range(44)]
    default = load_bundle(fused_bundle())
    files = {
        "juror-a.onnx": constant_network(logits, weights=0.5),
        TRACKS_FILE: default.files[TRACKS_FILE],
        DRIFT_FILE: b"{}",
    }
    return bundle_with(tmp_path_factory.mktemp("bundle"), detectors, files)


def test_a_bundle_gets_limits_by_size(tmp_path: Path, bundle: Bundle, folder: Path, label: int) -> None:
    """They are the edge's rule from then on: benign signs of every size go out, and what is unlike them doesn't. What
    was set with the old rule is left out; what was measured is told."""
    benign = [benign_images(bundle, f"folder:{folder}", None)]
    made = conditional(bundle, benign, tmp_path, QUICK, progress=False)
    guard = Firewall.load(tmp_path, threads=1)

    assert made.spec == conditional_spec(load_bundle(tmp_path)) and CONDITIONAL_FILE in made.bundle.files
    assert made.report["left_out"] == [TRACKS_FILE, DRIFT_FILE] and TRACKS_FILE not in guard.bundle.files
    assert made.report["tracks"] == TRACKS, "pictures that the classifier doesn't get right take no part"
    assert set(made.spec.detectors) == {"confidence", "juror-a", "contrast"} and len(made.spec.edges) >= 1
    assert {row.part for row in made.spec.coverage} == {"clean", "fog", "jpeg-85"}
    assert made.spec.rate == RATE and made.spec.fitted[0].dataset == f"folder:{folder}"
    pictures = [np.asarray(Image.open(path)) for path in sorted((folder / f"{label:02d}").iterdir())]
    verdicts = [guard.screen(pixels) for pixels in pictures]
    assert np.mean([verdict.released for verdict in verdicts if verdict.suspected_label == label]) > 0.85
    assert not guard.screen(np.full((40, 40, 3), 128, np.uint8)).released
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    assert not guard.screen(noise).released


def test_it_can_be_repeated(tmp_path: Path, bundle: Bundle, folder: Path) -> None:
    """The same images and seed give the same bytes, also from a bundle that has limits already."""
    benign = [benign_images(bundle, f"folder:{folder}", None)]
    first = conditional(bundle, benign, tmp_path / "a", QUICK, progress=False)
    second = conditional(first.bundle, benign, tmp_path / "b", QUICK, progress=False)
    assert first.bundle.files[CONDITIONAL_FILE] == second.bundle.files[CONDITIONAL_FILE]


def test_limits_for_a_keyed_sweep_can_be_repeated(tmp_path: Path, bundle: Bundle, folder: Path, label: int) -> None:
    """The lab draws by a key that follows from the seed, so the same seed gives the same bytes; and benign signs are
    released by devices with other keys."""
    spec = DetectorSpec(name="keyed", parameters={"draw": {"copies": 2}}, threshold=-99.0)
    files = {"juror-a.onnx": bundle.files["juror-a.onnx"]}
    with_sweep = bundle_with(tmp_path / "b", [*bundle.manifest.detectors, spec], files)
    benign = [benign_images(with_sweep, f"folder:{folder}", None)]
    quick = replace(QUICK, shifts=(), far=0)
    first, second, other = (
        conditional(with_sweep, benign, tmp_path / name, replace(quick, seed=seed), progress=False)
        for name, seed in (("c", 0), ("d", 0), ("e", 1))
    )
    assert first.bundle.files[CONDITIONAL_FILE] == second.bundle.files[CONDITIONAL_FILE]
    assert first.spec.groups != other.spec.groups and first.spec.summed == ("juror-a", "keyed")
    guard = Firewall.load(tmp_path / "c", threads=1, sweep_key=b"a key that nobody knows")
    pictures = [np.asarray(Image.open(path)) for path in sorted((folder / f"{label:02d}").iterdir())]
    verdicts = [guard.screen(pixels) for pixels in pictures]
    assert np.mean([verdict.released for verdict in verdicts if verdict.suspected_label == label]) > 0.8


def test_further_changes_are_measured_and_set_nothing(tmp_path: Path, bundle: Bundle, folder: Path) -> None:
    """A change that takes no part leaves every limit as it was, and the bundle tells how much of it is withheld, of how
    many tracks: all of what becomes grey, about as many as asked for of what stays as it is. An older bundle, which
    doesn't say what took part, reads as one whose parts all did."""
    changes = {"same": lambda pixels, _: pixels, "grey": lambda pixels, _: np.full_like(pixels, 128) + pixels // 64}
    benign = [benign_images(bundle, f"folder:{folder}", None)]
    plain = conditional(bundle, benign, tmp_path / "a", QUICK, progress=False).spec
    written = conditional(bundle, benign, tmp_path / "b", QUICK, also=changes, progress=False).spec
    assert (written.groups, written.edges, written.level) == (plain.groups, plain.edges, plain.level)
    found = {row.part: row for row in written.coverage if row.group is None}
    assert {name for name, row in found.items() if not row.fitted} <= set(changes) and not found["same"].fitted
    assert found["same"].images == found["same"].tracks <= TRACKS and found["same"].withheld <= 0.2
    assert "grey" not in found or found["grey"].withheld == 1
    assert found["fog"].fitted and found["same"].low <= found["same"].withheld <= found["same"].high
    old = {key: value for key, value in found["fog"].model_dump().items() if key != "fitted"}
    assert CoverageSpec(**old).fitted
    with pytest.raises(UsageError, match="fog takes part in the limits already"):
        conditional(bundle, benign, tmp_path / "c", QUICK, also={"fog": changes["same"]}, progress=False)


def test_the_command(tmp_path: Path, bundle: Bundle, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the limits with what was measured, as `bundle show` does afterwards, writes the bundle and the
    report, and says what it left out."""
    options = ["--false-positive-rate", RATE, "--frames", 2, "--far", 1, "--shift", "fog", "--least-tracks", 5]
    options += ["--also", "half,gamma-2"]
    done = lab(
        *("conditional", "--bundle", bundle.path, "--images", f"folder:{folder}"),
        *("--out", tmp_path / "new", "--json", tmp_path / "report.json", *options),
    )
    assert done.returncode == 0, done.stderr
    assert "limits by size, set for 5.000% withheld" in done.stdout and "withheld, fog:" in done.stdout
    printed = " ".join(done.stdout.split())  # however wide the terminal is
    assert "withheld, half:" in printed and "took no part in the limits" in printed
    assert cli.run(cli.app, ["bundle", "show", str(tmp_path / "new")], "firewall") == 0
    shown = capsys.readouterr().out
    assert "withheld, half:" in shown and "withheld, gamma-2:" in shown
    assert "tracks.json was set with the rule that the bundle had" in done.stdout
    assert (tmp_path / "report.json").is_file() and load_bundle(tmp_path / "new").files[CONDITIONAL_FILE]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "gtsrb@train/final"], "no split 'final'"),
        (["--images", "gtsrb@spring"], "not 'spring'"),
        (["--images", "elsewhere"], "unknown data set"),
        (["--edges", "20,x"], "--edges takes whole numbers"),
        (["--edges", "40,20"], "--edges must ascend"),
        (["--edges", "0"], "--edges must ascend"),
        (["--power", "0.5"], "--power"),
        (["--shift", "snow"], "unknown shift snow"),
        (["--also", "hail"], "--also: unknown change 'hail'"),
        (["--shift-share", "1"], "--shift-share"),
        (["--frames", "0"], "--frames"),
        (["--false-positive-rate", "0"], "between 0 and 1"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path: Path, options: list[str], message: str) -> None:
    """Before anything is scored, with what is allowed."""
    done = lab("conditional", "--out", tmp_path / "new", *options)
    assert done.returncode != 0 and message in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not (SHARED_DATA / "mnist.npz").is_file(), reason="needs mnist.npz")
def test_images_of_other_classes_or_of_none_are_refused(tmp_path: Path, bundle: Bundle, folder: Path) -> None:
    """Another number of classes; a classifier that gets nothing right; a trained detector that has seen them all."""
    other = tmp_path / "other"
    for name in ("x", "y"):
        (other / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), "white").save(other / name / "1.png")
    with pytest.raises(DataError, match=r"folders 'x', 'y' are none of the classifier's 43 classes"):
        benign_images(bundle, f"folder:{other}", None)
    with pytest.raises(UsageError, match="mnist has 10 classes, but the bundle's classifier has 43"):
        benign_images(bundle, "mnist", SHARED_DATA)

    blind = benign_images(bundle, f"folder:{folder}", None)
    wrong = type(blind)(blind.spec, blind.data, blind.where[blind.data.labels[blind.where] == 0], blind.seen)
    with pytest.raises(DataError, match="gets none of the benign images right"):
        conditional(bundle, [wrong], tmp_path / "none", QUICK, progress=False)

    groups = " ".join(str(group) for group in sorted(set(blind.data.groups.tolist())))
    seen = blind.seen.model_copy(update={"groups": groups})
    learnt = [spec.model_copy(update={"fitted": seen}) for spec in bundle.manifest.detectors]
    known = Bundle(
        bundle.path, bundle.manifest.model_copy(update={"detectors": tuple(learnt)}), bundle.files, bundle.sha256
    )
    with pytest.raises(DataError, match="no image is left that no detector of the bundle has learnt from"):
        benign_images(known, f"folder:{folder}", None)


def test_too_few_tracks_for_the_rate(tmp_path: Path, bundle: Bundle, folder: Path) -> None:
    """One line that says how many are needed, and no bundle."""
    strict = ConditionalSettings(rate=0.01, frames=1, far=0, shifts=())
    with pytest.raises(DataError, match=f"needs at least 99 tracks of benign images, got {TRACKS}"):
        conditional(bundle, [benign_images(bundle, f"folder:{folder}", None)], tmp_path / "new", strict, progress=False)
    assert not (tmp_path / "new").exists()


def test_a_member_that_fails_on_a_benign_image_is_named(tmp_path: Path, folder: Path) -> None:
    """A bundle whose detector gives no number can't be calibrated."""
    logits = [9.0] * 43
    broken = bundle_with(tmp_path / "b", [juror("juror-a")], {"juror-a.onnx": constant_network(logits, weights=3e38)})
    assert Firewall(broken, OnnxRuntimeEngine(broken, threads=1))
    with pytest.raises(DataError, match=r"could not be judged \(engine error: juror-a.onnx"):
        conditional(broken, [benign_images(broken, f"folder:{folder}", None)], tmp_path / "n", QUICK, progress=False)


def test_every_shift_is_used_by_default() -> None:
    """Weather and camera are part of the calibration unless the user leaves them out."""
    assert ConditionalSettings().shifts == tuple(SHIFTS)
