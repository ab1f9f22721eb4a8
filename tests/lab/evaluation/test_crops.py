"""Attacked crops, judged by the whole firewall, by the command that a user runs."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.left_out_families import left_out
from firewall import Firewall
from firewall.errors import UsageError
from firewall.lab.datasets.packs import load_pack
from firewall.lab.evaluation.crops.measuring import Settings
from firewall.lab.evaluation.crops.verdicts import digest
from firewall.transforms import resize
from tests.lab.in_process import lab

ATTACKS = ("fgsm", "pgd-0.06@input")
CHANGES = ("jpeg-50", "half")


def options(signs: Path, work: Path, *more: object) -> tuple[object, ...]:
    """Of a small run."""
    asked = ("--images", signs, "--attacks", ",".join(ATTACKS), "--changes", ",".join(CHANGES), "--work", work)
    return ("evaluate", "attacks", *asked, "--limit", 7, "--benign", 9, *more)


@pytest.fixture(scope="module")
def guard() -> Firewall:
    """The default bundle, which these tests measure."""
    return Firewall.load("default", threads=1)


@pytest.fixture(scope="module")
def run(signs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run that was not disturbed, and its JSON."""
    work = tmp_path_factory.mktemp("crops")
    result = lab(*options(signs, work, "--json", work / "found.json", "--html", work / "found.html"))
    assert result.returncode == 0, result.stderr
    return work, (work / "found.json").read_text()


