"""Normal images in reserve, and that thresholds are set on images that nobody has learnt from or is judged by."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from firewall.bundle import Bundle, Seen, load_bundle
from firewall.errors import DataError, UsageError
from firewall.lab.cli import app
from firewall.lab.database import Database, Plan, build
from firewall.lab.database.card import DatasetEntry, NormalImage
from firewall.lab.database.normals import calibration_mask, named_splits, normal_entries
from firewall.lab.database.seen import seen, unseen
from firewall.lab.evaluation.bundle_on_database import evaluate_on_database
from firewall.lab.evaluation.protocol import protocol_of
from firewall.lab.models import open_classifier
from tests.fused_bundle import fused_bundle
from tests.lab.conftest import DATABASE_ATTACKS, DATABASE_LIMIT


@pytest.fixture(scope="module")
def reserved(made: Path, signs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of drawn signs, continued with a reserve."""
    folder = tmp_path_factory.mktemp("reserved") / "db"
    shutil.copytree(made, folder)
    build(folder, _plan(signs), workers=1)
    return folder


def _plan(signs: Path) -> Plan:
    return Plan(f"folder:{signs}", "default", DATABASE_ATTACKS, DATABASE_LIMIT, reserve=8)


def test_the_reserve_is_further_images_that_are_not_attacked(reserved: Path, made: Path, signs: Path) -> None:
    """Added later or from the start, the same further images; what was there stays byte for byte."""
    before, after = Database(made), Database(reserved)

    assert after.card.normal == before.card.normal and after.card.normal_shard == before.card.normal_shard
    assert len(after.reserve) == len(after.reserve_entries) == 8 and after.reserve.shape[1:] == after.normal.shape[1:]
    taken = {entry.source for entry in after.card.normal}
    assert not taken & {entry.source for entry in after.reserve_entries}
    assert after.info()["attempted"] == before.info()["attempted"]
    assert after.info()["reserve"] == 8 == sum(after.info()["reserve_splits"].values())
    at_once = reserved.parent / "at-once"
    build(at_once, replace(_plan(signs), attacks=("fgsm",)), workers=1)
    assert Database(at_once).card.reserve == after.card.reserve


def test_a_card_without_a_reserve_is_as_it_was(made: Path) -> None:
    """Nothing of it in the file, so versions of before read it; and this one reads theirs."""
    assert "reserve" not in json.loads((made / "card.json").read_text())
    assert Database(made).reserve.shape == (0, 48, 48, 3)
    assert Database(made).info()["reserve"] == 0


def test_groups_are_in_one_split_with_their_reserve(reserved: Path) -> None:
    """No group has images in two splits, attacked and reserve taken together."""
    splits: dict[int, set[str]] = {}
    for entry in normal_entries(Database(reserved)):
        splits.setdefault(entry.group, set()).add(entry.split)

    assert all(len(names) == 1 for names in splits.values())


def test_another_reserve_is_refused_and_none_keeps_it(reserved: Path, signs: Path) -> None:
    """A reserve of another size would be another database; a run that names none leaves it."""
    with pytest.raises(UsageError, match="--reserve 8, not 9"):
        build(reserved, replace(_plan(signs), reserve=9), workers=1)
    build(reserved, replace(_plan(signs), reserve=0), workers=1)
    assert len(Database(reserved).reserve) == 8


def test_nothing_left_to_reserve(signs: Path, tmp_path: Path) -> None:
    """All images are attacked: the error says what to change, and no database is begun."""
    with pytest.raises(DataError, match="no further images"):
        build(tmp_path / "db", replace(_plan(signs), limit=1000, attacks=("fgsm",)), workers=1)


def test_verify_finds_a_damaged_reserve(reserved: Path, signs: Path, tmp_path: Path) -> None:
    """One changed byte is found; repaired, the reserve is gone until it is made again, and then the same."""
    folder = tmp_path / "db"
    shutil.copytree(reserved, folder)
    card = Database(folder).card
    assert card.reserve is not None and Database(folder).verify() == []
    path = folder / "shards" / f"{card.reserve.shard}.npz"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)

    faults = Database(folder).verify(repair=True)
    assert len(faults) == 1 and "reserve" in faults[0]
    assert Database(folder).verify() == [] and Database(folder).card.reserve is None
    build(folder, _plan(signs), workers=1)
    assert Database(folder).card.reserve == card.reserve and Database(folder).verify() == []


