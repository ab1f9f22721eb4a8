"""Classifiers to protect: bundles, users' ONNX files, packs, and what is wrong with one that can't be used."""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from firewall import Firewall
from firewall.bundle import DEFAULT, load_bundle
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import DataError, EngineError, FirewallError, UsageError
from firewall.frame import Pixels
from firewall.host.onnxruntime import ort
from firewall.lab.datasets import open_dataset
from firewall.lab.measurement.classifiers import measure_accuracy, survey
from firewall.lab.models import Protected, load_torch, open_classifier
from firewall.lab.models.opening import PACKS
from tests.conftest import SHARED_DATA

RNG = np.random.default_rng(2)


def small_onnx(
    path: Path,
    *,
    shape: tuple[Any, ...] = ("N", 3, 8, 8),
    activation: str = "Relu",
    last: str | None = None,
    labels: str | None = None,
    opset: int = 18,
    kind: int = TensorProto.FLOAT,
) -> Path:
    """A convolution, an activation, the mean over the image, and a linear layer of five classes."""
    generator = np.random.default_rng(3)
    channels = shape[1] if shape[1] in (1, 3) else 3
    weights = {
        "w": generator.normal(0, 1, (6, channels, 3, 3)).astype(np.float32),
        "v": generator.normal(0, 1, (6, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "v"], ["e"]),
        helper.make_node(last or "Identity", ["e"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", kind, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [shape[0], 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if labels is not None:
        model.metadata_props.add(key="labels", value=labels)
    path.write_bytes(model.SerializeToString())
    return path


def by_runtime(path: Path, pixels: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"image": image[None]})[0] for image in pixels])


def images(count: int, *shape: int) -> Pixels:
    return RNG.integers(0, 256, (count, *shape), np.uint8)


def as_input(pixels: Pixels) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(255)


def gradients_of(classifier: Protected) -> None:
    """The logits' gradient is that of finite differences in the stored pixels' range."""
    shape = (2, classifier.channels, classifier.height, classifier.width)
    x = torch.from_numpy(RNG.uniform(0.2, 0.8, shape).astype(np.float32)).requires_grad_()
    classifier.network(x)[:, 1].sum().backward()
    assert x.grad is not None
    step = 1e-4 * x.grad / x.grad.abs().max()
    with torch.no_grad():
        rise = (classifier.network(x + step) - classifier.network(x - step))[:, 1].sum() / 2
    assert float(rise) == pytest.approx(float((step * x.grad).sum()), rel=0.05)


def test_the_default_classifier_is_the_edges(guard: Firewall, demo_frames: list[Pixels]) -> None:
    """Its logits are what the edge's engine gives of the same prepared pixels, its labels the bundle's."""
    classifier = open_classifier("default")
    crops = np.stack([classifier.prepare(frame[:200, :300]) for frame in demo_frames[:5]])

    engine = OnnxRuntimeEngine(load_bundle(), threads=1)

    np.testing.assert_allclose(classifier.logits(crops), engine.classify(crops), atol=1e-3)
    assert crops.shape == (5, 48, 48, 3) and len(classifier.labels) == 43 and classifier.offset == 0
    assert classifier.differentiable and not any(value.requires_grad for value in classifier.network.parameters())
    # A new default classifier has to be measured by `firewall lab classifiers` and put into models/measured.py.
    gradients_of(classifier)


