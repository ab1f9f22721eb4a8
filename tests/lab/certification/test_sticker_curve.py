"""The curve over tau of a set of masks: from one pass, the same as asking at each tau; the tau that is chosen; the
bundle that states it; and the page that shows it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from firewall import Firewall, cli
from firewall.bundle import PatchSpec, load_bundle
from firewall.bundle.stickers import PointSpec, resolved, stickers
from firewall.decision.dial import Dial
from firewall.decision.masking import masks_for
from firewall.decision.steps import kept_in_steps
from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.lab.certification.classifier import Subject
from firewall.lab.certification.harmless import harmless_side
from firewall.lab.certification.patches import certify_patches
from firewall.lab.certification.sticker_curve import TAUS, Row, chosen, point
from firewall.lab.cli import app
from firewall.lab.reports.certify import collect, write


class Linear:
    """A linear classifier of 12x12 pixels."""

    provider = "test"

    def __init__(self, seed: int) -> None:
        self.weights = np.random.default_rng(seed).normal(size=(432, 4)).astype(np.float32) / 300

    def classify(self, images: Pixels) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = (images.reshape(len(images), -1).astype(np.float32) - 128) @ self.weights
        return logits


def signs(seed: int, count: int = 12) -> list[tuple[int, Pixels, int]]:
    """Images near and far from the edge of another label, with labels that are mostly the classifier's."""
    generator, classify, made = np.random.default_rng(seed), Linear(0), []
    for index in range(count):
        image = np.clip(generator.normal(128, 20, (12, 12, 3)), 0, 255).astype(np.uint8)
        label = int(classify.classify(image[None]).argmax())
        slope = classify.weights[:, label].reshape(image.shape)
        image = np.clip(image + generator.choice([0, 3, 9]) * np.sign(slope), 0, 255).astype(np.uint8)
        made.append((index, image, label if generator.random() < 0.9 else (label + 1) % 4))
    return made


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_one_pass_counts_what_asking_at_each_tau_counts(seed: int) -> None:
    """Each point of the curve, against the edge's own `kept` and `shields` at that rule and tau."""
    subject, images = Subject(Linear(0), ("a", "b", "c", "d"), 12, 12, {}), signs(seed)
    found = certify_patches(subject, iter(images), len(images), 9 / 144, along=3, rounds=1)
    masks, classify = masks_for(12, 12, 9 / 144, 3), subject.engine.classify

    for told in found["summary"]["curve"]:
        dial, counts = Dial(told["rule"], told["tau"]), dict.fromkeys(told, 0)
        for _, image, label in images:
            predicted = int(classify(image[None]).argmax())
            kept = masks.kept(image, predicted, classify, 1, dial=dial)
            right = "right" if predicted == label else "wrong"
            counts[f"released_{right}"] += kept.holds is True
            counts[f"named_{right}"] += kept.holds is True and kept.certified
            counts["certified"] += dial.shields(masks.logits(image, classify), label)
        assert {**counts, "rule": dial.rule, "tau": dial.tau} == told
    assert len(found["summary"]["curve"]) == 1 + 2 * len(TAUS)


def test_the_page_tells_of_two_steps(tmp_path: Path) -> None:
    """Rule object with its fine masks and the images that they cost in the mean; rule agree without tau has none."""
    subject, images = Subject(Linear(0), ("a", "b", "c", "d"), 12, 12, {}), signs(1, 30)
    found: dict[str, Any] = certify_patches(subject, iter(images), len(images), 9 / 144, along=3, rounds=1, finer=2)
    (tmp_path / "dial.json").write_text(json.dumps(found))
    agree, object_ = collect(tmp_path)["promises"][:2]
    assert "in two steps (finer 2)" in object_["measured"] and "two steps" not in agree["measured"]
    mean = found["summary"]["images_asked"][-1]["mean"]
    assert mean > 9 and f"{mean:.0f} more images in the mean" in object_["cost"] and "; 9 more images" in agree["cost"]


