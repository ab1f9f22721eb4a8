"""The threat model and the bounds on it: nothing that keeps to the budget gets past them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from firewall.errors import DataError, UsageError
from firewall.lab.certification import dual
from firewall.lab.certification.dual import certify_pair, largest_norm, raised_margins, slopes
from firewall.lab.certification.flow_bounds import Cell, Changes, MovingImage, Slopes, checked_image
from firewall.lab.certification.flow_budget import Floats, checked_budget, flow_variation, grid_of, reach
from firewall.lab.certification.image_certificate import Threat, certify
from firewall.lab.certification.linear import Hidden, Region, hidden_bounds, margin_bounds
from firewall.lab.certification.mixing import mix
from firewall.lab.certification.spatial_attack import Search, attempts, moved
from firewall.lab.certification.two_layer import TwoLayer

SIDE = 9


def picture(seed: int, side: int = SIDE) -> Floats:
    """A blurred random blob: steep edges, a dark surround."""
    generator = np.random.default_rng(seed)
    image = np.zeros((side, side))
    image[2:-2, 2:-2] = generator.random((side - 4, side - 4)) > 0.45
    image[1:-1, 1:-1] = (image[1:-1, 1:-1] + image[1:-1, 2:] + image[2:, 1:-1]) / 3
    return image


def network(seed: int, side: int = SIDE, units: int = 24, classes: int = 4) -> TwoLayer:
    generator = np.random.default_rng([1, seed])
    first = generator.normal(size=(units, side * side)) / side
    return TwoLayer(
        first,
        generator.normal(size=units) / 4,
        generator.normal(size=(classes, units)),
        generator.normal(size=classes) / 4,
        height=side,
        width=side,
    )


def flows(seed: int, budget: float, count: int, side: int = SIDE) -> Floats:
    """Flows (count, 2, side, side) of exactly the budget: noise, single pixels, and pieces that move together."""
    generator = np.random.default_rng([2, seed])
    found = []
    for turn in range(count):
        flow = np.zeros((2, side, side))
        if turn % 3 == 0:
            flow[:] = generator.normal(size=flow.shape)
        elif turn % 3 == 1:
            row, column = generator.integers(0, side, 2)
            flow[:, row, column] = generator.normal(size=2)
        else:
            for _ in range(2):
                top, left = generator.integers(0, side - 2, 2)
                height, width = generator.integers(2, side, 2)
                flow[:, top : top + height, left : left + width] += generator.normal(size=(2, 1, 1))
        found.append(flow * (budget / flow_variation(flow)))
    return np.stack(found)


def test_total_variation_is_equation_6_with_a_still_surround() -> None:
    """A single pixel moved by 1 has four neighbours, each pair counted from both ends: 8; so too at a corner."""
    flow = np.zeros((2, 5, 5))
    flow[0, 2, 2] = 1.0
    corner = np.zeros((2, 5, 5))
    corner[1, 0, 0] = 1.0

    assert flow_variation(flow) == pytest.approx(8) and flow_variation(corner) == pytest.approx(8)
    assert flow_variation(np.ones((2, 5, 5))) == pytest.approx(2 * 20 * 2**0.5)


def test_no_flow_goes_farther_than_the_reach_and_one_goes_as_far() -> None:
    """The length of all vectors together is at most B / 8, met by a single pixel; lambda B / 2 is a weaker bound."""
    budget = 5.0
    lengths = [np.linalg.norm(flow) for flow in flows(0, budget, 300)]

    assert max(lengths) <= reach(budget) * (1 + 1e-12) and max(lengths) == pytest.approx(reach(budget))
    assert (grid_of(SIDE, SIDE).lambdas * budget / 2 >= reach(budget)).all()
    assert grid_of(28, 28).lambdas.min() == pytest.approx(0.55, abs=0.01)
    assert grid_of(28, 28).lambdas.max() == pytest.approx(0.83, abs=0.01)


def test_capacity_bounds_every_weighted_sum_of_lengths() -> None:
    """sum w_i |r_i| <= C capacity(w) for all flows; the bound is within a factor of 2 of what is reached."""
    budget, grid = 6.0, grid_of(SIDE, SIDE)
    weights = np.random.default_rng(3).random((20, SIDE * SIDE)) * (np.arange(SIDE * SIDE) % 3 > 0)
    lengths = np.stack([np.linalg.norm(flow, axis=0).ravel() for flow in flows(1, budget, 400)])
    reached = (lengths @ weights.T).max(axis=0)

    for bound in (grid.capacity(weights, weights, 0), grid.spread(weights, weights, 0)):
        assert (reached <= budget / 2 * bound * (1 + 1e-9)).all()
        assert (budget / 2 * bound <= 2 * reached + 1).all()


@pytest.mark.parametrize(("budget", "shift"), [(3.0, 0.0), (7.0, 0.0), (14.0, 0.0), (7.0, 1.5), (12.0, 1.0)])
def test_pixels_stay_within_their_bounds(budget: float, shift: float) -> None:
    """Value, and change per length, of every pixel under many flows lie within what is promised, near and far."""
    image = picture(1)
    moving = MovingImage(image, budget, shift)
    cell = (0.5, 0.75, -1.0, -0.5) if shift else (0.0, 0.0, 0.0, 0.0)
    changes = moving.shifted(cell) if shift else moving.still()
    generator = np.random.default_rng(4)
    for number, flow in enumerate(flows(2, budget, 150)):
        down, right = generator.uniform(cell[0], cell[1]), generator.uniform(cell[2], cell[3])
        base = moving.at(down, right).ravel()
        # Any vector of allowed length, pixel by pixel: the bounds are on each alone.
        single = generator.normal(size=flow.shape)
        single *= (generator.random(flow.shape[1:]) ** 0.5 * reach(budget)) / np.linalg.norm(single, axis=0)
        used = flow if number % 2 else single
        value = moved(image, (used + np.array([right, down])[:, None, None]).astype(np.float64)).ravel()
        length = np.linalg.norm(used, axis=0).ravel()
        slack = 1e-9

        assert (value <= changes.highest + slack).all() and (value >= changes.lowest - slack).all()
        assert (value - base <= changes.far.rising * length + slack).all()
        assert (base - value <= changes.far.falling * length + slack).all()
        close = length <= moving.nearly
        assert (value - base <= changes.near.rising * length + slack)[close].all()
        assert (base - value <= changes.near.falling * length + slack)[close].all()


def test_the_image_at_a_shift_lies_between_the_corners_of_its_cell() -> None:
    """A linear function of the shifted image is nowhere in a cell above its largest value at the corners."""
    moving, generator = MovingImage(picture(5), 1.0, 2.0), np.random.default_rng(5)
    corners = moving.shifted((-0.75, -0.25, 1.0, 1.5)).corners
    directions = generator.normal(size=(50, SIDE * SIDE))
    inside = [moving.at(generator.uniform(-0.75, -0.25), generator.uniform(1.0, 1.5)).ravel() for _ in range(50)]

    assert (directions @ np.stack(inside).T <= (directions @ corners.T).max(axis=1, keepdims=True) + 1e-9).all()


@pytest.mark.parametrize("budget", [2.0, 9.0])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_no_flow_beats_either_bound(budget: float, noise: float) -> None:
    """Margins under 1,200 flows (with the worst-signed noise) stay above the linear and the semidefinite bound."""
    grid = grid_of(SIDE, SIDE)
    for seed in range(4):
        net, image = network(seed), picture(seed)
        label = int(net.logits(image[None]).argmax())
        region = Region(MovingImage(image, budget).still(), budget, noise)
        hidden = hidden_bounds(net, region)
        bounds = margin_bounds(net, label, region, hidden, grid.capacity)
        signs = np.random.default_rng(seed).choice([-noise, noise], (300, SIDE, SIDE))
        shown = np.stack([moved(image, flow) for flow in flows(seed, budget, 300)]) + signs
        value = net.first @ shown.reshape(300, -1).T + net.first_bias[:, None]
        logits = net.logits(shown)
        margins = (logits[:, [label]] - logits).min(axis=0)

        assert (value <= hidden.highest[:, None] + 1e-9).all() and (value >= hidden.lowest[:, None] - 1e-9).all()
        start = net.first @ image.ravel() + net.first_bias
        slope = np.maximum(region.changes.far.falling, region.changes.far.rising)
        for other in np.delete(np.arange(4), label):
            drop, _ = certify_pair(
                net,
                net.second[label] - net.second[other],
                slope,
                budget,
                slopes(Hidden(start, start), hidden),
                noise=noise,
            )
            clean = net.logits(image[None])[0]
            assert margins[other] >= bounds[other] - 1e-9
            assert margins[other] >= clean[label] - clean[other] - drop - 1e-9


@pytest.mark.parametrize(("shift", "noise"), [(0.0, 0.0), (1.0, 0.0), (0.0, 0.002), (1.0, 0.0002)])
def test_no_attack_beats_the_certificate(shift: float, noise: float) -> None:
    """The gradient attack, from several starts and at every wrong class, never gets below the certified margin, and an
    image that it wins is never certified."""
    certified = won = noisy = 0
    for seed in range(3):
        net, image = network(seed, units=12), picture(seed)
        logits = net.logits(image[None])[0]
        label = int(logits.argmax())
        for budget in (0.1, 40.0):
            threat = Threat(budget, shift, noise)
            found = certify(net, image, label, threat, most=60)
            others = np.delete(np.arange(4), label)
            tried = attempts(net, np.repeat(image[None], 3, axis=0), others, threat, Search(steps=12, restarts=2))
            for other, attempt in zip(others, tried, strict=True):
                after = net.logits((moved(image, attempt.flow) + attempt.noise)[None])[0]
                assert attempt.total_variation <= budget and np.abs(attempt.shift).max() <= shift
                assert np.abs(attempt.noise).max() <= noise
                noisy += bool(attempt.noise.any())
                assert after[label] - after[other] >= found.lower_bound - 1e-9
            certified += found.certified
            won += any(attempt.success for attempt in tried)

    assert certified >= 1 and won >= 1  # both sides of the test were met
    assert noisy > 9 if noise else noisy == 0


def _least_margins(net: TwoLayer, image: Floats, label: int, cell: Cell, budget: float, noise: float) -> Floats:
    """The least margins over each class that 300 flows after shifts of a cell reach, half of the shifts at its corners,
    with noise of the worst size."""
    generator = np.random.default_rng(8)
    shown = []
    for number, flow in enumerate(flows(11, budget, 300)):
        share = generator.integers(0, 2, 2) if number % 2 else generator.random(2)
        down, right = cell[0] + share[0] * (cell[1] - cell[0]), cell[2] + share[1] * (cell[3] - cell[2])
        whole = flow + np.array([right, down])[:, None, None]
        shown.append(moved(image, whole) + generator.choice([-noise, noise], image.shape))
    logits = net.logits(np.stack(shown))
    return np.asarray((logits[:, [label]] - logits).min(axis=0))


def _raised(net: TwoLayer, image: Floats, label: int, cell: Cell, budget: float, noise: float) -> Floats:
    """The semidefinite bounds of a cell, of every class: no linear bound stands in for them."""
    region = Region(MovingImage(image, budget, 2.0).shifted(cell), budget, noise)
    hidden = hidden_bounds(net, region)
    found = np.full(len(net.second), np.inf)
    for other in np.delete(np.arange(len(found)), label):
        alone = np.full(len(found), np.inf)
        alone[other] = -1e9
        found[other] = raised_margins(net, label, region, hidden, alone)[other]
    return found


#: Cells of shifts, a large and a small one, both off the pixels' own places.
CELLS: list[Cell] = [(-1.0, 0.0, 1.0, 2.0), (0.25, 0.5, -1.75, -1.5)]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("budget", "noise"), [(0.2, 0.0), (3.0, 0.0), (9.0, 0.0), (2.0, 0.02)])
def test_no_flow_after_a_shift_beats_the_semidefinite_bound_of_its_cell(
    cell: Cell, budget: float, noise: float
) -> None:
    """Over every class whose margin is above 0 throughout the cell without a flow."""
    met = 0
    for seed in range(6):
        net, image = network(seed), picture(seed)
        middle = MovingImage(image, budget, 2.0).at((cell[0] + cell[1]) / 2, (cell[2] + cell[3]) / 2)
        label = int(net.logits(middle[None]).argmax())
        bounds = _raised(net, image, label, cell, budget, noise)

        assert (_least_margins(net, image, label, cell, budget, noise) >= bounds - 1e-9)[np.arange(4) != label].all()
        met += int(np.sum((bounds > -1e8) & (bounds < np.inf)))

    assert met >= 3, "no bound was put to the test"


def _of_the_middle(changes: Changes) -> Changes:
    return replace(changes, corners=changes.corners.mean(axis=0, keepdims=True))


def _slow(changes: Changes) -> Changes:
    none = np.zeros_like(changes.lowest)
    return replace(changes, far=Slopes(none, none))


@pytest.mark.parametrize(
    ("wrong", "budget"),
    [
        pytest.param(_of_the_middle, 0.1, id="the shift is taken for that of the cell's middle"),
        pytest.param(_slow, 3.0, id="pixels don't change with the flow"),
        pytest.param(None, 0.1, id="no constant row: slopes in -1/2..1/2"),
    ],
)
def test_bounds_of_a_cell_that_are_too_good_are_caught(
    wrong: Callable[[Changes], Changes] | None, budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same flows beat a bound that leaves something out: the test above can fail."""
    if wrong is None:
        whole = dual.largest_norm
        monkeypatch.setattr(dual, "largest_norm", lambda factor, **how: whole(factor[:, 1:], **how))
    else:
        shifted = MovingImage.shifted
        monkeypatch.setattr(MovingImage, "shifted", lambda self, cell: wrong(shifted(self, cell)))
    beaten = 0
    for seed in range(6):
        net, image, cell = network(seed), picture(seed), CELLS[0]
        label = int(net.logits(MovingImage(image, budget, 2.0).at(-0.5, 1.5)[None]).argmax())
        reached = _least_margins(net, image, label, cell, budget, 0.0)
        beaten += int(np.sum(reached < _raised(net, image, label, cell, budget, 0.0) - 1e-9) > 0)

    assert beaten >= 1


