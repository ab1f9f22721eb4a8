"""The page that is read before a bundle is trusted, made by the command that a user runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firewall.bundle import load_bundle
from firewall.errors import DataError
from firewall.lab.reports.default import _tracks, read_results
from tests.lab.in_process import lab


@pytest.fixture(scope="module")
def page(made: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("results")
    cost = {"bundle": {"sha256": "0" * 64}, "images": 1}
    (folder / "cost.json").write_text(json.dumps(cost))
    file = folder / "page.html"
    named = ["--database", str(made), "--split", "train", "--unseen", str(made), "--results", str(folder)]
    result = lab("report", "default", *named, "--shift", "4", "--out", str(file), "--json", str(folder / "page.json"))
    assert result.returncode == 0, result.stderr
    summary = json.loads((folder / "page.json").read_text())
    assert set(summary["seen"]["bundle"]) == set(summary["unseen"]["bundle"])
    return file.read_text()


@pytest.mark.slow
def test_the_page_says_what_a_reviewer_asks(page: str) -> None:
    """Data, detectors, the promise, attacks worst first, shift, cost and what it can't do, in one file."""
    parts = ("made of", "The promise", "nobody has seen", "every kind", "left out", "under shift", "costs", "can't do")
    places = [page.index(part) for part in parts]

    assert places == sorted(places)
    assert page.index("wrong-release rate") < places[0] and "attack success on the bare classifier" in page
    assert "fgsm" in page and "stability" in page and "http" not in page
    assert page.count("data:image/svg+xml;base64,") == 2


def test_what_was_not_measured_is_said(page: str) -> None:
    """No tracks were given: the page says so and shows no numbers for them."""
    assert "Not measured for this bundle: tracks" in page


def test_results_of_another_bundle_are_not_passed_off_as_its_own(page: str) -> None:
    """The cost was measured with another bundle: it is named and left out."""
    assert "cost.json was measured with another bundle (000000000000)" in page
    assert load_bundle("default").sha256 in page


def test_a_damaged_result_is_named(tmp_path: Path) -> None:
    """Neither a traceback nor a page that silently lacks it."""
    (tmp_path / "fusion.json").write_text("{")

    with pytest.raises(DataError, match=r"fusion\.json is not a result"):
        read_results(tmp_path)


def test_tracks_that_are_all_short_are_no_table() -> None:
    """Results of 'lab tracks' in which no attacked track has ten frames: nothing to show, and no failure."""
    assert _tracks({"judged": {"kept-out": {"attacked": {"3 frames": {}}, "normal": {}}}}) == []