def test_a_bundles_folder_is_a_classifier(tmp_path: Path) -> None:
    """The same network by another name; a bundle that was tampered with is refused."""
    shutil.copytree(DEFAULT, tmp_path / "mine")
    classifier = open_classifier(str(tmp_path / "mine"))
    assert classifier.name == "mine" and classifier.sha256 == open_classifier("default").sha256

    (tmp_path / "mine" / "classifier.onnx").write_bytes(b"changed")
    with pytest.raises(FirewallError, match=r"classifier\.onnx"):
        open_classifier(str(tmp_path / "mine"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_users_onnx_file_is_a_classifier(tmp_path: Path, packed: bool) -> None:
    """Plain or packed: logits of ONNX Runtime, gradients of finite differences, labels of the file's metadata."""
    path = small_onnx(tmp_path / "net.onnx", labels='["a", "b", "c", "d", "e"]')
    pixels = images(7, 8, 8, 3)
    expected = by_runtime(path, as_input(pixels))
    if packed:
        (tmp_path / "net.onnx.xz").write_bytes(lzma.compress(path.read_bytes()))

    classifier = open_classifier(str(path) + (".xz" if packed else ""))

    np.testing.assert_allclose(classifier.logits(pixels, batch=3), expected, atol=1e-4)
    assert classifier.name == "net" and classifier.labels == ("a", "b", "c", "d", "e") and classifier.differentiable
    assert str(tmp_path) not in json.dumps(classifier.card)
    gradients_of(classifier)


def test_options_say_how_pixels_become_the_input(tmp_path: Path) -> None:
    """From the spec, or from a sidecar file, which the spec overrides; another preparation is another classifier."""
    path = small_onnx(tmp_path / "net.onnx")
    pixels = images(4, 8, 8, 3)
    mean, std = np.float32([0.1, 0.2, 0.3]), np.float32([0.5, 0.6, 0.7])
    expected = by_runtime(path, (as_input(pixels) - mean[:, None, None]) / std[:, None, None])

    plain = open_classifier(str(path))
    asked = open_classifier(f"{path}?mean=0.1,0.2,0.3&std=0.5,0.6,0.7&offset=1&size=8x8")
    np.testing.assert_allclose(asked.logits(pixels), expected, atol=1e-4)
    assert asked.offset == 1 and asked.card["options"]["size"] == (8, 8)
    (tmp_path / "net.onnx.json").write_text('{"mean": [0.1, 0.2, 0.3], "std": 0.9, "labels": ["v","w","x","y","z"]}')
    beside = open_classifier(f"{path}?std=0.5,0.6,0.7")
    np.testing.assert_allclose(beside.logits(pixels), expected, atol=1e-4)
    assert beside.labels[2] == "x"
    (tmp_path / "net.onnx.json").unlink()
    wide = open_classifier(f"{path}?range=255")
    np.testing.assert_allclose(wide.logits(pixels), by_runtime(path, as_input(pixels) * 255), rtol=1e-3, atol=1e-2)
    assert len({one.sha256 for one in (plain, asked, beside, wide)}) == 4
    (tmp_path / "names.txt").write_text("v\nw\nx\ny\nz\n")
    named = open_classifier(f"{path}?labels={tmp_path / 'names.txt'}&mean=0")
    assert named.labels == beside.labels and named.sha256 == plain.sha256 and named.card["options"] == {}


def test_a_softmax_at_the_end_is_left_out(tmp_path: Path) -> None:
    """Attacks need logits: what the softmax is taken of is the output, and the card says so."""
    classifier = open_classifier(str(small_onnx(tmp_path / "net.onnx", last="Softmax")))
    pixels = images(3, 8, 8, 3)

    np.testing.assert_allclose(
        classifier.logits(pixels), open_classifier(str(small_onnx(tmp_path / "net.onnx"))).logits(pixels), atol=1e-5
    )
    assert "softmax" in classifier.card["notes"]


def test_a_file_for_a_batch_of_one_takes_any(tmp_path: Path) -> None:
    """Many exporters write the batch down; the network itself doesn't care."""
    path = small_onnx(tmp_path / "net.onnx", shape=(1, 1, 8, 8))
    pixels = images(5, 8, 8, 1)
    classifier = open_classifier(str(path))

    np.testing.assert_allclose(classifier.logits(pixels), by_runtime(path, as_input(pixels)), atol=1e-4)
    assert classifier.channels == 1


def test_an_open_input_size_has_to_be_given(tmp_path: Path) -> None:
    """The error says how; a size that contradicts the file is wrong use."""
    path = small_onnx(tmp_path / "net.onnx", shape=("N", 3, "H", "W"))
    with pytest.raises(DataError, match=r"size="):
        open_classifier(str(path))
    classifier = open_classifier(f"{path}?size=10x12")
    assert (classifier.height, classifier.width) == (10, 12)
    with pytest.raises(UsageError, match="8x8"):
        open_classifier(f"{small_onnx(path)}?size=10")


def test_without_gradients_only_black_box_attacks_are_left(tmp_path: Path) -> None:
    """An operator that isn't known: the file still classifies, and the card names the operator."""
    path = small_onnx(tmp_path / "net.onnx", activation="Round")
    pixels = images(4, 8, 8, 3)
    classifier = open_classifier(str(path))

    assert not classifier.differentiable and "Round" in classifier.card["gradients"]
    np.testing.assert_allclose(classifier.logits(pixels), by_runtime(path, as_input(pixels)), atol=1e-4)
    with pytest.raises(DataError, match="black-box"):
        classifier.network(torch.zeros(1, 3, 8, 8, requires_grad=True))


def test_a_network_that_differs_from_onnx_runtime_has_no_gradients(tmp_path: Path) -> None:
    """Older opsets take a softmax over all axes at once: that is noticed by the comparison, not trusted."""
    classifier = open_classifier(str(small_onnx(tmp_path / "net.onnx", activation="Softmax", opset=11)))

    assert not classifier.differentiable and "differ" in classifier.card["gradients"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": ("N", 8, 8, 4)}, "layout"),
        ({"shape": ("N", 4, 8, 8)}, "layout"),
        ({"shape": ("N", 192)}, "4 dimensions|dimensions"),
        ({"kind": TensorProto.DOUBLE}, "float32"),
        ({"labels": '["a"]'}, "1 labels"),
        ({"labels": "not JSON"}, "labels"),
        ({"activation": "Nonsense"}, "can't be loaded: .* doesn't know the operator Nonsense"),
    ],
)
def test_a_file_that_is_no_classifier_of_images_is_refused(tmp_path: Path, options: Any, message: str) -> None:
    """Layout, type, labels and a graph that doesn't run: one line each that says what is expected."""
    with pytest.raises(DataError, match=message):
        open_classifier(str(small_onnx(tmp_path / "net.onnx", **options)))


@pytest.mark.parametrize(
    "query", ["std=0", "range=-1", "mean=a", "colour=red", "mean=0.1,0.2", "labels=nowhere.txt", "size=0", "offset=x"]
)
def test_options_that_can_not_be_are_wrong_use(tmp_path: Path, query: str) -> None:
    """Each is named before anything is attacked."""
    with pytest.raises(UsageError):
        open_classifier(f"{small_onnx(tmp_path / 'net.onnx')}?{query}")


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    """No such file, not ONNX, a damaged archive, a broken sidecar, weights elsewhere, a name that nobody knows."""
    with pytest.raises(DataError, match=r"none\.onnx"):
        open_classifier(str(tmp_path / "none.onnx"))
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(DataError, match="junk is not a readable ONNX"):
        open_classifier(str(tmp_path / "junk.onnx"))
    (tmp_path / "net.onnx.xz").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"net\.onnx\.xz"):
        open_classifier(str(tmp_path / "net.onnx.xz"))
    path = small_onnx(tmp_path / "net.onnx")
    (tmp_path / "net.onnx.json").write_text("[1]")
    with pytest.raises(DataError, match=r"net\.onnx\.json"):
        open_classifier(str(path))
    (tmp_path / "net.onnx.json").unlink()
    model = onnx.load(path)
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="one file"):
        open_classifier(str(path))
    with pytest.raises(UsageError, match="mobilenet"):
        open_classifier("resnet50")
    with pytest.raises(DataError, match=r"mobilenet_v2.*--data"):
        open_classifier("mobilenet_v2_1.0_224", tmp_path)