def test_slopes_hold_for_every_start_between_its_bounds() -> None:
    """(relu(z + h) - relu(z)) / h of random z and h within the bounds, and both ends are met nearly."""
    generator = np.random.default_rng(12)
    z = np.sort(generator.normal(size=(2, 400)), axis=0)
    reached = Hidden(z[0] - generator.random(400), z[1] + generator.random(400))
    least, most = slopes(Hidden(z[0], z[1]), reached)
    share = generator.random((2, 3000, 1))
    share[:, ::3] = np.round(share[:, ::3])
    start = z[0] + share[0] * (z[1] - z[0])
    end = reached.lowest + share[1] * (reached.highest - reached.lowest)
    slope = (np.maximum(end, 0) - np.maximum(start, 0)) / np.where(end == start, 1, end - start)

    assert (slope >= least - 1e-9).all() and (slope <= most + 1e-9).all()
    assert np.abs(slope.min(axis=0) - least).max() < 0.1 and np.abs(slope.max(axis=0) - most).max() < 0.1


def test_cells_are_certified_that_the_linear_bound_leaves_open() -> None:
    """With shifts the semidefinite bound certifies more, and never less than the linear one alone."""
    more = 0
    for seed in range(4):
        net, image = network(seed, units=12), picture(seed)
        label = int(net.logits(image[None]).argmax())
        for budget in (0.4, 1.6, 3.2):
            threat = Threat(budget, 0.05)
            both = certify(net, image, label, threat, most=100)
            linear = certify(net, image, label, threat, most=100, semidefinite=False)
            assert linear.method == "linear" and both.certified >= linear.certified
            more += both.certified and not linear.certified
            assert not (both.certified and not linear.certified) or both.method == "semidefinite"

    assert more >= 1