def rows_of(work: Path, what: str) -> list[dict[str, Any]]:
    """The verdicts that a run kept."""
    (file,) = work.glob(f"verdicts/*/*/0-{what}.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def cached(work: Path, attack: str) -> dict[str, np.ndarray]:
    """Source -> the attacked image that was stored."""
    found = {}
    for file in work.glob(f"attacked/{attack}/*.npz"):
        images, columns = load_pack(file)
        found |= dict(zip(columns["source"].tolist(), images, strict=True))
    return found


@pytest.mark.parametrize("attack", ATTACKS)
def test_rates_are_those_of_the_edge_on_the_stored_images(run: tuple[Path, str], guard: Firewall, attack: str) -> None:
    """The images that are stored are those that were judged; what the edge does with each of them, asked again here and
    without asking all detectors, gives the wrong-release rate, the success and the reasons."""
    work, text = run
    entry, rows, images = json.loads(text)["attacks"][attack], rows_of(work, attack), cached(work, attack)
    verdicts = [guard.screen(images[row["source"]]) for row in rows]

    assert entry["n"] == len(rows) == len(images) == 7
    assert [row["sha256"] for row in rows] == [digest(images[row["source"]]) for row in rows]
    wrong = [verdict.released and verdict.label != row["label"] for verdict, row in zip(verdicts, rows, strict=True)]
    fooled = [verdict.suspected_label != row["label"] for verdict, row in zip(verdicts, rows, strict=True)]
    assert entry["wrong_release"]["rate"] == np.mean(wrong) and entry["wrong_release"]["n"] == 7
    assert entry["attack_success"]["rate"] == np.mean(fooled)
    assert sum(entry["reasons"].values()) == sum(not verdict.released for verdict in verdicts)
    low, high = entry["wrong_release"]["ci95"]
    assert 0 <= low <= entry["wrong_release"]["rate"] <= high <= 1


def test_what_is_attacked_was_named_right_and_keeps_its_size(
    run: tuple[Path, str], signs: Path, guard: Firewall
) -> None:
    """An image that the classifier names wrong by itself is no success of an attack."""
    from firewall.lab.datasets import open_dataset

    data = open_dataset(f"folder:{signs}")
    originals = dict(zip(data.sources, zip(data.images, data.labels.tolist(), strict=True), strict=True))
    for row in rows_of(run[0], "fgsm"):
        image, label = originals[row["source"]]
        assert guard.engine.classify(resize(image, 48, 48)[None])[0].argmax() == label == row["label"]
        assert row["side"] == min(image.shape[:2])


def test_thresholds_withhold_what_they_are_named_for(run: tuple[Path, str]) -> None:
    """They are set on other groups than are judged. A higher share of benign images withheld releases no more; and each
    rate follows from the suspicions that were kept."""
    work, text = run
    summary = json.loads(text)
    at = summary["thresholds"]["at"]
    benign, setting = rows_of(work, "benign"), rows_of(work, "thresholds")

    assert list(at) == ["1", "2", "5"] and at["1"] >= at["2"] >= at["5"]
    assert not {row["group"] for row in benign} & {row["group"] for row in setting}
    assert at["5"] == max(row["suspicion"] for row in setting)  # nine images: none may lie above
    assert "9 benign images" in summary["thresholds"]["what"] and any("too few" in n for n in summary["about"]["notes"])
    for attack in ATTACKS:
        found = [row["suspicion"] <= at["5"] and row["named"] != row["label"] for row in rows_of(work, attack)]
        assert summary["attacks"][attack]["wrong_release_at"]["5"]["rate"] == np.mean(found)
    withheld = summary["benign"]["none"]["withheld_at"]["5"]["rate"]
    assert withheld == np.mean([row["suspicion"] > at["5"] for row in benign])


def test_the_worst_leads_and_benign_images_stand_beside(run: tuple[Path, str]) -> None:
    """Attacks by their wrong-release rate; benign images as they are, by size, and under each change."""
    summary = json.loads(run[1])
    enough = [entry["wrong_release"]["rate"] for entry in summary["attacks"].values()]
    assert enough == sorted(enough, reverse=True)
    assert summary["worst"]["wrong_release"] == summary["attacks"][summary["worst"]["attack"]]["wrong_release"]
    assert list(summary["benign"]) == ["none", *CHANGES]
    assert sum(part["n"] for part in summary["benign"]["none"]["by_side"].values()) == 9
    sides = [row["side"] for row in rows_of(run[0], "benign")]
    assert [row["side"] for row in rows_of(run[0], "benign__half")] == [side // 2 for side in sides]


def test_the_page_leads_with_the_worst_and_shows_what_got_out(run: tuple[Path, str]) -> None:
    """The worst attack's rate comes before any other figure; each wrongly released image is there pixel by pixel."""
    work, text = run
    page, worst = (work / "found.html").read_text(), json.loads(text)["worst"]
    body = page[page.index("<body>") :]
    assert body.index("%") > body.index("Wrong-release rate:")
    assert f"<strong>{100 * worst['wrong_release']['rate']:.1f} %</strong> on the worst attack" in page
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(found))).convert("RGB"))
        for found in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    ]
    wrong: list[str] = []
    for attack in json.loads(text)["attacks"]:
        every = [row["sha256"] for row in rows_of(work, attack) if row["released_label"] not in (None, row["label"])]
        wrong += every[:6]
    assert [digest(image) for image in shown] == wrong


