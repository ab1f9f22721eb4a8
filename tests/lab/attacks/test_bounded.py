"""Sanity of the bounded attacks: more effort never hurts the attacker, without a bound all is lost, the bound holds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from firewall.errors import UsageError
from firewall.lab.attacks import ATTACKS, attack_crops, by_name, quantise, survivors
from firewall.lab.attacks.bounded import Bounded
from firewall.lab.attacks.channelled import Channelled
from firewall.lab.attacks.channels import CHANNELS, parse_channel, sent
from firewall.lab.attacks.criteria import margin
from firewall.lab.attacks.resampling import Resized
from firewall.lab.attacks.rounding import to_input
from firewall.lab.attacks.subspaces import low_frequencies, roughness
from firewall.lab.models import load_torch
from firewall.transforms import resize
from tests.lab.coloured_shapes import classes_of, logits_of

BOUNDED = {name: attack for name, attack in ATTACKS.items() if isinstance(attack, Bounded)}
SUBSPACES: list[dict[str, Any]] = [
    {},
    {"subspace": "blurred"},
    {"subspace": "low-frequency", "frequencies": 5},
    {"total_variation": 10.0},
]


def lead(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """By how many logits a wrong class leads, of the images as stored."""
    return margin(logits_of(network, to_input(quantise(images))), labels)


@pytest.mark.parametrize("name", BOUNDED)
def test_the_name_says_the_bound(name: str, network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """`-8` is 8 of 255 levels, of the image as stored, in every subspace."""
    result = quantise(BOUNDED[name].run(network, *victims, seed=1))
    levels = int(name.rsplit("-", 1)[1])
    change = np.abs(result.astype(int) - quantise(victims[0])).max(axis=(1, 2, 3))
    assert (change <= levels).all() and change.max() > 0.5 * levels


@pytest.mark.parametrize("subspace", SUBSPACES)
def test_more_effort_never_hurts_the_attacker(
    subspace: dict[str, Any], network: nn.Sequential, victims: tuple[Tensor, Tensor]
) -> None:
    """More steps, a larger bound: the wrong class leads by more on the average, and no fewer are fooled. More restarts:
    on every single image."""
    images, labels = victims
    paid = "total_variation" in subspace  # is paid for in logits, so that only what is fooled can be compared

    def tried(**changes: Any) -> Tensor:
        attack = Bounded(**{"eps": 6 / 255, "steps": 20, **subspace, **changes})
        return lead(network, attack.run(network, images, labels, seed=2), labels)

    for leads in (
        [tried(steps=steps) for steps in (2, 8, 40, 120)],
        [tried(eps=eps / 255) for eps in (2, 6, 18, 54)],
    ):
        for less, more in pairwise(leads):
            assert paid or more.mean() >= less.mean() - 0.05
            assert (more > 0).sum() >= (less > 0).sum()
    assert (leads[-1] > 0).sum() > (leads[0] > 0).sum(), "of the bounds, the largest"
    if not paid:
        assert (tried(restarts=3) >= tried(restarts=1) - 1e-4).all()


@pytest.mark.parametrize("subspace", SUBSPACES)
def test_without_a_bound_all_images_are_lost(
    subspace: dict[str, Any], network: nn.Sequential, victims: tuple[Tensor, Tensor]
) -> None:
    """eps 1: every image is named wrong, in every subspace."""
    attack = Bounded(eps=1.0, steps=100, **subspace)
    assert survivors(network, quantise(attack.run(network, *victims, seed=0)), victims[1]).all()


def test_without_a_bound_the_default_classifier_is_lost_at_any_size() -> None:
    """The same for the default classifier through the edge's resize, and through a JPEG that the attacker knows."""
    classifier = load_torch("default")
    generator = np.random.default_rng(0)
    crops = [resize(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8), side, side + 5) for side in (48, 61)]
    with torch.no_grad():
        labels = [int(classifier(to_input(resize(crop, 48, 48)[None])).argmax()) for crop in crops]
    unbounded = Bounded(eps=1.0, steps=15)
    for attack in (unbounded, Channelled(unbounded, "jpeg-50", "known")):
        for crop, label in zip(crops, labels, strict=True):
            images, truth = to_input(crop[None]), torch.tensor([label])
            attacked = quantise(attack.run(Resized(classifier, 48, 48), images, truth, seed=0))
            with torch.no_grad():
                assert int(classifier(to_input(resize(attacked[0], 48, 48)[None])).argmax()) != label
    found = attack_crops("linf-8", classifier, crops, labels, 0)
    assert all(np.abs(new.astype(int) - old).max() <= 8 for new, old in zip(found, crops, strict=True))