def test_columns_that_are_kept_out_of_the_program_are_charged() -> None:
    """The bound holds for all sign vectors, with a few large columns and many small ones, and is little larger."""
    factor = np.random.default_rng(13).normal(size=(14, 10)) * np.geomspace(1, 1e-3, 10)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1)
    exact, whole = np.linalg.norm(factor @ signs, axis=0).max(), largest_norm(factor)
    for apart in (1e-3, 1e-2, 1.0):
        found = largest_norm(factor, apart=apart)
        assert exact <= found.upper <= whole.upper + 2 * apart * np.linalg.norm(factor, axis=0).sum()
        assert found.size < whole.size

    assert largest_norm(factor, beyond=exact / 2).upper >= exact


def test_the_dual_bounds_brute_force_and_is_nearly_the_relaxation() -> None:
    """|F z| over all 2^10 sign vectors is below the dual bound, and that is at most a factor (pi/2)^(1/2) above; the
    search's own value, a lower one of the relaxation, is within 0.1 %."""
    signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1)
    for seed in range(5):
        factor = np.random.default_rng(seed).normal(size=(14, 10))
        exact = np.linalg.norm(factor @ signs, axis=0).max()
        found = largest_norm(factor)

        assert exact <= found.upper <= exact * (np.pi / 2) ** 0.5 + 1e-6
        assert found.primal <= found.upper <= found.primal * 1.001


