"""A classifier that is wired otherwise than it was trained is noticed when it is calibrated; BGR holds everywhere."""

from __future__ import annotations

import copy
import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from PIL import Image
from torch import Tensor, nn

from firewall import Firewall, cli
from firewall.bundle import PatchSpec, load_bundle
from firewall.demo.signs import draw_sign
from firewall.engines import OnnxRuntimeEngine
from firewall.export.onnx import export_classifier
from firewall.export.verification import verify
from firewall.frame import Pixels
from firewall.lab.calibration.bundling import rewritten
from firewall.lab.calibration.preparation import check_wiring
from firewall.lab.datasets.labelled import Labelled, labelled
from firewall.lab.models import open_classifier
from firewall.lab.models.options import PREPARATIONS, Options
from tests.lab.coloured_shapes import SIZE, shapes, trained

LABELS = ("red disc", "red square", "red cross", "blue disc", "blue square", "blue cross")


@cache
def plain() -> bytes:
    """The shapes' network as ONNX: it wants 0..1 in RGB."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        export_classifier(copy.deepcopy(trained()).eval(), path, size=SIZE, labels=LABELS)
        return path.read_bytes()


def exported(path: Path, *, range_: float = 1, mean: float = 0, std: float = 1, bgr: bool = False) -> Path:
    """The same network, made to want its pixels otherwise: (value * range - mean) / std, perhaps in BGR."""
    model = onnx.load_model_from_string(plain())
    entry = model.graph.input[0]
    numbers = {
        "std": np.float32(std),
        "mean": np.float32(mean),
        "range": np.float32(range_),
        "order": np.array([2, 1, 0]),
    }
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items())
    steps = [("Mul", "std"), ("Add", "mean"), ("Div", "range"), *([("Gather", "order")] if bgr else [])]
    values = ["wanted", *(f"step_{number}" for number in range(1, len(steps))), entry.name]
    for number, (operator, operand) in enumerate(steps):
        attributes = {"axis": 1} if operator == "Gather" else {}
        node = helper.make_node(operator, [values[number], operand], [values[number + 1]], **attributes)
        model.graph.node.insert(number, node)
    entry.name = "wanted"
    path.write_bytes(model.SerializeToString())
    return path


def pixels_of(count: int, seed: int) -> tuple[Pixels, np.ndarray]:
    images, classes = shapes(count, seed)
    return (images * 255).round().byte().permute(0, 2, 3, 1).numpy(), classes.numpy()


@pytest.fixture(scope="module")
def benign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """flat/: 240 images; named/: the same in folders of their labels; numbered/: of their numbers."""
    folder = tmp_path_factory.mktemp("benign")
    for number, (image, label) in enumerate(zip(*pixels_of(240, seed=5), strict=True)):
        for place in ("flat", f"named/{LABELS[label].replace(' ', '_').upper()}", f"numbered/{label:03d}"):
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / place / f"{number:03d}.png")
    return folder


def calibrate(classifier: Path | str, images: Path, out: Path, *more: object, detectors: str = "confidence") -> int:
    named = ("--images", images, "--out", out, "--detectors", detectors, "--false-positive-rate", "0.05")
    return cli.run(
        cli.app, ["lab", "calibrate", "--classifier", str(classifier), *map(str, (*named, *more))], "firewall"
    )


def test_it_tells_what_the_network_calls_the_benign_images(
    benign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Right wiring: classes seen, the commonest label's share, confidence, accuracy by the folders' names, on stderr;
    no warning; stdout stays JSON."""
    assert calibrate(exported(tmp_path / "net.onnx"), benign / "named", tmp_path / "b") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["images"] == 240
    first = next(line for line in told.err.splitlines() if line)  # a progress bar may leave an empty one
    assert "6 of 6 classes" in first and "median confidence 0." in first and "named as their labels" in first
    assert "warning" not in told.err


