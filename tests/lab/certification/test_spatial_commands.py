"""The commands around the spatial certificate, on a data set of drawn digits in MNIST's format."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from firewall.cli import app, run
from firewall.errors import DataError
from firewall.lab.certification.dual import certify_pair, slopes
from firewall.lab.certification.flow_budget import flow_variation
from firewall.lab.certification.guarded_training import BOUNDS, Guarded, Settings
from firewall.lab.certification.linear import Hidden
from firewall.lab.certification.spatial_attack import moved
from firewall.lab.certification.training_bounds import Dual, case_of
from firewall.lab.certification.two_layer import NETWORKS, TwoLayer, open_two_layer, write_two_layer
from tests.conftest import SHARED_DATA


def _digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Bars whose angle is the label: not digits, but ten classes of strokes in 28x28."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % 10).astype(np.uint8)
    rows, columns = np.mgrid[:28, :28]
    images = []
    for label in labels:
        angle, (down, right) = np.pi * label / 10, generator.uniform(-1.5, 1.5, 2)
        across = np.abs((rows - 13.5 - down) * np.cos(angle) + (columns - 13.5 - right) * np.sin(angle))
        near = np.hypot(rows - 13.5 - down, columns - 13.5 - right) < 10
        images.append(np.clip(2.5 - across, 0, 1) * near * 255)
    return np.stack(images).astype(np.uint8), labels


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("digits")
    train, labels = _digits(500, 0)
    test, test_labels = _digits(20, 1)
    np.savez(root / "mnist.npz", x_train=train, y_train=labels, x_test=test, y_test=test_labels)
    return root


@pytest.fixture(scope="module")
def trained(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that compares with each class's mean picture: no training needed for bars."""
    data = np.load(digits / "mnist.npz")
    means = np.stack([data["x_train"][data["y_train"] == label].mean(axis=0).ravel() for label in range(10)]) / 255
    first = means - means.mean(axis=0)
    out = tmp_path_factory.mktemp("trained") / "bars.npz"
    write_two_layer(TwoLayer(first, np.zeros(10), np.eye(10), np.zeros(10)), out)
    return out


def test_training_writes_a_network_and_goes_on_where_it_was(digits: Path, tmp_path: Path) -> None:
    """An epoch, and again with the checkpoint there: the same network, with its card."""
    arguments = ["lab", "train", "spatial", "--data", str(digits), "--out", str(tmp_path / "n.npz"), "--epochs", "1"]
    arguments += ["--budget", "7", "--bound", "linear"]
    assert run(app, arguments, "firewall") == 0
    first = open_two_layer(str(tmp_path / "n.npz"))
    assert run(app, arguments, "firewall") == 0
    again = open_two_layer(str(tmp_path / "n.npz"))

    assert first.sha256 == again.sha256 and (tmp_path / "n" / "checkpoint.pt").is_file()
    assert first.card and first.card["settings"]["budget"] == 7.0 and first.card["settings"]["bound"] == "linear"
    assert 0 <= first.card["test_accuracy"] <= 1


