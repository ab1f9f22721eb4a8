"""`firewall lab jury`: a jury for a classifier that is somebody's own, from its answers to benign images."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from firewall import Firewall
from firewall.bundle import load_bundle
from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_classifier
from firewall.frame import Pixels
from firewall.lab.calibration.jury_bundle import with_jury
from firewall.lab.models.classifier_folder import load_card
from firewall.lab.models.juror import Juror, kind_for
from firewall.lab.training.jury.figures import rate, robust
from firewall.lab.training.jury.lessons import Habits, Lessons
from firewall.lab.training.jury.material import _runs, load_material
from firewall.lab.training.jury.own_jury import JuryPlan, passes_for
from firewall.lab.training.jury.teacher import Teacher
from tests.lab.coloured_shapes import CLASSES, SIZE, shapes, trained
from tests.lab.in_process import lab

LABELS = tuple(f"shape {letter}" for letter in "abcdef")[:CLASSES]


def pixels(count: int, seed: int) -> tuple[list[Pixels], list[int]]:
    images, labels = shapes(count, seed)
    return list((images * 255).round().byte().permute(0, 2, 3, 1).numpy()), labels.tolist()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.onnx, a classifier of coloured shapes; named/, images in folders by class; few/, some of them; flat/, without
    folders."""
    folder = tmp_path_factory.mktemp("own")
    export_classifier(copy.deepcopy(trained()).eval(), folder / "net.onnx", size=SIZE, labels=LABELS)
    (folder / "flat").mkdir()
    for number, (image, label) in enumerate(zip(*pixels(600, seed=21), strict=True)):
        for part in ("named", "few")[: 1 + (number < 200)]:
            (folder / part / LABELS[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / part / LABELS[label] / f"{number:03d}.png")
        Image.fromarray(image).save(folder / "flat" / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def teacher(place: Path) -> Teacher:
    """As the edge would run it."""
    _, spec, content = load_card(place / "net.onnx")
    return Teacher(spec, content)


def lessons(
    teacher: Teacher, images: list[Pixels], known: list[int], others: list[Pixels], **changes: object
) -> Lessons:
    given = {
        "size": 24,
        "outputs": CLASSES + bool(others),
        "label_share": 0.5,
        "habits": Habits(),
        "seed": 3,
        **changes,
    }
    return Lessons(images, known, others, teacher=teacher, **given)  # type: ignore[arg-type]


def test_the_classifier_is_asked_as_the_edge_asks_it(teacher: Teacher, place: Path) -> None:
    """Crops of any size, in batches: its logits are those of the torch network on the edge's resize; probabilities sum
    to one; in another process it opens itself again."""
    images, _ = pixels(70, seed=2)
    with torch.no_grad():
        expected = copy.deepcopy(trained()).eval()(shapes(70, seed=2)[0]).numpy()
    np.testing.assert_allclose(teacher.logits(images), expected, atol=1e-3)
    np.testing.assert_allclose(teacher.probabilities(images).sum(1), 1, atol=1e-5)
    assert teacher.logits([]).shape == (0, CLASSES)
    assert teacher.logits([np.zeros((5, 90, 3), np.uint8)]).shape == (1, CLASSES)


def test_a_lesson_depends_on_seed_epoch_and_index_and_wants_what_the_classifier_said(teacher: Teacher) -> None:
    """Alone or in a batch, in any order: the same image; the wanted probabilities are the classifier's, half and half
    with the class where it is known, all on the last output for what shows no class."""
    images, labels = pixels(6, seed=4)
    known = [label if number % 2 else -1 for number, label in enumerate(labels)]
    scenes = [np.full((30, 40, 3), 7, np.uint8)]
    data = lessons(teacher, images, known, scenes)
    keys = [(epoch, index) for epoch in range(2) for index in range(8)]
    batch = dict(zip(keys, data.__getitems__(keys), strict=True))
    for key in reversed(keys):
        image, wanted = lessons(teacher, images, known, scenes)[key]
        assert torch.equal(image, batch[key][0]) and image.shape == (3, 24, 24)
        torch.testing.assert_close(wanted, batch[key][1], atol=1e-5, rtol=0)
        assert abs(float(wanted.sum()) - 1) < 1e-5
        assert (float(wanted[-1]) == 1) == (key[1] >= 6)
    still = lessons(teacher, images, known, scenes, habits=Habits(moved=0))
    answers = teacher.probabilities(images)
    torch.testing.assert_close(still[0, 0][1][:-1], torch.from_numpy(answers[0]), atol=1e-5, rtol=0)
    half = 0.5 * answers[1] + 0.5 * np.eye(CLASSES, dtype=np.float32)[labels[1]]
    torch.testing.assert_close(still[0, 1][1][:-1], torch.from_numpy(half), atol=1e-5, rtol=0)
    assert not torch.equal(lessons(teacher, images, known, scenes, seed=9)[0, 0][0], batch[0, 0][0])


@pytest.mark.parametrize("shape", [(1, 1), (7, 200), (300, 2), (500, 400)])
def test_lessons_of_any_shape(teacher: Teacher, shape: tuple[int, int]) -> None:
    """Every way in which a version gets worse, on strips and pixels."""
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    data = lessons(teacher, [image], [-1], [], habits=Habits(1, 1, 1, 1, 1, mirror=True))
    for epoch in range(4):
        assert data[epoch, 0][0].shape == (3, 24, 24)


def test_nothing_is_mirrored_unless_asked_for(teacher: Teacher) -> None:
    """A sign that is mirrored is another sign."""
    image = np.zeros((24, 24, 3), np.uint8)
    image[:, :8] = 255
    for mirror in (False, True):
        plain = lessons(teacher, [image], [-1], [], habits=Habits(0, 0, 0, 0, 0, mirror=mirror))
        right = sum(float(plain[epoch, 0][0][:, :, -1].mean()) > 0.5 for epoch in range(20))
        assert (right > 0) == mirror


def test_a_fifth_is_kept_out_and_copies_are_on_one_side(place: Path, tmp_path: Path) -> None:
    """Runs of neighbours within each class, by folders named as the labels; of a flat folder runs of all. A copy of an
    image that is learnt from is not judged on. The same images give the same hash, one more gives another."""
    named, flat = (load_material(str(place / name), LABELS, 64) for name in ("named", "flat"))
    assert (named.known >= 0).all() and (flat.known < 0).all()
    for material in (named, flat):
        assert 0.15 < material.held.mean() < 0.25
        assert len(material.part(held=True)[0]) + len(material.part(held=False)[0]) == 600
        learnt = {image.tobytes() for image in material.part(held=False)[0]}
        assert not any(image.tobytes() in learnt for image in material.part(held=True)[0])
    assert {*named.known[named.held]} == set(range(CLASSES)), "each class is judged"
    assert load_material(str(place / "named"), LABELS, 64).sha256 == named.sha256 != flat.sha256
    for number in range(100):
        Image.fromarray(named.images[number % 40]).save(tmp_path / f"{number:03d}.png")
    copies = load_material(str(tmp_path), LABELS, 64)
    learnt = {image.tobytes() for image in copies.part(held=False)[0]}
    assert not any(image.tobytes() in learnt for image in copies.part(held=True)[0])


def test_a_fifth_of_many_small_classes_is_kept_out() -> None:
    """Where no class has five images, as with photographs of a thousand classes: of all together. Larger classes beside
    them give a fifth of their own, and what has no class is divided as before."""
    single = _runs(np.arange(150))
    assert 25 <= single.sum() <= 35
    assert np.array_equal(single, _runs(np.full(150, -1)))
    mixed = np.concatenate([np.arange(100), np.full(50, 200), np.full(100, -1)])
    held = _runs(mixed)
    assert held[100:150].sum() == 10 and 30 <= held.sum() - 10 <= 50
    assert np.array_equal(_runs(np.repeat([0, 1], 50)), np.tile(_runs(np.zeros(50, np.int64)), 2))


def test_images_that_are_none(place: Path, tmp_path: Path) -> None:
    """No such folder or data set, a damaged image (named), too few."""
    with pytest.raises(UsageError, match="neither a folder of images nor a pack nor a data set"):
        load_material("nowhere/at/all", LABELS, 64)
    for number in range(12):
        Image.fromarray(pixels(12, 1)[0][number]).save(tmp_path / f"{number}.png")
    with pytest.raises(DataError, match="12 different images"):
        load_material(str(tmp_path), LABELS, 64)
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    with pytest.raises(Exception, match=r"damaged\.png"):
        load_material(str(tmp_path), LABELS, 64)


def test_passes_and_plans() -> None:
    """Some 300,000 versions, between 6 and 60 passes; kinds once each, known ones."""
    assert [passes_for(count) for count in (0, 100, 10_000, 25_000, 10**6)] == [60, 60, 30, 12, 6]
    for kinds in ((), ("robust", "robust")):
        with pytest.raises(UsageError, match="each kind once"):
            JuryPlan(kinds)
    with pytest.raises(UsageError, match="'blurry'; known"):
        JuryPlan(("blurry",))


def test_robust_accuracy_falls_with_the_radius_and_an_unbounded_attack_always_wins() -> None:
    """PGD on the juror: more radius never helps the juror, 255/255 leaves nothing, and the rate has its interval."""
    images, labels = pixels(60, seed=2)
    network = copy.deepcopy(trained()).eval()
    found = robust(network, images, SIZE, np.array(labels), (1, 8, 255))
    shares = [hits.mean() for hits in found.values()]
    assert list(found) == ["1/255", "8/255", "255/255"]
    assert shares[0] > 0.7 and shares[0] >= shares[1] >= shares[2] == 0
    assert rate(found["255/255"]) == {"rate": 0.0, "n": 60, "ci95": [0.0, 0.0596]}


def command(place: Path, out: Path, *more: str, images: str = "named") -> list[str]:
    given = ["--classifier", str(place / "net.onnx"), "--images", str(place / images), "--out", str(out)]
    return ["jury", *given, "--threads", "1", "--workers", "0", *more]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_jury_is_trained_put_into_a_bundle_and_withholds_what_it_sees_otherwise(place: Path, tmp_path: Path) -> None:
    """By the command: folders and a bundle whose edge asks the jury. It agrees with the classifier on images that were
    kept out, benign images go out, and a picture of another shape than the classifier says is withheld."""
    bundle = tmp_path / "bundle"
    more = ("--kinds", "robust", "--epochs", "12", "--bundle", str(bundle), "--false-positive-rate", "0.1")
    result = lab(*command(place, tmp_path / "jury", *more))
    assert result.returncode == 0, result.stderr
    card = json.loads(result.stdout)
    juror = card["jurors"]["robust"]
    assert json.loads((tmp_path / "jury" / "robust" / "card.json").read_text()) == juror
    assert juror["juror"]["width"] == kind_for("robust", SIZE).size and juror["training"]["with a label"] == 480
    figures = juror["kept-out images"]
    assert figures["agrees with the classifier"]["rate"] > 0.7, figures
    assert set(figures["agrees after PGD-20 on the juror"]) == {"4/255", "8/255"}
    guard = Firewall.load(bundle, threads=1)
    assert {spec.name for spec in guard.bundle.manifest.detectors} == {"confidence", "juror-robust"}
    images, _ = pixels(60, seed=33)
    verdicts = [guard.screen(image) for image in images]
    assert sum(verdict.released for verdict in verdicts) > 40
    scores = np.array([verdict.scores.get("juror-robust", np.nan) for verdict in verdicts])
    assert np.isfinite(scores).sum() > 40
    assert card["bundle"]["images"] == int(load_material(str(place / "named"), LABELS, 64).held.sum())
    default = load_bundle("default")
    with pytest.raises(DataError, match="taught by another classifier"):
        with_jury(default, [tmp_path / "jury" / "robust"], tmp_path / "no")
    with pytest.raises(DataError, match=r"whole jury; name its jurors: --juror .*robust"):
        with_jury(default, [tmp_path / "jury"], tmp_path / "no")
    again = lab(*command(place, tmp_path / "jury", "--kinds", "robust", "--epochs", "12"))
    assert json.loads(again.stdout)["jurors"] == card["jurors"] and "training" not in again.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_jury_goes_on_to_the_same_jurors(place: Path, tmp_path: Path) -> None:
    """kill -9 after the first epoch, then the same command: byte for byte the files of a run never stopped."""
    more = ("--kinds", "coarse", "--epochs", "2")
    assert lab(*command(place, tmp_path / "whole", *more, images="few")).returncode == 0
    cut = command(place, tmp_path / "cut", *more, images="few")
    line = [sys.executable, "-m", "firewall", "lab", *cut]
    log = tmp_path / "cut" / "coarse" / "log.jsonl"
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 400
        while not log.exists() and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGKILL)
    assert log.exists()
    assert lab(*cut).returncode == 0
    files = [(tmp_path / name / "coarse" / "juror.onnx").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--kinds", "blurry"), 2, "unknown kind of juror 'blurry'"),
        (("--kinds", ""), 2, "at least one"),
        (("--device", "cuda:99"), 2, "torch finds"),
        (("--bundle", "B"), 1, "a fifth of the images is kept out for this"),
        (("--channels", "bgr"), 1, "accept-preparation"),
        (("--preparation", "0..255"), 1, "0..1 RGB fits"),
        (("--images", "nowhere"), 2, "neither a folder"),
        (("--classifier", "none.onnx"), 1, "none.onnx"),
        (("--scenes", "nowhere"), 1, "nowhere"),
    ],
)
def test_wrong_use_is_one_line_before_anything_is_trained(
    place: Path, tmp_path: Path, more: tuple[str, ...], code: int, words: str
) -> None:
    """Kinds, device, images, classifier, preparation, too few images for the bundle's rate."""
    result = lab(*command(place, tmp_path / "out", "--epochs", "1", *more))
    assert result.returncode == code and words in result.stderr, result.stderr
    assert "Traceback" not in result.stderr and not list((tmp_path / "out").rglob("*.pt"))


def test_a_juror_with_the_class_not_a_sign_has_one_output_more(teacher: Teacher) -> None:
    """With scenes there are classes + 1 outputs, and the targets have as many."""
    images, labels = pixels(4, seed=4)
    data = lessons(teacher, images, labels, [np.zeros((9, 9, 3), np.uint8)])
    network = Juror(kind_for("coarse", SIZE), CLASSES + 1)
    image, wanted = data[0, 5]
    assert network(torch.stack([image, image])).shape[1] == len(wanted) == CLASSES + 1 and float(wanted[-1]) == 1
