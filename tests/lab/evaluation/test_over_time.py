"""Limits of tracks and the reference of the drift monitor: set on normal tracks, judged on others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from firewall import Firewall
from firewall.bundle import Bundle, Seen, load_bundle
from firewall.decision.drift import DriftSpec
from firewall.decision.tracks import running_sums
from firewall.errors import DataError, UsageError
from firewall.lab.calibration.tracks import Sighting, calibrate_tracks, halves, in_tracks, usable_groups
from firewall.lab.database import Database
from firewall.lab.evaluation.drift import drift_spec, one_a_track, streams
from firewall.lab.evaluation.over_time import DriftSettings, TracksSettings, drift_report, tracks_report, with_file
from firewall.lab.evaluation.tracks import either, judge_tracks, rules
from firewall.lab.measurement.bundle_verdicts import judge_of
from firewall.lab.measurement.screened import Screened, screen_all
from firewall.lab.models import open_classifier
from firewall.service import TRACKS_FILE, over_time
from tests.fused_bundle import fused_bundle


def sightings(
    count: int, frames: int = 10, *, level: float = -0.8, hostile: bool = False, seed: int = 0
) -> list[Sighting]:
    """Tracks whose frames are alike: most of the noise is a track's own."""
    random = np.random.default_rng(seed)
    made = []
    for group in range(count):
        suspicion = level + 0.2 * random.normal() + 0.1 * random.normal(size=frames)
        label = np.full(frames, 3)
        made.append(Sighting(group, suspicion, label, suspicion <= 0, np.zeros(frames, bool)))
    return made


def screened(suspicion: np.ndarray, label: np.ndarray | None = None) -> Screened:
    labels = np.zeros(len(suspicion), np.int64) if label is None else label
    return Screened(suspicion, labels, suspicion <= 0, {"confidence": suspicion + 0.5})


def test_the_rate_of_new_tracks_is_the_one_asked_for() -> None:
    """Limits set on 60 tracks, a hundred times: on average at most a share of `rate` of further tracks goes above, and
    not far less, so that the limit isn't simply out of reach."""
    shares = []
    for seed in range(100):
        tracks = sightings(120, seed=seed)
        spec = calibrate_tracks(tracks[:60], 0.1)
        shares.append(np.mean([running_sums(spec, t.suspicion, t.label)[0].max() > spec.limit for t in tracks[60:]]))
    assert 0.06 < np.mean(shares) < 0.115  # the standard error is 0.005


def test_typical_is_the_median_and_unknown_frames_count_as_suspicious() -> None:
    """The scale comes from normal frames; NaN is no reason to look away."""
    tracks = sightings(40)
    spec = calibrate_tracks(tracks, 0.05)
    assert spec.typical == pytest.approx(np.median(np.concatenate([track.suspicion for track in tracks])))
    assert (spec.tracks, spec.false_alarm_rate) == (40, 0.05)
    assert calibrate_tracks(tracks, 0.05, flip=0.0, confirm=3).confirm == 3

    blind = [Sighting(t.group, np.full(10, np.nan), t.label, np.zeros(10, bool), t.hostile) for t in tracks]
    with pytest.raises(DataError, match="half of the frames of benign tracks have a suspicion of inf or more"):
        calibrate_tracks(blind, 0.05)


def test_too_few_tracks_and_wrong_rates_are_refused() -> None:
    """One line that says how many are needed."""
    with pytest.raises(DataError, match="needs at least 19 benign tracks, got 18"):
        calibrate_tracks(sightings(18), 0.05)
    with pytest.raises(UsageError, match=r"between 0 and 1, got 1\.5"):
        calibrate_tracks(sightings(18), 1.5)
    with pytest.raises(DataError, match="no benign tracks"):
        calibrate_tracks([], 0.05)
    with pytest.raises(DataError, match="1 benign tracks that no detector was fitted to can't be split"):
        halves([7])


def test_frames_come_into_their_tracks_in_order() -> None:
    """By the number in their name, whatever order and pack they came in; attacked frames keep their mark."""
    names = ("b/00007/00001_00002", "a/00007/00001_00000", "a/00009/00004_00000", "a/00007/00001_00001")
    found = screened(np.array([-0.2, -0.0, -0.9, -0.1]))
    first, second = in_tracks(found, [7, 7, 9, 7], names, np.array([True, False, False, True]))
    assert (first.group, second.group) == (7, 9)
    assert first.suspicion.tolist() == [0.0, -0.1, -0.2] and first.hostile.tolist() == [False, True, True]
    assert first.first(2).suspicion.tolist() == [0.0, -0.1]