def test_an_architecture_that_was_not_trained_names_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small classifiers are made, not shipped."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(DataError, match="firewall lab train classifier --architecture lenet"):
        open_classifier("lenet")


def test_pixels_of_another_size_or_kind_are_refused(tmp_path: Path) -> None:
    """A grey image becomes three equal channels, a colour image doesn't become grey; floats are no stored pixels."""
    colour = open_classifier(str(small_onnx(tmp_path / "colour.onnx")))
    grey = open_classifier(str(small_onnx(tmp_path / "grey.onnx", shape=("N", 1, 8, 8))))
    prepared = colour.prepare(images(1, 30, 20, 1)[0])

    assert prepared.shape == (8, 8, 3) and (prepared == prepared[..., :1]).all()
    np.testing.assert_array_equal(grey.prepare(images(1, 30, 20, 1)[0]).shape, (8, 8, 1))
    with pytest.raises(DataError, match="grey"):
        grey.prepare(images(1, 8, 8, 3)[0])
    for wrong in (images(1, 9, 8, 3), as_input(images(1, 8, 8, 3)), images(1, 8, 8, 1)):
        with pytest.raises(DataError, match="takes uint8"):
            colour.logits(wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="uint8"):
        colour.prepare(np.zeros((8, 8, 3)))  # type: ignore[arg-type]