def test_export_tells_the_reserve_apart(reserved: Path, tmp_path: Path) -> None:
    """It is in the table as what it is, and in a folder of its own."""
    result = CliRunner().invoke(app, ["database", "export", str(reserved), str(tmp_path / "out")])

    assert result.exit_code == 0, result.output
    lines = (tmp_path / "out" / "index.csv").read_text().splitlines()
    assert sum(",reserve," in line for line in lines) == 8 == len(list((tmp_path / "out" / "reserve").iterdir()))


def test_what_was_fitted_is_never_calibrated_on(reserved: Path) -> None:
    """Of the train split nothing, attacked or reserve, is left; of another data set's detector everything but what is
    judged; where a detector doesn't say, the train split is left out and that is noted."""
    database = Database(reserved)
    entries = normal_entries(database)
    fitted = seen(database, ("train",))
    other = fitted.model_copy(update={"dataset": "gtsrb"})

    where, note = calibration_mask(database, [("statistics", fitted)], ["eval"])
    assert {entry.split for entry, here in zip(entries, where, strict=True) if here} == {"dev"} and not note
    where, note = calibration_mask(database, [("statistics", other)], ["eval"])
    assert {entry.split for entry, here in zip(entries, where, strict=True) if here} == {"train", "dev"} and not note
    where, note = calibration_mask(database, [("statistics", None)], ["eval"])
    assert {entry.split for entry, here in zip(entries, where, strict=True) if here} == {"dev"}
    assert "statistics doesn't say" in note


def test_groups_are_numbered_by_data_set() -> None:
    """A track of GTSRB's training images is the same in each part made of them, and none of its test images."""
    data = DatasetEntry(spec="gtsrb", part="kept-out", name="", classes=43, licence="", citation="")
    entries = [
        NormalImage(source="", index=0, group=group, split="dev", label=0, top5=(0,)) for group in (10048, 10049, 7)
    ]
    of_train = Seen(dataset="gtsrb", part="train", groups="10048")
    of_test = Seen(dataset="gtsrb", part="test", groups="7 10049")

    assert unseen(entries, [of_train, of_test], data).tolist() == [False, True, True]


def test_a_detector_is_not_judged_by_what_it_was_fitted_to(reserved: Path) -> None:
    """Judging the train split, or all, of the database that a detector learnt from is an error that names both."""
    database = Database(reserved)
    bundle = _claiming(load_bundle(fused_bundle()), seen(database, ("train",)))

    with pytest.raises(DataError, match="the detector confidence was fitted to"):
        evaluate_on_database(bundle, database, open_classifier("default"), "all")


def test_calibration_and_judged_images_share_no_group(reserved: Path, tmp_path: Path) -> None:
    """The same images in another folder are found out; and judging all needs another database for the thresholds."""
    shutil.copytree(reserved, tmp_path / "copy")
    database, classifier = Database(reserved), open_classifier("default")
    bundle = load_bundle(fused_bundle())

    with pytest.raises(DataError, match="judged groups are also among those of --calibration"):
        evaluate_on_database(bundle, database, classifier, "train,dev", Database(tmp_path / "copy"))
    with pytest.raises(DataError, match="name another database for them with --calibration"):
        evaluate_on_database(bundle, database, classifier, "all")


def test_thresholds_of_another_database(reserved: Path, tmp_path: Path) -> None:
    """All is judged, reserve included, with thresholds on another data set's normal images; the summary says so, and
    the thresholds are those of these images' scores."""
    other = tmp_path / "other"
    shutil.copytree(reserved, other)
    card = json.loads((other / "card.json").read_text())
    card["dataset"]["spec"] = "folder:others"
    (other / "card.json").write_text(json.dumps(card))
    database = Database(reserved)

    found = evaluate_on_database(
        load_bundle(fused_bundle()), database, open_classifier("default"), "all", Database(other)
    )

    assert found.summary["normal"]["n"] == DATABASE_LIMIT + 8
    told = found.summary["about"]["calibration"]
    kept = [entry for entry in normal_entries(database) if entry.split != "eval"]
    assert (told["other_database"], told["dataset"], told["images"]) == (True, "folder:others", len(kept))
    where = np.array([entry.split != "eval" for entry in normal_entries(database)])
    scores = found.scores["stability"]
    assert np.array_equal(np.sort(scores.calibration), np.sort(scores.normal[where]))
    assert any("too few for 1 %" in note for note in found.summary["about"]["notes"])


