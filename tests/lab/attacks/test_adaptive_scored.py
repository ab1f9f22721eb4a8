"""Draws searched for with the firewall's own scores: found sooner than by chance, and each look counts."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from firewall.bundle import Bundle
from firewall.frame import Pixels
from firewall.lab.attacks.adaptive import Attacker, Plan
from firewall.lab.attacks.adaptive.ball import Ball
from firewall.lab.attacks.adaptive.gate import Gate
from firewall.lab.attacks.adaptive.scored import ANY, search_scores
from firewall.lab.attacks.adaptive.search import EVERY, Search
from firewall.lab.attacks.physical import drawn, family, tape_of
from tests.lab.in_process import lab
from tests.lab.tiny_firewall import confidence, juror, network_file, shape_folder, tiny_firewall, victims

RIGHT, WRONG = 0, 1
COUNT = 6


@pytest.fixture(scope="module")
def jury(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A classifier with a plainly trained second network beside it."""
    files = {"juror-second.onnx": network_file(1)}
    return tiny_firewall(tmp_path_factory.mktemp("jury") / "b", [confidence(), juror("juror-second")], files)


def distance(pixels: Pixels) -> float:
    """How far a tint is from the one that is released wrongly."""
    red, _, blue = pixels.astype(float).mean(axis=(0, 1)) / 90
    return float(np.hypot(red - 1.25, blue - 0.75))


class Judge:
    """In the place of a firewall: it tells by how much it withholds."""

    def screen(self, pixels: Pixels) -> SimpleNamespace:
        suspicion = distance(pixels) - 0.03
        released = suspicion <= 0
        return SimpleNamespace(released=released, label=WRONG if released else None, suspicion=suspicion)


def test_scores_lead_to_what_is_rare() -> None:
    """A colour cast that is released wrongly is rare, and suspicion falls towards it. Over many searches that takes
    less than half of the queries that random draws take."""
    image, searched, random = np.full((4, 4, 3), 90, np.uint8), 0, 0
    for seed in range(10):
        gate = Gate(Judge(), RIGHT)  # type: ignore[arg-type]
        found = search_scores(gate, image, ["cast"], 5000, [seed], lambda _: -1.0)
        assert found.attempt.wrong and distance(found.attempt.pixels) <= 0.03
        searched += gate.queries
        draws = (drawn(family("cast"), image, tape_of((99, seed), number)) for number in range(5000))
        random += next((number for number, pixels in enumerate(draws, start=1) if distance(pixels) <= 0.03), 5000)
    assert searched < 0.5 * random


def rows(bundle: Bundle, queries: int, subspace: str = EVERY) -> list[dict[str, object]]:
    attacker = Attacker(bundle, Plan(Ball("linf", 1 / 255), "search", search=Search(queries, subspace)))
    return [attacker.row(index, *image) for index, image in enumerate(victims(COUNT))]


def test_a_longer_search_begins_as_a_shorter_one(jury: Bundle) -> None:
    """What is won stays won, by the same draw; no more is asked than allowed, and a draw is not bound by the ball."""
    shorter, longer = rows(jury, 60), rows(jury, 400)
    for short, long in zip(shorter, longer, strict=True):
        assert short == long if short["wrong"] else short["queries"] == 60
        assert int(str(long["queries"])) <= 400 and long["steps"] == 0 and long["method"] == "search"
    assert sum(bool(row["wrong"]) for row in longer) >= COUNT // 2
    assert all(float(str(row["linf"])) > 1 / 255 for row in longer if row["wrong"])


def test_each_family_is_its_own(jury: Bundle) -> None:
    """`any` is all four; a family by its name searches that one."""
    assert Search(1, EVERY).families == ANY and Search(1, "dirt").families == ("dirt",)
    assert Search(1, "pixels").families == () == Search(1, "boundary").families
    assert rows(jury, 40, "shadow") != rows(jury, 40, "drops")


def test_a_firewall_that_always_withholds_is_asked_to_the_end(tmp_path: Path) -> None:
    """No success is claimed."""
    bundle = tiny_firewall(tmp_path / "b", [confidence(-1.0)])
    attacker = Attacker(bundle, Plan(Ball("linf", 0.1), "search", search=Search(250, "drops")))
    row = attacker.row(0, *victims(1)[0])
    assert (row["wrong"], row["released"], row["queries"]) == (False, False, 250)


@pytest.mark.parametrize("method", [(), ("--method", "search"), ("--method", "decision")])
def test_the_command_names_a_family(jury: Bundle, tmp_path: Path, method: tuple[str, ...]) -> None:
    """With scores, which is the default, and without; rows as of every attack, and what was searched in the head."""
    command = ("attack", "adaptive", "--bundle", jury.path, "--dataset", f"folder:{shape_folder(tmp_path / 's', 3)}")
    result = lab(*command, "--family", "two-bars", "--queries", "12", "--json", tmp_path / "found.json", *method)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["search"] == {"queries": 12, "subspace": "two-bars"}
    assert found["method"] == (method[1] if method else "search")
    keys = {"index", "label", "released", "released_label", "queries", "steps", "linf", "l2"}
    assert len(found["rows"]) == 3 and all(set(row) >= keys and row["queries"] <= 12 for row in found["rows"])
