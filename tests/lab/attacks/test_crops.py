"""Crops attacked at their own size: the edge's resize in torch, and what comes back."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from firewall.errors import DataError, UsageError
from firewall.lab.attacks import attack_crops, quantise, send_crops
from firewall.lab.attacks.bounded import Bounded
from firewall.lab.attacks.channelled import Channelled
from firewall.lab.attacks.channels import parse_channel, sent
from firewall.lab.attacks.crops import _attacked
from firewall.lab.attacks.resampling import Resized, resized
from firewall.lab.attacks.rounding import to_input
from firewall.transforms import resize
from tests.lab.coloured_shapes import CLASSES, SIZE, classes_of

Pixels = npt.NDArray[np.uint8]

INPUT: dict[str, Any] = {"size": (SIZE, SIZE)}


@pytest.fixture(scope="module")
def crops(victims: tuple[Tensor, Tensor]) -> tuple[list[Pixels], list[int]]:
    """The victims enlarged to five sizes, three of which occur twice; all are still named right."""
    sizes = [(20, 25), (33, 31), (20, 25), (16, 16), (47, 40), (33, 31), (16, 16), (64, 90)]
    pixels = [resize(image, width, height) for image, (height, width) in zip(quantise(victims[0]), sizes, strict=False)]
    return pixels, victims[1][: len(sizes)].tolist()


def test_the_resize_in_torch_is_the_edges() -> None:
    """Byte for byte on noise, whatever the sizes: smaller, larger, one side only, single pixels."""
    generator = np.random.default_rng(4)
    sizes = [tuple(generator.integers(1, 160, 2)) for _ in range(60)] + [(48, 48), (48, 100), (100, 48), (1, 1)]
    for height, width in sizes:
        for wide, high in ((48, 48), (17, 90), (int(width), 5)):
            pixels = generator.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
            ours = quantise(resized(to_input(pixels), wide, high))
            assert all(np.array_equal(mine, resize(one, wide, high)) for mine, one in zip(ours, pixels, strict=True))


def test_the_resize_rounds_what_it_is_given() -> None:
    """Between levels the edge can't see anything: values are rounded before they are resampled."""
    pixels = np.random.default_rng(0).integers(1, 255, (1, 30, 41, 3), dtype=np.uint8)
    between = to_input(pixels) + 0.3 / 255
    assert torch.equal(resized(between, 16, 16), resized(to_input(pixels), 16, 16))


def test_the_gradient_is_that_of_the_resize_without_rounding() -> None:
    """Along a line the bytes change as the gradient says, on the average of many pixels."""
    pixels = np.random.default_rng(1).integers(60, 190, (1, 53, 70, 3), dtype=np.uint8)
    images = to_input(pixels).requires_grad_()
    weights = torch.rand(1, 3, 48, 48)
    (gradient,) = torch.autograd.grad((resized(images, 48, 48) * weights).sum(), images)
    step = torch.from_numpy(np.random.default_rng(2).integers(-40, 41, images.shape)) / 255
    change = ((resized(images + step, 48, 48) - resized(images, 48, 48)) * weights).sum()
    assert float(change.detach()) == pytest.approx(float((gradient * step).sum()), abs=0.6)
    (same,) = torch.autograd.grad(resized(images, 70, 53).sum(), images)
    assert torch.equal(same, torch.ones_like(images))


@pytest.mark.parametrize("name", ["pgd-0.06", "linf-16", "blurred-16", "low-frequency-32", "smooth-16", "square"])
def test_crops_come_back_in_their_order_and_size(
    name: str, network: nn.Sequential, crops: tuple[list[Pixels], list[int]]
) -> None:
    """Each of its own size and near the crop it was made of, most are named wrong through the edge's resize, and the
    same seed gives the same bytes."""
    pixels, labels = crops
    before = [crop.copy() for crop in pixels]
    found = attack_crops(name, network, pixels, labels, 7, **INPUT)
    assert all(np.array_equal(crop, old) for crop, old in zip(pixels, before, strict=True))
    assert [crop.shape for crop in found] == [crop.shape for crop in pixels]
    assert all(crop.dtype == np.uint8 for crop in found)
    change = [int(np.abs(new.astype(int) - old).max()) for new, old in zip(found, pixels, strict=True)]
    assert 0 < max(change) <= {"low-frequency-32": 32}.get(name, 16)
    seen = torch.cat([to_input(resize(crop, SIZE, SIZE)[None]) for crop in found])
    assert (classes_of(network, seen) != torch.tensor(labels)).float().mean() >= 0.6
    again = attack_crops(name, network, pixels, labels, 7, **INPUT)
    assert all(np.array_equal(one, two) for one, two in zip(found, again, strict=True))


def test_sizes_together_are_as_sizes_alone(network: nn.Sequential, crops: tuple[list[Pixels], list[int]]) -> None:
    """Crops of several sizes share the network's calls: one step gives the same bytes as each size alone, but for a few
    signs of gradients near 0; and a channel is the same one."""
    pixels, labels = crops
    one_step = Channelled(Bounded(eps=8 / 255, steps=1), "jpeg-75")
    images = [to_input(crop[np.newaxis]) for crop in pixels]
    aims = torch.tensor(labels)
    seeds = list(range(len(pixels)))
    together = _attacked(one_step, network, images, aims, seeds, (SIZE, SIZE))
    for place, (image, seed) in enumerate(zip(images, seeds, strict=True)):
        alone = one_step.run(Resized(network, SIZE, SIZE), image, aims[place : place + 1], seed)
        assert (alone != together[place]).float().mean() < 0.05


