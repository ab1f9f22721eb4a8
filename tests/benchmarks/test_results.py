"""What is kept of measurements: summaries that stay small, and the tables that are made from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.summary import LINES, compact, condense, write_summary
from benchmarks.tables import TABLES, filled

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def test_results_stay_small() -> None:
    """Summaries alone: all files that git keeps together."""
    kept = subprocess.run(["git", "ls-files", "."], cwd=RESULTS, capture_output=True, text=True, check=True).stdout
    files = [RESULTS / name for name in kept.splitlines() if (RESULTS / name).is_file()]
    assert files
    assert sum(path.read_bytes().count(b"\n") for path in files) < LINES


def test_a_summary_counts_raw_rows_and_keeps_the_rest(tmp_path: Path) -> None:
    """Rows of single images go, their number and what was counted of them stay; the raw file lies beside it."""
    rows = [{"index": i, "success": i % 3 == 0, "gap": i / 7} for i in range(90)]
    raw = {"rows": rows, "threat": {"budget": 7}, "samples_ms": [1.5] * 100, "rate": 0.123456, "curve": [0.25, 0.5]}
    (tmp_path / "measured.json").write_text(json.dumps(raw))

    write_summary(tmp_path / "measured.json", tmp_path / "out.json")

    kept = json.loads((tmp_path / "out.json").read_text())
    measured = {key: kept[key] for key in ("threat", "rate", "curve", "images", "successes")}
    assert measured == {"threat": {"budget": 7}, "rate": 0.1235, "curve": [0.25, 0.5], "images": 90, "successes": 30}
    assert "rows" not in kept and "samples_ms" not in kept
    assert json.loads((tmp_path / "out.raw.json").read_text()) == raw


def test_compact_json_is_the_same_json() -> None:
    """However it is broken into lines."""
    value = {"a": [{"b": i, "c": "x" * (i % 90), "d": None} for i in range(200)], "e": {"f": list(range(300))}, "g": []}
    assert json.loads(compact(value)) == value
    assert compact(value).count("\n") < 120
    assert condense(condense(value)) == condense(value)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_made(name: str) -> None:
    """It has rows, and all of them as many cells as the head."""
    head, _, *rows = TABLES[name]().splitlines()
    assert rows and all(row.count("|") == head.count("|") for row in rows)


def test_the_worst_figure_leads() -> None:
    """In README's table, in the threat model and in the results: it is the worst of all that was measured."""
    attacks = json.loads((RESULTS / "default" / "attacks.json").read_text())["attacks"]
    worst = max(entry["wrong_release"]["rate"] for entry in attacks.values() if "few" not in entry)
    adaptive = json.loads((RESULTS / "default" / "adaptive.json").read_text())["rows"]
    blind = json.loads((RESULTS / "default" / "decision_only.json").read_text())["attacks"]
    rows = TABLES["readme"]().splitlines()[2:]
    knowing = max(row["wrong_release"]["rate"] for row in adaptive)
    unseeing = max(attack["curve"][-1]["rate"] for attack in blind)
    by_rank = sorted(
        [("sees only what is released", unseeing), ("knows the whole", knowing), ("knows the classifier", worst)],
        key=lambda entry: -entry[1],
    )
    for row, (who, rate) in zip(rows, by_rank, strict=False):
        assert who in row and f"**{100 * rate:.1f} %" in row
    for name in ("released", "released-families"):
        shares = [float(row.split("**")[1].split()[0]) for row in TABLES[name]().splitlines()[2:]]
        assert shares == sorted(shares, reverse=True)
        assert shares[0] == pytest.approx(100 * worst, abs=0.5)


def test_a_table_that_was_edited_by_hand_is_found() -> None:
    """What stands between the marks is made from the results."""
    text = "a\n<!-- table: left-out -->\n| by hand |\n<!-- /table -->\nb\n"
    assert "by hand" not in filled(text) and filled(filled(text)) == filled(text)
    result = subprocess.run([sys.executable, "benchmarks/tables.py", "--check"], cwd=ROOT, check=False)
    assert result.returncode == 0