@settings(deadline=None, max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from((2, 3)))
def test_one_pass_in_two_steps_counts_what_asking_at_each_tau_counts(seed: int, finer: int) -> None:
    """Against the edge's own two steps: what is released and called certified of the plain label; certified of the true
    one is what the mirrored rule releases. Images: as many as it took where nothing ended it early."""
    subject, images = Subject(Linear(0), ("a", "b", "c", "d"), 12, 12, {}), signs(seed)
    found = certify_patches(subject, iter(images), len(images), 9 / 144, along=3, rounds=1, finer=finer)
    masks, classify = masks_for(12, 12, 9 / 144, 3), subject.engine.classify

    for told in found["summary"]["curve"][1:]:
        dial, counts, seen = Dial(told["rule"], told["tau"]), dict.fromkeys(told, 0), list[int]()
        mirror = Dial("object" if dial.rule == "agree" else "agree", dial.tau)
        for _, image, label in images:
            predicted = int(classify(image[None]).argmax())
            kept = kept_in_steps(masks, finer, image, predicted, classify, dial)
            right = "right" if predicted == label else "wrong"
            counts[f"released_{right}"] += kept.holds is True
            counts[f"named_{right}"] += kept.holds is True and kept.certified
            counts["certified"] += kept_in_steps(masks, finer, image, label, classify, mirror).holds is True
            seen += [kept.seen] if kept.holds else []
        assert {**counts, "rule": dial.rule, "tau": dial.tau} == told
        asked = next(each for each in found["summary"]["images_asked"] if each["tau"] == dial.tau)
        assert max(seen, default=9) <= asked["worst"] <= 9 + 9 * finer**2 and 9 <= asked["mean"] <= asked["worst"]
        if len(seen) == len(images):
            assert (np.mean(seen), max(seen)) == (asked["mean"], asked["worst"])
    with pytest.raises(
        UsageError, match=r"finer masks are 2 to 6 along a side, in one round \(--rounds 1\); got 1 with 1"
    ):
        certify_patches(subject, iter(images), 1, 9 / 144, along=3, rounds=1, finer=1)


def test_the_lowest_tau_that_releases_enough_is_chosen() -> None:
    """A hundredth lower releases less; shares that are none, and ones that can't be had, are one line."""
    levels = [math.log(odds / (1 - odds)) for odds in np.linspace(0.505, 0.995, 50)]
    rows: list[Row] = [
        {"label": 1, "predicted": 1, "named": None, "against": level, "named_true": None, "against_true": level}
        for level in levels
    ]
    tau = chosen(rows, 0.8)
    lower, enough = (point(rows, Dial("object", each)).released_right for each in (tau - 0.01, tau))
    assert tau == 0.9 and enough == 40 > lower
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(UsageError, match="between 0 and 1"):
            chosen(rows, share)
    with pytest.raises(UsageError, match=r"no tau up to 0.99 releases 99.9% of the images: \d"):
        chosen([{**row, "label": -1} for row in rows], 0.999)


def test_masks_of_a_network_with_an_input_of_its_own_are_of_that_input() -> None:
    """The result says so, and images come to it from their own pixels."""
    seen = list[tuple[int, ...]]()

    class Watching(Linear):
        def classify(self, images: Pixels) -> npt.NDArray[np.float32]:
            seen.append(images.shape[1:])
            return super().classify(images)

    small = Linear(1)
    small.weights = np.zeros((8 * 8 * 3, 4), np.float32)
    subject = Subject(small, ("a", "b", "c", "d"), 8, 8, {}, Watching(0), (12, 12))
    images = [(0, np.random.default_rng(0).integers(0, 256, (30, 20, 3)).astype(np.uint8), 0)]
    found = certify_patches(subject, iter(images), 1, 9 / 144, along=3, rounds=1)
    assert found["about"]["input"] == [12, 12] and found["about"]["side"] == 3
    assert "3x3 pixels of the 12x12 input" in found["about"]["threat"] and set(seen) == {(12, 12, 3)}


def test_the_largest_harmless_sticker() -> None:
    """It is certified, and no larger square is; where nothing is certified it is 0."""
    subject, dial = Subject(Linear(0), ("a", "b", "c", "d"), 12, 12, {}), Dial("object", 0.5)
    sides = set()
    for _, image, label in signs(3, 30):
        side = harmless_side(subject, image, label, dial, along=3)
        sides.add(side)
        for larger in range(1, 7):
            masks = masks_for(12, 12, larger**2 / 144, 3)
            safe = dial.shields(masks.logits(image, subject.engine.classify), label)
            assert larger != side or safe
            assert larger <= side or not safe
    assert len(sides) > 2 and 0 in sides


@pytest.fixture
def folder(tmp_path: Path, benign_sign: Pixels) -> Path:
    """Two data sets of a folder for each of two classes: the given sign, a little changed each time."""
    generator, names = np.random.default_rng(0), load_bundle().manifest.classifier.labels
    for part, name in itertools.product(("these", "those"), names[:2]):
        place = tmp_path / part / name
        place.mkdir(parents=True)
        for index in range(2):
            noise = generator.integers(-3, 4, benign_sign.shape)
            Image.fromarray(np.clip(benign_sign + noise, 0, 255).astype(np.uint8)).save(place / f"{index}.png")
    return tmp_path


