"""The page of all certificates, made of the files that the commands write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from firewall import cli
from firewall.errors import DataError
from firewall.lab.certification.classifier import Subject
from firewall.lab.certification.patches import certify_patches
from firewall.lab.certification.smoothing import certify_smoothing
from firewall.lab.commands.certify import certify_report
from firewall.lab.measurement import metrics
from firewall.lab.reports.certify import THESIS, collect, write
from firewall.lab.reports.certify_figures import dials


class Bright:
    """Class 1 for bright images."""

    provider = "test"

    def classify(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        score = images.mean(axis=(1, 2, 3)) - 100
        return np.stack([-score, score], axis=1).astype(np.float32)


_THESIS_PART = {"network": "certified", "budget": 7.0, "attack": "thesis"}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """One file of each kind: a patch and a smoothing certificate of a real sweep, an attack with a flow, a curve."""
    folder = tmp_path / "results"
    folder.mkdir()
    subject = Subject(Bright(), ("dark", "bright"), 12, 12, {})
    images = [(index, np.full((12, 12, 3), 120 + index, np.uint8), 1) for index in range(3)]
    files: dict[str, Any] = {
        "patch": certify_patches(subject, iter(images), 3, 0.02, along=2),
        "smooth": certify_smoothing(subject, iter(images), 3, sigma=0.05, samples=100, alpha=0.001),
        "curve": {
            "rows": [
                *_points("plain", (0.4, 0.1), 0.7),
                *_points("certified", (0.9, 0.5), 0.95),
            ]
        },
        "attack": {
            "network": "plain",
            "method": "thesis",
            "threat": {"budget": 7.0, "shift": 0.0, "noise": 0.0},
            "rows": [_attacked(0, folder), {**_attacked(1, None), "success": False}],
        },
        "spatial": {
            "network": "plain",
            "threat": {"budget": 1.0, "shift": 0.0, "noise": 0.0},
            "images": 2,
            "clean_accuracy": 1.0,
            "certified_accuracy": 0.5,
            "rows": [{"index": 0, "certified": True, "lower_bound": 1.0}, {"certified": False, "lower_bound": -1.0}],
        },
        "counted": {"rows": [{**_THESIS_PART, "successes": 3, "n": 10}, {**_THESIS_PART, "successes": 2, "n": 10}]},
        "sound": {"rows": [{"network": "plain", "budget": 7.0, "tries": 540, "beaten": 0}]},
        "other": {"something": "else"},
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def _points(network: str, proved: tuple[float, float], attacked: float) -> list[dict[str, Any]]:
    shared = {"network": network, "clean": 0.98, "attack": "search", "n": 100}
    return [
        {**shared, "budget": budget, "certified": value, "attacked": attacked}
        for budget, value in zip((1.0, 3.0), proved, strict=True)
    ]


def _attacked(index: int, folder: Path | None) -> dict[str, Any]:
    if folder is not None:
        flows = folder / "attack.flows"
        flows.mkdir()
        np.savez(flows / "00000.npz", flow=np.ones((2, 28, 28)), shift=np.zeros(2))
    return {
        "index": index,
        "label": 3,
        "target": 5,
        "success": True,
        "total_variation": 6.5,
        "flow_file": "elsewhere/00000.npz",
    }


def test_the_page_shows_what_the_files_say(results: Path, tmp_path: Path) -> None:
    """Every kind is found by what is in it; the thesis's bars stand beside ours; what isn't promised is on the page."""
    found = collect(results)
    write(found, tmp_path / "out" / "page.html", tmp_path / "out" / "page.json")

    page, numbers = (
        (tmp_path / "out" / "page.html").read_text(),
        json.loads((tmp_path / "out" / "page.json").read_text()),
    )
    assert [bar["hits"] for bar in numbers["fig6"]] == [THESIS["plain"][0], THESIS["certified"][0], 5, 1]
    assert numbers["fig6"][2]["total"] == 20 and numbers["fig6"][3]["ci95"] == list(metrics.rate_interval(1, 2))
    assert "540" in page
    assert len(numbers["curve"]) == 4 and numbers["spatial"][0]["certified"] == 1
    assert numbers["patch"][0]["summary"]["certified"]["total"] == 3 and len(numbers["smoothing"]) == 1
    assert page.count("<img") == 6 and "rows" not in numbers["patch"][0]
    for line in numbers["not_promised"]:
        assert line[:40] in page
    assert "the bundle has no certificate" in page and "Not measured: &#39;firewall lab certify flow" in page


def test_flow_certificates_of_several_budgets_are_a_curve(results: Path, tmp_path: Path) -> None:
    """In the order of their budgets, with what an attack leaves where there was one; a single budget is no curve."""
    pages = []
    for budget, proved, attacked in ((4.0, 0.61, {"surviving_attack": 0.9}), (0.5, 0.9, {})):
        summary = {"clean_accuracy": 0.91, "certified_accuracy": proved, "ci95": [0.5, 0.95], "median_seconds": 0.3}
        about = {"network": "small", "dataset": "gtsrb/test", "budget": budget, "noise": 0.0}
        rows = [{"index": 0, "certified": True, "lower_bound": 1.0}]
        (results / f"flow_{budget:g}.json").write_text(
            json.dumps({"about": about, "summary": {**summary, **attacked}, "rows": rows})
        )
        write(collect(results), tmp_path / "page.html", tmp_path / "page.json")
        pages.append((tmp_path / "page.html").read_text())

    assert [entry["about"]["budget"] for entry in collect(results)["flow"]] == [0.5, 4.0]
    assert ["Proved and attacked accuracy of" in page for page in pages] == [False, True]
    assert "<td>90.0 %</td><td>0.3</td>" in pages[1] and "<td>\N{EN DASH}</td><td>0.3</td>" in pages[1]


def test_stickers_are_drawn_of_the_most_images(results: Path, tmp_path: Path) -> None:
    """Not of the result that looks best; of as many images the larger sticker."""
    first = json.loads((results / "patch.json").read_text())
    certified, area = first["summary"]["certified"], first["about"]["area"]
    for name, total, part in (("fewer", certified["total"] - 1, area), ("smaller", certified["total"], area / 2)):
        summary = {**first["summary"], "certified": {**certified, "value": 1.0, "total": total}}
        content = {**first, "summary": summary, "about": {**first["about"], "area": part}}
        (results / f"{name}.json").write_text(json.dumps(content))

    write(collect(results), tmp_path / "page.html", None)

    page = (tmp_path / "page.html").read_text()
    assert "By class, patch.json" in page and "smaller.json" in page


def test_the_command_writes_the_page(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the default bundle, whether or not it has a certificate."""
    certify_report(results, tmp_path / "page.html", "default", None, None)

    assert capsys.readouterr().out.strip() == str(tmp_path / "page.html")
    assert "What is not promised" in (tmp_path / "page.html").read_text()


