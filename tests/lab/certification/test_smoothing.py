"""Randomized smoothing: its noise, what ends an image early, all certificates at once, and the training for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from scipy.stats import norm

from firewall import cli
from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_classifier
from firewall.export.precision import to_int8
from firewall.host.onnxruntime import ort
from firewall.lab.certification.classifier import Subject
from firewall.lab.certification.journal import Journal
from firewall.lab.certification.smoothing import MOST_COPIES, Noise, certified_radius, certify_smoothing, lower_bound
from firewall.lab.cli import app
from firewall.lab.models.robust_networks import noise_network
from firewall.lab.training.classifiers.small_signs import begin
from firewall.lab.training.classifiers.smoothed_classifier import Run, Settings, consistent_loss, train_smoothed

Pixels = npt.NDArray[np.uint8]


class _Coin:
    """Gives class 1 to a copy whose first pixel is above a limit: how often is known."""

    provider = "test"

    def __init__(self, limit: float) -> None:
        self.limit, self.seen = limit, 0

    def classify(self, images: Pixels) -> npt.NDArray[np.float32]:
        self.seen += len(images)
        score = images[:, 0, 0, 0].astype(np.float32) - self.limit
        return np.stack([-score, score], axis=1)


def _subject(rate: float, sigma: float) -> tuple[Subject, _Coin]:
    """A classifier that gives class 1 to about this share of the noisy copies of grey."""
    coin = _Coin(128 - 255 * sigma * float(norm.ppf(rate)))
    return Subject(coin, ("no", "yes"), 4, 4, {}), coin


def _grey(count: int = 1) -> Iterator[tuple[int, Pixels, int]]:
    return ((index, np.full((4, 4, 3), 128, np.uint8), 1) for index in range(count))


def test_noise_is_gaussian_the_same_again_and_rounded_with_the_pixel() -> None:
    """Of the standard deviation asked for; any part of it is the same part; pixels + noise, clipped to whole steps."""
    noise, again = Noise(0.1, (6, 5, 3), 3), Noise(0.1, (6, 5, 3), 3)
    grey = np.full((6, 5, 3), 128, np.uint8)
    copies = noise.copies(grey, 0, 1000)
    assert np.array_equal(again.copies(grey, 430, 170), copies[430:600])
    assert np.array_equal(noise.copies(grey, 0, 1000), copies)
    drawn = copies.astype(float) - 128
    assert abs(drawn.mean()) < 0.5 and drawn.std() == pytest.approx(25.5, rel=0.01)
    assert abs(np.corrcoef(drawn[:, 0, 0, 0], drawn[:, 0, 0, 1])[0, 1]) < 0.12
    white = np.full((6, 5, 3), 250, np.uint8)
    assert np.array_equal(noise.copies(white, 7, 50), np.clip(drawn[7:57] + 250, 0, 255).astype(np.uint8))
    assert not np.array_equal(Noise(0.1, (6, 5, 3), 4).copies(grey, 0, 9), copies[:9])


def test_too_much_noise_for_memory_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, whether it was kept or not."""
    from firewall.lab.certification import smoothing

    grey = np.full((6, 5, 3), 128, np.uint8)
    kept = Noise(0.1, (6, 5, 3), 3).copies(grey, 0, 500)
    monkeypatch.setattr(smoothing, "_KEPT", 0)
    noise = Noise(0.1, (6, 5, 3), 3)
    assert np.array_equal(noise.copies(grey, 0, 500), kept) and np.array_equal(noise.copies(grey, 0, 500), kept)


@pytest.mark.parametrize("rate", [0.2, 0.48, 0.5, 0.52])
def test_giving_up_early_changes_no_answer(rate: float) -> None:
    """Where the bound can't get above 1/2 any more the image ends, as one that abstains; whole sampling would say the
    same. Where it still can every copy is classified."""
    samples, alpha, sigma = 2000, 0.001, 0.05
    subject, coin = _subject(rate, sigma)
    (row,) = certify_smoothing(subject, _grey(), 1, sigma=sigma, samples=samples, alpha=alpha)["rows"]
    noise = Noise(sigma, (4, 4, 3), 0)
    copies = noise.copies(np.full((4, 4, 3), 128, np.uint8), 100, samples)
    chosen = int(np.bincount(coin.classify(noise.copies(np.full((4, 4, 3), 128, np.uint8), 0, 100)).argmax(1)).argmax())
    hits = int((coin.classify(copies).argmax(axis=1) == chosen).sum())
    whole = certified_radius(hits, samples, alpha, sigma)
    assert (row["predicted"] is None) == (whole is None)
    if whole is None:
        assert row["radius"] == 0.0 and not row["certified"]
    else:
        assert row["copies"] == samples and row["hits"] == hits and row["radius"] == whole[1]
    if rate == 0.48 and chosen == 1:
        assert row["copies"] <= samples


