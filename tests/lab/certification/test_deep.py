"""Flow certificates of deeper networks: bounds that hold against flows of the budget, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from firewall import cli
from firewall.errors import DataError, FirewallError, UsageError
from firewall.lab.certification import deep
from firewall.lab.certification.deep import certify_deep, moved, unit_bounds
from firewall.lab.certification.flow_budget import flow_variation
from firewall.lab.certification.layers import Affine, Convolution, Layer, Layers, MaxPool, Rectified, open_layers
from firewall.lab.cli import app

Floats = npt.NDArray[np.float64]


def _network(seed: int, channels: int = 1, *, overlapping: bool = False) -> Layers:
    """Random weights, 8x8 images: two convolutions (one with a stride), max-pooling, two linear layers, 4 classes."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        scale = float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 else 0.1
        return torch.randn(shape, generator=generator, dtype=torch.float64) * 2 * scale

    pool = MaxPool((2, 2), (1, 1)) if overlapping else MaxPool((2, 2), (2, 2))
    flat = 6 * (3 if overlapping else 2) ** 2
    layers: list[Layer] = [
        Convolution(drawn(4, channels, 3, 3), drawn(4), (1, 1), (1, 1)),
        Rectified(),
        Convolution(drawn(6, 4, 3, 3), drawn(6), (2, 2), (1, 1)),
        Rectified(),
        pool,
        Affine(drawn(9, flat), drawn(9)),
        Rectified(),
        Affine(drawn(4, 9), drawn(4)),
    ]
    return Layers.of(layers, (channels, 8, 8))


def _flowed(image: Floats, flow: Floats) -> Floats:
    """Each pixel takes the bilinear value found at its place + (right, down): equation 4; the edge goes on outside."""
    height, width = image.shape[1:]
    rows, columns = np.mgrid[:height, :width].astype(float)
    across, down = columns + flow[0], rows + flow[1]
    left, top = np.floor(across).astype(int), np.floor(down).astype(int)
    value = np.zeros_like(image)
    for row in (0, 1):
        for column in (0, 1):
            weight = (1 - np.abs(down - (top + row))) * (1 - np.abs(across - (left + column)))
            at = np.clip(top + row, 0, height - 1), np.clip(left + column, 0, width - 1)
            value += weight * image[:, at[0], at[1]]
    return value


def _flows(generator: np.random.Generator, budget: float, count: int) -> list[Floats]:
    """Flows that use up the budget: smooth, rough, and of a single pixel or block."""
    found = []
    for number in range(count):
        flow = np.zeros((2, 8, 8))
        if number % 3 == 0:
            size = int(generator.integers(1, 5))
            top, left = generator.integers(0, 9 - size, 2)
            flow[:, top : top + size, left : left + size] = generator.normal(size=(2, 1, 1))
        elif number % 3 == 1:
            flow = generator.normal(size=(2, 8, 8))
        else:
            ramp = np.sin(np.linspace(0, np.pi, 8))
            flow = generator.normal(size=(2, 1, 1)) * ramp[:, None] * ramp
        found.append(flow * (budget / flow_variation(flow)))
    return found


@pytest.mark.parametrize(("seed", "channels", "overlapping"), [(0, 1, False), (1, 3, False), (2, 1, True)])
def test_no_flow_of_the_budget_beats_the_bound(seed: int, channels: int, overlapping: bool) -> None:
    """Margins, and every unit's input, under flows that use up the budget, with and without noise on top; the bound is
    not empty talk either: it lies below the true margin by less than the worst that a box of all values gives."""
    generator = np.random.default_rng(seed)
    network = _network(seed, channels, overlapping=overlapping)
    for budget, noise in ((1.0, 0.0), (6.0, 0.0), (2.0, 0.02)):
        image = generator.random((channels, 8, 8))
        clean = network.logits(torch.from_numpy(image)[None])[0].numpy()
        label = int(clean.argmax())
        bounds = certify_deep(network, image, label, budget, noise)
        region = moved(image, budget, noise)
        units = unit_bounds(network, region)
        assert (bounds <= clean[label] - clean + 1e-9)[np.arange(4) != label].all()
        assert np.isinf(bounds[label])
        for flow in _flows(generator, budget, 24):
            seen = _flowed(image, flow) + generator.choice([-noise, noise], image.shape)
            value = torch.from_numpy(seen)[None]
            for place, layer in enumerate(network.layers):
                if place in units:
                    low, high = units[place]
                    assert (value[0] >= low).all() and (value[0] <= high).all()
                value = layer.forward(value)
            logits = value[0].numpy()
            others = np.arange(4) != label
            assert (logits[label] - logits >= bounds)[others].all()


