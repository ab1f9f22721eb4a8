"""A quarantine that a guard kept, sorted into classes, and read by the lab's own readers."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import pytest

from firewall.bundle import load_bundle
from firewall.cli import app, run
from firewall.errors import DataError
from firewall.lab.datasets import quarantined
from firewall.lab.datasets.folder import open_folder
from firewall.lab.datasets.labelled import labelled
from firewall.lab.datasets.packs import load_images
from firewall.lab.datasets.quarantined import import_evidence
from firewall.sinks.evidence import case_folders
from firewall.sinks.quarantine import Quarantine
from firewall.verdict import Reason, Verdict
from tests.sinks.test_quarantine import seen

LABELS = ("speed/limit", "stop", "Stop", "give way", "unlabelled")
BOX = (10, 12, 40, 44)


def keep(folder: Path, *labels: int | None, operator: bool = True) -> None:
    """A case for each label, and one without a crop."""
    sink = Quarantine(folder, operator=operator)
    for number, label in enumerate(labels):
        verdict = Verdict("cam", number, BOX, reason=Reason.SUSPICIOUS, track=number + 1, suspected_label=label)
        sink.report(seen(number, verdict))
    sink.report(seen(len(labels), Verdict("cam", len(labels), (0, 0, 0, 0), reason=Reason.BAD_IMAGE)))
    sink.close()


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "evidence.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pictures(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))


def test_crops_are_sorted_by_the_classifiers_label(tmp_path: Path) -> None:
    """Named by the bundle's labels where they are names of their own, else by number; the list says where each came
    from; the pixels are the crop's; the lab's readers take the folder."""
    keep(tmp_path / "q", 3, 0, 1, 2, 3, None, 4, 77)
    found = import_evidence(tmp_path / "q", tmp_path / "out", labels=LABELS, bundle="traffic-signs")
    assert (found.taken, found.there, found.without, found.bad) == (8, 0, 1, 0)
    told = rows(tmp_path / "out")
    folders = [row["file"].split("/")[0] for row in told]
    wanted = ["give way", "speed_limit", "00001", "00002", "give way", "unlabelled", "00004", "00077"]
    assert folders == wanted and sorted(row["file"] for row in told) == pictures(tmp_path / "out")
    assert (told[0]["label"], told[0]["label_name"], told[0]["reason"], told[0]["track"]) == (
        "3", "give way", "suspicious", "1",
    )  # fmt: skip
    assert told[5]["label"] == "" and told[0]["region"] == "10 12 40 44" and told[0]["bundle"] == "traffic-signs"
    crop = cv2.imread(str(tmp_path / "out" / told[1]["file"]))[..., ::-1]
    assert (crop == seen(1).frame.pixels[12:56, 10:50]).all()  # type: ignore[union-attr]
    assert len(load_images(tmp_path / "out")) == 8
    some = labelled(tmp_path / "out", ("speed limit", "give way", "1", "2"), 100)
    assert some.how == "the folders' names" and sorted(some.known.tolist()) == [-1, -1, -1, 0, 1, 1, 2, 3]


def test_another_bundle_and_no_operator(tmp_path: Path) -> None:
    """Another bundle's classes have no names here; without --operator no class is known. A folder without `unlabelled`
    is a data set of the lab's."""
    keep(tmp_path / "q", 3, 1)
    import_evidence(tmp_path / "q", tmp_path / "out", labels=LABELS, bundle="letters")
    assert open_folder(tmp_path / "out").class_names == ("00001", "00003")
    keep(tmp_path / "plain", 3, 1, operator=False)
    import_evidence(tmp_path / "plain", tmp_path / "none", labels=LABELS, bundle="traffic-signs")
    assert {name.split("/")[0] for name in pictures(tmp_path / "none")} == {"unlabelled"}