def test_halves_share_no_track() -> None:
    """Both together are all; another seed is another split; the same is the same."""
    one, other = halves(range(51), seed=1)
    assert one | other == set(range(51)) and not one & other and len(one) == 26
    assert halves(range(51), seed=1) == (one, other) != halves(range(51), seed=2)


def test_rules_are_compared_at_equal_false_alarms() -> None:
    """Attacks whose frames are mostly just under the limit: tracks catch more of them than any limit for one frame that
    costs as many normal tracks; and never fewer than frames alone."""
    random = np.random.default_rng(5)
    normal = sightings(80, level=-0.9, seed=1)
    attacked = []
    for group in range(80):
        suspicion = -0.3 + 0.4 * random.normal(size=10)
        attacked.append(Sighting(group, suspicion, np.full(10, 8), suspicion <= 0, np.ones(10, bool)))
    chosen = rules(calibrate_tracks(normal, 0.05), normal)
    report = judge_tracks(chosen, normal, {"faint": attacked})

    alarms = {name: entry["a_track"]["value"] for name, entry in report["normal"].items()}
    assert alarms["frame, stricter"] <= alarms["tracks"] + 1 / 80
    of = {name: entry["all"] for name, entry in report["attacked"]["10 frames"].items()}
    for measure in ("withheld_at_last", "at_most_0_wrong", "at_most_1_wrong", "at_most_2_wrong"):
        assert of["tracks"][measure]["value"] >= of["frame"][measure]["value"]
        assert of["tracks, 3 frames"][measure]["value"] >= of["tracks"][measure]["value"]
    assert of["tracks"]["withheld_at_last"]["value"] > of["frame, stricter"]["withheld_at_last"]["value"] + 0.2
    best = of["tracks"]["withheld_at_last"]
    assert best["low"] < best["value"] <= best["high"] and best["n"] == 80
    assert set(report["attacked"]) == {"3 frames", "5 frames", "10 frames"}
    json.dumps(report)


def test_counts_of_wrong_labels_are_of_attacked_frames_that_were_released() -> None:
    """By hand: three frames, two of them attacked, one of these released."""
    track = Sighting(
        0,
        np.array([-1.0, -1.0, 1.0]),
        np.array([3, 8, 8]),
        np.array([True, True, False]),
        np.array([False, True, True]),
    )
    report = judge_tracks({"frame": lambda one: ~one.released}, [track], {"a": [track]})
    found = report["attacked"]["3 frames"]["frame"]["all"]
    assert [found[f"at_most_{k}_wrong"]["value"] for k in (0, 1, 2)] == [0, 1, 1]
    assert found["withheld_at_last"]["value"] == 1 and found["frames_withheld"] == pytest.approx(1 / 3)
    with pytest.raises(DataError, match="needed to judge"):
        judge_tracks({}, [track], {"a": []})


def test_each_half_is_judged_by_the_other() -> None:
    """`either` asks the rule that belongs to the track's half."""
    both = either({1}, {"r": lambda t: np.array([True])}, {"r": lambda t: np.array([False])})
    tracks = [Sighting(g, np.zeros(1), np.zeros(1, np.int64), np.ones(1, bool), np.zeros(1, bool)) for g in (1, 2)]
    assert [bool(both["r"](track)[0]) for track in tracks] == [True, False]


def with_detector(bundle: Bundle, fitted: Seen | None) -> Bundle:
    spec = bundle.manifest.detectors[0].model_copy(update={"parameters": {"file": "net.onnx"}, "fitted": fitted})
    return Bundle(bundle.path, bundle.manifest.model_copy(update={"detectors": (spec,)}), bundle.files, bundle.sha256)


def test_tracks_that_a_detector_was_fitted_to_take_no_part(made: Path) -> None:
    """Neither those that it names nor, where it names none, those of the train split."""
    database, bundle = Database(made), load_bundle(fused_bundle())
    everything = sorted({entry.group for entry in database.card.normal})
    assert usable_groups(bundle, database) == everything
    card = database.card.dataset
    seen = Seen(dataset=card.spec, part=card.part, groups=" ".join(map(str, everything[:5])))
    assert usable_groups(with_detector(bundle, seen), database, everything) == everything[5:]
    train = {entry.group for entry in database.card.normal if entry.split == "train"}
    assert not train & set(usable_groups(with_detector(bundle, None), database))


