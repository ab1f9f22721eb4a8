"""The network that is made for masks: what it reads, what it starts from, what it learns from, and its command."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from firewall import cli
from firewall.bundle import load_bundle
from firewall.decision.masking import masks_for
from firewall.errors import DataError, UsageError
from firewall.export.onnx import export_classifier
from firewall.lab.certification.classifier import open_subject
from firewall.lab.cli import app
from firewall.lab.datasets import gtsrb
from firewall.lab.measurement.edge import engine_for
from firewall.lab.models.classifier_folder import load_card
from firewall.lab.models.masked_network import MaskedNetwork, refined, restored
from firewall.lab.models.sign_classifier import SignClassifier, from_onnx, fuse
from firewall.lab.training.classifiers.hiding import MaskedSettings, Masking

FILL = 128 / 255


def _pixels(count: int, size: int, seed: int = 0) -> Tensor:
    """Float (N, 3, size, size) of whole grey values, as a camera gives them."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (count, 3, 8, 8))
    values = np.repeat(np.repeat(coarse, size // 8, 2), size // 8, 3)
    return torch.from_numpy(values).float() / 255


def test_what_is_hidden_counts_nowhere() -> None:
    """Hidden pixels are nothing in every channel that is new, one grey value beside the fill is visible, and the
    normalised image is that of the visible pixels alone."""
    network = MaskedNetwork(5).eval()
    image = _pixels(1, 48)
    image.masked_fill_(image == FILL, 0)
    hidden = image.clone()
    hidden[..., 10:20, 30:40] = FILL

    whole, seen = network.prepared(image), network.prepared(hidden)

    assert seen.shape == (1, 7, 48, 48)
    assert (whole[:, 6] == 1).all()
    assert (seen[:, 3:, 10:20, 30:40] == 0).all()
    assert seen[:, 6].sum() == 48 * 48 - 100
    assert torch.allclose(seen[:, :3], (hidden - 0.5) * 4)
    beside = torch.full((1, 3, 48, 48), FILL)
    beside[:, 1] += 1 / 255
    assert (network.prepared(beside)[:, 6] == 1).all()
    # A bright mask doesn't darken a dark sign: where nothing is hidden the picture keeps its contrast.
    dark = network.prepared(torch.where((hidden == FILL).all(1, keepdim=True), hidden, hidden * 0.3))
    assert torch.allclose(dark[:, 3:6], seen[:, 3:6], atol=0.15)


def test_a_picture_of_one_colour_and_one_that_is_all_hidden_give_numbers() -> None:
    """Nothing divides by zero."""
    network = MaskedNetwork(5).eval()

    for value in (0.0, FILL, 1.0):
        assert torch.isfinite(network(torch.full((2, 3, 48, 48), value))).all()


@pytest.mark.parametrize("extra", [0, 1])
def test_it_begins_with_what_a_sign_classifier_says(extra: int) -> None:
    """Also with blocks more, and nearly so where batches are normalised by themselves; a new block's weights learn."""
    content = load_bundle().files["classifier.onnx"]
    model, images = from_onnx(content), _pixels(64, 48)

    network = refined(model, images, 48, extra)

    with torch.no_grad():
        wanted = model(images)
        assert torch.allclose(network.eval()(images), wanted, atol=1e-3)
        network.head[1].p = 0.0
        assert torch.allclose(network.train()(images), wanted, atol=0.05)
    network(images).square().sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
    larger = refined(model, images, 64, extra)
    assert larger(_pixels(2, 64)).shape == (2, 43)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[MaskedNetwork, Path]:
    """A network of 64 pixels with blocks more, and its file."""
    torch.manual_seed(0)
    network, file = MaskedNetwork(43, 64, 1), tmp_path_factory.mktemp("exported") / "network.onnx"
    network(torch.rand(32, 3, 64, 64))  # statistics
    export_classifier(fuse(network), file, size=64, labels=gtsrb.CLASS_NAMES)
    return network.eval(), file


def test_an_exported_network_can_be_read_back_and_refined(exported: tuple[MaskedNetwork, Path]) -> None:
    """Any batch, the same logits, all its blocks; other files are not taken for one."""
    network, file = exported

    again = restored(file.read_bytes())

    images = _pixels(7, 64)
    assert again is not None and (again.size, again.extra) == (64, 1)
    with torch.no_grad():
        wanted = network(images)
        assert torch.allclose(again(images), wanted, atol=1e-4)
        assert torch.allclose(refined(again, images, 64, 2).eval()(images), wanted, atol=1e-3)
    with pytest.raises(UsageError, match="has 1 extra blocks"):
        refined(again, images, 64, 0)
    assert restored(load_bundle().files["classifier.onnx"]) is None
    with pytest.raises(DataError, match="not a readable ONNX file"):
        restored(b"no network")


def _masking(teachers: list[nn.Module] | None = None, **settings: float) -> Masking:
    return Masking(MaskedSettings(plain=0, **settings), 13, FILL, 5, teachers or [])  # type: ignore[arg-type]


def _hidden(masking: Masking, images: Tensor) -> Tensor:
    """Bool (N, H, W) of what is hidden."""
    return (masking(SignClassifier(5), images, torch.zeros(len(images), dtype=torch.long), 0.0) != images).any(1)


def test_masks_have_the_shapes_and_places_that_the_settings_say() -> None:
    """One square or two, small to large; about the middle; long and thin."""
    torch.manual_seed(0)
    images = torch.zeros(400, 3, 48, 48)

    one = _hidden(_masking(pairs=0.0), images)
    rows, columns = one.any(2).sum(1), one.any(1).sum(1)
    assert (rows * columns == one.sum((1, 2))).all()
    assert rows.min() == columns.min() == 5 and rows.max() == columns.max() == 14
    two = _hidden(_masking(pairs=1.0), images)
    assert two.sum() > 1.7 * one.sum()

    def off(hidden: Tensor) -> float:
        """Mean distance of a mask's middle row from the image's."""
        place = (hidden.any(2) * torch.arange(48)).sum(1) / hidden.any(2).sum(1)
        return float((place - 23.5).abs().mean())

    central = _hidden(_masking(pairs=0.0, central=1.0), images)
    assert off(central) < 0.65 * off(one)
    assert central.any(2).any(1).all()

    long = _hidden(_masking(pairs=0.0, long=1.0), images)
    tall, wide = long.any(2).sum(1), long.any(1).sum(1)
    assert (torch.maximum(tall, wide) > 1.4 * torch.minimum(tall, wide)).all()
    assert 100 < (tall > wide).sum() < 300


class _Sure(nn.Module):
    """A teacher that says class 2 of everything."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.full((len(images),), 2), 5).float() * 20


def test_a_teacher_sees_the_whole_image_and_counts_as_much_as_it_is_given() -> None:
    """With weight 1 its opinion is all that is wanted, with 0 the labels are; the image that it gets has no mask."""
    seen = list[Tensor]()

    class Watched(_Sure):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return super().forward(images)

    images, labels = _pixels(6, 64), torch.zeros(6, dtype=torch.long)
    logits = torch.tensor([[0.0, 0, 9, 0, 0]]).repeat(6, 1)

    def loss(distil: float) -> float:
        masking = _masking([Watched()], distil=distil, label_smoothing=0.0)
        masking(SignClassifier(5), images, labels, 0.0)
        return float(masking.loss(logits, labels))

    assert loss(1.0) < 0.01 and loss(0.0) > 8
    assert loss(0.5) == pytest.approx((loss(1.0) + loss(0.0)) / 2, rel=1e-3)
    assert seen[0].shape == (6, 3, 48, 48) and not (seen[0] == FILL).all(1).any()


@pytest.mark.timeout(300)
def test_the_command_goes_on_from_a_file_of_its_own_kind(
    exported: tuple[MaskedNetwork, Path], small_gtsrb: Path, tmp_path: Path
) -> None:
    """Every option arrives in the card, and the engine runs the result at its own size and in 8 bits, which say nearly
    what the whole network says."""
    out, start = tmp_path / "out", exported[1]
    options = (
        "--network masks --size 64 --epochs 1 --images 128 --pairs 0.3 --central 0.4 --long 0.2 --least 6 --distil 0.1",
        "--smoothing 0.02 --easy 0 --plain 0.2 --average 0.9 --obstructed 0.3 --weather 0.25 --worst 2 --bfloat16",
        f"--masks 2 --extra 1 --int8 --workers 0 --start {start} --out {out} --data {small_gtsrb}",
    )

    assert cli.run(app, ["train", "masked", *" ".join(options).split()], "firewall lab") == 0

    card = json.loads((out / "card.json").read_text())
    told = card["training"]["settings"]
    assert told == {
        **told, "network": "masks", "size": 64, "extra": 1, "pairs": 0.3, "central": 0.4, "long": 0.2, "least": 6,
        "distil": 0.1, "label_smoothing": 0.02, "easy": 0, "plain": 0.2, "moving_average": 0.9, "obstructed": 0.3,
        "weather": 0.25, "bfloat16": True,
    }  # fmt: skip
    assert card["training"]["refines"] == hashlib.sha256(start.read_bytes()).hexdigest() != card["sha256"]
    _, spec, content = load_card(out)
    pixels = np.random.default_rng(0).integers(0, 256, (36, 64, 64, 3), np.uint8)
    logits = engine_for(spec, content, 1).classify(pixels)
    assert spec.precision == "int8" and len(content) < 0.4 * start.stat().st_size
    whole = restored((out / "whole.onnx").read_bytes())
    assert whole is not None
    with torch.no_grad():
        wanted = whole(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255).numpy()
    assert np.abs(logits - wanted).mean() < 0.2 * wanted.std()
    assert open_subject(str(out)).width == 64


def test_a_label_under_masks_depends_on_what_is_visible_alone() -> None:
    """The proof's step, with this network: two pictures that differ under a mask only have the same logits under it."""
    masks = masks_for(48, 48, 0.02)
    network = refined(from_onnx(load_bundle().files["classifier.onnx"]), _pixels(64, 48), 48, 0).eval()
    generator = np.random.default_rng(0)
    clean = generator.integers(0, 256, (48, 48, 3), np.uint8)
    attacked = clean.copy()
    attacked[20 : 20 + masks.side, 9 : 9 + masks.side] = generator.integers(0, 256, (masks.side, masks.side, 3))

    def logits(image: np.ndarray) -> Tensor:
        shown = np.stack([masks.covered(image, number, number) for number in range(len(masks))])
        with torch.no_grad():
            return torch.as_tensor(network(torch.from_numpy(shown).permute(0, 3, 1, 2).float() / 255))

    same = (logits(clean) == logits(attacked)).all(1)
    hides = [
        top <= 20 and 20 + masks.side <= top + tall and left <= 9 and 9 + masks.side <= left + wide
        for top, left, tall, wide in masks.boxes
    ]
    assert 1 <= sum(hides) < len(masks) and all(bool(same[at]) for at in np.flatnonzero(hides))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--network", "vit"], "--network must be sign or masks"),
        (["--size", "64"], "--size and --extra are for --network masks"),
        (["--network", "masks", "--size", "50"], "reads 48 or 64 pixels, got 50"),
        (["--network", "masks", "--extra", "-1"], "can't have -1 more blocks"),
        (["--central", "1.5"], "--central must be a share from 0 to 1, got 1.5"),
        (["--distil", "-0.1"], "--distil must be a share from 0 to 1"),
        (["--least", "30"], "--least must be at most the covering set's mask of 13 pixels, got 30"),
        (["--pairs", "nan"], "--pairs must be a share from 0 to 1, got nan"),
    ],
)
def test_wrong_options_are_one_line(
    arguments: list[str], says: str, small_gtsrb: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is trained; the message names the option, the value and what is allowed."""
    command = ["train", "masked", "--out", str(tmp_path / "out"), "--data", str(small_gtsrb), *arguments]
    assert cli.run(app, command, "firewall lab") in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("firewall: error: ") and len(error.strip().splitlines()) == 1 and says in error
