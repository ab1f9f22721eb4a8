"""What holds for one attack alone: what it may change, what it finds, and what its parts do."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from firewall.errors import DataError, UsageError
from firewall.lab.attacks import ATTACKS, Attack, Target, TopOut, quantise, survivors
from firewall.lab.attacks.adef import ADef
from firewall.lab.attacks.apgd import Apgd, _checkpoints
from firewall.lab.attacks.attack import under_attack
from firewall.lab.attacks.autoattack import AutoAttack
from firewall.lab.attacks.bim import Bim, Norm, length, within
from firewall.lab.attacks.bisection import least
from firewall.lab.attacks.carlini_wagner import CarliniWagner
from firewall.lab.attacks.deepfool import DeepFool
from firewall.lab.attacks.fab import FabT, onto_boundary
from firewall.lab.attacks.fgsm import Fgsm
from firewall.lab.attacks.flow import deform, smooth, total_variation
from firewall.lab.attacks.gradient import GradientStep
from firewall.lab.attacks.hopskipjump import HopSkipJump
from firewall.lab.attacks.jsma import Jsma
from firewall.lab.attacks.lbfgs import Lbfgs, minimise
from firewall.lab.attacks.newtonfool import NewtonFool
from firewall.lab.attacks.one_pixel import OnePixel
from firewall.lab.attacks.patch import Patch
from firewall.lab.attacks.pgd import Pgd
from firewall.lab.attacks.poses import Poses
from firewall.lab.attacks.rounding import as_stored, to_input
from firewall.lab.attacks.square import Square
from firewall.lab.attacks.stadv import StAdv
from firewall.lab.attacks.stickers import Stickers
from firewall.lab.attacks.substitute import Substitute, drawings
from firewall.lab.attacks.universal import Universal
from tests.lab.coloured_shapes import CLASSES, SIZE, classes_of, logits_of, shapes


def stored(attack: Attack, network: nn.Module, victims: tuple[Tensor, Tensor]) -> Tensor:
    """The attack's result as it will be stored."""
    return to_input(quantise(attack.run(network, *victims, seed=0)))


def test_top_out_counts_places() -> None:
    """The label's place is what counts, from one place to all, and a tie is no success."""
    logits = torch.tensor([[5.0, 4.0, 3.0, 2.0], [1.0, 4.0, 3.0, 2.0], [3.0, 4.0, 3.0, 2.0]])
    labels = torch.tensor([1, 0, 0])
    assert TopOut(1).met(logits, labels).tolist() == [True, True, True]
    assert TopOut(2).met(logits, labels).tolist() == [False, True, False]
    assert TopOut(3).met(logits, labels).tolist() == [False, True, False]
    assert TopOut(2).gap(logits, labels).tolist() == [-1.0, 2.0, 0.0]
    with pytest.raises(DataError, match="first 4 of 4"):
        TopOut(4).met(logits, labels)


def test_target_counts_probability() -> None:
    """The class opposite has to reach the probability; its gap is 0 just there."""
    labels = torch.tensor([0, 0])
    odds = torch.log(torch.tensor(99.0)).item()
    logits = torch.tensor([[0.0, odds + 0.01], [0.0, odds - 0.01]])
    assert Target(0.99).met(logits, labels).tolist() == [True, False]
    assert Target(0.99).gap(logits, labels).tolist() == pytest.approx([0.01, -0.01], abs=1e-4)
    assert logits.softmax(1)[:, 1].tolist() == pytest.approx([0.99, 0.99], abs=2e-4)


@pytest.mark.parametrize("criterion", [TopOut(1), TopOut(2), Target(0.99)])
def test_criteria_never_count_broken_logits(criterion: TopOut | Target) -> None:
    """NaN or infinity is no success; the loss falls where the gap rises."""
    logits = torch.tensor([[torch.nan, 1.0, 9.0, 0.0], [-torch.inf, 1.0, 9.0, 0.0]])
    assert not criterion.met(logits, torch.tensor([0, 0])).any()
    worse, better = torch.tensor([[3.0, 0.0, -1.0, 0.0]]), torch.tensor([[-3.0, 0.0, 9.0, 0.0]])
    label = torch.tensor([0])
    assert criterion.gap(better, label) > criterion.gap(worse, label)
    assert criterion.loss(better, label) < criterion.loss(worse, label)


