"""The curve of attacks that see only what is released, and its picture."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks.decision_curve import picture, summary
from firewall.errors import DataError
from firewall.lab.measurement.intervals import rate_interval


def result(subspace: str, won: list[int], lost: int, **more: Any) -> dict[str, Any]:
    """As the command writes it: attacks that were won after so many queries, and others that never were."""
    rows = [{"label": 1, "wrong": True, "released_label": 2, "queries": queries} for queries in won]
    rows += [{"label": 1, "wrong": False, "released_label": 1, "queries": 1000} for _ in range(lost)]
    return {
        "bundle": "signs",
        "bundle_sha256": "a",
        "dataset": "gtsdb",
        "min_side": 24,
        "seed": 0,
        "method": "decision",
        "ball": {"norm": "linf", "eps": 8 / 255},
        "search": {"subspace": subspace, "queries": 1000},
        "rows": rows,
        **more,
    }


def test_the_worst_family_leads_and_each_point_counts_all_images() -> None:
    """Shares of all images, whether they were ever won or not, with their intervals; a draw has no bound."""
    found = summary([result("boundary", [900], 9), result("shadow", [3, 40, 1000], 7)])
    assert [entry["subspace"] for entry in found["attacks"]] == ["shadow", "boundary"]
    assert [entry["bound"] for entry in found["attacks"]] == ["as drawn", "L-infinity 8/255"]
    curve = {point["queries"]: point for point in found["attacks"][0]["curve"]}
    assert [curve[at]["rate"] for at in (1, 10, 30, 100, 300, 1000)] == [0, 0.1, 0.1, 0.2, 0.2, 0.3]
    assert curve[1000]["n"] == 10 and curve[1000]["ci95"] == list(rate_interval(3, 10))


def test_the_picture_holds_every_family_and_stays_inside() -> None:
    """Well-formed, with a line, a band and a name for each family; lines rise and no point leaves the plot."""
    found = summary([result("boundary", [900], 9), result("shadow", [3, 40, 1000], 7)])
    root = ET.fromstring(picture(found["attacks"]))  # noqa: S314 - made here
    names = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"shadow", "boundary", "queries", "10", "1000"} <= set(names)
    lines = [
        [tuple(map(float, point.strip("ML ").split(","))) for point in path.split(" ")]
        for path in (element.get("d", "") for element in root.iter() if element.get("stroke-width") == "2")
        if "L" in path
    ]
    assert len(lines) == 2
    for points in lines:
        assert all(52 <= x <= 382 and 16 <= y <= 216 for x, y in points)
        assert points == sorted(points) and [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_results_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    """Of two bundles, of another attack, without a row: named."""
    good = result("shadow", [3], 3)
    for other, words in (
        (result("boundary", [1], 2, bundle_sha256="b"), "of 2 bundles"),
        (result("boundary", [1], 2, method="search"), "not of 'firewall lab attack adaptive --method decision'"),
        (result("boundary", [], 0), "has no rows"),
    ):
        with pytest.raises(DataError, match=words):
            summary([good, json.loads(json.dumps(other))])