def test_logits_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    """A broken network may not decide whether an image fools."""
    path = small_onnx(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.full((6, 5), np.nan, np.float32), "v"))
    path.write_bytes(model.SerializeToString())
    classifier = open_classifier(str(path))

    assert not classifier.differentiable
    with pytest.raises(EngineError, match="finite"):
        classifier.logits(images(1, 8, 8, 3))


def test_accuracy_is_that_of_the_prepared_images(tmp_path: Path) -> None:
    """Counted on any data set whose classes the classifier knows; one whose own data isn't known has to be told."""
    path = small_onnx(tmp_path / "net.onnx")
    classifier = open_classifier(str(path))
    pixels = images(6, 8, 8, 3)
    best = classifier.logits(pixels).argmax(1)
    for label in range(5):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        Image.fromarray(images(1, 8, 8, 3)[0]).save(tmp_path / "data" / str(label) / "any.png")
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / "data" / str(best[number]) / f"right{number}.png")
    data = open_dataset(f"folder:{tmp_path / 'data'}")

    measured = measure_accuracy(classifier, data)
    rows, missing = survey([str(path)], f"folder:{tmp_path / 'data'}", None)

    right = sum(
        classifier.logits(image[None]).argmax() == label for image, label in zip(data.images, data.labels, strict=True)
    )
    assert measured["accuracy"] == round(right / 11, 4) >= 0.5 and measured["top5"] == 1.0
    assert rows[0]["test"][0]["accuracy"] == measured["accuracy"] and not missing
    with pytest.raises(FirewallError, match="--dataset"):
        survey([str(path)], None, None)


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the packs are not here")
@pytest.mark.parametrize(("name", "count"), [("cifar10_resnet20", 100), ("mobilenet_v1_0.25_128", 20)])
def test_the_packs_say_what_onnx_runtime_says_of_real_images(name: str, count: int) -> None:
    """Logits within 1e-3 of ONNX Runtime's on kept-out images that the network names right as often as it should."""
    classifier = open_classifier(name, SHARED_DATA)
    data = open_dataset("cifar10" if name.startswith("cifar10") else "nips17", SHARED_DATA)
    chosen = range(0, len(data), len(data) // count)  # the images lie in the order of their classes
    pixels = np.stack([classifier.prepare(data.images[index]) for index in chosen])
    content = lzma.decompress((SHARED_DATA / "models" / f"{name}.onnx.xz").read_bytes())
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    mean, std = np.float32(PACKS[name].mean), np.float32(PACKS[name].std)
    prepared = (as_input(pixels) - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)

    logits = classifier.logits(pixels)

    np.testing.assert_allclose(logits, session.run(None, {"image": prepared})[0], atol=1e-3)
    assert classifier.card["notes"]
    assert classifier.differentiable and classifier.offset == (len(classifier.labels) == 1001)
    assert (logits.argmax(1) == data.labels[chosen] + classifier.offset).mean() > (0.7 if count == 100 else 0.3)


def test_a_bundle_as_a_torch_network(guard: Firewall, demo_frames: list[Pixels]) -> None:
    """`load_torch`: logits of the edge's engine, gradients that reach every pixel; a folder is taken as its name is."""
    network = load_torch("default")
    crops = np.stack([open_classifier("default").prepare(frame[:200, :300]) for frame in demo_frames[:3]])
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div(255).requires_grad_()

    logits = network(pixels)
    logits.max(1).values.sum().backward()

    np.testing.assert_allclose(logits.detach().numpy(), guard.engine.classify(crops), atol=1e-3)
    assert pixels.grad is not None and (pixels.grad != 0).float().mean() > 0.9
    assert isinstance(load_torch(guard.bundle.path), torch.nn.Module)
    with pytest.raises(UsageError, match="unknown classifier"):
        load_torch("nothing of that name")
