"""The residual paper's experiment in miniature, on drawn signs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.papers.residual import Sweep, reproduce
from benchmarks.papers.residual_black_box import Case, crafted, images_of, learn
from firewall.lab.attacks.substitute import drawings, learning
from firewall.lab.models import open_classifier


@pytest.fixture(scope="module")
def case(signs: Path) -> Case:
    """A data set of one part serves as both: this is about the machinery."""
    return Case("MNIST", f"folder:{signs}", "default", "test", seeds=8, drawn=6, judged=12, trained=24, rounds=3)


def test_the_page_holds_what_was_measured(case: Case, tmp_path: Path) -> None:
    """Rows of the paper's tables, shares in their intervals; a second run measures nothing and says the same."""
    sweep = Sweep(rates=((0.05, "removed"), (0.05, "kept")), epochs=1, batch=16)
    page = reproduce(tmp_path, None, (case,), sweep)
    titles = [table["title"].split(":")[0] for table in page["tables"]]
    assert titles == ["Table 2", "Figure 4", "Table 3", "Figure 5"]
    for table in page["tables"]:
        assert table["rows"]
        for row in table["rows"]:
            assert len(row["key"]) == len(table["columns"])
            for found in (row["same"], row["honest"]):
                assert found is None or 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    table_2 = page["tables"][0]["rows"]
    assert {(row["key"][2], row["theirs"]) for row in table_2} >= {("1", "23.7 %"), ("3", "35.4 %")}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert reproduce(tmp_path, None, (case,), sweep) == page == json.loads(json.dumps(page))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_a_party_knows_is_what_it_asked_for(case: Case) -> None:
    """One label for each seed and each new image; FGSM moves every pixel by eps at most."""
    images = images_of(case, None, part="test", count=20, seed=0)
    learnt = learn(case, None, "attacker", images, images, 0)
    assert len(learnt.by_round) == case.rounds + 1
    assert learnt.queries == case.seeds * 2**case.rounds
    made = crafted(case, None, learnt, images, 0.1)
    assert np.abs(made.pixels.astype(int) - images.pixels).max() in (25, 26)
    assert made.deceived.shape == made.fooled.shape == (20,)
    drawn = learn(replace(case, rounds=0), None, "attacker-drawn", images, images, 0)
    assert drawn.queries == case.drawn


def test_a_reservoir_bounds_the_queries() -> None:
    """`most` new images a round, and labels are asked for those alone."""
    asked: list[int] = []
    network = open_classifier("default").network

    def logits(batch: torch.Tensor) -> torch.Tensor:
        asked.append(len(batch))
        found: torch.Tensor = network(batch)
        return found

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        known = drawings(6, torch.zeros(1, 3, 48, 48), generator)
        list(learning(logits, known, generator, 3, 1, 0.1, 3, most=4))
    assert sum(asked[1:]) == 6 + 3 * 4  # the first call tells how many classes there are
