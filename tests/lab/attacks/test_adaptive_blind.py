"""Attacks that see only what is released: they find what is there to be found, sooner than chance does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from firewall.bundle import Bundle
from firewall.frame import Pixels
from firewall.lab.attacks.adaptive import Attacker, Plan
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.blind import search_draws, walk_boundary
from firewall.lab.attacks.adaptive.gate import Gate
from firewall.lab.attacks.adaptive.search import Search
from firewall.lab.attacks.physical import drawn, family, tape_of
from tests.lab.tiny_firewall import confidence, tiny_firewall, victims

RIGHT, WRONG = 0, 1


class Judge:
    """In the place of a firewall: a rule that gives a released label, or None."""

    def __init__(self, rule: Callable[[Pixels], int | None]) -> None:
        self.rule = rule

    def screen(self, pixels: Pixels) -> SimpleNamespace:
        label = self.rule(pixels)
        return SimpleNamespace(released=label is not None, label=label, suspicion=None)


def gate_of(rule: Callable[[Pixels], int | None]) -> Gate:
    return Gate(Judge(rule), RIGHT)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def open_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A classifier that is as good as unguarded."""
    return tiny_firewall(tmp_path_factory.mktemp("open") / "b", [confidence()])


def narrow(pixels: Pixels) -> int | None:
    """Withheld about one tint, and released wrongly in the midst of that."""
    red, _, blue = pixels.astype(float).mean(axis=(0, 1)) / 90
    distance = float(np.hypot(red - 1.25, blue - 0.75))
    return WRONG if distance < 0.03 else None if distance < 0.35 else RIGHT


def test_the_search_finds_what_lies_behind_withheld_draws_sooner_than_chance() -> None:
    """A colour cast that is released wrongly is rare, with many that are withheld around it. Over many searches it
    takes less than three quarters of the queries that random draws take."""
    image, seeds = np.full((4, 4, 3), 90, np.uint8), range(30)
    searched, random = [], []
    for seed in seeds:
        gate = gate_of(narrow)
        found = search_draws(gate, image, "cast", 4000, [seed])
        searched.append(gate.queries)
        assert found.attempt.wrong and narrow(found.attempt.pixels) == WRONG
        draws = (drawn(family("cast"), image, tape_of((seed,), number)) for number in count())
        random.append(next(number for number, pixels in enumerate(draws, start=1) if narrow(pixels) == WRONG))
    assert sum(searched) < 0.75 * sum(random)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_walk_comes_down_to_the_border(norm: str) -> None:
    """Behind a plane lies what is released wrongly, in front of it what is right. The nearest point of it is known; the
    walk comes within twice of that, in either norm, and nearer with more queries."""
    image = np.full((16, 16, 3), 100, np.uint8)
    weights = np.random.default_rng(2).normal(size=(4, 4, 3)).repeat(4, 0).repeat(4, 1)

    def rule(pixels: Pixels) -> int | None:
        return WRONG if float((weights * (pixels.astype(float) - 100)).sum()) > 8 * np.abs(weights).sum() else RIGHT

    least = 8 / 255 if norm == "linf" else 8 * np.abs(weights).sum() / np.linalg.norm(weights) / 255
    signs = np.where(np.random.default_rng(3).random(weights.shape) < 0.75, 1, -1)  # three quarters point there
    start = np.clip(100 + 80 * np.sign(weights) * signs, 0, 255)
    reached = []
    for queries in (60, 600):
        gate = gate_of(rule)
        ball = Ball(norm, 1e-4)  # type: ignore[arg-type]
        found = walk_boundary(gate, image, ball, queries, [0], iter([start.astype(np.uint8)] * 3))
        assert gate.queries == queries and not found.attempt.wrong and found.nearest is not None
        reached.append(found.nearest)
    assert reached[1] < 2 * least and reached[1] <= reached[0]


def test_the_walk_wins_on_an_unguarded_classifier(open_bundle: Bundle) -> None:
    """Within a wide bound most images fall, and what is stored lies within it and is released wrongly; within a bound
    of one level none does, and the row says how near it came."""
    rows = {}
    images = victims(12)
    for eps in (1, 90):
        attacker = Attacker(open_bundle, Plan(Ball("linf", eps / 255), "decision", search=Search(400, "boundary")))
        kept: list[Pixels] = []

        def keep(pixels: Pixels, kept: list[Pixels] = kept) -> str:
            kept.append(pixels)
            return ""

        rows[eps] = []
        for index, (pixels, label) in enumerate(images[:6]):
            others = (other for other, name in images if name != label)
            rows[eps].append(attacker.row(index, pixels, label, keep, others))
            verdict = attacker.firewall.screen(kept[-1])
            assert (verdict.released and verdict.label != label) == rows[eps][-1]["wrong"]
    assert sum(row["wrong"] for row in rows[90]) >= 5
    assert all(row["linf"] <= 90 / 255 + 1e-9 and row["nearest"] <= 90 / 255 + 1e-9 for row in rows[90] if row["wrong"])
    assert not any(row["wrong"] for row in rows[1])
    assert all(row["linf"] == 0 and 1 / 255 < row["nearest"] < 90 / 255 for row in rows[1])


def test_a_walk_without_pictures_of_other_signs_goes_nowhere(open_bundle: Bundle) -> None:
    """One query, no success, and nothing is claimed about nearness."""
    attacker = Attacker(open_bundle, Plan(Ball("linf", 0.1), "decision", search=Search(50, "boundary")))
    row = attacker.row(0, *victims(1)[0])
    assert (row["wrong"], row["queries"], row["nearest"]) == (False, 1, None)


def test_a_firewall_that_always_withholds_is_asked_to_the_end(tmp_path: Path) -> None:
    """By either attack; neither claims a success."""
    bundle = tiny_firewall(tmp_path / "b", [confidence(-1.0)])
    pixels, label = victims(1)[0]
    others: Sequence[Pixels] = [other for other, name in victims(8) if name != label]
    for subspace, asked in (("shadow", 40), ("boundary", 1 + len(others))):
        attacker = Attacker(bundle, Plan(Ball("linf", 0.1), "decision", search=Search(40, subspace)))
        row = attacker.row(0, pixels, label, others=iter(others))
        assert (row["wrong"], row["released"], row["queries"]) == (False, False, asked), subspace
