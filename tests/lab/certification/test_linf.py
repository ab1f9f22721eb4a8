"""Certificates against changes of every value: bounds that hold against attacks and rounding, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn

from firewall import cli
from firewall.bundle import ClassifierSpec, InputSpec, load_bundle
from firewall.bundle.trust import Trust
from firewall.bundle.values import eps_of
from firewall.decision.proved_network import ProvedNetwork
from firewall.decision.values import Values
from firewall.errors import DataError, FirewallError, UsageError
from firewall.export.onnx import export_classifier
from firewall.lab.certification import linf_certificate
from firewall.lab.certification.interval_training import Settings, train_certified
from firewall.lab.certification.intervals import Box, box_of, intervals, linear
from firewall.lab.certification.layers import Affine, Convolution, Layer, Layers, MaxPool, Rectified, open_layers
from firewall.lab.certification.linf import interval_margins, line_margins, margins, tightened
from firewall.lab.certification.linf_certificate import Attacked, certify_linf
from firewall.lab.cli import app
from firewall.lab.models.robust_networks import IntervalNetwork
from firewall.lab.reports.certify import collect
from firewall.lab.reports.certify_norms import html


def _network(seed: int, *, overlapping: bool = False) -> Layers:
    """Random weights, 3x9x8 images: two convolutions (one with uneven strides), max-pooling, two linear layers."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        scale = float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 else 0.1
        return torch.randn(shape, generator=generator, dtype=torch.float64) * 2 * scale

    layers: list[Layer] = [
        Convolution(drawn(4, 3, 3, 3), drawn(4), (1, 1), (1, 1)),
        Rectified(),
        Convolution(drawn(6, 4, 3, 4), drawn(6), (2, 1), (1, 0)),
        Rectified(),
        MaxPool((2, 2), (1, 1) if overlapping else (2, 2)),
        Affine(drawn(9, 6 * (16 if overlapping else 4)), drawn(9)),
        Rectified(),
        Affine(drawn(4, 9), drawn(4)),
    ]
    return Layers.of(layers, (3, 9, 8))