def test_a_hopeless_image_costs_little() -> None:
    """Three classes in turn: the chosen one has a third of the copies, and half of them are never classified."""

    class Third:
        provider = "test"

        def classify(self, images: Pixels) -> npt.NDArray[np.float32]:
            return np.eye(3, dtype=np.float32)[images[:, 0, 0, 0] % 3]

    subject = Subject(Third(), ("a", "b", "c"), 4, 4, {})
    (row,) = certify_smoothing(subject, _grey(), 1, sigma=0.2, samples=10_000, alpha=0.001)["rows"]
    assert row["predicted"] is None and row["copies"] < 8000


def test_all_certificates_at_once_are_fewer() -> None:
    """Bonferroni: with alpha 0.05 / n for each no radius is larger, and how many may be wrong at most is said."""
    subject, _ = _subject(0.999, 0.05)
    found = certify_smoothing(subject, _grey(20), 20, sigma=0.05, samples=1000, alpha=0.001)
    summary = found["summary"]
    assert summary["wrong_certificates_expected_at_most"] == pytest.approx(0.02)
    together = summary["all_at_once"]
    assert together["alpha_of_each"] == 0.05 / 20 and together["confidence"] == 0.95
    single = {point["radius"]: point["certified_accuracy"] for point in summary["curve"]}
    assert all(rate <= single[radius] for radius, rate in together["curve"] if together["alpha_of_each"] <= 0.001)
    few = certify_smoothing(subject, _grey(200), 200, sigma=0.05, samples=1000, alpha=0.001)["summary"]
    single = {point["radius"]: point["certified_accuracy"] for point in few["curve"]}
    assert few["all_at_once"]["alpha_of_each"] < 0.001
    assert all(rate <= single[radius] for radius, rate in few["all_at_once"]["curve"])


def test_rows_are_kept_and_depend_on_every_setting(tmp_path: Path) -> None:
    """A journal's rows are taken over, and not by a run with another number of copies for the selection."""
    subject, coin = _subject(0.99, 0.05)
    settings: dict[str, Any] = {"sigma": 0.05, "samples": 200, "alpha": 0.01}
    first = certify_smoothing(subject, _grey(3), 3, **settings, journal=Journal(tmp_path / "r.json", settings))
    seen = coin.seen
    again = certify_smoothing(subject, _grey(3), 3, **settings, journal=Journal(tmp_path / "r.json", settings))
    assert again["rows"] == first["rows"] and coin.seen == seen
    other = {**settings, "selection": 50}
    certify_smoothing(subject, _grey(3), 3, **other, journal=Journal(tmp_path / "r.json", other))
    assert coin.seen > seen


@pytest.mark.parametrize(
    "wrong",
    [
        {"selection": 0},
        {"selection": MOST_COPIES + 1},
        {"samples": MOST_COPIES + 1},
        {"samples": -1},
        {"sigma": np.inf},
    ],
)
def test_numbers_that_can_not_be_are_refused(wrong: dict[str, Any]) -> None:
    """Before an image is classified, by the option's name."""
    subject, coin = _subject(0.9, 0.05)
    with pytest.raises(UsageError, match="--"):
        certify_smoothing(subject, _grey(), 1, **{"sigma": 0.05, "samples": 100, "alpha": 0.001, **wrong})
    assert coin.seen == 0


def test_the_bound_covers_what_it_says() -> None:
    """Of 2,000 samples of a class of known probability the bound lies above it in no more than alpha, and not in far
    fewer: alpha = 0.05, so 60 to 140 of 2,000."""
    hits = np.random.default_rng(0).binomial(500, 0.9, 2000)
    known = {value: lower_bound(int(value), 500, 0.05) for value in np.unique(hits)}
    missed = sum(known[value] > 0.9 for value in hits)
    assert 60 <= missed <= 120