def test_it_beats_pgd(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """With the bound and the steps of PGD it fools no fewer, and more confidently."""
    images, labels = victims
    ours = lead(network, Bounded(eps=0.02).run(network, images, labels, seed=0), labels)
    theirs = lead(network, replace(ATTACKS["pgd"], eps=0.02).run(network, images, labels, seed=0), labels)  # type: ignore[type-var]
    assert (ours > 0).sum() >= (theirs > 0).sum() and ours.mean() > theirs.mean()


def test_changes_lie_in_their_subspace(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Of a low-frequency change nearly all lies in the lowest coefficients (the rest is rounding and the bound), of a
    blurred one more than of a free one; a penalty makes the change smoother. Away from black and white."""
    images, labels = (0.3 + 0.4 * victims[0]).mul(255).round() / 255, victims[1]

    def share(attack: Bounded) -> Tensor:
        change = to_input(quantise(attack.run(network, images, labels, seed=0))) - images
        low = low_frequencies(change, 5)
        return low.flatten(1).square().sum(1) / change.flatten(1).square().sum(1)

    free = share(Bounded(eps=16 / 255))
    low = share(Bounded(eps=16 / 255, subspace="low-frequency", frequencies=5))
    blurred = share(Bounded(eps=16 / 255, subspace="blurred", sigma=1.5))
    assert low.min() > 0.9
    assert free.mean() < 0.5 < blurred.mean()
    rough, smooth = (
        roughness(
            to_input(quantise(Bounded(eps=16 / 255, total_variation=paid).run(network, images, labels, 0))) - images, 1
        )
        for paid in (0.0, 10.0)
    )
    assert smooth.mean() < 0.6 * rough.mean()


def test_low_frequencies_are_a_projection() -> None:
    """Twice is once, all coefficients are everything, one is the mean; more than there are is no error."""
    values = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    once = low_frequencies(values, 4)
    assert torch.allclose(low_frequencies(once, 4), once, atol=1e-5)
    assert torch.allclose(low_frequencies(values, 14), values, atol=1e-5)
    assert torch.allclose(low_frequencies(values, 99), values, atol=1e-5)
    assert torch.allclose(low_frequencies(values, 1), values.mean((2, 3), keepdim=True).expand_as(values), atol=1e-5)


@pytest.mark.parametrize("channel", ["jpeg-50", "blur", "resize", "blur+jpeg-75"])
def test_who_knows_the_channel_does_better(
    channel: str, network: nn.Sequential, victims: tuple[Tensor, Tensor]
) -> None:
    """After the channel a wrong class leads by more if the attack went through its stand-in."""
    images, labels = victims
    leads = [
        lead(network, by_name(f"linf-8@{channel}{known}").run(network, images, labels, seed=0), labels).mean()
        for known in ("", "@known")
    ]
    assert leads[1] > leads[0]


def test_an_expectation_holds_over_channels(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Attacked once with `eot`, then sent through each channel: on the average over them a wrong class leads by more
    than if the attacker had thought of none."""
    images, labels = victims[0][:8], victims[1][:8]
    attack = Bounded(eps=8 / 255, steps=20)
    found = [quantise(tried.run(network, images, labels, seed=0)) for tried in (attack, Channelled(attack, "", "eot"))]
    plain, expected = (
        torch.stack([lead(network, to_input(sent(parse_channel(name), pixels, 9)), labels) for name in CHANNELS]).mean()
        for pixels in found
    )
    assert expected > plain


def test_the_bound_holds_on_the_stored_image_before_the_channel(
    network: nn.Sequential, victims: tuple[Tensor, Tensor]
) -> None:
    """Whatever the attacker knows; and what comes out is what the channel makes of that image."""
    images, labels = victims[0][:6], victims[1][:6]
    for name in ("linf-8@jpeg-50", "blurred-8@noise@known", "low-frequency-16@h264-30@eot"):
        attack = by_name(name)
        assert isinstance(attack, Channelled)
        quick = replace(attack, attack=replace(attack.attack, steps=4))  # type: ignore[type-var]
        before = quantise(quick.before(network, images, labels, seed=3))
        assert np.abs(before.astype(int) - quantise(images)).max() <= int(name.split("@")[0].rsplit("-", 1)[1])
        after = quantise(quick.run(network, images, labels, seed=3))
        assert not np.array_equal(before, after)
        assert after.shape == before.shape


def test_channels_follow_any_attack(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Attacks by gradient, by scores, by labels alone: with a channel they keep what they need and what they aim at."""
    images, labels = victims[0][:3], victims[1][:3]
    for name in ("fgsm", "one-pixel", "hopskipjump", "stickers", "deepfool-top5"):
        alone, behind = by_name(name), by_name(f"{name}@jpeg-90@known")
        assert (alone.criterion, alone.needs_gradient, alone.labels_only, alone.chunk) == (
            *(behind.criterion, behind.needs_gradient, behind.labels_only, behind.chunk),
        )
        assert behind.name == f"{alone.name}@jpeg-90@known"
    result = by_name("fgsm@jpeg-90@known").run(network, images, labels, seed=0)
    assert result.shape == images.shape and torch.equal(result, to_input(quantise(result)))
    assert network.training, "the network is left as it was"
    assert classes_of(network, images).tolist() == labels.tolist()


@pytest.mark.parametrize(
    "parameters",
    [
        {"eps": 0.0},
        {"eps": 1.1},
        {"steps": 0},
        {"step": 0.0},
        {"restarts": 0},
        {"sigma": 0.0},
        {"frequencies": 0},
        {"total_variation": -1.0},
        {"total_variation": float("nan")},
        {"subspace": "wavelets"},
    ],
)
def test_parameters_out_of_range(parameters: dict[str, Any]) -> None:
    """Refused when the attack is made, with what is allowed, in one line."""
    with pytest.raises(UsageError, match="allowed are") as caught:
        Bounded(**parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("channel", "knows"), [("", "nothing"), ("", "known"), ("blur", "all"), ("fog", "nothing")])
def test_channelled_makes_sense(channel: str, knows: str) -> None:
    """A channel is named and known in one of three ways."""
    with pytest.raises(UsageError):
        Channelled(ATTACKS["fgsm"], channel, knows)