def test_a_search_that_stops_early_still_gives_a_bound() -> None:
    """After a single step nothing has converged; the bound is weaker and still above every sign vector."""
    factor = np.random.default_rng(9).normal(size=(14, 10))
    signs = np.array(np.meshgrid(*[[-1, 1]] * 10)).reshape(10, -1)
    early = largest_norm(factor, steps=1)

    assert not early.converged and early.upper >= np.linalg.norm(factor @ signs, axis=0).max()
    assert early.upper >= largest_norm(factor).upper * (1 - 1e-9)


def test_the_dual_agrees_with_a_general_solver() -> None:
    """cvxpy's optimum of the same program."""
    cvxpy: Any = importlib.import_module("cvxpy")  # its types are incomplete
    factor = np.random.default_rng(10).normal(size=(20, 16))
    matrix = cvxpy.Variable((16, 16), PSD=True)
    program = cvxpy.Problem(cvxpy.Maximize(cvxpy.trace(factor.T @ factor @ matrix)), [cvxpy.diag(matrix) == 1])
    optimum = program.solve(solver=cvxpy.SCS, eps=1e-7)

    assert largest_norm(factor).upper == pytest.approx(optimum**0.5, rel=1e-4)
    assert mix(factor.T @ factor).value == pytest.approx(optimum, rel=1e-4)


def test_what_cannot_be_certified_is_said() -> None:
    """Budgets that are none, images out of range or of another size, labels that are no class."""
    for budget in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="larger than 0"):
            checked_budget(budget)
    with pytest.raises(DataError, match=r"0\.\.1"):
        checked_image(picture(0) * 255)
    with pytest.raises(DataError, match="9x9"):
        certify(network(0), picture(0, 12), 0, Threat(1.0))
    with pytest.raises(DataError, match="label 4"):
        certify(network(0), picture(0), 4, Threat(1.0))
    with pytest.raises(UsageError, match="shift"):
        Threat(1.0, shift=-1.0)
    with pytest.raises(UsageError, match="noise"):
        Threat(1.0, noise=2.0)