def _image(seed: int) -> Tensor:
    """With values at both ends of the range, where the box is cut off."""
    image = torch.rand((3, 9, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (image * 1.4 - 0.2).clamp(0, 1)


def _worst(network: Layers, image: Tensor, label: int, eps: float, seed: int) -> Tensor:
    """The least margins that signs drawn at random, and signs of gradients, find within eps, (classes,)."""
    generator = torch.Generator().manual_seed(seed)
    low, high = (image - eps).clamp(0, 1), (image + eps).clamp(0, 1)
    best = torch.full((network.classes,), torch.inf, dtype=torch.float64)
    for other in range(network.classes):
        point = low + (high - low) * torch.rand((24, *image.shape), generator=generator, dtype=torch.float64).round()
        for _ in range(20):
            point.requires_grad_()
            logits = network.logits(point)
            (slope,) = torch.autograd.grad((logits[:, label] - logits[:, other]).sum(), point)
            best = torch.minimum(best, (logits[:, label, None] - logits).detach().min(dim=0).values)
            point = torch.where(slope > 0, low, high).detach()
    return best.index_fill(0, torch.tensor([label]), torch.inf)


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("eps", [0.0005, 0.01, 0.08])
def test_no_attack_gets_below_a_bound(eps: float, overlapping: bool) -> None:
    """Of intervals, of lines, of lines over tightened bounds, each by itself; in float64, and in float32 as engines do.

    At the smallest eps the bound of lines comes within a twentieth of what the attack finds, so that a bound that says
    nothing fails; where windows overlap only the first holds.
    """
    for seed in range(4):
        network, image = _network(seed, overlapping=overlapping), _image(seed)
        label = int(network.logits(image[None]).argmax())
        found = intervals(network, box_of(image, eps))
        worst = _worst(network, image, label, eps, seed)
        lines = line_margins(network, found, label)
        closer = line_margins(network, tightened(network, found), label)
        for bound in (interval_margins(network, found, label), lines, closer, margins(network, image, label, eps)):
            assert bool((bound <= worst).all())
        others = torch.arange(network.classes) != label
        if eps < 0.001 and not overlapping:
            drop = network.logits(image[None])[0, label] - network.logits(image[None])[0]
            assert bool(((worst - closer)[others] < 0.05 * (drop - worst)[others] + 1e-3).all())
        single = linf_certificate._Module(network)
        around = image + eps * torch.randint(-1, 2, (64, *image.shape), generator=torch.Generator().manual_seed(seed))
        logits = single(around.clamp(0, 1).float()).double().detach()
        assert bool(((logits[:, label, None] - logits)[:, others] >= margins(network, image, label, eps)[others]).all())


def test_bounds_hold_for_every_inner_value_and_tightened_ones_are_nowhere_wider() -> None:
    """Whatever image of the box goes through, each layer's values lie between its bounds."""
    network, image, eps = _network(7), _image(7), 0.05
    wide = intervals(network, box_of(image, eps))
    narrow = tightened(network, wide)
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(-1, 2, (200, *image.shape), generator=generator)
    values = (image + eps * steps).clamp(0, 1)
    narrower = 0
    for place, layer in enumerate(network.layers):
        for found in (wide, narrow):
            assert bool((values >= found.boxes[place].low).all() and (values <= found.boxes[place].high).all())
        assert bool((narrow.boxes[place].low >= wide.boxes[place].low).all())
        assert bool((narrow.boxes[place].high <= wide.boxes[place].high).all())
        narrower += int((narrow.boxes[place].high < wide.boxes[place].high).sum())
        values = layer.forward(values)
    assert narrower > 0


def test_rounding_never_narrows_a_bound() -> None:
    """Sums that cancel, against exact rational arithmetic: bounds of a single point contain the exact value, which the
    same sums in float64 miss on one side or the other."""
    generator = np.random.default_rng(0)
    missed = 0
    for _ in range(200):
        count = int(generator.integers(3, 40))
        weights = generator.normal(size=count) * 10.0 ** generator.integers(-3, 12, count)
        values = generator.normal(size=count)
        values[-1] = -(weights[:-1] @ values[:-1]) / weights[-1]
        exact = sum(
            (Fraction(a) * Fraction(b) for a, b in zip(weights.tolist(), values.tolist(), strict=True)), Fraction(0)
        )
        column = torch.from_numpy(values)[:, None]
        found, _ = linear(torch.from_numpy(weights)[None], torch.zeros(1, dtype=torch.float64), Box(column, column))
        assert Fraction(float(found.low)) <= exact <= Fraction(float(found.high))
        missed += Fraction(float(weights @ values)) != exact
    assert missed > 150


def test_a_bound_for_float32_covers_what_float32_loses() -> None:
    """A network whose sums cancel in float32: its logits there lie outside the bounds of exact arithmetic, but within
    those that allow for float32."""
    weight = torch.tensor([[1.0, -1.0, 1e-3], [0.0, 0.0, 0.0]], dtype=torch.float64).reshape(2, 3)
    layers: list[Layer] = [
        Affine(torch.diag(torch.tensor([3e5, 3e5, 1.0], dtype=torch.float64)), torch.tensor([0.1, 0.0, 0.0]).double()),
        Affine(weight, torch.zeros(2, dtype=torch.float64)),
    ]
    network = Layers.of(layers, (3, 1, 1))
    image = torch.full((3, 1, 1), 1 / 3, dtype=torch.float64)
    logits = linf_certificate._Module(network)(image[None].float()).double().detach()[0]
    exact = intervals(network, box_of(image, 0.0, float32=False), float32=False).boxes[-1]
    allowed = intervals(network, box_of(image, 0.0)).boxes[-1]
    assert not exact.low[0] <= logits[0] <= exact.high[0]
    assert allowed.low[0] <= logits[0] <= allowed.high[0]


def _exported(folder: Path, network: nn.Module) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    export_classifier(network, folder / "classifier.onnx", size=8, labels=("a", "b", "c"))
    return folder / "classifier.onnx"


def _small() -> nn.Sequential:
    torch.manual_seed(0)
    first = (nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    network = nn.Sequential(*first, nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3, bias=False)).eval()
    for layer in network:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.weight.data *= 3  # so that it gives several labels
    return network


def _coloured(generator: np.random.Generator) -> npt.NDArray[np.uint8]:
    """8x8 pixels of a colour, with some noise."""
    return np.clip(generator.normal(generator.integers(0, 256, 3), 20, (8, 8, 3)), 0, 255).astype(np.uint8)


def _images(folder: Path, count: int = 4) -> str:
    """A folder of images as a data set, of the classes a, b and c."""
    generator = np.random.default_rng(0)
    for label in "abc":
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(_coloured(generator)).save(folder / label / f"{number}.png")
    return f"folder:{folder}"


def test_the_command_writes_what_it_proved_and_goes_on_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certified is never more than survives the attack, and that never more than is right; after a stop the rows that
    are known aren't made again, and the result is the same."""
    file, images = _exported(tmp_path / "net", _small()), _images(tmp_path / "images")
    command = ["certify", "linf", "--network", str(file), "--dataset", images, "--limit", "12", "--eps", "1/255"]
    assert cli.run(app, [*command, "--json", str(tmp_path / "all.json")], "firewall lab") == 0
    whole = json.loads((tmp_path / "all.json").read_text())
    summary = whole["summary"]
    shares = [summary[key]["value"] for key in ("certified_accuracy", "surviving_attack", "clean_accuracy")]
    assert shares == sorted(shares) and shares[-1] > 0 and len(whole["rows"]) == 12
    assert whole["about"]["eps"] == 1 / 255 and whole["about"]["input"] == [3, 8, 8]

    page = collect(tmp_path)
    text = html(page["linf"])
    assert len(page["linf"]) == 1 and "1/255" in text and "PGD, 40 steps, 2 restarts" in text
    assert f"{100 * shares[0]:.1f} %" in text and "Not measured" in html([])

    calls: list[int] = []
    real = linf_certificate.margins

    def counted(*arguments: object, **options: object) -> Tensor:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(linf_certificate, "margins", counted)
    about = (str(file), images, "test", 12, 1 / 255)
    with pytest.raises(KeyboardInterrupt):
        certify_linf(*about, result=tmp_path / "part.json")
    again, journal = certify_linf(*about, result=tmp_path / "part.json")
    journal.done()
    assert len(calls) == 6 + 7
    for one, other in zip(again["rows"], whole["rows"], strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_a_certificate_that_is_wrong_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds taken of a hundredth of eps are no bounds: the attack that every image gets finds out, and nothing is
    written."""
    file, images = _exported(tmp_path / "net", _small()), _images(tmp_path / "images")
    real = linf_certificate.margins

    def wrong(network: Layers, image: Tensor, label: int, eps: float, **options: bool) -> Tensor:
        return real(network, image, label, eps / 100, **options)

    about = (str(file), images, "test", 12, 0.02)
    certify_linf(*about)
    monkeypatch.setattr(linf_certificate, "margins", wrong)
    with pytest.raises(FirewallError, match="PGD fools the network"):
        certify_linf(*about, result=tmp_path / "wrong.json")
    assert not (tmp_path / "wrong.json").exists()


def test_a_guard_that_asks_it_releases_no_other_label(tmp_path: Path) -> None:
    """The promise: whatever x' within eps of x is shown, what is released is f(x); a sign that is certified at 2 eps is
    released, whatever is done to it within eps. The x' are corners of the box, drawn at random."""
    network, eps = open_layers(str(_exported(tmp_path / "net", _small()))), 0.003
    generator, colours = torch.Generator().manual_seed(0), np.random.default_rng(0)
    released = sure = 0
    for _ in range(12):
        image = torch.from_numpy(_coloured(colours).transpose(2, 0, 1) / 255)
        label = int(network.logits(image[None]).argmax())
        twice = float(margins(network, image, label, 2 * eps).min()) > 0
        for _ in range(12):
            point = (image + eps * torch.randint(-1, 2, image.shape, generator=generator)).clamp(0, 1)
            named = int(network.logits(point[None]).argmax())
            certain = float(margins(network, point, named, eps).min()) > 0
            assert named == label or not certain
            assert certain or not twice
            released, sure = released + certain, sure + twice
    assert 0 < sure < released < 144


@pytest.mark.parametrize("text", ["0", "-1/255", "256/255", "nan", "inf", "1/0", "two", "", "2/255/3", "1e-400"])
def test_an_eps_that_is_none_is_refused(text: str) -> None:
    """By the option, with what is allowed; and by the function."""
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        eps_of(text)
    assert eps_of("2/255") == 2 / 255 and eps_of("1") == 1.0


@pytest.mark.parametrize("wrong", [{"eps": 0.0}, {"eps": float("nan")}, {"limit": 0}, {"attack": Attacked(-1)}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, object], tmp_path: Path) -> None:
    """Before an image is read."""
    asked: dict[str, object] = {"eps": 0.01, "limit": 2, **wrong}
    file, images = _exported(tmp_path / "net", _small()), _images(tmp_path / "images", 1)
    with pytest.raises(UsageError, match="--"):
        certify_linf(str(file), images, "test", **asked)  # type: ignore[arg-type]


class _Twisted(nn.Module):
    """A chain with something in it that the bounds know nothing of."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.net = what, _small()

    def forward(self, x: Tensor) -> Tensor:
        convolution, norm, relu, flatten, *rest = self.net
        if self.what == "centred":
            x = (x - 0.5) * 2
        x = relu(norm(convolution(x)))
        if self.what == "sigmoid":
            x = torch.sigmoid(x)
        if self.what == "turned":
            x = x.transpose(2, 3)
        if self.what == "residual":
            x = x + x * 0.5
        x = flatten(x)
        for layer in rest:
            x = layer(x)
        return x.softmax(1) if self.what == "softmax" else x


@pytest.mark.parametrize("what", ["centred", "sigmoid", "turned", "residual", "softmax"])
def test_a_network_without_a_sound_bound_is_refused(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the layer or the place; never a bound."""
    file, images = _exported(tmp_path / "net", _Twisted(what).eval()), _images(tmp_path / "images", 1)
    command = ["certify", "linf", "--network", str(file), "--dataset", images, "--json", str(tmp_path / "no.json")]
    assert cli.run(app, command, "firewall lab") == 1
    error = capsys.readouterr().err
    assert error.startswith("firewall: error: ") and len(error.strip().splitlines()) == 1
    assert "certified are convolutions" in error and not (tmp_path / "no.json").exists()


def _changed(file: Path, change: str) -> None:
    """Spoil an ONNX file in a way that its list of operators doesn't show."""
    model = onnx.load(str(file))
    graph = model.graph
    if change == "not a number":
        weight = graph.initializer[0]
        values = numpy_helper.to_array(weight) * np.float32(np.nan)
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    elif change == "two outputs":
        graph.output.append(helper.make_tensor_value_info(graph.node[0].output[0], TensorProto.FLOAT, None))
        graph.output[0].name, graph.output[1].name = graph.output[1].name, graph.output[0].name
    elif change == "reordered":
        flat = next(node for node in graph.node if node.op_type in ("Flatten", "Reshape"))
        for name, shape in (("wide", [1, 4, 2, 8]), ("flat", [1, -1])):
            graph.initializer.append(numpy_helper.from_array(np.array(shape), name))
        place = list(graph.node).index(flat)
        window = {"kernel_shape": [2, 1], "strides": [1, 1], "pads": [0, 0, 1, 0]}
        nodes = [helper.make_node("Reshape", [flat.input[0], "wide"], ["x1"])]
        nodes += [helper.make_node("MaxPool", ["x1"], ["x2"], **window)]
        nodes += [helper.make_node("Reshape", ["x2", "flat"], [flat.output[0]])]
        kept = [*graph.node[:place], *nodes, *graph.node[place + 1 :]]
        del graph.node[:]
        graph.node.extend(kept)
    file.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("change", ["not a number", "two outputs", "reordered"])
def test_a_file_that_says_something_else_than_its_layers_is_refused(change: str, tmp_path: Path) -> None:
    """What is read is compared with what ONNX Runtime makes of the file; that is asked of flow certificates too."""
    file = _exported(tmp_path / "net", _small())
    assert open_layers(str(file)).classes == 3
    _changed(file, change)
    with pytest.raises(DataError, match=r"bounds|certified are"):
        open_layers(str(file))


def test_a_network_given_its_pixels_in_another_way_is_refused(tmp_path: Path) -> None:
    """A card that says mean and standard deviation: eps would be one of other values."""
    file, images = _exported(tmp_path / "net", _small()), _images(tmp_path / "images", 1)
    spec = ClassifierSpec(
        file=file.name,
        input=InputSpec(width=8, height=8, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)),
        labels=tuple("abc"),
    )
    (file.parent / "card.json").write_text(json.dumps({"classifier": spec.model_dump(mode="json")}))
    with pytest.raises(DataError, match="in another way than as value / 255"):
        certify_linf(str(file.parent), images, "test", 2, 0.01)


def test_the_guard_s_bounds_are_those_of_the_lab(tmp_path: Path) -> None:
    """Of one file: as good as intervals everywhere, as lines without their last choice where something was open, and
    never better than both."""
    file = _exported(tmp_path / "net", _small())
    layers, edge = open_layers(str(file)), ProvedNetwork.read(file.read_bytes(), "it", 8, 8)
    colours, closer = np.random.default_rng(0), 0
    for eps in (0.001, 0.004, 0.01, 0.02):
        pixels = _coloured(colours)
        image = torch.from_numpy(pixels.transpose(2, 0, 1) / 255)
        for label in range(3):
            found = torch.from_numpy(edge.margins(pixels, label, eps))
            alone = interval_margins(layers, intervals(layers, box_of(image, eps)), label)
            assert bool((found >= alone - 1e-9).all())
            assert bool((found <= torch.maximum(alone, margins(layers, image, label, eps, tighten=False)) + 1e-9).all())
            closer += bool((found > alone + 1e-9).any())
    assert closer


def test_a_network_goes_into_a_bundle_that_a_guard_can_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`lab add-values`: the bundle keeps its golden frames, the guard opens it; other labels, other preparation and
    layers without a bound are refused, and nothing is written."""
    default = load_bundle()
    labels, torch_network = default.manifest.classifier.labels, IntervalNetwork(43, 2).layers.eval()

    def folder(name: str, network: nn.Module, **changes: object) -> Path:
        path = tmp_path / name
        path.mkdir()
        export_classifier(network, path / "classifier.onnx", size=32, labels=labels)
        size = InputSpec(width=32, height=32)
        spec = ClassifierSpec(file="classifier.onnx", input=size, labels=labels).model_copy(update=changes)
        (path / "card.json").write_text(json.dumps({"classifier": spec.model_dump(mode="json")}))
        return path

    def add(network: Path) -> int:
        return cli.run(app, ["add-values", "--network", str(network), "--out", str(tmp_path / "b")], "firewall lab")

    centred = InputSpec(width=32, height=32, mean=(0.5, 0.5, 0.5))
    for wrong, words in (
        (folder("labels", torch_network, labels=(*labels[:-1], "another")), "other labels"),
        (folder("centred", torch_network, input=centred), "in another way than as value / 255"),
        (
            folder("sigmoid", nn.Sequential(nn.Sigmoid(), *torch_network)),
            "no sound bound is known of its layer Sigmoid",
        ),
    ):
        assert add(wrong) == 1
        told = capsys.readouterr().err
        assert words in told and len(told.strip().splitlines()) == 1 and not (tmp_path / "b").exists()
    assert add(folder("good", torch_network)) == 0
    written = load_bundle(tmp_path / "b", trust=Trust())
    assert written.manifest.golden == default.manifest.golden
    assert Values(written, 2 / 255).network.classes == 43


def test_training_with_intervals_makes_a_network_with_proofs(small_gtsrb: Path, tmp_path: Path) -> None:
    """In a few steps on easy signs most labels that are right are certified; what a guard would release is counted."""
    settings = Settings(epochs=12, batch=43, warm=0.1, grown=0.5, eps=1 / 255, strength=0.2, moving_average=0.5)
    train_certified(small_gtsrb, tmp_path / "net", settings)
    found, _ = certify_linf(str(tmp_path / "net"), "gtsrb", "test", 20, 1 / 255, data=small_gtsrb, beside="default")
    summary = found["summary"]
    assert summary["certified_accuracy"]["value"] > 0.5 * summary["clean_accuracy"]["value"] > 0.3
    assert summary["as_guard"]["released"]["value"] <= 1.0
    with pytest.raises(UsageError, match="--eps"):
        train_certified(small_gtsrb, tmp_path / "other", Settings(eps=0.0))
    with pytest.raises(UsageError, match="--convolutions must be 2 or 3"):
        train_certified(small_gtsrb, tmp_path / "other", Settings(convolutions=4))


@pytest.mark.parametrize("convolutions", [2, 3])
def test_bounds_in_training_are_those_of_the_checker(convolutions: int, tmp_path: Path) -> None:
    """In evaluation mode's statistics, as far as float32 agrees; training differs from it by its batch's statistics."""
    torch.manual_seed(0)
    network, images = IntervalNetwork(5, convolutions), torch.rand(4, 3, 32, 32)
    network.labels, network.radius = torch.tensor([0, 1, 2, 3]), 1 / 255
    for layer in network.layers:
        vars(layer)["momentum"] = 1.0
    said = -network(images)[:, 1].detach()
    for layer in network.layers:  # what is kept of a batch is its unbiased variance
        if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
            places = 4 * {16: 256, 24: 256, 32: 64, 40: 64, 48: 64}[layer.num_features]
            layer.running_var *= (places - 1) / places
    export_classifier(network.layers.eval(), tmp_path / "net.onnx", size=32, labels=tuple("abcde"))
    layers = open_layers(str(tmp_path / "net.onnx"))
    for image, label, least in zip(images, network.labels.tolist(), said, strict=True):
        ours = interval_margins(layers, intervals(layers, box_of(image.double(), 1 / 255)), label)
        others = torch.arange(5) != label
        assert torch.allclose(ours[others], least.double()[others], rtol=0.02, atol=0.02)
