"""A bundle, judged on a small database by the command that a user runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firewall import Firewall, cli
from firewall.bundle import load_bundle
from firewall.errors import DataError, UsageError
from firewall.lab.cli import app
from firewall.lab.database import Database
from firewall.lab.evaluation.attacked_images import AttackedImages
from firewall.lab.evaluation.bundle_on_database import evaluate_on_database
from firewall.lab.measurement.edge import Measured
from firewall.lab.measurement.metrics import FEW
from firewall.lab.models import open_classifier
from tests.lab.conftest import DATABASE_ATTACKS
from tests.lab.in_process import lab


@pytest.fixture(scope="module")
def judged(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """JSON and page."""
    out = tmp_path_factory.mktemp("evaluation")
    files = ("--json", out / "e.json", "--html", out / "e.html")
    result = lab("evaluate", "--database", made, "--split", "train", *files)
    assert result.returncode == 0, result.stderr
    return json.loads((out / "e.json").read_text()), (out / "e.html").read_text()


def test_the_json_is_what_others_rely_on(judged: tuple[dict[str, Any], str], made: Path) -> None:
    """detector -> attack -> the agreed keys, and "normal"; n is the split's number of images."""
    summary, _ = judged
    database = Database(made)

    assert set(summary["normal"]) >= {"n", "false_positive_rate", "mean_classified"}
    assert summary["normal"]["n"] == int(database.where("train").sum())
    for detector in ("fused", "stability", "confidence"):
        assert set(summary[detector]) <= set(DATABASE_ATTACKS)
        for attack, entry in summary[detector].items():
            assert set(entry) >= {"n", "auroc", "eer", "tpr_at_1fpr", "tpr_at_5fpr", "ci95"}
            inside = [database.split_of(image) == "train" for image in database.attacked(attack).entries]
            assert entry["n"] == sum(inside)
            low, high = entry["ci95"]["auroc"]
            assert 0 <= low <= entry["auroc"] <= high <= 1


def test_the_verdicts_are_those_of_the_edge(judged: tuple[dict[str, Any], str], made: Path) -> None:
    """The share withheld, and the images classified, are what the edge does with the very same pixels."""
    summary, _ = judged
    database, guard = Database(made), Firewall.load("default", threads=1)
    normal = [guard.screen(image) for image in database.normal[database.where("train")]]
    attacked = database.attacked("deepfool")
    inside = [database.split_of(entry) == "train" for entry in attacked.entries]
    hostile = [guard.screen(image) for image, here in zip(attacked.images, inside, strict=True) if here]

    assert summary["normal"]["false_positive_rate"] == np.mean([not verdict.released for verdict in normal])
    assert summary["normal"]["mean_classified"] == np.mean([verdict.classified for verdict in normal])
    assert summary["bundle"]["deepfool"]["withheld"] == np.mean([not verdict.released for verdict in hostile])


def test_wrong_release_at_equal_shares_of_benign_images(judged: tuple[dict[str, Any], str], made: Path) -> None:
    """Per cent of benign images withheld -> rate, n and interval. A stricter threshold releases no more; and the
    page shows the very pixels of what was released wrongly."""
    summary, page = judged
    shown = re.findall(r'src="data:image/png;base64,', page)
    expected = 0
    for attack, entry in summary["bundle"].items():
        rates = entry["wrong_release_at"]
        assert list(rates) == ["1", "2", "5"] and all(rate["n"] == entry["n"] for rate in rates.values())
        assert rates["1"]["rate"] >= rates["2"]["rate"] >= rates["5"]["rate"]
        assert all(rate["ci95"][0] <= rate["rate"] <= rate["ci95"][1] for rate in rates.values())
        expected += min(6, round(entry["wrong_release"]["rate"] * entry["n"]))
        assert entry["n"] == sum(
            Database(made).split_of(each) == "train" for each in Database(made).attacked(attack).entries
        )
    assert len(shown) == expected
    withheld = summary["normal"]["withheld_at"]
    assert withheld["1"]["rate"] <= withheld["2"]["rate"] <= withheld["5"]["rate"]


def test_the_wrong_release_rate_is_that_of_the_edge(judged: tuple[dict[str, Any], str], made: Path) -> None:
    """Of each attack's images the share for which the edge releases another label than the true one; never more than
    what isn't withheld; the attack's success counts the images of the split that were attacked."""
    summary, _ = judged
    database, guard = Database(made), Firewall.load("default", threads=1)
    tried = int(database.where("train").sum())
    for attack in DATABASE_ATTACKS:
        attacked, found = database.attacked(attack), summary["bundle"][attack]
        wrong = []
        for entry, image in zip(attacked.entries, attacked.images, strict=True):
            if database.split_of(entry) == "train":
                verdict = guard.screen(image)
                wrong.append(verdict.released and verdict.label != database.card.normal[entry.normal].label)
        low, high = found["wrong_release"]["ci95"]
        assert found["wrong_release"]["rate"] == np.mean(wrong) <= 1 - found["withheld"] + 1e-12
        assert found["wrong_release"]["n"] == len(wrong) and 0 <= low <= np.mean(wrong) <= high <= 1
        assert found["attack_success"]["n"] == tried
        assert found["attack_success"]["rate"] == pytest.approx(len(wrong) / tried)