def test_again_takes_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice; after a person has moved and removed pictures; after the import was killed in the middle, before and after
    a line of the list; with the same numbers from another device: nothing twice, nothing lost, nothing put back."""
    out = tmp_path / "out"
    keep(tmp_path / "q", *[1] * 6)
    real, count = quarantined.replace_file, [0]

    def killed(path: Path, content: bytes) -> None:
        real(path, content)
        count[0] += path.suffix == ".png"
        if count[0] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(quarantined, "replace_file", killed)
    with pytest.raises(KeyboardInterrupt):
        import_evidence(tmp_path / "q", out)
    monkeypatch.undo()
    assert len(rows(out)) == 2 and len(pictures(out)) == 3
    with (out / "evidence.csv").open("a") as file:
        file.write("00001/half a li")
    found = import_evidence(tmp_path / "q", out)
    assert (found.taken, found.there) == (4, 2) and len(rows(out)) == len(pictures(out)) == 6
    names = [Path(name) for name in pictures(out)]
    (out / "stop").mkdir()
    (out / names[0]).rename(out / "stop" / names[0].name)
    (out / names[1]).unlink()
    before = (out / "evidence.csv").read_bytes()
    assert import_evidence(tmp_path / "q", out).there == 6
    assert len(pictures(out)) == 5 and (out / "evidence.csv").read_bytes() == before
    keep(tmp_path / "other", 1)
    assert import_evidence(tmp_path / "other", out).taken == 1 and len(pictures(out)) == 6


def test_what_is_no_evidence_is_left_out_and_named(tmp_path: Path) -> None:
    """A crop that was changed, a record that is no JSON, of another version, with another kind of class, a case that
    lost a file, a link in a picture's place: each is said, the rest is taken."""
    keep(tmp_path / "q", *[1] * 9)
    paths = [path for _, path in sorted(case_folders(tmp_path / "q").items())]
    (paths[0] / "crop.png").write_bytes(b"other")
    (paths[1] / "verdict.json").write_text("{")
    for place, change in ((2, {"schema": "firewall.evidence/2"}), (3, {"verdict": None}), (4, {"sha256": 3})):
        record = json.loads((paths[place] / "verdict.json").read_text())
        (paths[place] / "verdict.json").write_text(json.dumps(record | change))
    record = json.loads((paths[5] / "verdict.json").read_text())
    record["verdict"]["suspected_label"] = "../../up"
    (paths[5] / "verdict.json").write_text(json.dumps(record))
    (paths[6] / "crop.png").unlink()
    (paths[7] / "crop.png").rename(tmp_path / "elsewhere.png")
    (paths[7] / "crop.png").symlink_to(tmp_path / "elsewhere.png")
    said: list[str] = []
    found = import_evidence(tmp_path / "q", tmp_path / "out", tell=said.append)
    assert (found.taken, found.bad) == (1, 8) and len(said) == 8
    assert "track1 is left out, it is not as a guard writes it: crop.png was changed" in said[0]
    assert "this version reads firewall.evidence/1" in said[2] and "class '../../up'" in said[5]
    assert "No such file" in said[6] and not (tmp_path / "up").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`firewall lab import-evidence`: what it says; a folder that is no quarantine, a list of somebody else's, a result
    inside the quarantine, and one that can't be written are one line."""
    labels = load_bundle("default").manifest.classifier.labels
    keep(tmp_path / "q", 14, 2)
    command = ["lab", "import-evidence", str(tmp_path / "q"), "--out"]
    assert run(app, [*command, str(tmp_path / "out")], "firewall") == 0
    assert "2 crops taken, 0 were there, 1 cases have no crop, 0 can't be used" in capsys.readouterr().out
    assert {row["label_name"] for row in rows(tmp_path / "out")} == {labels[14], labels[2]}
    for given, words in (
        (
            ["lab", "import-evidence", str(tmp_path / "nowhere"), "--out", str(tmp_path / "o")],
            "can't read the quarantine",
        ),
        (["lab", "import-evidence", str(tmp_path / "out"), "--out", str(tmp_path / "o")], "holds no evidence"),
        ([*command, str(tmp_path / "q" / "out")], "lies in the quarantine itself"),
        ([*command, str(tmp_path / "out" / "evidence.csv")], "can't write"),
    ):
        assert run(app, given, "firewall") == 1
        assert words in capsys.readouterr().err
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "evidence.csv").write_text("a,b\n1,2\n")
    assert run(app, [*command, str(tmp_path / "o")], "firewall") == 1
    assert "is not a list of 'firewall lab import-evidence'" in capsys.readouterr().err
    for path in case_folders(tmp_path / "q").values():
        shutil.rmtree(path)
        path.mkdir()
    with pytest.raises(DataError, match="holds no evidence"):
        import_evidence(tmp_path / "out", tmp_path / "o2")
    assert run(app, [*command, str(tmp_path / "o3")], "firewall") == 1
    assert "can be used" in capsys.readouterr().err
