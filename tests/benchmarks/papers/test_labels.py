"""The tables of the agreement and statistics papers, on made-up answers of a classifier."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.papers import agreement as agreement_paper
from benchmarks.papers.cells import area, balanced, row, share
from benchmarks.papers.pages import Figure, Table
from benchmarks.papers.statistics_corrected import correction_tables
from firewall.lab.database.swept import Swept
from firewall.lab.measurement import metrics
from firewall.lab.training.detectors.agreement import agreement_counts
from firewall.lab.training.detectors.statistics import GROUPS, Features, accuracies
from tests.lab.swept_images import swept_images


@pytest.fixture(scope="module")
def pair() -> tuple[Swept, Swept]:
    """What is learnt from, and what is judged."""
    return swept_images(), swept_images(1)


def test_cells_by_hand() -> None:
    """Shares, their means, and intervals that hold them and widen when images are of one track."""
    hits, alone = np.array([True, True, True, False] * 10), np.arange(40)
    together = np.arange(40) // 4 + (np.arange(40) % 2) * 100
    cell = share(hits, alone)

    assert (cell["value"], cell["n"]) == (0.75, 40)
    assert (cell["low"], cell["high"]) == pytest.approx(metrics.rate_interval(30, 40), abs=0.01)
    assert (
        share(np.repeat([True, False], 20), np.arange(40) // 10)["high"]
        > share(np.repeat([True, False], 20), alone)["high"]
    )
    mean = balanced(hits, alone, ~hits, together)
    assert mean["value"] == 0.5 and mean["low"] < 0.5 < mean["high"] and mean["n"] == 80
    scores = np.arange(40.0)
    assert area(scores, scores + 100, (alone, alone))["value"] == 1


def test_table_1_counts_what_the_paper_counts(pair: tuple[Swept, Swept]) -> None:
    """Accuracy is what the two errors leave, for as many images of each kind; printed numbers stand in place."""
    swept = pair[1]
    rows = agreement_paper._table1(swept, 15, photos=True)
    cells = {(entry["key"][1].split()[0], entry["key"][2]): entry for entry in rows}
    counts = agreement_counts(swept)

    assert len(rows) == 3 * len(swept.attacks)
    missed = cells["fgsm", "adversarial missed"]["same"]["value"]
    withheld = cells["fgsm", "normal withheld"]["same"]["value"]
    assert missed == pytest.approx((counts[swept.attack == "fgsm"] >= 15).mean())
    assert withheld == pytest.approx((counts[~swept.adversarial] < 15).mean())
    assert cells["fgsm", "accuracy"]["same"]["value"] == pytest.approx(1 - (missed + withheld) / 2)
    assert cells["fgsm", "accuracy"]["theirs"] == "96.5 %"
    assert cells["fgsm", "normal withheld"]["theirs"] == "7 %"
    assert cells["deepfool", "accuracy"]["theirs"] is None


def test_the_correction_s_tables_are_what_the_page_reads(pair: tuple[Swept, Swept]) -> None:
    """Every row and figure is of the agreed form; weighted votes are measured on images that they don't come from."""
    found = correction_tables(*pair)
    tables = [Table.model_validate(table) for table in found["tables"]]
    figures = [Figure.model_validate(figure) for figure in found["figures"]]

    rows = {entry.key: entry for entry in tables[0].rows}
    assert rows["vote of jpeg", "adversarial, first five"].theirs == "88.63 %"
    ours = rows["weighted votes (ours)", "adversarial, first label"]
    evaluated = pair[0].adversarial & (pair[0].split == "eval")
    assert ours.same is not None and ours.same.n == int(evaluated.sum())
    assert ours.honest is not None and ours.honest.n == int(pair[1].adversarial.sum())
    assert all(0 <= value <= 1 for values in figures[0].series.values() for value in values if value is not None)


def test_table_4_has_every_combination(pair: tuple[Swept, Swept]) -> None:
    """Four classifiers, six choices of operations, two features, and ours with all operations."""
    known, other = (swept.subset(np.arange(len(swept)) % 240 < 48) for swept in pair)
    found = accuracies(known, Features(known.variants), other, Features(other.variants), None, 0)

    assert set(found) == {"svm", "forest", "lda", "mlp"}
    for groups in found.values():
        assert set(groups) == set(GROUPS)
        assert set(groups["jpeg"]) == {"counting", "differences"}
        assert set(groups["all"]) == {"counting", "differences", "odds"}
        assert all(len(right) == len(other) for cells in groups.values() for right in cells.values())


def test_a_row_is_read_back() -> None:
    """What `row` writes, the page's schema takes."""
    cell = {"value": 0.5, "low": None, "high": None, "n": 3}
    Table.model_validate({"title": "t", "columns": ["a"], "rows": [row(["x"], "1 %", cell, None)]})
