"""The tables of the attention chapter, from answers that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.papers import attention
from benchmarks.papers.attention_answers import Judged, scores_of
from firewall.bundle import DetectorSpec
from firewall.detectors import Evidence, build
from firewall.lab.database import Database

CLASSES = 43


def logits(classes: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    table = 4 * np.eye(CLASSES, dtype=np.float32)
    return np.asarray(table[classes], np.float32)


@pytest.fixture
def judged(made: Path, monkeypatch: pytest.MonkeyPatch) -> Judged:
    """f1 is fooled by every attacked image; f2 is wrong on every fourth normal image, and goes along with f1 on every
    fifth attacked one."""
    monkeypatch.setattr(attention, "_ATTACKS", {"fgsm": "FGSM", "deepfool": "C&W"})
    database = Database(made)
    truth = np.array([entry.label for entry in database.card.normal])
    own, theirs, origins = {"": logits(truth)}, {"": logits(np.where(np.arange(len(truth)) % 4 == 0, 42, truth))}, {}
    for name in ("fgsm", "deepfool"):
        origin = np.array([entry.normal for entry in database.attacked(name).entries])
        fooled = (truth[origin] + 1) % 6
        own[name], origins[name] = logits(fooled), origin
        theirs[name] = logits(np.where(np.arange(len(origin)) % 5 == 0, fooled, truth[origin]))
    return Judged(database, own, theirs, origins)


def rows(table: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    return {tuple(row["key"]): row for row in table["rows"]}


def test_the_lab_scores_as_the_edge() -> None:
    """For random logits of both networks, the edge detector's score of each image."""
    theirs, own = np.random.default_rng(0).normal(size=(2, 20, 5)).astype(np.float32)
    expected = []
    for mine, other in zip(own, theirs, strict=True):
        spec = DetectorSpec(name="attention", parameters={"file": "x"}, threshold=0.0)
        judge = build(spec, lambda file, other=other: lambda values: other[None])  # type: ignore[misc]
        expected.append(judge.score(Evidence(np.zeros((4, 4, 3), np.uint8), mine, {})))
    np.testing.assert_allclose(scores_of(theirs, own), expected, rtol=1e-6)


def test_rates_are_of_the_images_that_they_say(judged: Judged) -> None:
    """same: all images, as many normal as adversarial ones; honest: without the dev split, at the given threshold."""
    table = attention._rates_table("t", {"a": judged}, {"a": 100.0}, {"fgsm": ("0.8", "0.6"), "deepfool": ("1", "1")})
    found = rows(table)
    count = len(judged.origins["deepfool"])
    positive, negative = found["C&W", "true positive", "a"], found["C&W", "true negative", "a"]
    assert positive["same"]["value"] == pytest.approx((np.arange(count) % 5 != 0).mean())
    assert negative["same"]["n"] == positive["same"]["n"] == count
    assert negative["same"]["value"] == pytest.approx((np.arange(count) % 4 != 0).mean())
    assert positive["honest"]["value"] == 0.0 and negative["honest"]["value"] == 1.0
    assert negative["honest"]["n"] == int((~judged.database.where("dev")).sum())
    assert found["FGSM", "true positive", "a"]["theirs"] == "0.8"


def test_the_filter_of_table_4(judged: Judged) -> None:
    """It leaves the images that f2 reads rightly: no false alarm is left, and recovery is of the attacked ones."""
    found = rows(attention._table4({"a": judged}))
    origin = judged.origins["deepfool"]
    kept = origin % 4 != 0
    assert found["C&W", "true negative", "a"]["same"]["value"] == 1.0
    assert found["C&W", "recovery", "a"]["same"]["n"] == int(kept.sum())
    assert found["C&W", "recovery", "a"]["same"]["value"] == pytest.approx(
        (np.arange(len(origin))[kept] % 5 != 0).mean()
    )


def test_masks_that_keep_their_class(judged: Judged) -> None:
    """Table 1 compares f2 with itself, not with the truth."""
    found = rows(attention._table1({"a": judged}))["C&W", "a"]
    origin = judged.origins["deepfool"]
    expected = judged.theirs["deepfool"].argmax(1) == judged.theirs[""].argmax(1)[origin]
    assert found["same"]["value"] == pytest.approx(expected.mean())
    assert found["honest"]["n"] == int((~judged.database.where("dev"))[origin].sum())