def test_training_on_noise_makes_a_classifier_of_eight_bits(small_gtsrb: Path, tmp_path: Path) -> None:
    """By the documented commands; another run can begin with its weights, and goes on only with its own settings."""
    base, out = tmp_path / "base", tmp_path / "certificates.json"
    data = [
        "--data",
        str(small_gtsrb),
        "--epochs",
        "1",
        "--workers",
        "0",
        "--threads",
        "1",
        "--varied",
        "--sigma",
        "0.5",
    ]
    assert cli.run(app, ["train", "smoothed", "--out", str(base), *data], "firewall lab") == 0
    card = json.loads((base / "card.json").read_text())
    assert card["training"]["int8"] and card["training"]["settings"]["varied"]
    operators = {node.op_type for node in onnx.load(str(base / "classifier.onnx")).graph.node}
    assert "DequantizeLinear" in operators
    asked = ["--bundle", str(base), "--data", str(small_gtsrb), "--limit", "3", "--samples", "200", "--json", str(out)]
    assert cli.run(app, ["certify", "smoothing", *asked, "--sigma", "0.25"], "firewall lab") == 0
    found = json.loads(out.read_text())
    assert found["about"]["input"] == [48, 48] and len(found["rows"]) == 3

    network = noise_network(43)
    first = next(network.parameters())
    before = first.detach().clone()
    assert begin(network, base) == card["sha256"] and begin(network, None) is None
    assert not torch.equal(first, before)
    with pytest.raises(DataError, match="another network"):
        begin(noise_network(12), base)
    with pytest.raises(UsageError, match="has no checkpoint"):
        begin(network, tmp_path)
    with pytest.raises(UsageError, match="--sigma"):
        train_smoothed(small_gtsrb, tmp_path / "no", Settings(sigma=-0.1), Run())
    with pytest.raises(UsageError, match=r"--width .* got 50"):
        train_smoothed(small_gtsrb, tmp_path / "no", Settings(width=50), Run())
    with pytest.raises(UsageError, match=r"--blocks .* got -1"):
        train_smoothed(small_gtsrb, tmp_path / "no", Settings(blocks=-1), Run())
    with pytest.raises(DataError, match="other settings"):
        train_smoothed(small_gtsrb, base, Settings(epochs=2), Run())


def test_a_larger_network_says_the_same_in_a_file_and_nearly_so_in_eight_bits(tmp_path: Path) -> None:
    """With its residual blocks, which are there: it has as many products as were asked for."""
    torch.manual_seed(0)
    network = noise_network(5, width=12, blocks=2)
    images = torch.rand(64, 3, 48, 48)
    network(images)  # statistics for the normalisations
    network.eval()
    kernels = [tuple(layer.weight.shape) for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert kernels == [(8, 3, 6, 6), (12, 8, 4, 4), *[(12, 12, 3, 3)] * 5, (24, 12, 3, 3)]
    file = tmp_path / "wide.onnx"
    export_classifier(network, file, size=48, labels=list("abcde"))

    def named(content: bytes) -> npt.NDArray[np.float32]:
        session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
        found: npt.NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
        return found

    with torch.no_grad():
        expected = network(images).numpy()
    assert np.allclose(named(file.read_bytes()), expected, atol=1e-4)
    rounded = named(to_int8(file.read_bytes(), images.numpy(), target="cpu"))
    assert not np.array_equal(rounded, expected)
    assert np.abs(rounded - expected).max() < 0.2 * np.ptp(expected)


def test_copies_that_differ_cost_more() -> None:
    """The consistency term is 0 for two copies that are named alike, and grows with their difference."""
    labels, logits = torch.tensor([0, 1]), torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    same = torch.cat([logits, logits])
    apart = torch.cat([logits, logits.flip(1)])
    assert consistent_loss(10.0)(same, labels) == pytest.approx(float(consistent_loss(0.0)(same, labels)), abs=1e-5)
    assert consistent_loss(10.0)(apart, labels) > consistent_loss(0.0)(apart, labels) + 1
