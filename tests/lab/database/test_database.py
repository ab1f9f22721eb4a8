"""Databases of adversarial images, made of drawn signs by the commands that a user runs."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from firewall import Firewall
from firewall.errors import DataError, FirewallError, UsageError
from firewall.lab.database import Database, Plan, build
from firewall.lab.database.jobs import finished, jobs_of
from firewall.lab.database.selection import _rank
from firewall.lab.datasets import Dataset, split
from firewall.lab.reports import database as page
from tests.lab.conftest import DATABASE_ATTACKS, DATABASE_LIMIT
from tests.lab.in_process import lab

LIMIT, ATTACKS = DATABASE_LIMIT, DATABASE_ATTACKS


def plan(signs: Path, *attacks: str, **changes: Any) -> Plan:
    return replace(Plan(f"folder:{signs}", "default", attacks or ATTACKS, LIMIT), **changes)


def command(*arguments: object, timeout: float = 240, **options: Any) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "firewall", "lab", *map(str, arguments)]
    return subprocess.run(line, check=False, capture_output=True, text=True, timeout=timeout, **options)


def attack_command(signs: Path, out: Path, *more: object) -> list[str]:
    arguments = (
        "attack",
        "--dataset",
        f"folder:{signs}",
        "--attacks",
        ",".join(ATTACKS),
        "--limit",
        LIMIT,
        "--out",
        out,
    )
    return [*map(str, arguments), *map(str, more)]


def is_one_line_error(result: subprocess.CompletedProcess[str]) -> bool:
    errors = [line for line in result.stderr.splitlines() if line.startswith("firewall: error: ")]
    return len(errors) == 1 and "Traceback" not in result.stderr


def content(folder: Path) -> dict[str, Any]:
    """All that a database says and holds, but for times."""
    database = Database(folder)
    card = database.card.model_dump(exclude={"created"})
    shards = {path.name: path.read_bytes() for path in (folder / "shards").iterdir()}
    return {
        "card": card,
        "shards": shards,
        "entries": {name: database.attacked(name).entries for name in card["attacks"]},
    }


def test_info_is_what_others_rely_on(made: Path) -> None:
    """The keys of `database info --json`, and counts that fit together."""
    result = lab("database", "info", made, "--json")

    facts = json.loads(result.stdout)
    assert {"classifier_sha256", "dataset", "normal", "adversarial", "attempted", "splits"} <= set(facts)
    assert facts["normal"] == LIMIT == sum(facts["splits"].values())
    assert set(facts["splits"]) == {"train", "dev", "eval"}
    assert facts["attempted"] == dict.fromkeys(ATTACKS, LIMIT)
    assert 0 < facts["adversarial"]["deepfool"] <= LIMIT
    assert re.fullmatch("[0-9a-f]{64}", facts["classifier_sha256"])
    assert "/" not in facts["dataset"], "a card gives no path away"
    assert "deepfool" in lab("database", "info", made).stdout


def test_what_is_stored_fools_the_very_classifier(made: Path, guard: Firewall) -> None:
    """Read back from the export's PNGs, every adversarial image is named wrongly and every normal one rightly by the
    engine that the edge runs; norms and labels of the table are those of the files."""
    out = made.parent / "exported"
    result = lab("database", "export", made, out)
    assert result.returncode == 0, result.stderr
    with (out / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    columns = "file,kind,attack,split,source,true_label,clean_label,adversarial_label,linf,l2"
    assert (out / "index.csv").read_text().splitlines()[0] == columns
    facts = Database(made).info()
    assert len(rows) == facts["normal"] + sum(facts["adversarial"].values())
    normal = {row["source"]: row for row in rows if row["kind"] == "normal"}
    pixels = {row["file"]: np.asarray(Image.open(out / row["file"])) for row in rows}
    named = dict(zip(pixels, guard.engine.classify(np.stack(list(pixels.values()))).argmax(1), strict=True))
    for row in rows:
        true = int(row["true_label"])
        if row["kind"] == "normal":
            assert named[row["file"]] == true == int(row["clean_label"]) and row["adversarial_label"] == ""
            continue
        origin = normal[row["source"]]
        assert named[row["file"]] == int(row["adversarial_label"]) != true
        assert row["split"] == origin["split"], "an image and what was made of it are in one split"
        change = (pixels[row["file"]].astype(float) - pixels[origin["file"]]) / 255
        assert float(row["linf"]) == pytest.approx(np.abs(change).max()) and float(row["l2"]) > 0
        assert float(row["l2"]) == pytest.approx(np.linalg.norm(change))


def test_the_result_does_not_depend_on_the_workers(made: Path, signs: Path, tmp_path: Path) -> None:
    """One process or two: the same card, the same images, the same bytes on disk."""
    build(tmp_path / "db", plan(signs), workers=1)

    assert content(tmp_path / "db") == content(made)


@pytest.mark.slow
def test_ray_gives_the_same(made: Path, signs: Path, tmp_path: Path) -> None:
    """A real Ray with two workers comes to the same bytes as processes of this machine."""
    pytest.importorskip("ray")
    result = command(*attack_command(signs, tmp_path / "db", "--backend", "ray", "--workers", 2))

    assert result.returncode == 0, result.stderr
    assert content(tmp_path / "db") == content(made)


def test_a_killed_run_goes_on_where_it_was(made: Path, signs: Path, tmp_path: Path) -> None:
    """kill -9 of the whole run in its middle, then the same command: nothing lost, nothing doubled, the same bytes."""
    folder = tmp_path / "db"
    line = [sys.executable, "-m", "firewall", "lab", *attack_command(signs, folder, "--workers", 1)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as run:
        limit = time.monotonic() + 120
        while len(list(folder.glob("jobs/*/*.json"))) < 2 and time.monotonic() < limit:
            time.sleep(0.02)
        os.killpg(run.pid, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in folder.glob("jobs/*/*.json")}
    assert 2 <= len(before) < sum(len(jobs_of(Database(folder).card, name)) for name in ATTACKS)
    (folder / "shards" / "half.npz.1.partial").write_bytes(b"what a killed writer leaves behind")

    assert build(folder, plan(signs), workers=1).failures == ()
    assert content(folder) == content(made)
    assert all(path.stat().st_mtime_ns == then for path, then in before.items()), "finished jobs are not done again"


def test_attacks_can_be_added_later(made: Path, signs: Path, tmp_path: Path) -> None:
    """A second run with more attacks does only those, and comes to what one run would have come to."""
    build(tmp_path / "db", plan(signs, "fgsm"), workers=1)
    built = build(tmp_path / "db", plan(signs), workers=1)

    assert (built.before, built.done) == (2, 4)
    assert content(tmp_path / "db") == content(made)


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy of the finished database, to be damaged."""
    subprocess.run(["cp", "-r", str(made), str(tmp_path / "copy")], check=True)
    return tmp_path / "copy"