def test_survivors_takes_the_criterion(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """A target is met by fewer images than a wrong first label is."""
    images, labels = victims
    result = quantise(Pgd(eps=0.03).run(network, images, labels, seed=0))
    wrong, gone, reached = (survivors(network, result, labels, c) for c in (None, TopOut(3), Target(0.99)))
    assert (wrong == survivors(network, result, labels, TopOut(1))).all()
    assert wrong.sum() > gone.sum() and wrong.sum() > reached.sum()
    assert (wrong | ~gone).all() and (wrong | ~reached).all()


def test_least_finds_each_images_threshold() -> None:
    """Thresholds over the whole range are found to a few per cent, and out of reach nothing changes."""
    thresholds = torch.tensor([0.005, 0.02, 0.1, 0.29, 0.4])
    images = torch.zeros(5, 1, 2, 2)

    def attempt(strength: Tensor) -> tuple[Tensor, Tensor]:
        return strength[:, None, None, None].expand(5, 1, 2, 2), strength >= thresholds

    found = least(images, attempt, 0.3 / 64, 0.3, 8)[:, 0, 0, 0]
    assert found[4] == 0
    assert ((found[:4] >= thresholds[:4]) & (found[:4] <= 1.05 * thresholds[:4])).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_norms_are_lengths(norm: Norm) -> None:
    """An even change has its value as its length in all three; what is too long comes back to the radius."""
    change = torch.full((2, 3, 4, 4), -0.2)
    change[1] *= 0.1
    assert length(change, norm).flatten().tolist() == pytest.approx([0.2, 0.02])
    radius = torch.full((2, 1, 1, 1), 0.05)
    assert length(within(change, radius, norm), norm).flatten().tolist() == pytest.approx([0.05, 0.02])


@pytest.mark.parametrize("kind", ["LinfBasicIterativeAttack", "L2BasicIterativeAttack", "L2FastGradientAttack", "FGSM"])
def test_least_radii_are_those_of_foolbox(kind: str, network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Over a fine grid of radii Foolbox's attack succeeds from about the same median radius on."""
    foolbox = pytest.importorskip("foolbox")
    images, labels = victims
    attack: Attack
    if kind.endswith("IterativeAttack"):
        theirs = getattr(foolbox.attacks, kind)(rel_stepsize=0.25, steps=10, random_start=False)
        attack = Bim(norm="linf" if kind[1] == "i" else "l2", criterion=TopOut(1), searches=9)
    else:
        theirs = getattr(foolbox.attacks, kind)()
        attack = GradientStep(norm="linf" if kind == "FGSM" else "l2", lengths=128)
    units = 1.0 if kind[:2] != "L2" else images[0].numel() ** 0.5
    grid = torch.logspace(-2.6, -0.6, 60, dtype=torch.float64)
    model = foolbox.PyTorchModel(copy.deepcopy(network).eval(), bounds=(0, 1), device="cpu")
    success = theirs(model, images, labels, epsilons=[float(radius) * units for radius in grid])[2]
    first = grid[success.int().argmax(0)]
    change = stored(attack, network, victims) - images
    ours = length(change, "l2" if units > 1 else "linf").flatten()
    level = 1 / 255 if units == 1 else 0.0  # what rounding may add, as ours has to succeed as stored
    assert float(ours.median()) == pytest.approx(float(first.median()), rel=0.15, abs=level)


def test_gradient_goes_no_farther_than_it_has_to(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """One length shorter and the criterion isn't met."""
    images, labels = victims
    attack = GradientStep(norm="linf", shortest=1 / 255, longest=64 / 255, lengths=64)
    change = (stored(attack, network, victims) - images).abs().amax((1, 2, 3))
    for image, label, size in zip(images, labels, change, strict=True):
        shorter = float(size) * (255 / 64) ** (-1 / 63) - 1 / 255
        if shorter > 2 / 255:
            point = Fgsm(eps=shorter).run(network, image[None], label[None], seed=0)
            assert classes_of(network, to_input(quantise(point))) == label


def test_targets_are_reached_with_their_probability(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """The paper's targeted group: as stored, 0.99 for the class half the classes to the right."""
    images, labels = victims
    target = ((labels + CLASSES // 2) % CLASSES)[:, None]
    for attack in (Bim(searches=3), Lbfgs(steps=10, searches=4)):
        result = stored(attack, network, victims)
        changed = (result != images).flatten(1).any(1)
        assert changed.float().mean() > 0.8
        assert (logits_of(network, result).softmax(1).gather(1, target)[changed, 0] >= 0.99 - 1e-5).all()


def test_lbfgs_minimises_within_the_box() -> None:
    """A stretched quadratic with its minimum outside: the limits hold where they must, the rest is exact."""
    weights = torch.tensor([1.0, 10.0, 100.0, 3.0]).reshape(1, 1, 2, 2)
    aims = torch.tensor([[0.3, 1.4, 0.7, -0.5], [0.2, 0.9, -2.0, 0.6]]).reshape(2, 1, 2, 2)

    def objective(point: Tensor) -> tuple[Tensor, Tensor]:
        difference = point - aims
        return (weights * difference.square()).flatten(1).sum(1), 2 * weights * difference

    found = minimise(objective, torch.full((2, 1, 2, 2), 0.5), steps=30, memory=6)
    assert torch.allclose(found, aims.clamp(0, 1), atol=1e-3)


def test_least_change_order(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """In L2: C&W is nearer than one gradient step, L-BFGS than BIM for a target, NewtonFool about where DeepFool is."""

    def median(attack: Attack) -> float:
        return float((stored(attack, network, victims) - victims[0]).flatten(1).norm(dim=1).median())

    assert median(CarliniWagner(steps=60, searches=3)) < median(GradientStep())
    assert median(Lbfgs(steps=18)) < median(Bim(norm="l2"))
    assert median(NewtonFool()) < 1.6 * median(DeepFool())


def test_newtonfool_has_no_nan_where_the_network_is_certain(victims: tuple[Tensor, Tensor]) -> None:
    """A label at probability 1 in float32, whose probability has no gradient left, is still walked away from."""
    layer = nn.Linear(3 * SIZE * SIZE, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([torch.full((768,), 1.0), torch.full((768,), -1.0)]))
        layer.bias.copy_(torch.tensor([-300.0, 300.0]))
    network = nn.Sequential(nn.Flatten(), layer)
    image, label = torch.full((1, 3, SIZE, SIZE), 0.5), torch.tensor([0])
    assert network(image).softmax(1)[0, 0] == 1
    result = NewtonFool(eta=0.05).run(network, image, label, seed=0)
    assert torch.isfinite(result).all()
    assert network(result).argmax() == 1


def test_top_k_form_goes_farther(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Out of the first three takes more than out of the first place, and does leave the three."""
    images, labels = victims
    for make in (DeepFool, NewtonFool, CarliniWagner, GradientStep, ADef, Jsma):
        fast: dict[str, Any] = {"steps": 40, "searches": 3} if make is CarliniWagner else {}
        one, three = (make(criterion=TopOut(k), **fast) for k in (1, 3))
        near, far = stored(one, network, victims), stored(three, network, victims)
        success = TopOut(3).met(logits_of(network, far), labels)
        assert success.float().mean() >= 0.8
        sizes = [(x - images)[success].flatten(1).norm(dim=1).median() for x in (near, far)]
        assert sizes[0] < sizes[1]


def test_deform_moves_pixels() -> None:
    """A whole flow is a shift with the edge repeated; half of one lies half-way; no flow changes nothing."""
    image = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    flow = torch.zeros(1, 2, 5, 7)
    assert torch.allclose(deform(image, flow), image, atol=1e-6)
    flow[:, 0] = 2
    right = deform(image, flow)
    assert torch.allclose(right[..., :5], image[..., 2:], atol=1e-5)
    assert torch.allclose(right[..., 5:], image[..., -1:].expand(-1, -1, -1, 2), atol=1e-5)
    half = torch.zeros(1, 2, 5, 7)
    half[:, 1] = 0.5
    assert torch.allclose(deform(image, half)[:, :, :4], (image[:, :, :4] + image[:, :, 1:]) / 2, atol=1e-5)


def test_total_variation_counts_each_pair_twice() -> None:
    """An even flow has none; one pixel that goes 3 right and 4 down differs by 5 from each of four neighbours."""
    flow = torch.ones(1, 2, 6, 6)
    assert total_variation(flow).item() == pytest.approx(0, abs=1e-3)
    flow[0, :, 2, 3] += torch.tensor([3.0, 4.0])
    assert total_variation(flow).item() == pytest.approx(2 * 4 * 5, abs=1e-3)
    assert total_variation(3 * flow).item() == pytest.approx(3 * 2 * 4 * 5, abs=2e-3)


def test_smoothing_is_symmetric_and_keeps_sums() -> None:
    """<a, S b> = <S a, b>, which ADef's step rests on; inside, a flow's sum stays."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 1, 2, 9, 11, generator=generator)
    for sigma in (0.0, 0.7, 1.0):
        assert torch.allclose((a * smooth(b, sigma)).sum(), (smooth(a, sigma) * b).sum(), atol=1e-4)
    point = torch.zeros(1, 2, 9, 9)
    point[0, 0, 4, 4] = 1
    assert smooth(point, 1.0).sum().item() == pytest.approx(1, abs=1e-5)


def test_adef_changes_nothing_but_places(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """The result is the image deformed by the flow, whose longest vector is within reach."""
    images, labels = victims
    attack = ADef(reach=2.0)
    with under_attack(network, images, labels) as logits:
        flow = attack.field(logits, images, labels)
    assert torch.equal(attack.run(network, images, labels, seed=0), as_stored(deform(images, flow)))
    farthest = flow.norm(dim=1).flatten(1).amax(1)
    assert (farthest <= 2.0 + 1e-4).all() and (farthest > 0).all()


@pytest.mark.parametrize(("cap", "reach"), [(7.0, None), (60.0, 1.0)])
def test_stadv_holds_its_cap(
    cap: float, reach: float | None, network: nn.Sequential, victims: tuple[Tensor, Tensor]
) -> None:
    """No flow has more total variation than the cap or goes beyond reach; where it fails there is none."""
    images, labels = victims[0][:8], victims[1][:8]
    attack = StAdv(cap=cap, reach=reach, searches=2, steps=25)
    with under_attack(network, images, labels) as logits:
        flow = attack.fields(logits, images, labels)
    assert (total_variation(flow) <= cap + 1e-3).all()
    if reach is not None:
        assert flow.abs().max() <= reach + 1e-4
    result = attack.run(network, images, labels, seed=0)
    assert torch.equal(result, as_stored(deform(images, flow)))
    moved = (flow != 0).flatten(1).any(1)
    assert torch.equal(moved, classes_of(network, result) != labels)


def test_stadv_searches_for_the_highest_tau(
    network: nn.Sequential, victims: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-way between the last tau that fooled, or 0, and the last that did not, or 1000."""
    tried: list[float] = []

    def descend(self: StAdv, logits: object, images: Tensor, labels: Tensor, tau: Tensor, *_: Tensor) -> Tensor:
        tried.append(tau.item())
        return tau < 200

    monkeypatch.setattr(StAdv, "_descend", descend)
    StAdv(searches=5).run(network, victims[0][:1], victims[1][:1], seed=0)
    assert tried == [500, 250, 125, 187.5, 218.75]


def test_jsma_changes_few_values(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Never more than the share allowed, each as far as it goes with the full step, and fewer than that in the mean."""
    images = victims[0]
    for share in (0.01, 0.1):
        result = stored(Jsma(share=share), network, victims)
        changed = (result != images).flatten(1)
        assert (changed.sum(1) <= share * images[0].numel()).all()
    assert ((result == 0) | (result == 1)).flatten(1)[changed].all()
    assert changed.float().mean() < 0.05


def test_apgd_checkpoints_are_the_papers() -> None:
    """For 100 steps: 22, 41, 57, 70, 80, 87, then every 6."""
    assert sorted(_checkpoints(100))[:8] == [22, 41, 57, 70, 80, 87, 93, 99]


def test_apgd_beats_pgd(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """At a radius that is too small for many images it fools no fewer than PGD with as many steps."""
    images, labels = victims
    ours, theirs = (
        survivors(network, quantise(attack.run(network, images, labels, seed=0)), labels).sum()
        for attack in (Apgd(eps=0.01, steps=40), Pgd(eps=0.01, steps=40))
    )
    assert ours >= theirs


def test_autoattack_is_as_good_as_its_best_part(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Whatever a part fools stays fooled; parts of different criteria are refused."""
    images, labels = victims
    parts = (Apgd(eps=0.008, steps=10), Square(eps=0.008, queries=50))
    shares = [
        survivors(network, quantise(attack.run(network, images, labels, seed=0)), labels).mean()
        for attack in (AutoAttack(parts), *parts)
    ]
    assert shares[0] >= max(shares[1:])
    with pytest.raises(UsageError, match="one criterion"):
        AutoAttack((Apgd(), Apgd(criterion=TopOut(2))))
    with pytest.raises(UsageError, match="parts >= 1"):
        AutoAttack(())


def test_the_standard_autoattack_has_the_papers_parts() -> None:
    """APGD-CE, APGD-T with 9 targets, FAB-T with 9, Square with 5000 queries, all of 100 steps and the same radius; the
    short ensemble is kept under its old name with its old parameters, so that old databases go on."""
    first, second, third, fourth = AutoAttack.standard(0.05).parts
    assert first == Apgd(loss="ce", eps=0.05, steps=100, rho=0.75)
    assert second == Apgd(loss="dlr", eps=0.05, steps=100, targets=9, rho=0.75)
    assert third == FabT(eps=0.05, steps=100, targets=9, most_bias=0.1, overshoot=1.05, way_back=0.9)
    assert fourth == Square(eps=0.05, queries=5000, share=0.8)
    assert ATTACKS["autoattack"] == ATTACKS["apgd-square"] == AutoAttack((Apgd(), Apgd(loss="dlr"), Square()))


def test_a_projection_is_the_nearest_point_of_the_boundary() -> None:
    """As the linear program has it (scipy, HiGHS): on the plane, in the box, no nearer point; and where the box holds
    no point of the plane, the corner."""
    generator = torch.Generator().manual_seed(4)
    points, slope = torch.rand(12, 1, 3, 3, generator=generator), torch.randn(12, 1, 3, 3, generator=generator)
    offset = torch.linspace(-2, 2, 12) - (points * slope).flatten(1).sum(1)
    offset[0] = 100.0
    found = onto_boundary(points, slope, offset)
    assert found.min() >= 0 and found.max() <= 1
    assert torch.equal(found[0], (slope[0] < 0).float())
    for place in range(1, 12):
        x, w = points[place].flatten().double().numpy(), slope[place].flatten().double().numpy()
        size = len(x)  # least t with |z - x| <= t, w z = -offset, z in the box
        program = linprog(
            [*[0] * size, 1],
            A_ub=np.block([[np.eye(size), -np.ones((size, 1))], [-np.eye(size), -np.ones((size, 1))]]),
            b_ub=[*x, *-x],
            A_eq=[[*w, 0]],
            b_eq=[-float(offset[place])],
            bounds=[(0, 1)] * size + [(0, None)],
        )
        if program.status == 2:  # no such point in the box
            continue
        assert float((found[place] * slope[place]).sum() + offset[place]) == pytest.approx(0, abs=1e-5)
        assert float((found[place] - points[place]).abs().max()) == pytest.approx(program.x[-1], abs=1e-5)


def test_fab_finds_nearer_examples_than_others(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """In L-infinity its examples lie nearer than those of the search for BIM's least radius; within a ball it fools as
    many images as APGD, less a few, and leaves the others alone."""
    images, labels = victims
    ours = FabT(eps=None, rounded=False).run(network, images, labels, seed=0)
    bim = Bim(criterion=TopOut(), searches=10).run(network, images, labels, seed=0)
    nearest = [(x - images).abs().flatten(1).amax(1) for x in (ours, bim)]
    assert bool((classes_of(network, ours) != labels).all())
    assert nearest[0].median() < nearest[1].median()
    assert float((nearest[0] <= nearest[1] + 1e-6).float().mean()) > 0.8

    within = FabT(eps=0.012).run(network, images, labels, seed=0)
    apgd = Apgd(eps=0.012, steps=100).run(network, images, labels, seed=0)
    fooled = [survivors(network, quantise(x), labels) for x in (within, apgd)]
    assert fooled[0].sum() >= fooled[1].sum() - 3
    assert float((within - images).abs().max()) <= 0.012 + 1e-6
    unmoved = (within == images).flatten(1).all(1).numpy()
    assert bool((unmoved | fooled[0]).all())


def test_dlr_takes_four_classes() -> None:
    """Three logits have no third and fourth."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(DataError, match="four classes"):
        Apgd(loss="dlr").run(network, torch.rand(1, 3, 2, 2), torch.tensor([0]), seed=0)


def test_square_changes_by_whole_eps(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Every value goes up or down by eps, unless the box stops it."""
    images, labels = victims
    result = Square(eps=0.05, queries=20).run(network, images, labels, seed=0)
    inside = (images > 0.05) & (images < 0.95)
    assert torch.allclose((result - images).abs()[inside], torch.tensor(0.05), atol=1e-6)


def test_more_queries_bring_hopskipjump_nearer(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Each round only ever keeps nearer points, and all of them fool as stored."""
    images, labels = victims[0][:8], victims[1][:8]
    distances = []
    for rounds in (1, 6):
        result = HopSkipJump(rounds=rounds, samples=40).run(network, images, labels, seed=0)
        assert survivors(network, quantise(result), labels).all()
        distances.append((result - images).flatten(1).norm(dim=1))
    assert (distances[1] <= distances[0] + 1e-5).all()
    assert distances[1].median() < 0.7 * distances[0].median()


@pytest.mark.parametrize("pixels", [1, 3])
def test_one_pixel_is_one_pixel(pixels: int, network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """At most that many places differ, in any channel, and with one it is exactly one."""
    attack = OnePixel(pixels=pixels, candidates=16, generations=4)
    places = (stored(attack, network, victims) != victims[0]).any(1).flatten(1).sum(1)
    assert places.max() <= pixels
    if pixels == 1:
        assert (places == 1).all()


def test_differential_evolution_only_gets_better(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """With the same draws more generations never end at a smaller gap."""
    gaps = [
        TopOut(1).gap(logits_of(network, stored(OnePixel(generations=count), network, victims)), victims[1])
        for count in (1, 8)
    ]
    lost = gaps[0] <= 0
    assert (gaps[1][lost] >= gaps[0][lost] - 1e-5).all()
    assert gaps[1].mean() > gaps[0].mean()


def test_universal_is_one_change_for_all(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Where the box is far away every image is changed by the same, to half a level."""
    images = victims[0]
    change = stored(Universal(eps=0.05, passes=1), network, victims) - images
    inside = (images > 0.06) & (images < 0.94)
    middle = torch.where(inside, change, torch.nan).nanmedian(0).values
    assert torch.allclose(change[inside], middle.expand_as(change)[inside], atol=1.01 / 255)
    assert change.abs().max() <= 0.05 + 0.5 / 255 + 1e-6


def test_poses_without_range_leave_a_picture_alone() -> None:
    """And with range they stay in the box, differ, and repeat with the generator."""
    pictures = torch.rand(4, 3, 10, 14, generator=torch.Generator().manual_seed(1))
    still = Poses(degrees=0, scale=1, shift=0, tilt=0, light=0)
    assert torch.allclose(still.seen(pictures, torch.Generator()), pictures, atol=1e-5)
    first, again = (Poses().seen(pictures, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(first, again) and not torch.allclose(first, pictures, atol=0.05)
    assert first.min() >= 0 and first.max() <= 1
    alike = Poses().seen(pictures[:1].expand(3, -1, -1, -1), torch.Generator().manual_seed(2), alike=True)
    assert torch.equal(alike[0], alike[2])


def test_patch_covers_a_small_disc(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """What changes lies within a disc of the size asked for, somewhere else on each image, wholly inside."""
    images = victims[0]
    result = stored(Patch(side=0.4, steps=5), network, victims)
    changed = (result != images).any(1)
    area = 3.1416 / 4 * (0.4 * SIZE) ** 2
    assert (changed.flatten(1).sum(1) <= 1.6 * area).all() and (changed.flatten(1).sum(1) > 0.6 * area).all()
    tall = changed.any(2).sum(1)
    assert (tall <= 0.4 * 1.25 * SIZE + 2).all()
    assert len({tuple(where.nonzero()[0].tolist()) for where in changed}) > 3


def test_stickers_are_black_and_white_rectangles(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Every changed pixel is black or white, and so few stickers cover no more than their area."""
    images = victims[0]
    attack = Stickers(count=3, height=0.15, width=0.3)
    result = stored(attack, network, victims)
    changed = (result != images).any(1)
    values = result.permute(0, 2, 3, 1)[changed]
    assert ((values == 0).all(1) | (values == 1).all(1)).all()
    assert (changed.flatten(1).sum(1) <= 3 * round(0.15 * SIZE) * round(0.3 * SIZE)).all()


def test_stickers_hold_in_views_that_were_not_tried(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """In new poses and light more stickered signs are misread than plain ones."""
    images, labels = victims
    result = stored(ATTACKS["stickers"], network, victims)
    poses, generator = Poses(), torch.Generator().manual_seed(99)
    rates = [
        (torch.stack([classes_of(network, poses.seen(x, generator)) for _ in range(8)]) != labels).float().mean()
        for x in (images, result)
    ]
    assert rates[1] > rates[0] + 0.4


def test_substitute_learns_from_labels(network: nn.Sequential) -> None:
    """On images that it hasn't asked about it agrees far more often than chance would."""
    seen, other = shapes(96, seed=5)[0], shapes(96, seed=6)[0]
    with under_attack(network, seen, torch.zeros(96, dtype=torch.int64), gradients=False) as logits:
        substitute = Substitute(rounds=1, epochs=8).learn(logits, seen, seed=0)
    agreement = (classes_of(substitute, other) == classes_of(network, other)).float().mean()
    assert agreement > 0.5


def test_substitute_asks_as_often_as_it_says(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """10 seeds, doubled twice, and once one image to count the classes: 41 answers."""
    asked = 0

    def logits(batch: Tensor) -> Tensor:
        nonlocal asked
        asked += len(batch)
        return logits_of(network, batch)

    Substitute(count=10, rounds=2, epochs=1).learn(logits, victims[0], seed=0)
    assert asked == 41


def test_drawings_are_pictures() -> None:
    """In the box, of the shape of the images, all different, the same from the same generator."""
    like = torch.zeros(1, 1, 14, 10)
    first, again = (drawings(12, like, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (12, 1, 14, 10)
    assert first.min() >= 0 and first.max() <= 1
    assert all(not torch.equal(first[i], first[j]) for i in range(12) for j in range(i))


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        (TopOut, {"k": 0}),
        (Target, {"probability": 1.0}),
        (Bim, {"norm": "l0"}),
        (Bim, {"radius": 0.0}),
        (Bim, {"step": float("nan")}),
        (GradientStep, {"shortest": 0.5}),
        (NewtonFool, {"eta": 0.0}),
        (DeepFool, {"candidates": 4, "criterion": TopOut(5)}),
        (ADef, {"sigma": -1.0}),
        (ADef, {"candidates": 4, "criterion": TopOut(5)}),
        (Jsma, {"share": 0.0}),
        (Jsma, {"criterion": Target()}),
        (Lbfgs, {"lowest": 2.0, "highest": 1.0}),
        (Apgd, {"loss": "hinge"}),
        (Apgd, {"rho": 1.0}),
        (FabT, {"eps": 0.0}),
        (FabT, {"targets": 0}),
        (FabT, {"overshoot": 0.9}),
        (FabT, {"way_back": 1.0}),
        (FabT, {"criterion": TopOut(5)}),
        (Square, {"queries": 0}),
        (HopSkipJump, {"rounds": 0}),
        (OnePixel, {"candidates": 3}),
        (OnePixel, {"pixels": 0}),
        (Universal, {"goal": 0.0}),
        (StAdv, {"cap": 0.0}),
        (StAdv, {"reach": -1.0}),
        (Substitute, {"seeds": "none"}),
        (Substitute, {"reach": 0.0}),
        (Patch, {"side": 0.0}),
        (Stickers, {"views": 0}),
        (Stickers, {"radius": 1.5}),
        (Poses, {"scale": 0.9}),
        (Poses, {"light": 1.0}),
    ],
)
def test_parameters_out_of_range(kind: type, parameters: dict[str, Any]) -> None:
    """Parameters that make no attack are refused when it is made, with the allowed range in one line."""
    with pytest.raises(UsageError, match=r"must lie|allowed are") as caught:
        kind(**parameters)
    assert "\n" not in str(caught.value)
