"""Every registered attack, driven by one table on a small network, and what holds for particular ones."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, fields, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from firewall.errors import DataError, EngineError, FirewallError, UsageError
from firewall.lab.attacks import (
    ATTACKS,
    BLACK_BOX,
    PAPER_TARGETED,
    PAPER_UNTARGETED,
    Attack,
    by_name,
    quantise,
    survivors,
)
from firewall.lab.attacks.autoattack import AutoAttack
from firewall.lab.attacks.carlini_wagner import CarliniWagner
from firewall.lab.attacks.criteria import Target, TopOut, margin, opposite, wrong_classes
from firewall.lab.attacks.deepfool import DeepFool
from firewall.lab.attacks.fgsm import Fgsm
from firewall.lab.attacks.high_confidence import HighConfidencePgd
from firewall.lab.attacks.pgd import Pgd
from firewall.lab.attacks.rounding import as_stored, to_input
from firewall.lab.attacks.square import Square
from firewall.lab.datasets.obstructions import DRAWS
from tests.lab.coloured_shapes import CLASSES, SIZE, classes_of, logits_of

HALF_LEVEL = 0.5 / 255 + 1e-6

#: name -> (least share of stored images that succeed, most L-infinity before rounding or None, most mean L2 as stored)
TABLE: dict[str, tuple[float, float | None, float]] = {
    "fgsm": (0.75, 0.03, 1.0),
    "pgd": (0.90, 0.03, 1.0),
    "pgd-0.01": (0.30, 0.01, 0.4),
    "pgd-0.03": (0.90, 0.03, 1.0),
    "pgd-0.06": (0.95, 0.06, 1.8),
    "pgd-high-confidence": (0.95, 0.1, 2.8),
    "deepfool": (0.95, None, 0.4),
    "deepfool-top5": (0.90, None, 1.2),
    "cw": (0.95, None, 0.4),
    "cw-top5": (0.90, None, 1.0),
    "cw-kappa": (0.95, None, 1.5),
    "lbfgs": (0.90, None, 2.2),
    "bim": (0.90, 0.3, 2.8),
    "l1-bim": (0.90, None, 2.2),
    "l2-bim": (0.90, None, 2.2),
    "pgd-targeted": (0.90, 0.3, 2.8),
    "gradient": (0.90, None, 0.5),
    "gradient-top5": (0.75, None, 1.8),
    "fgsm-top5": (0.70, 0.3, 2.4),
    "newtonfool": (0.95, None, 0.5),
    "newtonfool-top5": (0.70, None, 3.0),
    "adef": (0.95, None, 1.4),
    "adef-top5": (0.90, None, 3.2),
    "jsma": (0.95, None, 2.2),
    "jsma-top5": (0.95, None, 3.4),
    "apgd-ce": (0.90, 0.03, 1.0),
    "apgd-dlr": (0.90, 0.03, 1.0),
    "fab-t": (0.95, None, 0.6),
    "autoattack-standard": (0.95, 0.03, 1.0),
    "apgd-square": (0.95, 0.03, 1.0),
    "autoattack": (0.95, 0.03, 1.0),
    "square": (0.90, 0.06, 1.9),
    "hopskipjump": (0.95, None, 0.8),
    "one-pixel": (0.08, None, 1.5),
    "five-pixels": (0.20, None, 2.4),
    "universal": (0.15, 0.06, 1.2),
    "stadv": (0.90, None, 5.0),
    "stadv-targeted": (0.10, None, 2.5),
    "stadv-wide": (0.90, None, 4.5),
    "substitute": (0.10, 0.1, 3.2),
    "substitute-drawn": (0.05, 0.1, 3.2),
    "patch": (0.04, None, 3.5),
    "stickers": (0.90, None, 6.0),
    "shadow": (0.05, None, 5.6),
    "shadow-refined": (0.05, None, 5.7),
    "triangle": (0.04, None, 4.1),
    "railing": (0.10, None, 5.5),
    "bars": (0.12, None, 2.5),
    "two-bars": (0.15, None, 2.9),
    "stickers-drawn": (0.40, None, 2.2),
    "leaves": (0.25, None, 1.9),
    "scribble": (0.25, None, 2.3),
    "beam": (0.35, None, 6.0),
    "glare": (0.30, None, 5.6),
    "flicker": (0.25, None, 4.5),
    "projector": (0.35, None, 5.4),
    "projector-gradient": (0.90, None, 7.0),
    "dirt": (0.20, None, 2.5),
    "drops": (0.30, None, 2.0),
    "pose": (0.90, None, 4.5),
    "pose-wide": (0.90, None, 5.0),
    "cast": (0.70, None, 6.4),
    "linf-2": (0.20, 2 / 255, 0.25),
    "linf-4": (0.60, 4 / 255, 0.5),
    "linf-8": (0.90, 8 / 255, 0.9),
    "linf-16": (0.95, 16 / 255, 1.8),
    "linf-32": (0.95, 32 / 255, 3.5),
    "blurred-8": (0.70, 8 / 255, 0.9),
    "blurred-16": (0.90, 16 / 255, 1.8),
    "low-frequency-16": (0.95, 16 / 255, 1.8),
    "low-frequency-32": (0.95, 32 / 255, 3.5),
    "smooth-8": (0.90, 8 / 255, 0.9),
    "smooth-16": (0.95, 16 / 255, 1.8),
}

#: The registered attacks that would take too long here, with less effort.
LESS: dict[str, dict[str, int]] = {
    "cw-top5": {"searches": 3},
    "lbfgs": {"steps": 12, "searches": 6},
    "stadv": {"searches": 2},
    "stadv-targeted": {"searches": 2},
    "stadv-wide": {"searches": 2},
    "substitute": {"rounds": 2},
    "substitute-drawn": {"rounds": 1},
    "patch": {"steps": 80},
    **{family: {"draws": 60} for family in DRAWS},
    "stickers": {},
    "stickers-drawn": {"draws": 60},
    "shadow-refined": {"draws": 60, "refined": 40},
}


@pytest.fixture(scope="module")
def results(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """What every registered attack makes of the victims: made when it is asked for, since all take minutes together."""

    class Made(dict[str, Tensor]):
        def __missing__(self, name: str) -> Tensor:
            self[name] = lighter(name).run(network, *victims, seed=3)
            return self[name]

    return Made()


def test_table_covers_every_registered_attack() -> None:
    """An attack that is added to the registry can't be forgotten here."""
    assert list(TABLE) == list(ATTACKS)


