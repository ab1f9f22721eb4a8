"""A promised rate holds on another processor: margins around thresholds, measured and put to the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firewall import Firewall
from firewall.bundle import Bundle, FusionSpec, load_bundle, write_bundle
from firewall.bundle.numerics import FUSED, Measurement, Numerics
from firewall.decision.fusion import Fusion, excess_of, shares_of
from firewall.decision.policy import Policy
from firewall.decision.tracks import running_sums
from firewall.detectors import Network, build
from firewall.engines import Engine, OnnxRuntimeEngine, OnnxRuntimeNetwork
from firewall.frame import Pixels
from firewall.lab.calibration.fusion_fit import rise, with_early_exits, with_margin, with_threshold
from firewall.lab.calibration.settings import BenignImages, CalibrationSettings
from firewall.lab.calibration.thresholds import calibrate
from firewall.lab.calibration.tracks import calibrate_tracks
from firewall.lab.measurement.numerics import VARIED, Arithmetic, Batched, Rescored, leeway, sampled
from firewall.lab.measurement.torch_engine import on_torch
from tests.lab.calibration.test_fusion_fit import NAMES, fit, table
from tests.lab.evaluation.test_over_time import sightings

RATE = 0.1
COUNT = 40


@pytest.fixture(scope="module")
def images(signs: Path) -> list[Pixels]:
    """The drawn signs, each in a brighter or darker picture too: no two scores are the same."""
    found = []
    for number, path in enumerate(sorted(signs.rglob("*.png"))):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"), np.float64)
        found += [np.clip(pixels * factor + number % 7, 0, 255).astype(np.uint8) for factor in (0.8, 1.1)]
    return found[:COUNT]


@pytest.fixture(scope="module")
def calibrated(images: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    loaded = load_bundle()
    spec = loaded.manifest.classifier
    out = tmp_path_factory.mktemp("calibrated") / "bundle"
    names = ["confidence", "stability", "agreement"]
    return calibrate(
        spec, loaded.files[spec.file], BenignImages(images, "drawn signs"), out, CalibrationSettings(names, rate=RATE)
    )


def _guard(bundle: Bundle, how: Arithmetic | None) -> Firewall:
    """The edge with other arithmetic; None: torch's."""
    engine: Engine
    networks: dict[str, Network]
    wanted = [str(spec.parameters["file"]) for spec in bundle.manifest.detectors if "file" in spec.parameters]
    if how is None:
        found = on_torch(bundle.manifest.classifier, wanted, bundle.files)
        assert found is not None
        engine, networks = found
    else:
        engine = Batched(OnnxRuntimeEngine(bundle, threads=how.threads, optimisation=how.optimisation), how.batch)
        networks = {
            file: OnnxRuntimeNetwork(bundle.files[file], file, threads=how.threads, optimisation=how.optimisation)
            for file in wanted
        }
    guard = Firewall(bundle, engine, threads=1)
    order = [detector.name for detector in guard.detectors]
    specs = {spec.name: spec for spec in bundle.manifest.detectors}
    guard.detectors = [build(specs[name], networks.__getitem__) for name in order]
    return guard


@pytest.mark.parametrize("how", [*VARIED, None], ids=str)
def test_the_promised_rate_holds_with_other_arithmetic(
    calibrated: Bundle, images: list[Pixels], how: Arithmetic | None
) -> None:
    """Other graphs, threads and batches, and another library: no more of the calibration images is withheld than the
    bundle says."""
    guard = _guard(calibrated, how)

    withheld = np.mean([not guard.screen(image).released for image in images])

    assert withheld <= calibrated.manifest.calibration.rates["withheld on calibration images"] <= RATE


def test_scores_moved_by_the_stated_margin_change_no_promise(calibrated: Bundle, images: list[Pixels]) -> None:
    """Every score up by its margin, or by chance up or down; without the margin the first would break the promise."""
    assert calibrated.manifest.numerics is not None
    margin = calibrated.manifest.numerics.margin
    guard = Firewall(calibrated, OnnxRuntimeEngine(calibrated, threads=1), exhaustive=True, threads=1)
    scores = [guard.screen(image).scores for image in images]
    bare = Policy({spec.name: spec.threshold - margin[spec.name] for spec in calibrated.manifest.detectors})
    generator = np.random.default_rng(0)

    def withheld(policy: Policy, sign: str) -> float:
        moved = [
            {
                name: score + margin[name] * (1.0 if sign == "up" else generator.uniform(-1, 1)) * 0.999
                for name, score in row.items()
            }
            for row in scores
        ]
        return float(np.mean([not policy.judge(row).released for row in moved]))

    promised = calibrated.manifest.calibration.rates["withheld on calibration images"]
    assert withheld(guard.policy, "up") <= promised <= RATE
    assert max(withheld(guard.policy, "random") for _ in range(5)) <= promised
    assert withheld(bare, "up") > promised


def test_the_manifest_states_margins_that_are_small_against_the_scores(calibrated: Bundle) -> None:
    """By score, with what they were measured on; the spread of normal scores is many times as large."""
    numerics = calibrated.manifest.numerics

    assert numerics is not None and set(numerics.margin) == {"confidence", "stability", "agreement"}
    assert all(0 < margin < 1e-3 for margin in numerics.margin.values())
    assert len(numerics.measured.variants) == len(VARIED) + 1 and numerics.measured.variants[-1].startswith("torch")
    assert numerics.measured.images >= 40 and numerics.measured.largest["confidence"] > 0
    result = subprocess.run(
        [sys.executable, "-m", "firewall", "bundle", "show", str(calibrated.path)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "400"},
    )
    assert any("other arithmetic" in line and "stability" in line for line in result.stdout.splitlines())
    assert numerics.measured.median["confidence"] <= numerics.measured.largest["confidence"]


