"""What a user can get wrong between database, detectors and bundle: one line each, and the right exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from firewall import cli
from firewall.lab.cli import app
from firewall.lab.database import Database


def lab(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and the one line that a user sees."""
    code = cli.run(app, [str(argument) for argument in arguments], "firewall lab")
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("firewall: error: ")]
    assert len(errors) == 1, "one line, once"
    return code, errors[0]


def altered(made: Path, folder: Path, **changes: Any) -> Path:
    """A copy of the database with another card."""
    shutil.copytree(made, folder)
    card = json.loads((folder / "card.json").read_text())
    for key, value in changes.items():
        card[key] = {**card[key], **value} if isinstance(value, dict) and value else value
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def foreign(made: Path, tmp_path: Path) -> Path:
    """A database of another classifier."""
    return altered(made, tmp_path / "foreign", classifier={"sha256": "f" * 64, "name": "another"})


def test_a_database_of_another_classifier(foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To judge by, for thresholds of a judgement, to calibrate on and to train on: refused, and both are named."""
    code, line = lab(capsys, "evaluate", "--database", foreign)
    assert code == 1 and "another" in line and "ffffffffffff" in line
    code, line = lab(capsys, "calibrate", "--classifier", "default", "--database", foreign, "--out", tmp_path / "b")
    assert code == 1 and "another classifier" in line and "ffffffffffff" in line and not (tmp_path / "b").exists()
    code, line = lab(capsys, "train", "statistics", "--database", foreign, "--out", tmp_path / "d")
    assert code == 1 and "was made on the classifier another" in line


@pytest.mark.parametrize("detector", ["statistics", "residual", "image-cnn"])
def test_a_training_set_of_one_class(
    made: Path, tmp_path: Path, detector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without attacked images there is nothing to learn: said before anything is trained."""
    peaceful = altered(made, tmp_path / "peaceful", attacks={})
    assert not Database(peaceful).card.attacks

    code, line = lab(capsys, "train", detector, "--database", peaceful, "--out", tmp_path / "d")

    lacking = "0 attacked images" if detector == "statistics" else "no adversarial images"
    assert code == 1 and lacking in line and "attack more images" in line


@pytest.mark.parametrize("rate", ["0", "1", "-0.5", "1.5", "nan"])
def test_a_rate_that_is_no_share(made: Path, tmp_path: Path, rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A false-positive rate lies between 0 and 1; no bundle is written."""
    arguments = ("--classifier", "default", "--database", made, "--out", tmp_path / "b", "--false-positive-rate", rate)
    code, line = lab(capsys, "calibrate", *arguments)

    assert code == 2 and "between 0 and 1" in line and rate in line and not (tmp_path / "b").exists()


def test_a_rate_that_the_images_can_not_tell(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One in a thousand can't be told from a few dozen images: the error says how many it takes."""
    arguments = ("--database", made, "--out", tmp_path / "b", "--detectors", "confidence")
    code, line = lab(capsys, "calibrate", "--classifier", "default", *arguments, "--false-positive-rate", "0.001")

    assert code == 1 and "at least 999 benign images" in line


def test_images_smaller_than_the_residuals_small_image(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """48 pixels at a rate that leaves less than one: the size and the rate are named."""
    arguments = ("--database", made, "--out", tmp_path / "d", "--rate", "0.9999")
    code, line = lab(capsys, "train", "residual", *arguments)

    assert code == 2 and "--rate 0.9999" in line and "48x48" in line


@pytest.mark.parametrize("option", [("--split", "test"), ("--split", ""), ("--judged", "some")])
def test_unknown_splits(
    made: Path, tmp_path: Path, option: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """They are listed, under the option's own name."""
    rest = ("--classifier", "default", "--out", tmp_path / "b") if option[0] == "--judged" else ()
    code, line = lab(capsys, "calibrate" if rest else "evaluate", "--database", made, *option, *rest)

    assert code == 2 and line.startswith(f"firewall: error: {option[0]} must be one of train, dev, eval")


def test_options_that_need_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On-the-spot attacks have no page, no other calibration and no shifts."""
    for option in (("--shift",), ("--calibration", tmp_path), ("--html", tmp_path / "page.html")):
        code, line = lab(capsys, "evaluate", "--gtsrb", tmp_path, *option)
        assert code == 2 and "need --database" in line


def test_a_leave_one_out_file_of_another_form(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A list is no table of detectors: said before anything is measured."""
    (tmp_path / "l.json").write_text("[1, 2]")
    code, line = lab(capsys, "evaluate", "--database", made, "--leave-one-out", tmp_path / "l.json")

    assert code == 1 and "detector -> attack" in line


@pytest.mark.parametrize("option", ["--scenes", "--batch", "--average"])
def test_options_of_another_architecture(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What only the sign classifier's training knows is refused for others, not ignored."""
    arguments = ["train", "classifier", "--architecture", "lenet", "--out", tmp_path / "c", option, "2"]
    code, line = lab(capsys, *(arguments if option != "--average" else [*arguments[:-1], "0.5"]))
    assert code == 2 and option in line and "lenet" in line and not (tmp_path / "c").exists()
