"""The most confident of many random draws, what it searches with, and attacks that see only what is released."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from firewall import Firewall
from firewall.errors import DataError, UsageError
from firewall.frame import Pixels
from firewall.lab.attacks import ATTACKS, Target, TopOut, attack_crops, quantise, survivors
from firewall.lab.attacks.channelled import Channelled
from firewall.lab.attacks.decision_only import (
    Outcome,
    first_release,
    near_withheld,
    random_draws,
    surest_first,
    what_goes_out,
)
from firewall.lab.attacks.physical import Physical, as_input, certainty, drawn, tape_of
from firewall.lab.attacks.projector import Projector
from firewall.lab.attacks.tape import Tape
from firewall.lab.datasets.obstructions import DRAWS
from firewall.lab.measurement.query_curve import query_curve
from firewall.lab.training.detectors.leave_one_out import FAMILIES
from firewall.transforms import apply_operations
from firewall.verdict import Reason, Verdict
from tests.lab.coloured_shapes import SIZE, logits_of

SEED = 11


def draws_of(name: str, image: Pixels, place: int, count: int) -> list[Pixels]:
    """The first draws of the image at that place of a batch."""
    return [drawn(DRAWS[name], image, tape_of((SEED, place), number)) for number in range(count)]


@pytest.mark.parametrize("name", ["bars", "pose", "shadow"])
def test_the_most_confident_draw_wins(name: str, network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Each result is one of the draws; where some take the label away it is the one of these whose wrong class has the
    highest probability, and where none does, the one whose wrong class comes nearest to the label."""
    images, labels = victims[0][:8], victims[1][:8]
    result = quantise(Physical(name, draws=70).run(network, images, labels, SEED))
    fooled = 0
    for place, (image, label) in enumerate(zip(quantise(images), labels.tolist(), strict=True)):
        draws = draws_of(name, image, place, 70)
        logits = logits_of(network, as_input(draws)).double()
        wrong = logits.argmax(1) != label
        others = logits.scatter(1, torch.full((len(draws), 1), label), -torch.inf)
        chances = logits.softmax(1).gather(1, others.argmax(1, keepdim=True))[:, 0]
        best = torch.where(wrong, chances, -1) if wrong.any() else others.amax(1) - logits[:, label]
        fooled += bool(wrong.any())
        assert np.array_equal(result[place], draws[int(best.argmax())])
    assert name == "shadow" or fooled > 1