def test_folders_and_files_that_hold_nothing_are_named(tmp_path: Path) -> None:
    """A missing folder, an empty one, JSON that is none, and rows that lack what they should have."""
    with pytest.raises(DataError, match="is not there"):
        collect(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no certificates"):
        collect(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"a\.json is not readable JSON"):
        collect(tmp_path)
    (tmp_path / "a.json").write_text(json.dumps({"rows": [{"success": True}]}))
    with pytest.raises(DataError, match=r"a\.json|network"):
        collect(tmp_path)


def test_the_lab_knows_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`firewall lab report certify` with a folder that isn't there is one line and exit code 1."""
    from firewall.lab.cli import app

    assert cli.run(app, ["report", "certify", "--results", "nowhere"], "firewall lab") == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_texts_of_the_dial_lie_on_no_other() -> None:
    """Of points that lie together some have no text; of points far from each other all have one."""

    def drawn(step: float) -> list[Any]:
        curve = [
            {"tau": tau, "rule": "object", "released_right": 50 + step * number, "certified": 50 - step * number}
            for number, tau in enumerate([None, 0.5, 0.6, 0.7, 0.8, 0.9])
        ]
        about = {"side": 5, "input": [48, 48], "masks": 36}
        figure = dials([{"about": about, "summary": {"curve": curve, "clean_accuracy": {"total": 100}}}])
        return [*figure.axes[0].texts]

    assert [text.get_text() for text in drawn(8)][:3] == ["no tau", "object 0.9", "object 0.8"]
    assert len(drawn(8)) == 6
    near = drawn(0.5)
    assert 1 <= len(near) < 6 and near[0].get_text() == "no tau"
    rooms = [text.get_window_extent() for text in near]
    assert not any(room.overlaps(other) for number, room in enumerate(rooms) for other in rooms[:number])