def test_a_bundle_without_margins_loads_and_says_nothing_of_them(tmp_path: Path) -> None:
    """Older manifests are read, and what a version before this one could read is written as before."""
    loaded = load_bundle()
    fields = {name: getattr(loaded.manifest, name) for name in type(loaded.manifest).model_fields if name != "files"}

    plain = write_bundle(tmp_path / "plain", loaded.files, **{**fields, "numerics": None})
    measured = Measurement(variants=("none",), images=1, largest={"confidence": 1e-6})
    told = Numerics(margin={"confidence": 4e-6}, measured=measured)
    with_margin_ = write_bundle(tmp_path / "told", loaded.files, **{**fields, "numerics": told})

    assert plain.manifest.numerics is None and "numerics" not in (tmp_path / "plain" / "manifest.json").read_text()
    assert with_margin_.manifest.numerics == told and "confidence 4e-06" in told.line()


@pytest.mark.parametrize("rule", ["sum", "squares", "logistic-squares"])
def test_a_fused_sum_never_rises_by_more_than_was_left_for_it(rule: str) -> None:
    """Scores of images at or below the threshold, each moved by up to its spread: none is withheld. Without the margin
    the image that the threshold lies on is."""
    data = table()
    bare = with_threshold(fit(data, rule), data.normal, data.tracks, 0.05)
    spread = {"sharp": 1e-4, "noise": 1e-5, "blunt": 3e-4}
    margin = {**spread, FUSED: rise(bare, bare.threshold, spread) + 1e-9}
    spec = with_margin(bare, margin)
    generator = np.random.default_rng(1)
    before = excess_of(bare, data.normal) > 0
    up = np.array([spread[name] for name in NAMES])

    for moved in (data.normal + up, *(data.normal + up * generator.uniform(-1, 1, (20, 1, 3)))):
        assert not (excess_of(spec, moved) > 0)[~before].any()
        rows = [dict(zip(NAMES, map(float, row), strict=True)) for row in moved[~before]]
        assert all(Fusion(spec).excess(row) <= 0 for row in rows)
    assert (excess_of(bare, data.normal + up) > 0)[~before].any()


def test_an_early_release_leaves_its_margin_on_the_safe_side() -> None:
    """Attacked images lower by the spread of each score: none leaves early that doesn't leave early here."""
    data = table()
    bare = with_threshold(fit(data, "squares"), data.normal, data.tracks, 0.05)
    spread = dict.fromkeys(NAMES, 1e-3)
    without = with_early_exits(bare, data, 0.02)
    spec = with_early_exits(bare, data, 0.02, spread)

    def early(found: FusionSpec, scores: np.ndarray) -> np.ndarray:
        partial = shares_of(found, scores).cumsum(axis=1)
        limits = np.array([-np.inf if term.release_below is None else term.release_below for term in found.terms])
        left: np.ndarray = (partial < limits).any(axis=1)
        return left

    assert any(term.release_below is not None for term in spec.terms)
    for scores in (data.normal, *data.attacks.values()):
        assert not (early(spec, scores - 1e-3) & ~early(without, scores)).any()


def test_the_limit_of_a_score_that_jumps_gets_no_more_than_was_seen_beyond_it() -> None:
    """An image that jumps from far below to the limit costs nothing; one that jumps over it is kept; what jumped while
    its classes changed places is not taken for rounding."""
    base = {"agreement": np.array([0.0, 0.125, 0.1875, 0.5])}
    varied = {"agreement": np.array([[0.1875, 0.125, 0.25, 0.5]])}
    reordered = np.array([[True, False, True, False]])
    found = Rescored(("a variant",), ("agreement",), base, varied, reordered[0], reordered)

    assert found.spread("agreement") == 0.0
    assert found.margin("agreement", 0.1875) == pytest.approx(0.0625)
    assert found.margin("agreement", 0.125) == pytest.approx(0.0625)
    assert found.margin("agreement", 0.25) < 1e-8
    assert found.numerics({"agreement": 0.0625}).measured.flips == 2


def test_images_below_a_limit_are_scored_again_whatever_their_place() -> None:
    """Those next below each limit, and the limit's own; the others are spread over all; few images are all taken."""
    scores = np.random.default_rng(0).permutation(1000).astype(np.float64)

    places = sampled(1000, [(scores, 700.0)])

    assert {700.0, 699.0, 695.0} <= set(scores[places].tolist()) and len(places) < 100
    assert {0, 999} <= set(places.tolist())
    assert sampled(3, [(scores[:3], 2000.0)]).tolist() == [0, 1, 2]


def test_the_limit_of_a_track_leaves_the_margin_of_each_frame() -> None:
    """Every frame of every normal track more suspicious by the margin: no sum that was within the limit leaves it."""
    tracks = sightings(60)
    spec = calibrate_tracks(tracks, 0.05, margin=1e-3)
    bare = calibrate_tracks(tracks, 0.05)
    without = 0
    for track in tracks:
        before = running_sums(spec, track.suspicion, track.label)[0].max() > bare.limit
        after = running_sums(spec, track.suspicion + 1e-3, track.label)[0].max()
        assert before or after <= spec.limit
        without += bool(after > bare.limit and not before)

    assert without > 0


def test_a_margin_is_never_nothing() -> None:
    """Sums of float64 numbers differ in their last digits even where no network's answer does."""
    same = np.array([1.0, 2.0])

    assert 0 < leeway(0.0, same, same[None], 2.0) < 1e-8
    assert leeway(0.5, same, same[None], 2.0) == 0.5