@pytest.mark.parametrize("name", TABLE)
def test_result_is_an_image_batch(name: str, victims: tuple[Tensor, Tensor], results: dict[str, Tensor]) -> None:
    """Shape and type as given, no NaN, all within 0..1, no gradient history, and not the caller's own tensor."""
    result = results[name]
    assert result.shape == victims[0].shape and result.dtype == victims[0].dtype
    assert torch.isfinite(result).all()
    assert result.min() >= 0 and result.max() <= 1
    assert not result.requires_grad
    assert result.data_ptr() != victims[0].data_ptr()


@pytest.mark.parametrize("name", TABLE)
def test_success_survives_rounding(
    name: str, network: nn.Sequential, victims: tuple[Tensor, Tensor], results: dict[str, Tensor]
) -> None:
    """As uint8 the images still meet the criterion as often as the table says, and no normal image does."""
    criterion = ATTACKS[name].criterion
    assert survivors(network, quantise(results[name]), victims[1], criterion).mean() >= TABLE[name][0]
    assert not survivors(network, quantise(victims[0]), victims[1], criterion).any()


@pytest.mark.parametrize("name", TABLE)
def test_norms_are_held(name: str, victims: tuple[Tensor, Tensor], results: dict[str, Tensor]) -> None:
    """L-infinity stays within eps (half a level more as stored), mean L2 within the table's bound and above 0."""
    _, linf, l2 = TABLE[name]
    change = results[name] - victims[0]
    stored = to_input(quantise(results[name])) - victims[0]
    if linf is not None:
        assert change.abs().max() <= linf + 1e-6
        assert stored.abs().max() <= linf + HALF_LEVEL
    assert 0 < stored.flatten(1).norm(dim=1).mean() <= l2