def lab(*options: str) -> int:
    return cli.run(app, ["certify", "patch", *options], "firewall lab")


def test_a_command_writes_curve_and_tau_into_a_bundle(
    folder: Path, tmp_path: Path, benign_sign: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chosen on other images, counted on these; another set of masks stands beside it, the same one is replaced; with
    --demand a guard asks for it without any setting. The bundle goes on as it was otherwise."""
    monkeypatch.setattr("firewall.lab.certification.sticker_curve.point", _as_if_right)
    out = tmp_path / "b"
    these = ["--dataset", f"folder:{folder / 'these'}", "--limit", "4", "--rounds", "1", "--masks", "2"]
    choose = ["--choose", "0.5", "--choose-on", f"folder:{folder / 'those'}"]
    shared = [*these, *choose, "--out", str(out), "--json", str(tmp_path / "r.json")]
    assert lab(*shared, "--area", "0.01") == 0
    assert lab(*shared, "--area", "0.02", "--bundle", str(out), "--finer", "2") == 0
    assert lab(*shared, "--area", "0.01", "--bundle", str(out), "--demand") == 0

    written = load_bundle(out)
    spec = stickers(written)
    assert spec is not None
    made = [(curve.side, curve.finer) for curve in spec.curves if curve.masks == 2]
    assert made == [(7, 2), (5, 0)] and len(spec.curves) == 4  # beside those of the default bundle
    demand = resolved(PatchSpec(area=0.02, masks=2, rule="object"), written)
    assert demand == PatchSpec(area=0.02, masks=2, tau=0.5, finer=2)
    own = spec.curves[-1]
    assert own.chosen == 0.5 and own.on.images == 4 and own.chosen_on is not None and own.wanted == 0.5
    assert own.on.dataset.endswith("these") and own.chosen_on.dataset.endswith("those")
    assert written.manifest.patches == PatchSpec(area=0.01, masks=2, tau=0.5)
    assert written.manifest.detectors == load_bundle().manifest.detectors
    verdict = Firewall.load(out, threads=1).screen(benign_sign)
    assert verdict.certified is not None or not verdict.released
    assert json.loads((tmp_path / "r.json").read_text())["about"]["chosen"] == 0.5


def _as_if_right(rows: Sequence[Row], dial: Dial) -> PointSpec:
    """The counts as if every image had the label that it is given: the folders' names are none of this sign."""
    return point([{**row, "label": row["predicted"]} for row in rows], dial)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--choose", "1"], "--choose is a share of the images between 0 and 1, got 1"),
        (["--choose", "nan"], "--choose is a share of the images between 0 and 1, got nan"),
        (["--choose", "0.9", "--choose-on", "test"], "--choose-on test is the part that is measured"),
        (["--demand"], "--demand needs --choose SHARE and --out DIR"),
        (["--bundle", "nowhere.onnx", "--out", "x"], "--out is for a bundle, and nowhere.onnx is none"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, before any image is classified."""
    assert lab(*options) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_the_page_tells_of_the_dial(tmp_path: Path) -> None:
    """The first table has both rules with their costs; the curve, the attack and what was not measured are on it."""
    subject, images = Subject(Linear(0), ("a", "b", "c", "d"), 12, 12, {}), signs(1, 30)
    found: dict[str, Any] = certify_patches(subject, iter(images), len(images), 9 / 144, along=3, rounds=1)
    results = tmp_path / "results"
    results.mkdir()
    (results / "dial.json").write_text(json.dumps(found))
    counts = {"images": 9, "tries": 4321, "released": 0, "certified": 0, "beaten": 0}
    tried = {"rule": "object", "tau": 0.7, "side": 3, "ruled_out": counts, "not_ruled_out": {**counts, "released": 17}}
    (results / "attack.json").write_text(json.dumps({"sticker_attacks": [tried]}))

    read = collect(results)
    write(read, tmp_path / "page.html", tmp_path / "page.json")

    page = (tmp_path / "page.html").read_text()
    assert [row["promise"].count("--tau") for row in read["promises"][:2]] == [0, 1]
    plain = found["summary"]["curve"][0]
    assert f"{plain['certified'] / 30:.1%} of 30 signs certified against squares of 3 of 12" in page
    assert "4321" in page and "<td>17</td>" in page and "not measured: &#39;firewall lab certify smoothing" in page
    assert len(read["dial"]) == 1 and not read["patch"], "nothing of double masking was measured"