def test_the_manifest_says_what_thresholds_were_set_on(reserved: Path, tmp_path: Path) -> None:
    """`lab calibrate --database` takes the reserve too, keeps the judged split out and names the groups; a judge who
    comes with these groups is told."""
    arguments = ["calibrate", "--classifier", "default", "--database", str(reserved), "--out", str(tmp_path / "bundle")]
    result = CliRunner().invoke(app, [*arguments, "--false-positive-rate", "0.2", "--judged", "dev,eval"])
    assert result.exit_code == 0, result.output

    bundle, database = load_bundle(tmp_path / "bundle"), Database(reserved)
    kept = [entry for entry in normal_entries(database) if entry.split == "train"]
    calibration = bundle.manifest.calibration
    assert calibration.images == len(kept) and calibration.seen is not None
    assert calibration.seen.groups.split() == [str(group) for group in sorted({entry.group for entry in kept})]
    assert calibration.seen.database == database.card.normal_shard
    notes = evaluate_on_database(bundle, database, open_classifier("default"), "train").summary["about"]["notes"]
    assert any("own thresholds were set on benign images" in note for note in notes)
    notes = evaluate_on_database(bundle, database, open_classifier("default"), "dev").summary["about"]["notes"]
    assert not any("own thresholds" in note for note in notes)


@pytest.mark.parametrize(("text", "expected"), [("all", 3), ("eval,dev", 2), ("dev", 1)])
def test_splits_by_name(text: str, expected: int) -> None:
    """One, several or all, always in the same order."""
    splits = named_splits(text)
    assert len(splits) == expected and list(splits) == [name for name in ("train", "dev", "eval") if name in splits]


@pytest.mark.parametrize("text", ["", "test", "dev,test"])
def test_unknown_splits(text: str) -> None:
    """The error lists what there is."""
    with pytest.raises(UsageError, match="train, dev, eval"):
        named_splits(text)


def test_a_detector_that_does_not_say_is_noted(reserved: Path) -> None:
    """Bundles of before have no record: judged on the train split, that is said first; on others nothing is."""
    bundle, database = load_bundle(fused_bundle()), Database(reserved)
    specs = tuple(
        spec.model_copy(update={"parameters": {**spec.parameters, "file": "old.onnx"}, "fitted": None})
        for spec in bundle.manifest.detectors
    )
    old = replace(bundle, manifest=bundle.manifest.model_copy(update={"detectors": specs, "fusion": None}))

    notes = protocol_of(old, database, ("train",)).notes
    assert f"{', '.join(spec.name for spec in specs)} doesn't say what it was fitted to, so that judged" in notes[0]
    assert not any("judged images of the train split" in note for note in protocol_of(old, database, ("eval",)).notes)


def test_attacks_that_give_themselves_away_are_noted(reserved: Path) -> None:
    """An attack that stops at a probability leaves just that behind, for a confidence detector to know it by."""
    database = Database(reserved)
    assert not any(
        "stop as soon as" in note for note in protocol_of(load_bundle(fused_bundle()), database, ("eval",)).notes
    )

    aimed = {**database.card.attacks["fgsm"], "criterion": {"kind": "Target", "probability": 0.99}}
    database.card = database.card.model_copy(update={"attacks": {**database.card.attacks, "fgsm": aimed}})

    notes = protocol_of(load_bundle(fused_bundle()), database, ("eval",)).notes
    assert any(note.startswith("fgsm stop as soon as") for note in notes)


def _claiming(bundle: Bundle, record: Seen) -> Bundle:
    """The bundle with a detector that says that it was fitted to something, as trained ones do."""
    specs = tuple(
        spec.model_copy(update={"fitted": record}) if spec.name == "confidence" else spec
        for spec in bundle.manifest.detectors
    )
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"detectors": specs}))