def test_an_attack_followed_by_a_channel(signs: Path, tmp_path: Path) -> None:
    """Named in one go, made by the workers, kept with its channel on the card; what is kept still fools behind the
    channel. The same command finds it finished."""
    names = ("linf-32@blur+jpeg-75", "fgsm@jpeg-90@known")
    wanted = replace(plan(signs, *names), limit=6)
    assert build(tmp_path / "db", wanted, workers=1).failures == ()
    database = Database(tmp_path / "db")
    card = database.card.attacks["linf-32@blur+jpeg-75"]
    assert card["channel"] == "blur+jpeg-75" and card["attack"]["eps"] == 32 / 255 and card["knows"] == "nothing"
    assert database.card.attacks["fgsm@jpeg-90@known"]["knows"] == "known"
    record = finished(tmp_path / "db", jobs_of(database.card, names[0])[0])
    assert record is not None and record.attempted == 6 and len(record.images) >= 2
    assert build(tmp_path / "db", wanted, workers=1).before == 2
    assert database.verify() == []


def test_a_flipped_byte_is_found_and_mended(made: Path, signs: Path, copy: Path) -> None:
    """A damaged shard is never used: reading names it, verify finds it, --repair and the same command restore it."""
    database = Database(copy)
    shard = next(path for path in (copy / "shards").iterdir() if path.stem != database.card.normal_shard)
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)

    with pytest.raises(DataError, match=shard.name):
        [database.attacked(name) for name in ATTACKS]
    result = lab("database", "verify", copy, "--repair")
    assert result.returncode == 1 and is_one_line_error(result) and shard.name in result.stderr
    assert build(copy, plan(signs), workers=1).failures == ()
    assert Database(copy).verify() == []
    assert content(copy) == content(made)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda card: card.write_text(card.read_text().replace('"format": 1', '"format": 0')), "format 0"),
        (lambda card: card.write_text("{"), "not a database's card"),
        (lambda card: card.write_text(card.read_text().replace('"seed"', '"sead"')), "damaged at seed"),
        (lambda card: card.unlink(), "no adversarial database"),
    ],
)
def test_a_card_that_can_not_be_read_is_an_error(copy: Path, spoil: Callable[[Path], object], words: str) -> None:
    """An older format, damage or nothing at all: one line that says so and what to do."""
    spoil(copy / "card.json")

    result = lab("database", "info", copy)

    assert result.returncode != 0 and is_one_line_error(result) and words in result.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 1}, "--seed 0, not 1"),
        ({"limit": 39}, "--limit 40, not 39"),
        ({"part": "train"}, "--part test, not train"),
        ({"attacks": ("fgsm", "nonsense")}, "nonsense"),
        ({"attacks": ()}, "at least one attack"),
        ({"limit": 0}, "at least 1 image"),
        ({"dataset": "folder:/nowhere"}, "nowhere"),
        ({"device": "cuda"}, "--device cpu"),
    ],
)
def test_other_options_than_the_database_was_begun_with(
    copy: Path, signs: Path, changes: dict[str, Any], words: str
) -> None:
    """What would mix two databases is refused, named with both values; the database stays as it was."""
    before = content(copy)

    with pytest.raises((UsageError, DataError), match=re.escape(words)):
        build(copy, plan(signs, **changes), workers=1)

    assert content(copy) == before