def test_a_network_is_certified_and_no_attack_reaches_what_is(
    digits: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Certificate and attack fit together: most drawn digits are certified; every flow file, played back,
    keeps the budget and does what its row says; nothing certified is lost."""
    common = ["--network", str(trained), "--data", str(digits), "--limit", "10", "--budget", "1.5", "--shift", "0.5"]
    assert run(app, ["lab", "certify", "spatial", *common, "--json", str(tmp_path / "c.json")], "firewall") == 0
    attack = ["lab", "attack", "spatial", *common, "--steps", "15", "--restarts", "2", "--target", "any"]
    assert run(app, [*attack, "--json", str(tmp_path / "a.json")], "firewall") == 0
    proved = json.loads((tmp_path / "c.json").read_text())["rows"]
    tried = json.loads((tmp_path / "a.json").read_text())["rows"]
    capsys.readouterr()

    assert [row["index"] for row in proved] == list(range(10)) == [row["index"] for row in tried]
    assert all(row["certified"] == (row["lower_bound"] > 0) for row in proved)
    assert sum(row["certified"] for row in proved) >= 5
    for one, other in zip(proved, tried, strict=True):
        assert not (one["certified"] and other["success"])
        assert -other["gap"] >= one["lower_bound"] - 1e-9
        assert other["total_variation"] <= 1.5


def test_a_large_budget_is_won_and_the_flow_can_be_played_back(digits: Path, trained: Path, tmp_path: Path) -> None:
    """Shifts of 6 pixels turn bars into others: flow files give the image that the network gets wrong."""
    arguments = ["lab", "attack", "spatial", "--network", str(trained), "--data", str(digits), "--limit", "10"]
    arguments += [
        "--budget",
        "60",
        "--shift",
        "6",
        "--steps",
        "30",
        "--restarts",
        "2",
        "--json",
        str(tmp_path / "a.json"),
    ]
    assert run(app, arguments, "firewall") == 0
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    images = np.load(digits / "mnist.npz")["x_test"] / 255.0
    won = [row for row in rows if row["success"]]

    assert won and all(row["flow_file"] is None for row in rows if not row["success"])
    for row in won:
        stored = np.load(row["flow_file"])
        logits = open_two_layer(str(trained)).logits(moved(images[row["index"]], stored["flow"])[None])[0]
        assert logits.argmax() == row["target"] != row["label"]
        assert flow_variation(stored["flow"] - stored["shift"][:, None, None]) <= 60


def test_the_thesis_attack_keeps_its_own_cap(digits: Path, trained: Path, tmp_path: Path) -> None:
    """stAdv with a search for tau: inner pairs alone count, at most 7."""
    arguments = ["lab", "attack", "spatial", "--network", str(trained), "--data", str(digits), "--limit", "4"]
    assert (
        run(app, [*arguments, "--method", "thesis", "--steps", "5", "--json", str(tmp_path / "t.json")], "firewall")
        == 0
    )
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]

    assert len(rows) == 4 and all(row["total_variation"] <= 7 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["certify", "spatial", "--budget", "0"], "--budget is 0"),
        (["certify", "spatial", "--budget", "-3"], "--budget is -3"),
        (["certify", "spatial", "--budget", "nan"], "--budget is nan"),
        (["attack", "spatial", "--budget", "0"], "--budget is 0"),
        (["certify", "spatial", "--budget", "1e6", "--limit", "1"], "up to 64"),
        (["certify", "spatial", "--shift", "40"], "--shift is 40"),
        (["certify", "spatial", "--noise", "1"], "--noise is 1"),
        (["certify", "spatial", "--network", "nothing"], "unknown network 'nothing'"),
        (["certify", "spatial", "--network", "nothing.npz"], "is not there"),
        (["certify", "spatial", "--dataset", "gtsrb"], "must be mnist"),
        (["attack", "spatial", "--method", "magic"], "search or thesis"),
        (["attack", "spatial", "--method", "thesis", "--target", "any"], "--target must be random"),
        (["attack", "spatial", "--method", "thesis", "--noise", "0.01"], "knows no noise"),
        (["train", "spatial", "--out", "x.onnx"], "must end in .npz"),
        (["train", "spatial", "--out", "x.npz", "--bound", "guess"], "one of linear, semidefinite"),
        (["attack", "--dataset", "mnist"], "Missing option '--attacks'"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], said: str, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and what is wrong; `lab attack` without a sub-command is still the one that makes databases."""
    given = [] if arguments == ["attack", "--dataset", "mnist"] else ["--data", str(digits)]

    assert run(app, ["lab", *arguments, *given], "firewall") == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error


def test_other_networks_are_refused_with_the_certificate_that_applies(tmp_path: Path) -> None:
    """Three layers, a convolution, another activation are refused. Two layers in ONNX: the same logits as torch."""

    def exported(name: str, network: nn.Module) -> Path:
        file = tmp_path / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of the old exporter, which takes a fraction of the time
            torch.onnx.export(network, (torch.zeros(1, 1, 28, 28),), file, dynamo=False)
        return file

    torch.manual_seed(0)
    two = nn.Sequential(nn.Flatten(), nn.Linear(784, 6), nn.ReLU(), nn.Linear(6, 10))
    image = torch.rand(3, 1, 28, 28)
    logits = open_two_layer(str(exported("two", two))).logits(image[:, 0].double().numpy())

    np.testing.assert_allclose(logits, two(image).detach().numpy(), atol=1e-5)
    for name, network in {
        "three": nn.Sequential(
            nn.Flatten(), nn.Linear(784, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 10)
        ),
        "convolution": nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 26 * 26, 10)),
        "tanh": nn.Sequential(nn.Flatten(), nn.Linear(784, 6), nn.Tanh(), nn.Linear(6, 10)),
    }.items():
        with pytest.raises(DataError, match=r"two-layer networks.*certify patch"):
            open_two_layer(str(exported(name, network)))
    (tmp_path / "broken.npz").write_bytes(b"no")
    with pytest.raises(DataError, match="first, first_bias, second, second_bias"):
        open_two_layer(str(tmp_path / "broken.npz"))


