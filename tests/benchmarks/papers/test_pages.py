"""`python -m benchmarks.papers pages`: a paper's numbers beside ours, from made-up results."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.papers.__main__ import app
from benchmarks.papers.pages import read_paper
from firewall.errors import DataError

RESULTS: dict[str, Any] = {
    "method": "crystal ball",
    "paper": "A. Author, B. Writer. Balls <of> crystal. Journal of Balls 1, 2020.",
    "differences": ["another ball", "64 images instead of 1000"],
    "tables": [
        {
            "title": "Table 1: detection",
            "note": "On 64 images.",
            "columns": ["attack", "ball"],
            "rows": [
                {
                    "key": ["fgsm", "glass"],
                    "theirs": "98.5 %",
                    "same": {"value": 0.875, "low": 0.81, "high": 0.92, "n": 64},
                    "honest": {"value": 0.75, "low": None, "high": None, "n": 32},
                },
                {"key": ["deepfool", "glass"], "theirs": None, "same": None, "honest": None},
            ],
        }
    ],
    "figures": [
        {
            "title": "Scores",
            "kind": "histogram",
            "x": [0, 1, 2],
            "series": {"normal": [3, 4], "fgsm": [1, 2, 3]},
            "xlabel": "score",
            "ylabel": "images",
            "caption": "Higher is worse.",
        },
        {"title": "Curve", "kind": "lines", "x": [1, 2], "series": {"a": [0.1, None]}, "xlabel": "", "ylabel": "",
         "caption": ""},
        {"title": "Bars", "kind": "bars", "x": ["fgsm", "pgd"], "series": {"a": [0.1, 0.2], "b": [0.3, 0.4]},
         "xlabel": "", "ylabel": "", "caption": ""},
    ],
    "commands": ["python -m benchmarks.papers crystal-ball --json FILE"],
}  # fmt: skip


class Cells(HTMLParser):
    """Rows of a page as lists of texts, and the sources of its pictures."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.pictures: list[str] = []
        self.text = ""
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Rows, cells and pictures."""
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._inside = True
        elif tag == "img":
            self.pictures.append(dict(attributes)["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        """The end of a cell."""
        if tag in ("td", "th"):
            self._inside = False

    def handle_data(self, data: str) -> None:
        """Into the cell that is open."""
        self.text += data
        if self._inside:
            self.rows[-1][-1] += data


def written(tmp_path: Path, **changes: Any) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "crystal.json").write_text(json.dumps({**RESULTS, **changes}))
    return folder


def test_every_number_is_on_the_page(tmp_path: Path) -> None:
    """Theirs, ours with their protocol and ours with an honest one, in that order, with n and intervals; what was not
    measured is said to be so; pictures are inside the page, and nothing is loaded from elsewhere."""
    arguments = ["pages", "--results", str(written(tmp_path)), "--out", str(tmp_path / "pages")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output

    source = (tmp_path / "pages" / "crystal.html").read_text()
    page = Cells(source)
    first, second = ([" ".join(cell.split()) for cell in row] for row in page.rows[1:3])
    assert first == ["fgsm", "glass", "98.5 %", "87.50 % 81.00 \u2013 92.00, n = 64", "75.00 % n = 32"]
    assert second == ["deepfool", "glass", "\u2013", "not measured", "not measured"]
    assert "Balls <of> crystal" in page.text and "<of>" not in source, "text is text"
    assert "another ball" in page.text and "python -m benchmarks.papers crystal-ball" in page.text
    assert len(page.pictures) == 3 and all(src.startswith("data:image/svg+xml;base64,") for src in page.pictures)
    assert "http" not in source


def test_a_column_without_numbers_is_told_and_not_shown(tmp_path: Path) -> None:
    """A table that nobody measured honestly says so once, instead of in every row."""
    table = RESULTS["tables"][0]
    rows = [{**row, "honest": None} for row in table["rows"]]
    folder = written(tmp_path, tables=[{**table, "rows": rows}])
    result = CliRunner().invoke(app, ["pages", "--results", str(folder), "--out", str(tmp_path / "pages")])
    assert result.exit_code == 0, result.output

    page = Cells((tmp_path / "pages" / "crystal.html").read_text())
    assert [len(row) for row in page.rows] == [4, 4, 4]
    assert "Ours, honest protocol: nothing for this table." in page.text


def test_the_index_leads_to_every_page(tmp_path: Path) -> None:
    """One row a paper, with how many of its numbers have an honest counterpart."""
    folder = written(tmp_path)
    (folder / "another.json").write_text(json.dumps({"method": "another", "paper": "C. Third, 2021."}))
    result = CliRunner().invoke(app, ["pages", "--results", str(folder), "--out", str(tmp_path / "pages")])
    assert result.exit_code == 0, result.output

    source = (tmp_path / "pages" / "index.html").read_text()
    assert {path.name for path in (tmp_path / "pages").iterdir()} == {"index.html", "crystal.html", "another.html"}
    assert 'href="crystal.html"' in source and 'href="another.html"' in source
    assert "1 of 2" in source and "0 of 0" in source


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tables": [{**RESULTS["tables"][0], "columns": ["attack"]}]}, "needs 1 parts"),
        ({"figures": [{**RESULTS["figures"][1], "series": {"a": [1, 2, 3]}}]}, "3 values for 2 places"),
        (
            {"tables": [{**RESULTS["tables"][0], "rows": [{"key": ["a", "b"], "same": {"value": 98.5, "n": 4}}]}]},
            "same",
        ),
        ({"tables": [{**RESULTS["tables"][0], "author": "somebody"}]}, "author"),
        ({"paper": 7}, "paper"),
    ],
)
def test_results_of_another_form(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """A key too many, a row that doesn't fit, a per cent where a share is meant: one line with file and place."""
    folder = written(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        read_paper(folder / "crystal.json")
    assert "crystal.json" in str(caught.value) and "\n" not in str(caught.value)


def test_no_results(tmp_path: Path) -> None:
    """An empty folder is named."""
    with pytest.raises(DataError, match="holds no results of papers"):
        CliRunner().invoke(
            app,
            ["pages", "--results", str(tmp_path), "--out", str(tmp_path / "out")],
            catch_exceptions=False,
            standalone_mode=False,
        )


def test_the_lab_passes_its_old_command_on(tmp_path: Path) -> None:
    """`firewall lab paper` and `firewall lab report papers` of a checkout still do what they did."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "balls.json").write_text(json.dumps(RESULTS))
    command = [sys.executable, "-m", "firewall", "lab", "report", "papers", "--results", str(folder)]

    result = subprocess.run([*command, "--out", str(tmp_path / "pages")], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
    assert (tmp_path / "pages" / "balls.html").is_file()