def test_gradient_steps_on_the_flow_do_not_beat_the_bound() -> None:
    """The flow is driven against the margin, the budget kept at every step; the bound is never passed."""
    network, generator = _network(5), np.random.default_rng(5)
    image = generator.random((1, 8, 8))
    budget = 4.0
    clean = network.logits(torch.from_numpy(image)[None])[0]
    label = int(clean.argmax())
    bounds = certify_deep(network, image, label, budget)
    lowest = np.inf
    for start in _flows(generator, budget, 3):
        flow = start
        for _ in range(8):
            steps = [np.zeros(128) for _ in range(17)]
            places = generator.choice(128, 16, replace=False)
            for step, place in zip(steps[1:], places, strict=True):
                step[place] = 1e-4
            seen = np.stack([_flowed(image, flow + step.reshape(flow.shape)) for step in steps])
            logits = network.logits(torch.from_numpy(seen)).numpy()
            gaps = logits[:, label, None] - logits
            assert (gaps[0] >= bounds)[np.arange(4) != label].all()
            other = min((gap, name) for name, gap in enumerate(gaps[0]) if name != label)[1]
            lowest = min(lowest, gaps[0, other])
            slope = np.zeros(128)
            slope[places] = (gaps[1:, other] - gaps[0, other]) / 1e-4
            flow = flow - 0.3 * (slope / (np.abs(slope).max() + 1e-12)).reshape(flow.shape)
            flow = flow * min(1.0, budget / flow_variation(flow))
    assert lowest < float(clean[label] - np.delete(clean.numpy(), label).max()), "the attack did nothing"


def test_small_budgets_certify_and_large_ones_do_not() -> None:
    """The bound falls as the budget grows, from the margin itself to nothing."""
    network, image = _network(3), np.random.default_rng(3).random((1, 8, 8))
    clean = network.logits(torch.from_numpy(image)[None])[0].numpy()
    label = int(clean.argmax())
    margin = float(np.delete(clean[label] - clean, label).min())
    found = [certify_deep(network, image, label, budget).min() for budget in (1e-6, 0.2, 1.0, 20.0)]

    assert found[0] == pytest.approx(margin, abs=1e-4)
    assert found[0] > found[1] > found[2] > found[3] and found[0] > 0 > found[3]


def test_windows_give_the_bounds_of_whole_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units of a tile depend on a part of the image; the same bounds come out if each tile is the whole layer, and if
    it is a single place."""
    network, image = _network(7, 3), np.random.default_rng(7).random((3, 8, 8))
    region = moved(image, 3.0, 0.01)
    found = []
    for rows in (1, 64, 10**6):
        monkeypatch.setattr(deep, "_ROWS_OF_A_TILE", rows)
        found.append(unit_bounds(network, region))

    for place in found[0]:
        for bounds in found[1:]:
            for one, other in zip(found[0][place], bounds[place], strict=True):
                assert torch.allclose(one, other, rtol=0, atol=1e-9)


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(147, 10)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(image.mean(1, keepdim=True))
        return logits


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[_Small, Path]:
    """A network of digits as `lab train classifier` exports it."""
    from firewall.export.onnx import export_classifier

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("small") / "classifier.onnx"
    network = _Small().eval()
    export_classifier(network, path, size=28, labels=[str(digit) for digit in range(10)])
    return network, path


def test_an_onnx_file_is_read_as_the_network_that_it_is(small: tuple[_Small, Path]) -> None:
    """The same logits as torch's, on grey images; by its folder too."""
    network, path = small
    layers = open_layers(str(path.parent))
    images = torch.rand((4, 1, 28, 28), dtype=torch.float64)

    expected = network(images.float().expand(-1, 3, -1, -1)).detach().double()

    assert layers.input == (1, 28, 28) and layers.classes == 10
    assert torch.allclose(layers.logits(images), expected, atol=1e-5)