def test_a_killed_run_goes_on(signs: Path, run: tuple[Path, str], tmp_path: Path) -> None:
    """Killed with SIGKILL while it judges: the same command keeps what was done and ends with the same JSON."""
    work = tmp_path / "work"
    command = [sys.executable, "-m", "firewall", "lab", *map(str, options(signs, work, "--json", tmp_path / "a.json"))]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not any(file.stat().st_size for file in work.glob("verdicts/*/*/*.jsonl")):
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    kept = {file: file.read_bytes() for file in work.glob("verdicts/*/*/*.jsonl")}
    assert kept
    # The kill may have come too late; a run that was stopped in the middle of a line is made here by hand as well.
    for file, content in kept.items():
        file.write_bytes(content[: len(content) * 2 // 3])

    result = lab(*options(signs, work, "--json", tmp_path / "b.json"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "b.json").read_text() == run[1]
    for file, content in kept.items():
        assert file.read_bytes().startswith(content)


def test_what_is_damaged_is_made_again(signs: Path, run: tuple[Path, str], tmp_path: Path) -> None:
    """Stored images that are cut short, and verdicts on other pixels, are not taken for what they were."""
    work, text = run
    stored = next(work.glob("attacked/fgsm/*.npz"))
    content = stored.read_bytes()
    stored.write_bytes(content[: len(content) // 2])
    (file,) = work.glob("verdicts/*/*/0-fgsm.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    row = json.loads(lines[2])
    lines[2] = json.dumps({**row, "sha256": "0" * 64, "released": not row["released"]}) + "\n"
    file.write_text("".join(lines))

    result = lab(*options(signs, work, "--json", tmp_path / "again.json"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again.json").read_text() == text and stored.read_bytes() == content


def test_a_shorter_run_leaves_a_longer_one_whole(signs: Path, run: tuple[Path, str], tmp_path: Path) -> None:
    """Its images are the first of the longer run's, and no line of that is lost."""
    work, _ = run
    before = {file: file.read_bytes() for file in work.glob("verdicts/*/*/*benign*.jsonl")}
    shorter = [*options(signs, work, "--json", tmp_path / "s.json")]
    shorter[shorter.index(9)] = 4
    result = lab(*shorter)
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "s.json").read_text())["benign"]["none"]["n"] == 4
    assert {file: file.read_bytes() for file in before} == before and before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--attacks", "fgsm,nothing"), "nothing"),
        (("--attacks", "fgsm,fgsm"), "--attacks names fgsm more than once"),
        (("--attacks", ","), "name at least one attack"),
        (("--changes", "snow"), "unknown change 'snow'; known: all, none, jpeg-95"),
        (("--family", "sound"), "unknown family 'sound'; known: channel"),
        (("--family", "adaptive"), "none of the attacks fgsm, pgd-0.06@input is of the family adaptive"),
        (("--images", "gtsrb/nothing"), "kept-out"),
        (("--images", "nowhere"), "unknown images 'nowhere'; name gtsrb/kept-out"),
        (("--calibration", "nowhere"), "unknown images 'nowhere'"),
    ],
)
def test_wrong_use(signs: Path, tmp_path: Path, more: tuple[str, str], message: str) -> None:
    """One line that names the value and what is allowed; nothing is made."""
    result = lab(*options(signs, tmp_path / "work", *more))
    assert result.returncode in (1, 2) and message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not (tmp_path / "work").exists()


def test_a_folder_that_cannot_be_made(signs: Path, tmp_path: Path) -> None:
    """Where a file is."""
    (tmp_path / "file").write_text("")
    result = lab(*options(signs, tmp_path / "file" / "work"))
    assert result.returncode == 1 and "name another --work" in result.stderr


def test_families_that_were_left_out(signs: Path, run: tuple[Path, str]) -> None:
    """Each bundle is measured on its own family alone, the worst row first, with the figures that `evaluate attacks`
    gives, and that of a bundle that has met all beside; a family without an attack is named before anything is made."""
    work, text = run
    settings = Settings(attacks=ATTACKS, images=str(signs), limit=7, benign=9)
    found = left_out({"own-size": "default", "pixels": "default"}, settings, work, "default", "made so")

    assert {(row["family"], row["attack"]) for row in found["rows"]} == {
        ("own-size", ATTACKS[0]),
        ("pixels", ATTACKS[1]),
    }
    for row in found["rows"]:
        assert row["wrong_release"] == json.loads(text)["attacks"][row["attack"]]["wrong_release"] == row["with_all"]
        own = found["families"][row["family"]]
        assert own["mean"] == own["worst"]["rate"] == own["with_all"] == row["wrong_release"]["rate"]
    rates = [row["wrong_release"]["rate"] for row in found["rows"]]
    assert found["note"] == "made so" and found["with_all"] == found["mean"]
    assert rates == sorted(rates, reverse=True) and found["mean"] == pytest.approx(np.mean(rates))
    assert found["worst"]["rate"] == rates[0] and set(found["benign_withheld"]) == {"own-size", "pixels", "with_all"}
    with pytest.raises(UsageError, match="of the family light"):
        left_out({"light": "default"}, settings, work / "none")
    assert not (work / "none").exists()
