"""The image CNN paper's tables, made anew from a moment of training on a small database."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.papers import transfer
from benchmarks.papers.image_cnn import image_cnn, train_runs
from benchmarks.papers.image_cnn_runs import Run, held_by_image, quality_100, read_images
from benchmarks.papers.image_cnn_tables import SHARE, table6
from benchmarks.papers.xception import Xception
from firewall.errors import DataError
from firewall.lab.database import Database
from firewall.lab.database.jobs import jobs_of
from firewall.lab.datasets import open_dataset
from tests.lab.conftest import DATABASE_ATTACKS

BRIEF = Run(epochs=1, batch=8, network="high-pass", loss="softmax")
PLAN = (BRIEF, replace(BRIEF, loss="raw"), replace(BRIEF, leave_out="pgd"), replace(BRIEF, history="jpeg"), Run())


@pytest.fixture(scope="module")
def results(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All but the large network are trained; the last is left for another time."""
    out = tmp_path_factory.mktemp("runs")
    train_runs(made, made, out, starts={}, plan=PLAN, attacks=DATABASE_ATTACKS, only="high-pass")
    assert not train_runs(made, made, out, starts={}, plan=PLAN, attacks=DATABASE_ATTACKS, only="high-pass")
    image_cnn(made, made, out, out / "table.json", plan=PLAN, attacks=DATABASE_ATTACKS)
    read: dict[str, Any] = json.loads((out / "table.json").read_text())
    return read


def test_the_results_have_the_shape_of_every_paper(results: dict[str, Any]) -> None:
    """Rows have a key for each column and cells within their intervals; what is not trained is named."""
    assert set(results) >= {"method", "paper", "differences", "tables", "figures", "commands"}
    assert any("xception-raw-scratch" in line for line in results["differences"] if line.startswith("Not trained"))
    titles = [table["title"] for table in results["tables"]]
    for part in ("Table 6", "By attack", "left out", "file histories"):
        assert any(part in title for title in titles)
    for table in results["tables"]:
        for row in table["rows"]:
            assert len(row["key"]) == len(table["columns"])
            for cell in (row["same"], row["honest"]):
                assert cell is None or (0 <= cell["low"] <= cell["value"] <= cell["high"] <= 1 and cell["n"] > 0)
    for figure in results["figures"]:
        assert all(len(values) == len(figure["x"]) for values in figure["series"].values())
        assert all(sum(values) == pytest.approx(1, abs=1e-3) for values in figure["series"].values())


def test_a_left_out_family_is_judged_alone(results: dict[str, Any]) -> None:
    """Nothing but its attacks, and never by the network that saw them."""
    table = next(table for table in results["tables"] if "left out" in table["title"])
    assert {tuple(row["key"][:2]) for row in table["rows"]} == {("pgd", "pgd-0.01")}


def test_accuracy_is_of_the_papers_share() -> None:
    """A network that calls everything adversarial gets the paper's 83.89 %, one that is always right 100 %."""
    tracks = np.arange(20)

    def accuracy(normal: float, attacked: float) -> float:
        answers = {"seconds": np.float64(1)}
        for name in ("held", "judged"):
            answers |= {f"{name}/normal": np.tile([0, normal], (20, 1)), f"{name}/tracks": tracks}
            answers |= {f"{name}/fgsm": np.tile([0, attacked], (20, 1)), f"{name}/fgsm/tracks": tracks}
        return float(table6({BRIEF: answers})["rows"][0]["same"]["value"])

    assert accuracy(1.0, 1.0) == pytest.approx(SHARE) and accuracy(-1.0, 1.0) == 1


def test_what_is_held_is_not_trained_on(made: Path) -> None:
    """By image: each is in one part, and a quarter of the normal ones and of each attack's is held."""
    images = read_images(Database(made), "train", DATABASE_ATTACKS)
    fitted, held = held_by_image(images)
    pairs = [(images.normal, fitted.normal, held.normal)]
    pairs += [(images.attacks[name][0], fitted.attacks[name][0], held.attacks[name][0]) for name in DATABASE_ATTACKS]
    for whole, first, second in pairs:
        assert sorted(image.tobytes() for image in (*first, *second)) == sorted(image.tobytes() for image in whole)
        assert len(second) == round(len(whole) / 4)


def test_an_unfinished_attack_is_refused(made: Path, tmp_path: Path) -> None:
    """Rates on the images that an attack came to first would be of others than the normal ones."""
    folder = tmp_path / "db"
    shutil.copytree(made, folder)
    jobs_of(Database(folder).card, "fgsm")[1].record(folder).unlink()
    with pytest.raises(DataError, match=r"has tried fgsm on 32 of 40 images"):
        read_images(Database(folder), "train", ("fgsm",))


def test_the_other_history_changes_pixels_alone() -> None:
    """Saved at quality 100: same shape, few grey levels away, not the same."""
    images = np.random.default_rng(0).integers(60, 190, (3, 16, 16, 1), np.uint8).repeat(3, axis=3)
    saved = quality_100(images)
    difference = np.abs(saved.astype(int) - images)
    assert saved.shape == images.shape and 0 < difference.max() <= 4


def test_a_large_network_begins_with_signs(signs: Path, tmp_path: Path) -> None:
    """All weights but the head's are those of the other task's average; another network's are refused."""
    data = open_dataset(f"folder:{signs}", None)
    settings = transfer.Settings(network="xception", epochs=1, batch=4, images=8)
    learnt = transfer.learn_signs(data, tmp_path, settings, threads=1)
    network = Xception()
    head = network.head.weight.clone()
    transfer.begin_with(network, tmp_path / "checkpoint.pt")
    before, after = learnt.state_dict(), network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in after if not name.startswith("head."))
    assert torch.equal(network.head.weight, head)
    with pytest.raises(DataError, match="is of another network"):
        transfer.begin_with(torch.nn.Linear(3, 2), tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match="can't begin with another task"):
        transfer.learn_signs(data, tmp_path, replace(settings, network="small"), threads=1)