@pytest.mark.parametrize("name", ["two-bars", "cast"])
def test_more_draws_never_hurt_the_attacker(name: str, network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Of 1, 10 and 60 draws the success never falls, for each image, and grows for some; nor does the certainty of
    those that succeed. Neighbours of the best draw don't make it worse either."""
    images, labels = victims
    found = {}
    for draws, refined in ((1, 0), (10, 0), (60, 0), (60, 60)):
        stored = quantise(Physical(name, draws=draws, refined=refined).run(network, images, labels, SEED))
        met = survivors(network, stored, labels)
        found[draws, refined] = met, certainty(logits_of(network, as_input(list(stored))), labels).numpy()
    steps = list(found.values())
    for (fewer, weaker), (more, stronger) in pairwise(steps):
        assert (more | ~fewer).all()
        assert (stronger[fewer] >= weaker[fewer] - 1e-4).all()
    assert steps[0][0].mean() < steps[2][0].mean()
    assert steps[3][1].mean() > steps[2][1].mean()


def test_other_criteria_are_searched_for(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """A label that has to leave the first two places, or one class that has to be reached, is what is looked for."""
    images, labels = victims
    for criterion in (TopOut(2), Target(0.1)):
        own, other = (
            survivors(network, quantise(attack.run(network, images, labels, SEED)), labels, criterion).mean()
            for attack in (Physical("cast", draws=60, criterion=criterion), Physical("cast", draws=60))
        )
        assert own >= other and own > 0


def test_crops_are_attacked_at_their_own_size(network: nn.Sequential) -> None:
    """A crop larger than the network's input keeps its size and is changed in its own pixels; the order of crops of
    different sizes is kept."""
    generator = np.random.default_rng(0)
    crops = [generator.integers(0, 256, (side, side + 3, 3), np.uint8) for side in (40, 23, 40)]
    labels = [0, 1, 2]
    found = attack_crops("triangle", network, crops, labels, seed=1, size=(SIZE, SIZE))
    assert [crop.shape for crop in found] == [crop.shape for crop in crops]
    for crop, attacked in zip(crops, found, strict=True):
        share = (crop != attacked).any(2).mean()
        assert 0 < share < 1, "a triangle lies on a part of the crop"
    again = attack_crops("triangle", network, crops, labels, seed=1, size=(SIZE, SIZE))
    assert all(np.array_equal(first, second) for first, second in zip(found, again, strict=True))


def test_a_channel_follows_a_physical_attack(network: nn.Sequential) -> None:
    """`two-bars@jpeg-75` is what `two-bars` gives, stored once as JPEG of that quality, at the crop's own size."""
    generator = np.random.default_rng(0)
    crops = [generator.integers(0, 256, (side, 31, 3), np.uint8) for side in (26, 33)]
    before, after = (
        attack_crops(name, network, crops, [0, 1], seed=4, size=(SIZE, SIZE))
        for name in ("two-bars", "two-bars@jpeg-75")
    )
    for first, second in zip(before, after, strict=True):
        assert np.array_equal(apply_operations(first, ["jpeg:75"])[0], second) and not np.array_equal(first, second)


def test_an_attacker_who_knows_the_channel_chooses_behind_it(
    network: nn.Sequential, victims: tuple[Tensor, Tensor]
) -> None:
    """The draw is chosen by what the network says after the channel: whoever knows it never does worse there."""
    images, labels = victims[0][:12], victims[1][:12]
    unknown, known = (
        survivors(network, quantise(attack.run(network, images, labels, SEED)), labels)
        for attack in (Channelled(Physical("scribble", draws=25), "jpeg-50", knows) for knows in ("nothing", "known"))
    )
    assert (known | ~unknown).all() and known.any()


@pytest.mark.parametrize(
    ("kind", "parameters", "named"),
    [
        (Physical, {"family": "snow"}, "'snow'.*shadow"),
        (Physical, {"family": "bars", "draws": 0}, "draws 0"),
        (Physical, {"family": "bars", "refined": -1}, "refined -1"),
        (Projector, {"cells": 1}, "cells 1"),
        (Projector, {"brightest": 0.0}, "brightest 0.0"),
        (Projector, {"brightest": float("nan")}, "brightest nan"),
        (Projector, {"steps": 0}, "steps 0"),
        (Projector, {"step": 0.0}, "step 0.0"),
    ],
)
def test_parameters_out_of_range(kind: Callable[..., Any], parameters: dict[str, Any], named: str) -> None:
    """Parameters that make no attack are refused when it is made, in one line that names them."""
    with pytest.raises(UsageError, match=named) as caught:
        kind(**parameters)
    assert "\n" not in str(caught.value)


def test_a_projector_only_adds_light(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Nowhere darker, nowhere brighter by more than the bound, and smooth; more steps and more light never hurt."""
    images, labels = victims
    attack = Projector()
    change = attack.run(network, images, labels, SEED) - images
    assert change.min() >= -1e-6 and change.max() <= attack.brightest + 0.5 / 255 + 1e-6
    gaps = []
    for steps in (1, 10, 60):
        result = replace(attack, steps=steps).run(network, images, labels, SEED)
        gaps.append(attack.criterion.gap(logits_of(network, result), labels))
    assert (gaps[1] >= gaps[0]).all() and (gaps[2] >= gaps[1]).all()
    success = [
        survivors(network, quantise(replace(attack, brightest=most).run(network, images, labels, SEED)), labels).mean()
        for most in (0.02, 0.35, 1.0)
    ]
    assert success[0] < success[1] <= success[2] == 1


def test_a_tape_draws_as_a_generator_does() -> None:
    """Its numbers have the ranges and the spread that they should, and are kept in their order."""
    tape = Tape(np.random.default_rng(0))
    normal, whole = tape.normal(3, 2, 4000), tape.integers(2, 6, 4000)
    assert normal.mean() == pytest.approx(3, abs=0.15) and normal.std() == pytest.approx(2, abs=0.15)
    assert set(whole.tolist()) == {2, 3, 4, 5} and np.bincount(whole)[2:].min() > 850
    assert tape.uniform(-1, 1, (3, 2)).shape == (3, 2) and isinstance(tape.uniform(0, 1), float)
    assert isinstance(tape.integers(3), int) and tape.choice([5.0, 7.0]) in (5.0, 7.0)
    assert len(tape.values) == 4000 + 4000 + 6 + 1 + 1 + 1
    replayed = Tape(np.random.default_rng(9), tape.values)
    assert np.array_equal(replayed.normal(3, 2, 4000), normal) and np.array_equal(replayed.integers(2, 6, 4000), whole)


@pytest.mark.parametrize("name", DRAWS)
def test_neighbours_of_a_draw_are_alike(name: str) -> None:
    """Every family can be drawn from a tape; a small move of its numbers mostly gives an image that is much nearer than
    another draw, and numbers stay within 0..1."""
    image = np.random.default_rng(0).integers(60, 200, (30, 30, 3), np.uint8)
    near, far = [], []
    for number in range(12):
        tape = tape_of((0,), number)
        first = drawn(DRAWS[name], image, tape).astype(int)
        moved = tape.moved(0.003, np.random.default_rng(number))
        near.append(np.abs(drawn(DRAWS[name], image, moved) - first).mean())
        far.append(np.abs(drawn(DRAWS[name], image, tape_of((1,), number)) - first).mean())
        assert (moved.values >= 0).all() and (moved.values <= 1).all()
    assert np.median(near) < 0.6 * np.median(far)


class Gate:
    """Stands in for a firewall: releases by rule, counts, and has scores that nobody may read."""

    def __init__(self, rule: Callable[[Pixels], int | None]) -> None:
        self.rule, self.asked = rule, 0

    def screen(self, pixels: Pixels) -> Verdict:
        self.asked += 1
        label = self.rule(pixels)
        return Secretive("here", 0, (0, 0, 1, 1), released=label is not None, label=label, suspected_label=9)


class Secretive(Verdict):
    """A verdict of which only the released label may be looked at."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("scores", "evidence", "suspicion", "suspected_label", "corrected_label", "reason", "latency_ms"):
            raise AssertionError(f"an attack that sees only what is released has read {name}")
        return super().__getattribute__(name)


IMAGE = np.full((20, 20, 3), 90, np.uint8)


@pytest.mark.parametrize("limit", [1, 7, 40])
def test_queries_are_counted_exactly(limit: int) -> None:
    """Every image that the firewall sees is a query: up to the first wrong release, or up to the limit, no more."""
    for wrong_at in (1, 5, 7, 8, None):
        gate = Gate(lambda pixels: 3)
        gate.rule = lambda pixels, gate=gate, at=wrong_at: 4 if gate.asked == at else (3 if gate.asked % 2 else None)
        outcome = first_release(what_goes_out(gate), 3, random_draws("shadow", IMAGE, (0,)), limit)  # type: ignore[arg-type]
        won = wrong_at is not None and wrong_at <= limit
        assert outcome.queries == gate.asked == (wrong_at if won else limit)
        assert outcome.released == (4 if won else None) and (outcome.pixels is not None) == won
        row = {"label": 3, "released": won, "released_label": 4 if won else None, "queries": gate.asked}
        assert outcome.to_json() == row


@pytest.mark.parametrize("strategy", ["random", "near", "surest"])
def test_no_strategy_reads_more_than_the_released_label(strategy: str, network: nn.Sequential) -> None:
    """Scores, reasons and times stay unread whatever is released, and the right label or none is no success."""
    released = iter([3, None, None, 3, None, 3, 3, None, None, None, 3, 3, *[None] * 60])
    gate = Gate(lambda pixels: next(released))
    proposals = {
        "random": lambda: random_draws("bars", IMAGE, (1,)),
        "near": lambda: near_withheld("bars", IMAGE, (1,), tries=3),
        "surest": lambda: surest_first("bars", IMAGE[:SIZE, :SIZE], 3, (1,), network.eval(), draws=40),
    }[strategy]()
    try:
        outcome = first_release(what_goes_out(gate), 3, proposals, 30)  # type: ignore[arg-type]
    finally:
        network.train()
    assert outcome.released is None and outcome.queries == gate.asked <= 30


def test_neighbours_are_asked_about_where_a_draw_is_withheld() -> None:
    """After a draw that is withheld come its neighbours; after one that is released, the next draw."""
    withheld, released = (
        list(islice(_answered(near_withheld("shadow", IMAGE, (4,), tries=2), answer), 6)) for answer in (None, 3)
    )
    draws = [drawn(DRAWS["shadow"], IMAGE, tape_of((4,), number)) for number in range(6)]
    assert all(np.array_equal(image, draw) for image, draw in zip(released, draws, strict=True))
    assert np.array_equal(withheld[0], draws[0]) and np.array_equal(withheld[3], draws[1])
    assert not any(np.array_equal(image, draw) for image in (withheld[1], withheld[2]) for draw in draws)


def _answered(proposals: Any, answer: int | None) -> Any:
    image = next(proposals)
    while True:
        yield image
        image = proposals.send(answer)


def test_the_attackers_own_network_sets_the_order(network: nn.Sequential, victims: tuple[Tensor, Tensor]) -> None:
    """Only draws that fool it are asked about, the surest first; where none does, no query is made."""
    image, label = quantise(victims[0][:1])[0], int(victims[1][0])
    model = network.eval()
    try:
        asked = list(surest_first("pose", image, label, (SEED, 0), model, draws=60))
        nothing = first_release(lambda pixels: 0, 5, surest_first("cast", image, label, (0,), Certain(label)))
    finally:
        network.train()
    values = logits_of(network, as_input(asked))
    sure = certainty(values, torch.full((len(asked),), label))
    assert len(asked) > 1 and bool((values.argmax(1) != label).all())
    assert (sure.diff() <= 1e-5).all()
    assert nothing == Outcome(5, 0)


class Certain(nn.Module):
    """Gives every image the same label."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(6)[self.label].expand(len(images), 6)


def test_the_real_firewall_is_asked_by_what_it_releases() -> None:
    """Of the default bundle nothing but the released label comes out, and a withheld image gives None."""
    firewall = Firewall.load("default", threads=1)
    ask = what_goes_out(firewall)
    generator = np.random.default_rng(0)
    for image in (np.zeros((40, 40, 3), np.uint8), generator.integers(0, 256, (40, 40, 3), np.uint8)):
        verdict = firewall.screen(image)
        assert ask(image) == verdict.label and (verdict.label is None) == (not verdict.released)
    assert firewall.screen(IMAGE.astype(np.float32)).reason is Reason.BAD_IMAGE  # type: ignore[arg-type]
    assert ask(IMAGE.astype(np.float32)) is None  # type: ignore[arg-type]


def test_a_query_curve_counts_successes() -> None:
    """The rate after q queries is that of the attacks that had won by then; it never falls; the limit is on it."""
    outcomes = [Outcome(1, 1, 2), Outcome(1, 10, 2), Outcome(1, 11, 2), Outcome(1, 60), Outcome(1, 4)]
    rows = {row["queries"]: row for row in query_curve(outcomes, 60)}
    assert list(rows) == [1, 2, 5, 10, 20, 30, 50, 60]
    assert [rows[point]["rate"] for point in (1, 5, 10, 20, 60)] == [0.2, 0.2, 0.4, 0.6, 0.6]
    assert all(row["n"] == 5 and row["ci95"][0] <= row["rate"] <= row["ci95"][1] for row in rows.values())
    assert [row["queries"] for row in query_curve([Outcome(1, 1, 2)], 1)] == [1]


@pytest.mark.parametrize(("outcomes", "limit"), [([], 10), ([Outcome(0, 11)], 10), ([Outcome(0, 0)], 0)])
def test_a_query_curve_of_nothing_is_refused(outcomes: list[Outcome], limit: int) -> None:
    """No outcome, or a limit that one of them has passed, makes no curve."""
    with pytest.raises(DataError, match="query curve"):
        query_curve(outcomes, limit)


@pytest.mark.parametrize(
    "made",
    [
        lambda: random_draws("snow", IMAGE, (0,)),
        lambda: near_withheld("snow", IMAGE, (0,)),
        lambda: near_withheld("bars", IMAGE, (0,), tries=0),
        lambda: near_withheld("bars", IMAGE, (0,), deviation=0.0),
        lambda: surest_first("bars", IMAGE, 0, (0,), nn.Identity(), draws=0),
        lambda: first_release(lambda pixels: None, 0, random_draws("bars", IMAGE, (0,)), 0),
    ],
)
def test_searches_that_make_no_sense_are_refused(made: Callable[[], object]) -> None:
    """At once, not when the first image is asked for."""
    with pytest.raises(UsageError) as caught:
        made()
    assert "\n" not in str(caught.value)


def test_registered_physical_attacks_have_the_draws_of_the_issue() -> None:
    """Most confident of 300, 200 and 100 neighbours for the refined one; each family has an entry of its own."""
    physical = {name: attack for name, attack in ATTACKS.items() if isinstance(attack, Physical)}
    assert {attack.draws + attack.refined for attack in physical.values()} == {300}
    assert {attack.family for attack in physical.values()} == set(DRAWS)


def test_each_physical_attack_can_be_left_out_with_its_family() -> None:
    """`firewall lab leave-one-out` leaves out whole families: each attack here is in one of them, and in no other."""
    members = [name for family in FAMILIES.values() for name in family]
    physical = [name for name, attack in ATTACKS.items() if isinstance(attack, Physical | Projector)]
    assert len(physical) > 15 and all(members.count(name) == 1 for name in physical)