@pytest.mark.parametrize("form", ["flat", "numbered"])
def test_pixels_of_another_range_are_refused(
    benign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """A network of 0..255 that is given 0..1 calls everything the same: refused in one line that names what fits; with
    that it passes, and its answers are those of the network that wants 0..1."""
    path = exported(tmp_path / "net.onnx", range_=255)
    assert calibrate(path, benign / form, tmp_path / "b") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("firewall: error:") and "--preparation 0..255" in line and "--accept-preparation" in line
    assert not (tmp_path / "b").exists()

    assert calibrate(path, benign / form, tmp_path / "b", "--preparation", "0..255") == 0
    assert "warning" not in capsys.readouterr().err
    fresh, _ = pixels_of(40, seed=6)
    expected = open_classifier(str(exported(tmp_path / "plain.onnx"))).logits(fresh)
    engine = OnnxRuntimeEngine(load_bundle(tmp_path / "b"), threads=1)
    np.testing.assert_allclose(engine.classify(fresh), expected, atol=1e-3)


def test_pixels_of_a_larger_range_are_refused_by_their_labels(
    benign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network of 0..1 that is given 0..255, or ImageNet's numbers, still gets half or more right. That is refused
    where labels show it. Without labels, it is where answers say far less than in another way, and a warning else."""
    path = exported(tmp_path / "net.onnx")
    for wrong in ("0..255", "imagenet"):
        assert calibrate(path, benign / "named", tmp_path / "b", "--preparation", wrong) == 1
        line = capsys.readouterr().err.splitlines()[-1]
        assert "--preparation 0..1" in line and "--accept-preparation" in line
        assert not (tmp_path / "b").exists()
    assert calibrate(path, benign / "flat", tmp_path / "b", "--preparation", "0..255") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "hardly tells 128 benign images apart" in line and "--preparation 0..1 --channels rgb" in line
    assert calibrate(path, benign / "flat", tmp_path / "b", "--preparation", "imagenet") == 0
    assert "warning: the network fits another preparation" in capsys.readouterr().err


@pytest.mark.parametrize("labels", [(14, 17), (38, 40), (1, 2), (17, 13, 35)])
def test_few_classes_are_no_reason_to_refuse(labels: tuple[int, ...]) -> None:
    """Images of two or three signs without labels: a wrong preparation scatters them over many classes, unsurely, and
    so tells them apart better. The right one is not refused for that."""
    generator = np.random.default_rng(0)
    images = []
    for number in range(32):
        sign = draw_sign(labels[number % len(labels)], 48)
        image = np.full((60, 60, 3), generator.integers(40, 200, 3), np.uint8)
        top, left = generator.integers(3, 10, 2)
        cover = sign[..., 3:] / 255
        place = image[top : top + 48, left : left + 48]
        place[...] = place * (1 - cover) + sign[..., :3] * cover * generator.uniform(0.6, 1)
        noise = generator.integers(-8, 9, image.shape)
        images.append(np.clip(image.astype(np.int64) + noise, 0, 255).astype(np.uint8))
    bundle = load_bundle()
    classifier = bundle.manifest.classifier
    wiring = check_wiring(classifier, bundle.files[classifier.file], Labelled(images, np.full(32, -1)))
    most = max(each.information for each in wiring.others)
    assert wiring.asked.seen == len(labels) and most > 1.1 * wiring.asked.information
    assert wiring.refusal == ""


def test_a_refusal_can_be_overruled_and_the_manifest_says_so(
    benign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--accept-preparation: the bundle is made, and its notes hold what was overruled."""
    path = exported(tmp_path / "net.onnx", range_=255)
    assert calibrate(path, benign / "flat", tmp_path / "b", "--accept-preparation") == 0
    assert "accepted" in load_bundle(tmp_path / "b").manifest.calibration.notes
    capsys.readouterr()


def test_colours_in_another_order(benign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """BGR given as RGB: with labels under half are right, which is refused and names --channels bgr."""
    path = exported(tmp_path / "net.onnx", bgr=True)
    assert calibrate(path, benign / "named", tmp_path / "b") == 1
    assert "--channels bgr" in capsys.readouterr().err.splitlines()[-1]
    assert calibrate(path, benign / "named", tmp_path / "b", "--channels", "bgr") == 0
    assert "warning" not in capsys.readouterr().err
    assert "BGR" in load_bundle(tmp_path / "b").manifest.calibration.notes


def test_labels_in_another_order_are_noticed(benign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders say what the classes are; labels in another order (here the alphabetical one) would name every sign
    wrongly: refused, with an example."""
    (tmp_path / "labels.txt").write_text("\n".join(sorted(LABELS)) + "\n")
    path = exported(tmp_path / "net.onnx")
    assert calibrate(path, benign / "named", tmp_path / "b", "--labels", tmp_path / "labels.txt") == 1
    assert "another order" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "order"),
    [(name, order) for name in PREPARATIONS for order in ("rgb", "bgr") if (name, order) != ("caffe", "rgb")],
)
def test_every_usual_preparation_fits_its_own_network(benign: Path, tmp_path: Path, name: str, order: str) -> None:
    """--preparation NAME --channels ORDER gives a network that wants just this the answers that it was trained to give,
    and without labels no other one is clearly better."""
    way = PREPARATIONS[name]
    mean, std = float(np.mean(way.mean)), float(np.mean(way.std))
    path = exported(tmp_path / "net.onnx", range_=way.range, mean=mean, std=std, bgr=order == "bgr")
    assert calibrate(path, benign / "flat", tmp_path / "b", "--preparation", name, "--channels", order) == 0
    fresh, classes = pixels_of(60, seed=6)
    bundle = load_bundle(tmp_path / "b")
    logits = OnnxRuntimeEngine(bundle, threads=1).classify(fresh)
    assert (logits.argmax(axis=1) == classes).mean() > 0.85
    wiring = check_wiring(
        bundle.manifest.classifier,
        bundle.files["classifier.onnx"],
        labelled(benign / "flat", LABELS, 128),
        channels="bgr" if order == "bgr" else "rgb",
    )
    assert not wiring.warning and not wiring.refusal


def test_the_numbers_of_a_preparation() -> None:
    """Means stand in the network's order: of a preparation they follow the colours, given ones stay as they are."""
    empty = Path()
    caffe = Options().updated({"preparation": "caffe"}, "t", empty)
    assert caffe.mean == (103.939, 116.779, 123.68) and caffe.channels == "bgr" and caffe.range == 255
    assert caffe.rgb(caffe.mean) == (123.68, 116.779, 103.939)
    assert Options().updated({"preparation": "caffe", "channels": "rgb"}, "t", empty).mean == (123.68, 116.779, 103.939)
    given = Options().updated({"mean": "1,0.5,0.25", "channels": "bgr"}, "t", empty)
    assert given.mean == (1, 0.5, 0.25) and given.rgb(given.mean) == (0.25, 0.5, 1)
    later = Options().updated({"preparation": "imagenet"}, "t", empty).updated({"channels": "bgr"}, "t", empty)
    assert later.mean == (0.406, 0.456, 0.485)


class Twin(nn.Module):
    """The shapes' network with the input channels of its first layer exchanged: it takes BGR."""

    def __init__(self) -> None:
        super().__init__()
        self.network = copy.deepcopy(trained()).eval()
        first = self.network[0]
        assert isinstance(first, nn.Conv2d)
        first.weight = nn.Parameter(first.weight.detach().flip(1))

    def forward(self, image: Tensor) -> Tensor:
        """Logits of (N, 3, H, W)."""
        logits: Tensor = self.network(image)
        return logits


@pytest.fixture(scope="module")
def twins(benign: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A bundle of the network in RGB, one of its twin with --channels bgr and means in its order, the twin's file."""
    folder = tmp_path_factory.mktemp("twins")
    (folder / "rgb.onnx").write_bytes(plain())
    export_classifier(Twin(), folder / "bgr.onnx", size=SIZE, labels=LABELS)
    every = {"detectors": "agreement,stability,confidence,statistics-one-class,residual-one-class"}
    numbers = ("--mean", "0.02,0.01,0.03", "--std", "0.9,1.0,1.1")
    backward = ("--mean", "0.03,0.01,0.02", "--std", "1.1,1.0,0.9", "--channels", "bgr")
    rate = ("--false-positive-rate", "0.1")
    with torch.random.fork_rng(devices=[]):
        assert calibrate(folder / "rgb.onnx", benign / "flat", folder / "rgb", *numbers, *rate, **every) == 0
        assert calibrate(folder / "bgr.onnx", benign / "flat", folder / "bgr", *backward, *rate, **every) == 0
    return folder / "rgb", folder / "bgr", folder / "bgr.onnx"


def test_bgr_gives_the_same_verdicts_on_every_path(
    twins: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole and by copies written straight into the network's tensor, with the native runtime and without it, under
    masks, and in `export verify`: labels, decisions and reasons of the twin are those of the network in RGB."""
    fresh, _ = pixels_of(24, seed=8)
    noise = np.random.default_rng(1).integers(0, 256, (8, SIZE, SIZE, 3), np.uint8)
    pictures = [*fresh, *noise, np.kron(fresh[0], np.ones((3, 3, 1), np.uint8))]
    one, two = (load_bundle(folder) for folder in twins[:2])
    assert one.manifest.classifier.input.mean == two.manifest.classifier.input.mean

    def said(folder_bundle: object) -> list[object]:
        guard = Firewall(folder_bundle, OnnxRuntimeEngine(folder_bundle, threads=1), exhaustive=True, threads=1)  # type: ignore[arg-type]
        verdicts = [guard.screen(picture) for picture in pictures]
        return [(each.decision, each.label, each.suspected_label, each.reason) for each in verdicts]

    expected = said(one)
    assert said(two) == expected and any(decision == "release" for decision, *_ in expected)  # type: ignore[misc]
    engines = [OnnxRuntimeEngine(bundle, threads=1).classify(fresh) for bundle in (one, two)]
    np.testing.assert_allclose(engines[0], engines[1], atol=1e-4)

    patches = PatchSpec(area=0.02, masks=3)
    masked = [
        rewritten(bundle, bundle.path.with_name(bundle.path.name + "-masked"), {}, patches=patches)
        for bundle in (one, two)
    ]
    assert said(masked[0]) == said(masked[1])
    for result in verify(two, list(fresh[:8]), threads=1):
        result.check()

    monkeypatch.setattr("firewall.transforms.runtime.runtime", lambda *_: None)
    for module in ("jpeg", "tensor"):
        monkeypatch.setattr(f"firewall.transforms.{module}.runtime", lambda *_: None)
    assert said(two) == expected


def test_the_lab_sees_the_same_bgr_network(twins: tuple[Path, Path, Path]) -> None:
    """By its file with ?channels=bgr and by its bundle: the same logits, with gradients for attacks."""
    fresh, _ = pixels_of(12, seed=9)
    file = open_classifier(f"{twins[2]}?channels=bgr&mean=0.03,0.01,0.02&std=1.1,1.0,0.9")
    ours, theirs = open_classifier(str(twins[0])), open_classifier(str(twins[1]))
    np.testing.assert_allclose(file.logits(fresh), ours.logits(fresh), atol=1e-4)
    np.testing.assert_allclose(theirs.logits(fresh), ours.logits(fresh), atol=1e-4)
    assert file.differentiable and theirs.differentiable
    plain = open_classifier(f"{twins[2]}?mean=0.03,0.01,0.02&std=1.1,1.0,0.9")
    assert np.abs(plain.logits(fresh) - ours.logits(fresh)).max() > 0.5 and plain.sha256 != file.sha256


def test_a_bgr_bundle_is_read_by_older_versions(twins: tuple[Path, Path, Path]) -> None:
    """Its graph turns the colours, so its manifest holds no field that format 1 didn't have."""
    inputs = [json.loads((folder / "manifest.json").read_text())["classifier"]["input"] for folder in twins[:2]]
    assert set(inputs[0]) == set(inputs[1]) == {"name", "width", "height", "mean", "std"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--channels", "grb"), "rgb, bgr"),
        (("--preparation", "torch"), "imagenet"),
        (("--preparation", "imagenet", "--mean", "0.5"), "leave those out"),
        (("--mean", "123.675,116.28,103.53", "--std", "58.395,57.12,57.375"), "range 255"),
        (("--mean", "nan"), "finite"),
        (("--mean", "a,b,c"), "mean must be numbers"),
        (("--size", "16x16x3"), "HxW"),
        (("--output", "nothing"), "it has logits float32 (N, 6)"),
    ],
)
def test_options_that_say_nothing_sensible(
    benign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: tuple[str, ...], words: str
) -> None:
    """One line that names the value and what is allowed, exit code 2, no bundle."""
    assert calibrate(exported(tmp_path / "net.onnx"), benign / "flat", tmp_path / "b", *given) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and len(error.splitlines()) == 1 and not (tmp_path / "b").exists()


def test_values_that_are_no_numbers_are_told(benign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network that gives NaN or infinity for the benign images: one line with what to look at, and no bundle."""
    path = exported(tmp_path / "net.onnx")
    model = onnx.load(path)
    output = model.graph.output[0]
    model.graph.node.append(helper.make_node("Sqrt", [output.name], ["root"]))
    output.name = "root"
    onnx.save(model, path)
    assert calibrate(path, benign / "flat", tmp_path / "b") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("firewall: error:") and "not finite" in line and "--preparation" in line
    assert not (tmp_path / "b").exists()