def test_the_networks_of_the_package_are_what_their_cards_say(tmp_path: Path) -> None:
    """Both load without pickle, survive being written again, and on MNIST are about as accurate as they say."""
    for name in NETWORKS:
        network = open_two_layer(name)
        write_two_layer(network, tmp_path / "copy.npz")
        assert open_two_layer(str(tmp_path / "copy.npz")).sha256 == network.sha256
        assert network.first.shape == (500, 784) and network.card and network.card["test_accuracy"] >= 0.97
        if (SHARED_DATA / "mnist.npz").is_file():
            data = np.load(SHARED_DATA / "mnist.npz")
            right = network.logits(data["x_test"][:2000] / 255.0).argmax(1) == data["y_test"][:2000]
            assert right.mean() == pytest.approx(network.card["test_accuracy"], abs=0.02)


@pytest.mark.parametrize("bound", BOUNDS)
def test_margins_of_training_are_the_logits_without_a_budget(bound: str) -> None:
    """With budget 0 the guaranteed margins are the margins; they fall as the budget grows."""
    torch.manual_seed(1)
    model = Guarded(Settings(bound=bound))
    images, labels = torch.rand(5, 1, 28, 28), torch.tensor([1, 2, 3, 4, 5])
    logits = model.network(images)
    plain = logits.gather(1, labels[:, None]) - logits

    torch.testing.assert_close(model.margins(images, labels, 0.0, 9), plain, atol=1e-4, rtol=1e-4)
    smaller = model.margins(images, labels, 2.0, 9)
    assert (smaller <= plain + 1e-4).all() and (model.margins(images, labels, 4.0, 9) <= smaller + 1e-4).all()


def test_learned_dual_variables_come_near_the_semidefinite_program() -> None:
    """Training's dual margins lie below what the program's own solver proves, and above them only by rounding; learning
    the dual variables alone, the network held still, closes most of the distance."""
    network = open_two_layer("plain")
    first = nn.Linear(784, 500)
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(network.first))
        first.bias.copy_(torch.from_numpy(network.first_bias))
    pixels, label = _digits(4, 0)
    images, labels = torch.from_numpy(pixels).float()[:, None] / 255, torch.from_numpy(label).long()
    others = ((labels + 3) % 10)[:, None]
    second = torch.from_numpy(network.second).float()
    weights = second[labels][:, None] - second[others]
    case, dual = case_of(first.requires_grad_(requires_grad=False), images, 14.0), Dual(10, 500)
    proved = []
    for row, one in enumerate(labels.tolist()):
        z, low, high = (getattr(case, name)[row].double().numpy() for name in ("value", "low", "high"))
        v = network.second[one] - network.second[(one + 3) % 10]
        spans = slopes(Hidden(z, z), Hidden(low, high))
        drop, _ = certify_pair(network, v, case.slopes[row].double().numpy(), 14.0, spans)
        proved.append(v @ np.maximum(z, 0) - drop)

    before = dual.margins(case, weights, labels, others).detach().numpy()[:, 0]
    adam = torch.optim.Adam(dual.parameters(), 0.05)
    for _ in range(60):
        adam.zero_grad()
        (-dual.margins(case, weights, labels, others).sum()).backward()
        adam.step()
    after = dual.margins(case, weights, labels, others).detach().numpy()[:, 0]

    assert (after <= np.array(proved) + 0.05).all()
    assert (np.array(proved) - after < 0.6 * (np.array(proved) - before)).all()