def test_only_a_wrong_label_that_is_released_counts() -> None:
    """Released with the right label, or wrong and withheld, is no wrong release; tracks widen the interval."""
    logits = np.eye(3, dtype=np.float32)[[0, 1, 1, 2]]
    measured = Measured(np.zeros((4, 1, 1, 3), np.uint8), logits, (), np.zeros((4, 0, 3), np.float32))
    truth, released = np.array([0, 0, 1, 0]), np.array([True, True, True, False])

    alone = AttackedImages(measured, np.arange(4), truth, None).wrong_release(released)
    together = AttackedImages(measured, np.array([0, 1, 1, 1]), truth, None).wrong_release(released)

    assert alone["rate"] == together["rate"] == 0.25 and alone["n"] == 4
    assert together["ci95"][1] >= alone["ci95"][1] and set(alone) == {"rate", "n", "ci95"}


def test_the_page_has_tables_and_curves(judged: tuple[dict[str, Any], str]) -> None:
    """Every detector with its attacks, ROC curves and histograms, in one file that loads nothing."""
    _, page = judged

    for word in ("fused", "confidence", *DATABASE_ATTACKS, "ROC curves of stability", "EER"):
        assert word in page
    detectors = len(Firewall.load("default", threads=1).detectors)
    assert page.count("data:image/svg+xml;base64,") == 2 * (detectors + 1)  # and the fused suspicion
    assert "http" not in page


def test_the_page_from_top_to_bottom(made: Path, tmp_path: Path) -> None:
    """Summary with the worst attack first, what was judged, data, detectors, attacks left out, shifts, limits; attacks
    with few images are marked and not called the worst, wherever they come from."""
    left_out = {"residual": {"cw": {"n": 4, "auroc": 0.71, "family": "optimised"}}}
    (tmp_path / "left.json").write_text(json.dumps(left_out))
    options = ["--split", "train,dev", "--shift", "--limit", "10", "--leave-one-out", str(tmp_path / "left.json")]
    arguments = ["evaluate", "--database", str(made), *options]
    arguments += ["--json", str(tmp_path / "e.json"), "--html", str(tmp_path / "e.html")]
    assert cli.run(app, arguments, "firewall lab") == 0

    summary, page = json.loads((tmp_path / "e.json").read_text()), (tmp_path / "e.html").read_text()
    heads = re.findall("<h2>(.*?)</h2>", page)
    detectors = ["Detector"] * len(Firewall.load("default", threads=1).detectors) + ["All"]
    first, last = ["Summary", "What", "On"], ["Attacks", "Benign", "What"]
    assert [head.split(" ")[0] for head in heads] == [*first, *detectors, *last]
    wrong = {name: entry["wrong_release"]["rate"] for name, entry in summary["bundle"].items() if entry["n"] >= FEW}
    assert wrong[summary["worst"]["wrong_release"]] == max(wrong.values())
    assert "wrong-release rate" in page and "attack success on the bare classifier" in page
    enough = {name: entry["withheld"] for name, entry in summary["bundle"].items() if entry["n"] >= FEW}
    assert summary["bundle"][summary["worst"]["bundle"]]["withheld"] == min(enough.values())
    rows = re.findall("<tr class=.worst.><td>(.*?)</td>", page)
    assert rows[0] == summary["worst"]["wrong_release"]
    assert all(("few" in entry) == (entry["n"] < FEW) for entry in summary["bundle"].values())
    assert '<tr class="few"><td>cw</td><td>optimised</td>' in page
    assert summary["shift"]["normal"]["fog"]["n"] == 10 and ">fog</td>" in page
    assert summary["about"]["calibration"]["splits"] == ["eval"]
    assert any("doesn't say what it was fitted to" in note for note in summary["about"]["notes"])


def test_wrong_use(made: Path) -> None:
    """An unknown split, and a database of another classifier, are named."""
    database, bundle, classifier = Database(made), load_bundle("default"), open_classifier("default")
    with pytest.raises(UsageError, match="--split must be one of train, dev, eval"):
        evaluate_on_database(bundle, database, classifier, "test")
    other = database.card.classifier.model_copy(update={"sha256": "0" * 64})
    database.card = database.card.model_copy(update={"classifier": other})
    with pytest.raises(DataError, match="not on default"):
        evaluate_on_database(bundle, database, classifier, "train")