def test_own_size_and_the_networks_size(network: nn.Sequential, crops: tuple[list[Pixels], list[int]]) -> None:
    """With `input` the crop is resized first and the attack's bound holds at that size."""
    pixels, labels = crops
    found = attack_crops("linf-8@input", network, pixels, labels, 0, **INPUT)
    for crop, attacked in zip(pixels, found, strict=True):
        small = resize(crop, SIZE, SIZE)
        assert attacked.shape == small.shape
        assert 0 < np.abs(attacked.astype(int) - small).max() <= 8


def test_the_bound_holds_before_the_channel(network: nn.Sequential, crops: tuple[list[Pixels], list[int]]) -> None:
    """What leaves the channel is what the channel makes of an image within the bound; a network that is asked by the
    edge sees just that."""
    pixels, labels = crops
    plain = attack_crops("linf-8", network, pixels[3:4], labels[3:4], 0, **INPUT)
    sent_on = attack_crops("linf-8@blur+jpeg-75", network, pixels[3:4], labels[3:4], 0, **INPUT)
    assert np.abs(plain[0].astype(int) - pixels[3]).max() <= 8
    assert np.array_equal(sent_on[0], sent(parse_channel("blur+jpeg-75"), plain[0][None], 0)[0])


def test_resized_answers_as_the_edge(network: nn.Sequential, crops: tuple[list[Pixels], list[int]]) -> None:
    """The network behind the resize in torch gives the logits that it gives the edge's bytes."""
    still = copy.deepcopy(network).eval()
    seen = Resized(still, SIZE, SIZE)
    with torch.no_grad():
        for crop in crops[0]:
            small = to_input(resize(crop, SIZE, SIZE)[None])
            assert torch.equal(resized(to_input(crop[None]), SIZE, SIZE), small)
            assert torch.allclose(seen(to_input(crop[None])), still(small), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "crop", "labels", "error"),
    [
        ("linf-9", np.zeros((9, 9, 3), np.uint8), [0], UsageError),
        ("linf-8@webp-90", np.zeros((9, 9, 3), np.uint8), [0], UsageError),
        ("linf-8@known", np.zeros((9, 9, 3), np.uint8), [0], UsageError),
        ("linf-8@jpeg-90@input", np.zeros((9, 9, 3), np.uint8), [0], UsageError),
        ("linf-8@eot@jpeg-90", np.zeros((9, 9, 3), np.uint8), [0], UsageError),
        ("linf-8@eot@known", np.zeros((9, 9, 3), np.uint8), [0], UsageError),
        ("linf-8@input@input", np.zeros((9, 9, 3), np.uint8), [0], UsageError),
        ("linf-8@", np.zeros((9, 9, 3), np.uint8), [0], UsageError),
        ("linf-8", np.zeros((9, 9, 3), np.float32), [0], DataError),
        ("linf-8", np.zeros((9, 9), np.uint8), [0], DataError),
        ("linf-8", np.zeros((0, 9, 3), np.uint8), [0], DataError),
        ("linf-8", np.zeros((9, 9, 3), np.uint8), [0, 1], DataError),
        ("linf-8", np.zeros((9, 9, 3), np.uint8), [0.5], DataError),
        ("linf-8", np.zeros((9, 9, 3), np.uint8), [-1], DataError),
        ("linf-8", np.zeros((9, 9, 3), np.uint8), [CLASSES], DataError),
    ],
)
def test_what_does_not_fit(
    name: str, crop: Pixels, labels: list[Any], error: type[Exception], network: nn.Sequential
) -> None:
    """Wrong names, crops and labels are refused in one line."""
    with pytest.raises(error) as caught:
        attack_crops(name, network, [crop], labels, 0, **INPUT)
    assert "\n" not in str(caught.value)


def test_benign_crops_go_through_the_same_channel(crops: tuple[list[Pixels], list[int]]) -> None:
    """Each of its own size, as `sent` does it, noise of its own on each; wrong names and crops are refused."""
    found = send_crops("blur+jpeg-75", crops[0], 0)
    for before, after in zip(crops[0], found, strict=True):
        assert np.array_equal(after, sent(parse_channel("blur+jpeg-75"), before[None], 0)[0])
    grey = [np.full((8, 8, 3), 128, np.uint8)] * 2
    first, second = send_crops("noise", grey, 5)
    assert not np.array_equal(first, second)
    assert np.array_equal(send_crops("noise", grey, 5)[1], second)
    with pytest.raises(UsageError, match="webp"):
        send_crops("webp-90", grey, 0)
    with pytest.raises(DataError, match="crop 1 is float64"):
        send_crops("blur", [grey[0], np.zeros((8, 8, 3))], 0)  # type: ignore[list-item]


def test_no_crops(network: nn.Sequential) -> None:
    """None in, none out; a network's input of no pixels is refused."""
    assert attack_crops("linf-8@eot", network, [], [], 0, **INPUT) == []
    with pytest.raises(UsageError, match="0 x 16"):
        attack_crops("linf-8", network, [], [], 0, size=(0, 16))