def test_only_one_run_at_a_time(copy: Path, signs: Path) -> None:
    """A second run on the same folder is turned away while the first is at work."""
    code = f"import fcntl, sys, time; lock = open({str(copy / '.lock')!r}, 'w'); fcntl.flock(lock, fcntl.LOCK_EX); "
    with subprocess.Popen(
        [sys.executable, "-c", code + "print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(DataError, match="another process"):
            build(copy, plan(signs), workers=1)
        other.kill()


def test_a_full_disk_keeps_what_was_finished(made: Path, signs: Path, tmp_path: Path) -> None:
    """No room for a file: one line that says what to do, finished jobs stay, and with room the run is completed."""
    folder = tmp_path / "db"

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # less than a chunk of noisy images

    largest = max(path.stat().st_size for path in (made / "shards").iterdir())
    assert largest > 200_000, "the limit has to be in the way"
    result = command(*attack_command(signs, folder, "--workers", 1), preexec_fn=little_room)

    assert result.returncode == 1 and "make room" in result.stderr and "Traceback" not in result.stderr
    assert build(folder, plan(signs), workers=1).failures == ()
    assert content(folder) == content(made)


def test_a_job_that_fails_is_told_and_tried_again(signs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack that breaks on one chunk costs that chunk alone, and only until the next run."""
    from firewall.lab.attacks.fgsm import Fgsm

    run = Fgsm.run

    def broken(self: Fgsm, model: Any, images: Any, labels: Any, seed: int) -> Any:
        if len(images) < 32:
            raise RuntimeError("out of memory")
        return run(self, model, images, labels, seed)

    monkeypatch.setattr(Fgsm, "run", broken)
    built = build(tmp_path / "db", plan(signs, "fgsm"), workers=1)
    assert built.done == 1 and len(built.failures) == 1
    assert "fgsm on images 32..39" in built.failures[0] and "out of memory" in built.failures[0]

    monkeypatch.undo()
    assert build(tmp_path / "db", plan(signs, "fgsm"), workers=1).failures == ()
    assert Database(tmp_path / "db").info()["attempted"] == {"fgsm": LIMIT}


def test_wrong_use_of_the_command(signs: Path, tmp_path: Path) -> None:
    """Unknown back end and device: exit code 2, one line, and no folder is begun."""
    for more in (("--backend", "slurm"), ("--device", "tpu"), ("--workers", "-1")):
        result = lab(*attack_command(signs, tmp_path / "db", *more))
        assert result.returncode == 2 and is_one_line_error(result) and more[1] in result.stderr
        assert not (tmp_path / "db").exists()


class Pictures(HTMLParser):
    """Collects the sources of all pictures and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Pictures alone."""
        if tag == "img":
            self.sources.append(dict(attributes)["src"] or "")

    def handle_data(self, data: str) -> None:
        """All text."""
        self.text += data


def test_the_report_shows_numbers_and_pictures(made: Path, tmp_path: Path) -> None:
    """Each attack has its row and its examples - normal, adversarial, difference - all inside the one file, and the
    Markdown has the same counts."""
    result = lab("report", "database", made, "--out", tmp_path / "page.html")
    assert result.returncode == 0, result.stderr

    parser = Pictures()
    parser.feed((tmp_path / "page.html").read_text())
    markdown = (tmp_path / "page.md").read_text()
    facts = Database(made).info()
    for name, kept in facts["adversarial"].items():
        assert name in parser.text
        assert f"| {name} | {LIMIT} | {kept} |" in markdown
    assert len(parser.sources) == 3 * sum(min(3, kept) for kept in facts["adversarial"].values())
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert "http" not in (tmp_path / "page.html").read_text().replace("http-equiv", "")


def test_databases_side_by_side(made: Path, tmp_path: Path) -> None:
    """Successes by attack and classifier, as the paper's table 1: one column a database, a dash where it has no such
    attack."""
    less = Database(made)
    less.card = less.card.model_copy(update={"attacks": {"fgsm": less.card.attacks["fgsm"]}})

    path, markdown = page.write([Database(made), less], tmp_path / "page.html")

    kept = Database(made).info()["adversarial"]
    assert f"| fgsm | {kept['fgsm']} / {LIMIT} | {kept['fgsm']} / {LIMIT} |" in markdown.read_text()
    assert f"| deepfool | {kept['deepfool']} / {LIMIT} | - |" in markdown.read_text()
    assert path.read_text().count("Attack success by attack and classifier") == 1


def test_the_choice_favours_no_split() -> None:
    """Of the images that are attacked, about as many are in each split as of all."""
    count = 4000
    data = Dataset(
        "many",
        [np.zeros((1, 1, 3), np.uint8)] * count,
        np.zeros(count, np.int64),
        np.arange(count),
        [f"image/{number:05d}" for number in range(count)],
        ("one",),
        "",
        "",
    )
    parts = split(data, seed=0)
    first = sorted(range(count), key=lambda index: _rank(0, data.sources[index]))[:800]

    assert np.bincount(parts[first], minlength=3) / 800 == pytest.approx([0.70, 0.15, 0.15], abs=0.05)


def test_names_in_a_report_are_text(made: Path, tmp_path: Path) -> None:
    """A file name that looks like HTML is shown, not run."""
    database = Database(made)
    first = database.card.normal[0].model_copy(update={"source": "<script>alert(1)</script>"})
    entries = tuple(first for _ in database.card.normal)
    database.card = database.card.model_copy(update={"normal": entries})

    path, _ = page.write([database], tmp_path / "page.html")

    assert "<script>" not in path.read_text() and "&lt;script&gt;" in path.read_text()


def test_a_classifier_for_other_images_is_refused(signs: Path, tmp_path: Path) -> None:
    """A data set of more classes than the classifier knows can't be attacked: both are named."""
    for number in range(6, 50):
        (tmp_path / "many" / f"{number:05d}").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "many" / f"{number:05d}" / "x.png")

    with pytest.raises(FirewallError, match="knows 43 classes"):
        build(tmp_path / "db", plan(tmp_path / "many", "fgsm"), workers=1)