def test_what_can_not_be_certified_is_refused(small: tuple[_Small, Path], tmp_path: Path) -> None:
    """Other files, other layers, other sizes, images out of range, budgets that are none."""
    layers, image = open_layers(str(small[1])), np.zeros((1, 28, 28))
    with pytest.raises(UsageError, match="not there"):
        open_layers("nowhere")
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(DataError, match="readable ONNX"):
        open_layers(str(tmp_path / "x.onnx"))
    for wrong, said in ((np.zeros((1, 27, 28)), "takes images"), (image + 2, "0..1")):
        with pytest.raises(DataError, match=said):
            certify_deep(layers, wrong, 0, 1.0)
    with pytest.raises(DataError, match="label 10"):
        certify_deep(layers, image, 10, 1.0)
    with pytest.raises(UsageError, match="budget"):
        certify_deep(layers, image, 0, 0.0)
    from firewall.bundle import DEFAULT

    with pytest.raises(DataError, match=r"bounds|chain"):
        open_layers(str(DEFAULT / "classifier.onnx"))


def test_the_command_gives_rows(small: tuple[_Small, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `certify spatial`'s: index, label, predicted, certified, lower_bound; certified means that it is above 0."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for digit in range(10):
        folder = tmp_path / "digits" / str(digit)
        folder.mkdir(parents=True)
        Image.fromarray(generator.integers(0, 256, (28, 28), np.uint8)).save(folder / "0.png")
    out = tmp_path / "f.json"
    command = ["certify", "flow", "--network", str(small[1].parent), "--dataset", f"folder:{tmp_path / 'digits'}"]
    command += ["--attack", "5"]

    assert cli.run(app, [*command, "--limit", "10", "--budget", "0.01", "--json", str(out)], "firewall lab") == 0

    result = json.loads(out.read_text())
    assert len(result["rows"]) == 10 and result["about"]["budget"] == 0.01
    right = [row for row in result["rows"] if row["predicted"] == row["label"]]
    assert right, "no image is named by its folder, so nothing is certified or attacked"
    for row in result["rows"]:
        assert {"index", "label", "predicted", "certified", "lower_bound", "attacked"} <= row.keys()
        assert (row["lower_bound"] is None) == (row["attacked"] is None) == (row["predicted"] != row["label"])
        assert row["certified"] == (row["lower_bound"] is not None and row["lower_bound"] > 0)
    assert all(row["attacked"] >= row["lower_bound"] for row in right)
    assert result["summary"]["median_seconds"] == np.median([row["seconds"] for row in right])
    assert result["summary"]["surviving_attack"] >= result["summary"]["certified_accuracy"]
    assert not list(tmp_path.glob("f.json.rows*")), "the rows are in the result"
    assert cli.run(app, [*command, "--budget", "-1"], "firewall lab") == 2
    assert "budget" in capsys.readouterr().err


class _Named:
    """Ten random images, each with the label that a network gives it."""

    class_names = tuple("0123456789")

    def __init__(self, network: Layers) -> None:
        self.images = np.random.default_rng(3).integers(0, 256, (10, 28, 28, 1), np.uint8)
        self.labels = network.logits(torch.from_numpy(self.images / 255)[:, None, :, :, 0]).argmax(1).numpy()

    def __len__(self) -> int:
        return len(self.images)


@pytest.fixture
def named(small: tuple[_Small, Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command, for images that the network names as they are labelled."""
    images = _Named(open_layers(str(small[1])))
    monkeypatch.setattr("firewall.lab.certification.flows.open_dataset", lambda *_, **__: images)
    return ["certify", "flow", "--network", str(small[1].parent)]


def test_a_bound_that_is_too_good_ends_the_command(
    named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack gets below a bound that leaves the flow out, and nothing is written; below the true one it doesn't."""
    command = [*named, "--limit", "4", "--budget", "8", "--attack", "10", "--json", str(tmp_path / "f.json")]

    def of_the_clean_image(network: Layers, image: Floats, label: int, *_: float) -> Floats:
        return certify_deep(network, image, label, 1e-9)

    with monkeypatch.context() as patched:
        patched.setattr("firewall.lab.certification.flows.certify_deep", of_the_clean_image)
        with pytest.raises(FirewallError, match="not sound"):
            app(command, standalone_mode=False)
    assert not (tmp_path / "f.json").exists()
    (tmp_path / "f.json.rows").unlink()
    assert cli.run(app, command, "firewall lab") == 0
    assert len(json.loads((tmp_path / "f.json").read_text())["rows"]) == 4


def test_a_stopped_run_goes_on_with_the_next_image(
    named: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three images are certified, the fourth stops it; the second run certifies what is left and no more."""
    out = tmp_path / "f.json"
    done: list[int] = []
    command = [*named, "--limit", "5", "--attack", "0", "--budget", "0.1", "--json", str(out)]

    def stopping(network: Layers, image: Floats, label: int, *rest: float) -> Floats:
        if len(done) == 3:
            raise RuntimeError("stopped")
        done.append(label)
        return certify_deep(network, image, label, *rest)

    monkeypatch.setattr("firewall.lab.certification.flows.certify_deep", stopping)
    with pytest.raises(RuntimeError, match="stopped"):
        app(command, standalone_mode=False)
    done[:] = []
    assert cli.run(app, command, "firewall lab") == 0
    assert len(done) == 2 and len(json.loads(out.read_text())["rows"]) == 5


def test_what_a_larger_budget_proved_is_taken_over(
    named: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Certified images alone, and only of the same network and data, for no larger budget."""
    large, lesser, other = (tmp_path / f"{name}.json" for name in ("large", "lesser", "other"))
    command = [*named, "--attack", "0", "--limit", "10"]
    assert cli.run(app, [*command, "--budget", "1", "--json", str(large)], "firewall lab") == 0
    assert cli.run(app, [*command, "--budget", "0.5", "--proved", str(large), "--json", str(lesser)], "firewall") == 0
    before, after = ({row["index"]: row for row in json.loads(file.read_text())["rows"]} for file in (large, lesser))
    proved = {index for index, row in before.items() if row["certified"]}
    assert 0 < len(proved) < 10 and len(after) == 10
    for index, row in after.items():
        assert ("proved_for" in row) == (index in proved) and row["certified"] >= before[index]["certified"]
        assert (row["lower_bound"] > before[index]["lower_bound"]) == (index not in proved)

    assert cli.run(app, [*command, "--budget", "2", "--proved", str(large)], "firewall lab") == 1
    assert "of budget 1" in capsys.readouterr().err
    content = json.loads(large.read_text())
    for about in ({"weights_sha256": "0" * 64}, {"dataset": "mnist/train"}):
        other.write_text(json.dumps({**content, "about": {**content["about"], **about}}))
        assert cli.run(app, [*command, "--budget", "1", "--proved", str(other)], "firewall lab") == 1
    other.write_text("{}")
    assert cli.run(app, [*command, "--budget", "1", "--proved", str(other)], "firewall lab") == 1
