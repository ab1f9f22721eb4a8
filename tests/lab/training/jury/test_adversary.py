"""The attacked part of a training batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from firewall.errors import UsageError
from firewall.lab.training.jury.adversary import Adversary
from tests.lab.coloured_shapes import CLASSES, shapes, trained


@pytest.fixture(scope="module")
def batch() -> tuple[Tensor, Tensor]:
    """64 images and their classes."""
    return shapes(64, seed=11)


def loss_of(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    network = copy.deepcopy(network).eval()
    with torch.no_grad():
        return float(cross_entropy(network(images), labels))


def changed(adversary: Adversary, network: nn.Module, batch: tuple[Tensor, Tensor], done: float = 1.0) -> Tensor:
    torch.manual_seed(5)
    return adversary(copy.deepcopy(network), *batch, done)


@pytest.mark.parametrize(
    ("adversary", "first", "bound"),
    [
        (Adversary(0.5, 0.0), 32, 3 * 10 / 255),
        (Adversary(0.0, 0.25), 16, 2 * 28 / 255),
        (Adversary(0.25, 0.25), 32, 2 * 28 / 255),
        (Adversary(1.0, 0.0), 64, 3 * 10 / 255),
        (Adversary(0.0, 0.0), 0, 0.0),
    ],
)
def test_the_first_images_are_attacked_within_bounds_and_the_rest_is_untouched(
    batch: tuple[Tensor, Tensor], adversary: Adversary, first: int, bound: float
) -> None:
    """Three steps at full band (a random start of two, and one), two where smooth; values stay in 0..1; the batch that
    was given in stays what it was."""
    images, _ = batch
    before = images.clone()
    result = changed(adversary, trained(), batch)
    moved = (result - images).abs().amax((1, 2, 3))
    assert torch.equal(images, before) and not result.requires_grad
    assert bool((moved[:first] > 0.001).all()) and bool((moved[first:] == 0).all())
    assert float(moved.max()) <= bound + 1e-6
    assert float(result.min()) >= 0 and float(result.max()) <= 1


@pytest.mark.parametrize("adversary", [Adversary(1.0, 0.0), Adversary(0.0, 1.0)])
def test_an_attacked_batch_is_harder_than_noise_of_the_same_size(
    batch: tuple[Tensor, Tensor], adversary: Adversary
) -> None:
    """The gradient does something: the loss rises above that of the images, and above that of the same change with its
    signs drawn at random."""
    network, (images, labels) = trained(), batch
    result = changed(adversary, network, batch)
    signs = torch.randint(0, 2, (len(images), 1, 1, 1), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    shuffled = (images + (result - images).roll(1, 0) * signs).clamp(0, 1)
    plain, attacked, random = (loss_of(network, kind, labels) for kind in (images, result, shuffled))
    assert attacked > 1.3 * plain and attacked > random


def test_attacks_grow_over_the_warm_up_and_depend_on_the_seed_alone(batch: tuple[Tensor, Tensor]) -> None:
    """Nothing at the start, half at half of the warm-up, all afterwards; the same seed gives the same batch."""
    adversary, images = Adversary(1.0, 0.0), batch[0]
    sizes = [float((changed(adversary, trained(), batch, done) - images).abs().max()) for done in (0, 0.125, 0.25, 1)]
    assert sizes[0] == 0 and 0 < sizes[1] < 0.6 * sizes[2] and sizes[2] == sizes[3]
    assert torch.equal(changed(adversary, trained(), batch), changed(adversary, trained(), batch))


def test_probabilities_are_targets_as_classes_are(batch: tuple[Tensor, Tensor]) -> None:
    """A row that is sure of one class gives the same attack as the class."""
    images, labels = batch
    rows = one_hot(labels, CLASSES).float()
    adversary = Adversary(0.5, 0.25)
    torch.testing.assert_close(
        changed(adversary, trained(), (images, rows)), changed(adversary, trained(), batch), atol=1e-6, rtol=0
    )


def test_a_network_keeps_weights_and_mode(batch: tuple[Tensor, Tensor]) -> None:
    """It is the network that is trained with; no gradient is left behind."""
    network = copy.deepcopy(trained())
    before = [weight.clone() for weight in network.parameters()]
    Adversary(0.5, 0.25)(network, *batch, 1.0)
    assert network.training and all(weight.grad is None for weight in network.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shares_that_both_round_up_take_no_more_than_there_is(batch: tuple[Tensor, Tensor], count: int) -> None:
    """Half and half of three images are three, not four."""
    images, labels = (part[:count] for part in batch)
    assert Adversary(0.5, 0.5)(copy.deepcopy(trained()).eval(), images, labels, 1.0).shape == images.shape


@pytest.mark.parametrize(
    "values",
    [
        {"share": 0.7, "smooth": 0.4},
        {"share": -0.1},
        {"smooth": 1.1, "share": 0.0},
        {"warm_up": 2.0},
        {"epsilon": (0.1, 0.05)},
        {"smooth_epsilon": (0.1, 8.0)},
    ],
)
def test_shares_and_steps_out_of_range_are_refused(values: dict[str, object]) -> None:
    """8 instead of 8/255, say."""
    with pytest.raises(UsageError, match=r"0\.\.1"):
        Adversary(**values)  # type: ignore[arg-type]
