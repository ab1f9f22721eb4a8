"""docs/acceptance.md: every point has tests, and they are there; what is claimed elsewhere says what it rests on."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "acceptance.md"
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
_POINTS = {"A": 10, "B": 7, "C": 4, "D": 3, "E": 7}


def rows() -> list[list[str]]:
    """The cells of each row of the tables, without their heads."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| [A-E]\d", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@cache
def named_in(file: str) -> frozenset[str]:
    """Names of the test functions that stand in a file."""
    path = CHECKOUT / file
    tree = ast.parse(path.read_text(encoding="utf-8")) if path.is_file() else ast.Module([], [])
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_test_that_the_page_names_is_there() -> None:
    """Each of the 31 points has a way in which it is held and at least one test, by its file and name; a test that is
    renamed or deleted makes the page wrong, and this says which."""
    points = [f"{letter}{number}" for letter, count in _POINTS.items() for number in range(1, count + 1)]
    assert [cells[0].split(".")[0] for cells in rows()] == points
    for must, how, named in rows():
        found = _TEST.findall(named)
        assert len(must) > 20 and len(how) > 20 and found and len(found) == named.count("`") / 2, must
        missing = [f"{file}::{name}" for file, name in found if name not in named_in(file)]
        assert not missing, (must, missing)


def test_the_page_counts_right_and_is_on_the_site() -> None:
    """As many points are held, and held in part, as it says; it stands in the site's navigation."""
    partly = sum(how.startswith("**Partly.**") for _, how, _ in rows())
    text = PAGE.read_text(encoding="utf-8")
    assert f"{len(rows()) - partly} points are held; {partly} are held in part" in text
    assert all(("**Partly" in how) == how.startswith("**Partly.**") for _, how, _ in rows())

    class Plain(yaml.SafeLoader):
        """Takes the names of Python functions in MkDocs' settings as nothing."""

    Plain.add_multi_constructor("", lambda *_: None)
    nav = yaml.load((CHECKOUT / "mkdocs.yml").read_text(encoding="utf-8"), Plain)["nav"]  # noqa: S506  (a SafeLoader)
    assert {"acceptance.md"} <= {page for each in nav for page in each.values() if isinstance(page, str)}


def test_claims_name_attacker_limits_and_intervals() -> None:
    """README and threat model name the attacker who knows the firewall with the rate and its interval, what it is for,
    what it can't do, and that it is certified to nothing; neither claims to comply with a standard."""
    rate = re.compile(r"\d+(?:\.\d)? % ?\(\d+ - \d+")
    for name, needed in (
        ("README.md", ("knows the whole firewall", "43 German traffic signs", "## What it can't do")),
        ("docs/threat_model.md", ("knows the whole firewall", "## Who is held off", "## Other limits")),
    ):
        text = (CHECKOUT / name).read_text(encoding="utf-8")
        assert all(words in text for words in (*needed, "certified to none")), name
        told = text[text.index("knows the whole firewall") :]
        assert rate.search(told[:400]), f"{name}: the rate of who knows the firewall has no interval"
        assert not re.search(r"\b(?:compliant|complies|certified (?:to|by|for) (?:ISO|UL|UN))\b", text), name
