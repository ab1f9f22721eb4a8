"""Too few images, tracks or groups: what was asked, why it is split, what is needed, which rate these can promise."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from firewall import Firewall, cli
from firewall.errors import DataError
from firewall.frame import Pixels
from firewall.lab.calibration.settings import BenignImages, CalibrationSettings
from firewall.lab.calibration.thresholds import calibrate, check_enough
from firewall.lab.calibration.tracks import Sighting, calibrate_tracks
from firewall.lab.evaluation.drift import drift_spec
from firewall.lab.measurement.conformal import conformal_threshold, least_rate, needed_tracks, track_threshold
from firewall.lab.measurement.screened import Screened
from tests.lab.swept_images import swept_images

NAMES = ("agreement", "stability", "confidence")


@given(st.integers(1, 20_000), st.integers(1, 7))
def test_the_rate_that_is_offered_can_be_promised_and_is_hardly_higher_than_needed(count: int, shares: int) -> None:
    """Asked for it, the same images are enough; for 2 % less they aren't."""
    rate = least_rate(count, shares)
    if rate is None:
        assert shares / (count + 1) > 0.98
        return
    assert needed_tracks(rate / shares) <= count < needed_tracks(rate / shares / 1.02)
    assert np.isfinite(conformal_threshold(np.arange(float(count)), rate / shares))


@pytest.mark.parametrize("shares", [2, 3, 6, 7])
def test_as_many_as_are_needed_are_enough(shares: int) -> None:
    """A third of 1 % is no binary fraction: the 299 images that the message asks for were one too few."""
    share = 0.01 / shares
    assert conformal_threshold(np.arange(float(needed_tracks(share))), share) == needed_tracks(share) - 1


def test_two_hundred_images_for_three_detectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says that 1 % was asked, that three detectors share it and why, that 299 images are needed, and that
    200 can promise 1.5 %; asked for that, the same images are enough."""
    folder = tmp_path / "benign"
    folder.mkdir()
    for number in range(200):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    command = ["lab", "calibrate", "--classifier", "default", "--images", str(folder), "--out", str(tmp_path / "b")]
    assert cli.run(cli.app, [*command, "--detectors", ",".join(NAMES)], "firewall") == 1
    told = capsys.readouterr().err
    for words in (
        "--false-positive-rate 0.01 is shared out evenly among 3 detectors (agreement, stability, confidence)",
        "since each of them can withhold",
        "needs at least 299 benign images, got 200",
        "200 can promise 0.015: ask for --false-positive-rate 0.015, or take 99 more, or name fewer detectors",
    ):
        assert words in told
    check_enough(200, 0.015, NAMES)
    assert not (tmp_path / "b").exists()


def test_images_that_the_classifier_gets_wrong_are_counted() -> None:
    """Who named 150 images, of which 90 are left, is told where the others went."""
    with pytest.raises(DataError, match=r"got 90 .the classifier gets 60 of 150 wrong.*; 90 can promise 0.011"):
        check_enough(90, 0.01, ["confidence"], " (the classifier gets 60 of 150 wrong, and these are left out)")


def sightings(count: int) -> list[Sighting]:
    """Normal tracks of five frames."""
    draw = np.random.default_rng(0)
    frames, none = np.zeros(5, np.int64), np.zeros(5, bool)
    return [Sighting(track, draw.normal(-3, 1, 5), frames, ~none, none) for track in range(count)]


def test_tracks_say_so() -> None:
    """Of `lab tracks`: tracks, its own option, and that a half of them judges the other."""
    with pytest.raises(
        DataError, match=r"--rate 0.05 needs at least 19 benign tracks, got 15 in a half of the 30.*0.0625"
    ):
        calibrate_tracks(sightings(15), 0.05, note=" in a half of the 30: each half is judged")
    assert calibrate_tracks(sightings(15), 0.0625).tracks == 15


def test_a_fusion_says_which_rate_was_too_low() -> None:
    """Of `lab fuse`: the rate of shifts has an option of its own, and each message offers a rate that then works."""
    scores, tracks = np.arange(40.0), np.repeat(np.arange(20), 2)
    for option in ("--false-positive-rate", "--shift-rate"):
        with pytest.raises(
            DataError, match=f"{option} 0.01 needs at least 99 tracks of benign images, got 20"
        ) as caught:
            track_threshold(scores, tracks, 0.01, option=option)
        offered = re.search(r"ask for \S+ (\S+),", str(caught.value))
        assert offered is not None and np.isfinite(track_threshold(scores, tracks, float(offered[1])))


def test_one_track_can_promise_nothing_below_a_half() -> None:
    """The smallest counts: 1 track promises 50 %; 1 image shared by two detectors nothing."""
    with pytest.raises(DataError, match=r"1 can promise 0.5"):
        track_threshold(np.zeros(3), np.zeros(3, np.int64), 0.01)
    with pytest.raises(DataError, match="1 can promise no rate, or take 198 more"):
        check_enough(1, 0.01, ["agreement", "confidence"])


def test_a_reference_of_drift_says_what_to_name(tmp_path: Path) -> None:
    """Nine tracks for the monitor: how many are needed, and what to name."""
    nine = Screened(np.zeros(9), np.zeros(9, np.int64), np.ones(9, bool), {})
    with pytest.raises(DataError, match=r"needs at least 10 tracks of benign images, got 9.*--database"):
        drift_spec(nine, 3)


def test_a_split_without_attacked_images_says_how_many_it_has() -> None:
    """Of `lab train correction` and the detectors of labels: which split, how many of each kind, what to do."""
    swept = swept_images(normals=24)
    swept.require("db", normal=("train", "dev", "eval"), adversarial=("train", "dev", "eval"))
    few = swept.subset((swept.split != "dev") | ~swept.adversarial)
    with pytest.raises(DataError, match=r"db has 4 normal and 0 attacked images in its split 'dev'.*--limit"):
        few.require("db", normal=("train", "dev", "eval"), adversarial=("dev",))
    few.require("db", normal=("train", "dev", "eval"), adversarial=("eval",))


def test_labels_that_the_classifier_hardly_ever_gives(
    guard: Firewall, benign_sign: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Thirty labelled images of which the classifier gets none, or five, right: told in words, no traceback."""
    entry = guard.bundle.manifest.classifier
    content, right = guard.bundle.files[entry.file], guard.screen(benign_sign).suspected_label
    assert right is not None
    for hits in (0, 5):
        labels = np.array([right] * hits + [right + 1 if right < 42 else 0] * (30 - hits), np.int64)
        with pytest.raises(DataError, match=f"got {hits} .the classifier gets {30 - hits} of 30 wrong"):
            calibrate(
                entry,
                content,
                BenignImages([benign_sign] * 30, "-", labels),
                tmp_path / "b",
                CalibrationSettings(["confidence", "agreement"], rate=0.2),
            )
        assert f"right on {hits} of 30 labelled images" in capsys.readouterr().err