def test_a_specification_goes_into_a_bundle(tmp_path: Path) -> None:
    """As a file that the manifest hashes, beside all that was there; writing it again replaces it, also in place."""
    bundle, spec = load_bundle(fused_bundle()), calibrate_tracks(sightings(40), 0.05)
    written = with_file(bundle, tmp_path / "b", TRACKS_FILE, spec)
    assert over_time(load_bundle(tmp_path / "b"))[0] == spec
    assert written.manifest.detectors == bundle.manifest.detectors and set(written.files) >= set(bundle.files)
    other = spec.model_copy(update={"confirm": 3})
    assert over_time(with_file(written, tmp_path / "b", TRACKS_FILE, other))[0] == other


def test_a_database_gives_the_verdicts_of_the_edge(made: Path) -> None:
    """Suspicion, label and release are those of `firewall screen` on the same pixels."""
    guard, database = Firewall.load(fused_bundle(), threads=1), Database(made)
    images = database.normal[:6]
    found = screen_all(judge_of(load_bundle(fused_bundle()), open_classifier("default")), database, images, "six")
    verdicts = [guard.screen(image) for image in images]
    assert found.released.tolist() == [verdict.released for verdict in verdicts]
    assert found.label.tolist() == [verdict.suspected_label for verdict in verdicts]
    told = np.array([np.nan if verdict.suspicion is None else verdict.suspicion for verdict in verdicts])
    assert np.allclose(found.suspicion, told, atol=1e-4, equal_nan=True)


def test_a_report_on_a_small_database(made: Path) -> None:
    """Forty drawn signs, each by itself: a specification, normal tracks of both halves, and no attack long enough."""
    classifier, database = open_classifier("default"), Database(made)
    judge, settings = (
        judge_of(load_bundle(fused_bundle()), classifier),
        TracksSettings(every=False, rate=0.3, attacks=["deepfool"]),
    )
    spec, report = tracks_report(judge, classifier, database, settings=settings)
    groups = {entry.group for entry in database.card.normal}
    assert report["spec"]["limit"] == spec.limit and spec.tracks == len(groups)
    assert report["judged"]["db"]["normal"]["tracks"]["tracks"] == len(groups)
    json.dumps(report)
    with pytest.raises(UsageError, match="has no attack nonsense"):
        tracks_report(judge, classifier, database, settings=replace(settings, attacks=["nonsense"]))
    with pytest.raises(DataError, match="name another with --stream"):
        drift_report(judge, classifier, database, database, DriftSettings(every=False))


def test_one_frame_of_each_track() -> None:
    """Every group once, a place of its own, drawn by the seed."""
    groups = np.array([4, 4, 2, 4, 2, 9])
    places = one_a_track(groups, seed=0)
    assert groups[places].tolist() == [2, 4, 9]
    assert {tuple(one_a_track(groups, seed=seed).tolist()) for seed in range(30)} > {tuple(places.tolist())}


def test_a_stream_with_a_shift_is_told_from_one_without() -> None:
    """Delays count from the shift; a stream without one stays quiet; the reference survives its file."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 400)
    usual = screened(-1 + 0.3 * random.normal(size=400), labels)
    reference = screened(-1 + 0.3 * random.normal(size=100), random.integers(0, 5, 100))
    spec = drift_spec(reference, 5)
    assert DriftSpec.model_validate_json(spec.model_dump_json()) == spec and sum(spec.labels) == 100
    changed = {"dark": screened(usual.suspicion + 0.5, labels), "none": usual}

    report = streams(spec, usual, changed, before=100, repeats=3)

    assert report["none"]["spoke"] == 0 and report["shifts"]["none"]["found"] == 0
    dark = report["shifts"]["dark"]
    assert dark["found"] == 1 and 0 < dark["median_delay"] <= dark["longest_delay"] < 100
    assert set(dark["properties"]) <= {"suspicion", "confidence"} and dark["same_label"] == 1
    assert report["shifts"]["none"]["median_delay"] is None
    with pytest.raises(DataError, match=r"--before 400 needs more than 400 images .*--before 200"):
        streams(spec, usual, changed, before=400)
    with pytest.raises(DataError, match="at least 10"):
        drift_spec(reference.take(range(9)), 5)