@pytest.mark.parametrize("name", TABLE)
def test_same_seed_same_bytes(name: str, network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """A second run with the same seed gives the same bits, whatever the global random state is, and leaves it alone."""
    images, labels = victims[0][:8], victims[1][:8]
    attack = shorter(ATTACKS[name])
    seed = 2**62 + 3  # as large as a seed may be that is made from a hash
    first = attack.run(network, images, labels, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        state = torch.random.get_rng_state()
        again = attack.run(network, images, labels, seed)
        assert torch.equal(torch.random.get_rng_state(), state), "the global random state is left alone"
    assert torch.equal(again, first)


@pytest.mark.parametrize("name", TABLE)
def test_network_and_inputs_are_left_alone(name: str, network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Weights, buffers, gradients, requires_grad, every module's mode, images and labels are what they were."""
    model = copy.deepcopy(network)
    model[1].eval()
    next(model.parameters()).requires_grad_(False)
    bias = list(model.parameters())[-1]
    bias.grad = torch.ones_like(bias)
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    needed = [weight.requires_grad for weight in model.parameters()]
    images, labels = victims[0][:4].clone(), victims[1][:4].clone()
    with torch.no_grad():
        shorter(ATTACKS[name]).run(model, images, labels, seed=0)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [weight.requires_grad for weight in model.parameters()] == needed
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert len(gradients) == 1 and torch.equal(gradients[0], torch.ones_like(gradients[0]))
    assert torch.equal(images, victims[0][:4]) and torch.equal(labels, victims[1][:4])


@pytest.mark.parametrize("name", TABLE)
def test_empty_batch(name: str, network: nn.Sequential) -> None:
    """No images in, no images out: the last shard of a data set may be empty."""
    result = shorter(ATTACKS[name]).run(
        network, torch.zeros(0, 3, SIZE, SIZE), torch.zeros(0, dtype=torch.int64), seed=0
    )
    assert result.shape == (0, 3, SIZE, SIZE)


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize(
    ("images", "labels", "named"),
    [
        (torch.full((2, 3, SIZE, SIZE), 255.0), torch.zeros(2, dtype=torch.int64), "0..1"),
        (torch.full((2, 3, SIZE, SIZE), torch.nan), torch.zeros(2, dtype=torch.int64), "0..1"),
        (torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), "uint8"),
        (torch.zeros(3, SIZE, SIZE), torch.zeros(3, dtype=torch.int64), "(3, 16, 16)"),
        (torch.zeros(2, 3, SIZE, SIZE), torch.zeros(3, dtype=torch.int64), "(3,)"),
        (torch.zeros(2, 3, SIZE, SIZE), torch.zeros(2), "float32"),
        (torch.zeros(2, 3, SIZE, SIZE), torch.tensor([0, -1]), "-1"),
        (torch.zeros(2, 3, SIZE, SIZE), torch.tensor([0, CLASSES]), str(CLASSES)),
    ],
)
def test_inputs_that_do_not_fit(name: str, images: Tensor, labels: Tensor, named: str, network: nn.Sequential) -> None:
    """Bytes, NaN, wrong shapes, types and labels are refused in one line that names them."""
    with pytest.raises(DataError) as caught:
        ATTACKS[name].run(network, images, labels, seed=0)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TABLE)
def test_network_that_gives_nan(name: str, network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """A broken network is an error, never a data set of unchanged or NaN images; its modes are put back."""
    model = copy.deepcopy(network)
    with torch.no_grad():
        list(model.parameters())[-1][0] = torch.nan
    with pytest.raises(EngineError, match="finite"):
        ATTACKS[name].run(model, victims[0][:2], victims[1][:2], seed=0)
    assert model.training and all(weight.requires_grad for weight in model.parameters())


class Opaque(nn.Module):
    """A network that runs outside torch: no gradient comes back, and asking for one is an error."""

    def __init__(self, network: nn.Module, *, labels_only: bool = False) -> None:
        super().__init__()
        self.inner = [copy.deepcopy(network).eval()]  # in a list: not a sub-module, so nothing of it can be found
        self.labels_only = labels_only

    def forward(self, image: Tensor) -> Tensor:
        assert not image.requires_grad, "a black-box attack has asked for a gradient"
        logits = logits_of(self.inner[0], image)
        if self.labels_only:
            logits = nn.functional.one_hot(logits.argmax(1), logits.shape[1]).float()
        return torch.from_numpy(logits.numpy().copy())


def test_needs_are_declared() -> None:
    """Decision-based attacks are black-box ones too, and the list of these is complete."""
    assert set(BLACK_BOX) == {name for name, attack in ATTACKS.items() if not attack.needs_gradient}
    assert {"square", "hopskipjump", "one-pixel", "substitute"} <= set(BLACK_BOX)
    assert all(not attack.needs_gradient for attack in ATTACKS.values() if attack.labels_only)
    assert {*PAPER_TARGETED, *PAPER_UNTARGETED} <= set(ATTACKS)
    assert all(ATTACKS[name].criterion == Target(0.99) for name in PAPER_TARGETED)
    assert all(ATTACKS[name].criterion == TopOut(5) for name in PAPER_UNTARGETED)


@pytest.mark.parametrize("name", BLACK_BOX)
def test_black_box_attacks_look_at_outputs_alone(
    name: str, network: nn.Sequential, victims: tuple[Tensor, Tensor]
) -> None:
    """Without gradients, and for decision-based attacks without anything but labels, the result is the same."""
    images, labels = victims[0][:6], victims[1][:6]
    attack = shorter(ATTACKS[name])
    hidden = Opaque(network, labels_only=attack.labels_only)
    assert torch.equal(attack.run(hidden, images, labels, 0), attack.run(network, images, labels, 0))


@pytest.mark.parametrize("name", [name for name in TABLE if name not in BLACK_BOX])
def test_network_without_gradients(name: str, victims: tuple[Tensor, Tensor]) -> None:
    """An attack by gradient on a network that has none says so in one line."""

    class Detached(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.stack([image.detach().flatten(1).mean(1) * -place for place in range(CLASSES)], dim=1)

    images = victims[0][:2]
    with pytest.raises(EngineError, match="gives no gradients") as caught:
        shorter(ATTACKS[name]).run(Detached(), images, torch.zeros(2, dtype=torch.int64), seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TABLE)
def test_one_channel_and_odd_sizes(name: str) -> None:
    """Grey images, higher than wide, whose sides are no powers of two, and a network with more classes than five."""
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(13 * 9, 7))
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    images = torch.rand(3, 1, 13, 9, generator=generator).mul(255).round().div(255)
    labels = network(images).argmax(1)
    result = shorter(ATTACKS[name]).run(network, images, labels, seed=0)
    assert result.shape == images.shape and torch.isfinite(result).all()
    assert result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize("name", TABLE)
def test_parameters_fit_a_card(name: str) -> None:
    """They are JSON, say what the criterion is, and a chunk is a number of images."""
    card = json.loads(json.dumps(asdict(ATTACKS[name])))  # type: ignore[call-overload]
    assert card["name"]
    assert ATTACKS[name].chunk >= 1


@pytest.mark.parametrize("shape", [(2, CLASSES, 1), (1, CLASSES)])
def test_network_whose_output_is_no_logits(shape: tuple[int, ...], victims: tuple[Tensor, Tensor]) -> None:
    """An output of other dimensions, or for another number of images, is refused."""

    class Odd(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.zeros(shape) + image.mean()

    with pytest.raises(EngineError, match="logits are 2-D"):
        Fgsm().run(Odd(), victims[0][:2], victims[1][:2], seed=0)


def test_seed_moves_the_random_start(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Another seed starts elsewhere; without a random start it makes no difference."""
    images, labels = victims[0][:4], victims[1][:4]
    for attack in (Pgd(steps=1), HighConfidencePgd(steps=1)):
        assert not torch.equal(attack.run(network, images, labels, 0), attack.run(network, images, labels, 1))
    fixed = Pgd(steps=2, random_start=False)
    assert torch.equal(fixed.run(network, images, labels, 0), fixed.run(network, images, labels, 1))


def test_fgsm_is_one_step_up_the_loss(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Every pixel with a gradient moves by eps unless the box stops it, and the loss rises."""
    images, labels = victims
    result = Fgsm(eps=0.02).run(network, images, labels, seed=0)
    inside = (images > 0.02) & (images < 0.98)
    moved = (result - images).abs()[inside]
    assert ((moved - 0.02).abs() < 1e-6).float().mean() > 0.99
    before, after = (cross_entropy(logits_of(network, x), labels) for x in (images, result))
    assert after > before


def test_more_steps_beat_one(
    network: nn.Sequential, victims: tuple[Tensor, Tensor], results: dict[str, Tensor]
) -> None:
    """At the same eps PGD reaches a higher loss than FGSM, and at larger eps fools no fewer."""
    labels = victims[1]
    one, many = (cross_entropy(logits_of(network, results[name]), labels) for name in ("fgsm", "pgd-0.03"))
    assert many > one
    shares = [survivors(network, quantise(results[f"pgd-{eps}"]), labels).mean() for eps in ("0.01", "0.03", "0.06")]
    assert shares == sorted(shares)


def test_targeted_pgd_reaches_the_class_opposite(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """With a target the class half the classes to the right is named, not just any."""
    images, labels = victims
    result = Pgd(eps=0.15, criterion=Target()).run(network, images, labels, seed=0)
    assert (classes_of(network, result) == (labels + CLASSES // 2) % CLASSES).float().mean() > 0.9


def test_high_confidence_is_high(
    network: nn.Sequential, victims: tuple[Tensor, Tensor], results: dict[str, Tensor]
) -> None:
    """Stored, a wrong class has 0.99 or more: more certain than normal images are, and than PGD's."""

    def certainty(images: Tensor) -> Tensor:
        return logits_of(network, to_input(quantise(images))).softmax(1).amax(1)

    high = certainty(results["pgd-high-confidence"])
    assert (high >= 0.99).float().mean() >= 0.9
    assert high.median() > certainty(victims[0]).median()
    assert high.median() > certainty(results["pgd-0.03"]).median()


def linear_network(weights: list[float], biases: list[float]) -> nn.Module:
    """Logits of 3x2x2 images: each class's weight times the sum of all values, plus its bias."""
    layer = nn.Linear(12, len(weights))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights)[:, None].expand(-1, 12))
        layer.bias.copy_(torch.tensor(biases))
    return nn.Sequential(nn.Flatten(), layer)


@pytest.mark.parametrize(
    ("weights", "biases", "certain"),
    [
        ([0.0, 0.0, 10.0], [1.0, 0.5, -60.0], 2),  # class 1 is near but flat, class 2 at logit 0 and steep
        ([0.0, 1.0, -1.0], [1.0, -5.5, 0.0], 1),  # class 1 gets to 0.5 + 1.2, class 2 only to -6 + 1.2
    ],
)
def test_high_confidence_takes_the_best_of_its_targets(weights: list[float], biases: list[float], certain: int) -> None:
    """A second target is tried where the first stays below `confidence`, and taken only if it gets more certain."""
    network = linear_network(weights, biases)
    image, label = torch.full((1, 3, 2, 2), 128 / 255), torch.tensor([0])
    first, both = (
        network(HighConfidencePgd(eps=0.1, targets=targets).run(network, image, label, seed=0)).softmax(1)[0]
        for targets in (1, 2)
    )
    assert first[2] < 0.5
    assert both[certain] > 0.6
    assert both[certain] >= first[certain] - 1e-6


def test_more_steps_are_never_worse(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Steps so long that the path swings: the best point met stays the result, however far the path goes on."""
    images, labels = victims
    targets = wrong_classes(logits_of(network, images), labels, 1)[:, 0]
    gaps, distances = [], []
    for steps in (6, 9, 12, 18):
        high = HighConfidencePgd(eps=0.05, steps=steps, step=0.08, targets=1).run(network, images, labels, seed=0)
        gaps.append(margin(logits_of(network, to_input(quantise(high))), targets))
        near = CarliniWagner(steps=steps, searches=1, step=0.1, initial_c=30.0).run(network, images, labels, seed=0)
        distances.append((near - images).flatten(1).norm(dim=1))
    assert (distances[0] > 0).float().mean() > 0.5, "a few steps do find examples"
    for before, after in pairwise(gaps):
        assert (after <= before + 1e-4).all()
    for before, after in pairwise(distances):
        assert ((after <= before + 1e-5) | (before == 0)).all()


def test_carlini_wagner_searches_for_the_least_c(
    victims: tuple[Tensor, Tensor], network: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tenfold until an example is found, then halfway between the last c that failed and the last that did not."""
    tried: list[float] = []

    def descend(self: CarliniWagner, logits: object, images: Tensor, labels: Tensor, c: Tensor, *_: Tensor) -> Tensor:
        tried.append(c.item())
        return c >= 3

    monkeypatch.setattr(CarliniWagner, "_descend", descend)
    CarliniWagner(searches=6, initial_c=1.0).run(network, victims[0][:1], victims[1][:1], seed=0)
    assert tried == [1, 10, 5.5, 3.25, 2.125, 2.6875]


def test_kappa_is_held_as_stored(
    network: nn.Sequential, victims: tuple[Tensor, Tensor], results: dict[str, Tensor]
) -> None:
    """C&W's examples beat the label by kappa logits as stored, or come back as they were; cw's are nearer."""
    images, labels = victims
    attack = ATTACKS["cw-kappa"]
    assert isinstance(attack, CarliniWagner) and attack.kappa > 0
    stored = to_input(quantise(results["cw-kappa"]))
    changed = (stored != images).flatten(1).any(1)
    assert (margin(logits_of(network, stored), labels)[changed] >= attack.kappa - 1e-3).all()
    near = (results["cw"] - images).flatten(1).norm(dim=1)
    assert (near[changed] < (stored - images).flatten(1).norm(dim=1)[changed]).all()


def test_carlini_wagner_returns_the_image_where_it_fails(
    network: nn.Sequential, victims: tuple[Tensor, Tensor]
) -> None:
    """Too few steps for any example: the image comes back as it was, not black."""
    images, labels = victims
    result = CarliniWagner(kappa=1000.0, steps=2, searches=1).run(network, images, labels, seed=0)
    assert torch.equal(result, images)


def test_least_change_attacks_change_less_than_bounded_ones(
    victims: tuple[Tensor, Tensor], results: dict[str, Tensor]
) -> None:
    """In L2, C&W is no farther than DeepFool, and both are far nearer than PGD at 0.06."""
    cw, deepfool, pgd = (
        (results[name] - victims[0]).flatten(1).norm(dim=1).median() for name in ("cw", "deepfool", "pgd-0.06")
    )
    assert cw < 1.05 * deepfool < 0.5 * pgd


def test_rounding_in_the_loop_is_what_keeps_least_change_examples(
    network: nn.Sequential, victims: tuple[Tensor, Tensor], results: dict[str, Tensor]
) -> None:
    """The papers' forms fool before rounding but lose more images to it than the forms that see the stored image."""
    images, labels = victims
    for name, attack in (("deepfool", DeepFool(rounded=False)), ("cw", CarliniWagner(rounded=False))):
        plain = attack.run(network, images, labels, seed=0)
        assert (classes_of(network, plain) != labels).float().mean() > 0.95
        ours, papers = (survivors(network, quantise(x), labels).mean() for x in (results[name], plain))
        assert ours > papers


def test_deepfool_finds_the_boundary_of_a_linear_network() -> None:
    """For two classes apart by a plane the step is the perpendicular, overshoot included."""
    linear = nn.Linear(12, 2)
    plane = nn.Sequential(nn.Flatten(), linear)
    normal = torch.linspace(-1, 1, 12)
    with torch.no_grad():
        linear.weight.copy_(torch.stack([normal, -normal]))
        linear.bias.copy_(torch.tensor([0.1, -0.1]))
    image = torch.full((1, 3, 2, 2), 0.5)
    result = DeepFool(rounded=False).run(plane, image, torch.tensor([0]), seed=0)
    distance = 0.1 / normal.norm()
    change = (result - image).flatten()
    assert plane(result).argmax() == 1
    assert abs(float(change.norm()) - float(1.02 * distance)) < 2e-4
    assert torch.allclose(change / change.norm(), -normal / normal.norm(), atol=1e-4)


def test_images_already_named_wrongly_are_left_by_deepfool(
    network: nn.Sequential, victims: tuple[Tensor, Tensor]
) -> None:
    """Nothing has to be changed where the class is wrong already."""
    images, labels = victims
    wrong = (labels + 1) % CLASSES
    assert torch.equal(DeepFool().run(network, images, wrong, seed=0), images)


@pytest.mark.parametrize("kind", ["deepfool", "cw"])
def test_distances_are_those_of_foolbox(kind: str, network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Foolbox's attack with the same parameters finds examples at the same median L2, within 5 %."""
    foolbox = pytest.importorskip("foolbox")
    images, labels = victims
    model = foolbox.PyTorchModel(copy.deepcopy(network).eval(), bounds=(0, 1), device="cpu")
    if kind == "deepfool":
        theirs = foolbox.attacks.L2DeepFoolAttack(candidates=CLASSES)(model, images, labels, epsilons=None)[0]
        ours = DeepFool(rounded=False).run(network, images, labels, seed=0)
    else:
        attack = foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=4, steps=60, stepsize=0.01, initial_const=1, abort_early=False
        )
        theirs = attack(model, images, labels, epsilons=None)[0]
        ours = CarliniWagner(steps=60, searches=4, rounded=False).run(network, images, labels, seed=0)
    medians = [float((x - images).flatten(1).norm(dim=1).median()) for x in (ours, theirs)]
    assert medians[0] == pytest.approx(medians[1], rel=0.05)


def test_quantise_rounds_to_nearest() -> None:
    """Every level comes back from its own float, values between go to the nearest level, the order is (N, H, W, C)."""
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    levels[..., 1] = levels[..., 1][:, ::-1]
    assert np.array_equal(quantise(to_input(levels)), levels)
    between = (torch.tensor([0.4, 0.6, 254.4, 254.6]) / 255).reshape(1, 1, 2, 2)
    assert quantise(between).ravel().tolist() == [0, 1, 254, 255]
    assert np.array_equal(to_input(quantise(between)).numpy(), as_stored(between).numpy())


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_quantise_refuses_values_outside_the_box(value: float) -> None:
    """A wrapped or clipped byte would hide that an attack has left the box."""
    with pytest.raises(DataError):
        quantise(torch.full((1, 3, 2, 2), value))


def test_to_input_takes_stored_images_only() -> None:
    """Floats or a single image are refused."""
    with pytest.raises(DataError):
        to_input(np.zeros((1, 2, 2, 3), np.float32))
    with pytest.raises(DataError):
        to_input(np.zeros((2, 2, 3), np.uint8))


def test_survivors_counts_broken_logits_as_not_fooled(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """NaN must not enter a database as a success; the network stays in the mode it was in."""
    model = copy.deepcopy(network)
    stored, wrong = quantise(victims[0]), (victims[1] + 1) % CLASSES
    assert survivors(model, stored, wrong).all() and model.training
    with torch.no_grad():
        list(model.parameters())[-1][0] = torch.nan
    assert not survivors(model, stored, wrong).any()


def test_criteria() -> None:
    """Margin, wrong classes and the opposite class on numbers that can be checked by eye."""
    logits = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]])
    labels = torch.tensor([0, 2])
    assert margin(logits, labels).tolist() == [-1.0, 1.0]
    assert wrong_classes(logits, labels, 5).tolist() == [[2, 1], [1, 0]]
    assert opposite(torch.tensor([0, 42]), 43).tolist() == [21, 20]
    assert opposite(torch.tensor([0, 950]), 1000).tolist() == [100, 50]


def test_unknown_name_lists_the_known() -> None:
    """A misspelt attack is a usage error that names what there is."""
    assert by_name("pgd-0.03") == Pgd(eps=0.03)
    with pytest.raises(UsageError, match=r"'pgd-0.02'.*pgd-high-confidence"):
        by_name("pgd-0.02")


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (Fgsm, {"eps": 0.0}),
        (Fgsm, {"eps": float("nan")}),
        (Pgd, {"eps": 1.5}),
        (Pgd, {"steps": 0}),
        (Pgd, {"step": 0.0}),
        (HighConfidencePgd, {"eps": -0.1}),
        (HighConfidencePgd, {"confidence": 1.1}),
        (HighConfidencePgd, {"targets": 0}),
        (DeepFool, {"steps": 0}),
        (DeepFool, {"overshoot": -0.1}),
        (CarliniWagner, {"kappa": -1.0}),
        (CarliniWagner, {"initial_c": 0.0}),
    ],
)
def test_parameters_out_of_range(kind: type, parameters: dict[str, float]) -> None:
    """Parameters that make no attack are refused when it is made, with the allowed range in one line."""
    with pytest.raises(FirewallError, match=r"must lie|allowed are") as caught:
        kind(**parameters)
    assert isinstance(caught.value, UsageError) and "\n" not in str(caught.value)


#: Parameters that only cost time, and how little of them does where success is not looked at.
FEW: dict[str, int | float] = {
    "steps": 3,
    "searches": 2,
    "queries": 12,
    "rounds": 1,
    "samples": 8,
    "tries": 12,
    "generations": 2,
    "passes": 1,
    "epochs": 1,
    "tried": 2,
    "views": 2,
    "lengths": 6,
    "share": 0.02,
    "draws": 6,
    "refined": 4,
}


def shorter(attack: Attack) -> Attack:
    """The same attack with a few steps, where only the protocol is looked at."""
    if isinstance(attack, AutoAttack):
        parts = tuple(shorter(part) for part in attack.parts)
        return replace(attack, parts=parts)  # type: ignore[arg-type]
    if isinstance(attack, Square):
        return replace(attack, queries=FEW["queries"])
    least = {field.name: FEW[field.name] for field in fields(attack) if field.name in FEW}
    return replace(attack, **least)  # type: ignore[type-var]


def lighter(name: str) -> Attack:
    """The registered attack, with less effort if it takes long."""
    return replace(ATTACKS[name], **LESS.get(name, {}))  # type: ignore[type-var]
