"""Jurors on the edge: another network's answer to the classifier's question."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firewall import Firewall
from firewall.bundle import DetectorSpec
from firewall.detectors import Detector, Evidence, build
from firewall.detectors.juror import is_juror, odds_against
from firewall.engines import OnnxRuntimeEngine
from firewall.errors import BundleError, EngineError
from firewall.frame import Pixels
from firewall.transforms import resize
from firewall.verdict import Reason
from tests.detectors.asked import IMAGE, Asked
from tests.jurors import bundle_with, constant_network, juror

CROP = np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8)


def asked(network: Asked, name: str = "juror-robust", classes: int | None = None, **parameters: object) -> Detector:
    size = {"file": "x.onnx", "width": 20, "height": 16}
    spec = DetectorSpec(name=name, parameters={**size, **parameters}, threshold=0.0)
    return build(spec, lambda file: network, classes)


def evidence(*logits: float, crop: Pixels | None = CROP) -> Evidence:
    return Evidence(IMAGE, np.array(logits, np.float32), {}, crop=crop, resize=resize)


def test_it_sees_the_regions_own_pixels_at_its_own_size() -> None:
    """The crop and not the classifier's image, by the edge's resize, RGB in 0..1, channels first; no copies."""
    network = Asked(0.0, 0.0, 0.0)
    judge = asked(network)
    judge.score(evidence(0, 1, 0))

    assert judge.operations == () and network.values.dtype == np.float32
    expected = resize(CROP, 20, 16).astype(np.float32) / np.float32(255)
    assert np.array_equal(network.values[0].transpose(1, 2, 0), expected)


def test_without_a_crop_the_classifiers_image_stands_in() -> None:
    """Databases hold no crops; and an image of the right size needs no resize."""
    network = Asked(0.0, 0.0, 0.0)
    asked(network).score(evidence(0, 1, 0, crop=None))
    assert np.array_equal(network.values[0].transpose(1, 2, 0), resize(IMAGE, 20, 16) / np.float32(255))

    judge = asked(network, width=10, height=12)
    judge.score(Evidence(IMAGE, np.zeros(3, np.float32), {}))
    assert np.array_equal(network.values[0].transpose(1, 2, 0), IMAGE / np.float32(255))


def test_a_size_is_made_once_for_all_who_look_at_it() -> None:
    """Two jurors of one size and one of another: two resizes, and each sees what it would have seen alone."""
    made: list[tuple[int, int]] = []

    def counted(pixels: Pixels, width: int, height: int) -> Pixels:
        made.append((width, height))
        return resize(pixels, width, height)

    shared = Evidence(IMAGE, np.zeros(3, np.float32), {}, crop=CROP, resize=counted)
    for width in (20, 20, 18):
        network, alone = Asked(0.0, 0.0, 0.0), Asked(0.0, 0.0, 0.0)
        asked(network, file=f"{len(made)}.onnx", width=width).score(shared)
        asked(alone, width=width).score(evidence(0, 0, 0))
        assert np.array_equal(network.values, alone.values)
    assert made == [(20, 16), (18, 16)]


def test_jurors_of_the_classifier_s_size_see_its_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default bundle's jury reads what was resized for the classifier, once a region; scores and verdict are those
    of jurors that resize for themselves, to the last bit."""
    guard = Firewall.load("default", exhaustive=True, threads=1)
    for side in (17, 48, 90):
        pixels = np.random.default_rng(side).integers(0, 256, (side, side + 5, 3), np.uint8)
        shared = guard.screen(pixels)
        with monkeypatch.context() as patched:
            patched.setattr(Evidence, "resized", lambda self, width, height: self.at(self.crop, width, height))
            alone = guard.screen(pixels)
        assert shared.scores == alone.scores and len(shared.scores) >= 8
        assert (shared.reason, shared.suspected_label) == (alone.reason, alone.suspected_label)


def test_evidence_that_can_not_be_resized_is_an_error() -> None:
    """Never a score of other pixels."""
    with pytest.raises(EngineError, match="20x16 pixels and was given no way"):
        asked(Asked(0.0, 0.0)).score(Evidence(IMAGE, np.zeros(2, np.float32), {}))


def test_the_score_is_the_log_odds_against_the_classifiers_label() -> None:
    """By the definition, of the juror's own logits; how sure the classifier is doesn't count."""
    judge = asked(Asked(1.0, 4.0, -2.0))
    theirs = np.exp([1.0, 4.0, -2.0]) / np.exp([1.0, 4.0, -2.0]).sum()

    for label in range(3):
        logits = np.zeros(3)
        logits[label] = 9
        expected = np.log((1 - theirs[label]) / theirs[label])
        assert judge.score(evidence(*logits)) == pytest.approx(expected, abs=1e-5)


def test_scores_stay_finite_and_rise_with_every_other_class() -> None:
    """Also of a network that is as sure as float32 lets it be; monotone in the other logits."""
    assert odds_against(np.array([3e38, -3e38], np.float32), 0) == -1e6
    assert odds_against(np.array([3e38, -3e38], np.float32), 1) == 1e6
    rows = np.random.default_rng(3).normal(size=(50, 5))
    before = odds_against(rows, 2)
    for other in (0, 1, 3, 4):
        raised = rows.copy()
        raised[:, other] += 0.5
        assert (odds_against(raised, 2) > before).all()


@pytest.mark.parametrize("classes", [2, 3, 43, 44, 1001])
def test_one_row_has_the_score_that_it_has_among_others(classes: int) -> None:
    """The edge asks about single rows, training about many: the same number to the last bit, of small and huge logits,
    of two that are equal, and of what is no number."""
    random = np.random.default_rng(classes)
    rows = (random.normal(0, 1, (400, classes)) * 10 ** random.uniform(-3, 6, (400, 1))).astype(np.float32)
    rows[0], rows[1, 0], rows[2, 0], rows[3, :2] = 7.0, np.nan, np.inf, np.float32(3e38)
    labels = random.integers(0, classes, len(rows))
    with np.errstate(invalid="ignore"):
        among = odds_against(rows, labels)
        alone = np.array([odds_against(row, int(label)) for row, label in zip(rows, labels, strict=True)])
    assert np.array_equal(among, alone, equal_nan=True) and np.isfinite(alone[4:]).all()
    assert odds_against(rows[5], 1).shape == () and odds_against(rows[5], 1).dtype == np.float64


def test_not_a_sign_counts_against_the_label_and_is_remarked() -> None:
    """The class after the classifier's own is no class to release; it is remarked only where it comes first."""
    found = evidence(0, 1, 0)
    assert asked(Asked(0.0, 1.0, 0.0, 5.0)).score(found) > 3
    assert found.remarks == {"juror-robust": Reason.NOT_A_SIGN}

    other = evidence(0, 1, 0)
    asked(Asked(0.0, 6.0, 0.0, 5.0)).score(other)
    asked(Asked(0.0, 1.0, 5.0)).score(other)  # a juror without that class can't say so
    assert other.remarks == {}


@pytest.mark.parametrize("outputs", [(1.0,), (1.0, 2.0), (1.0, 2.0, 3.0, 4.0, 5.0)])
def test_a_network_of_other_classes(outputs: tuple[float, ...]) -> None:
    """Refused when it is loaded, if the number of classes is known then; and by each answer."""
    with pytest.raises(BundleError, match=r"juror-robust gave shape .*expected \(1, 3\), or \(1, 4\)"):
        asked(Asked(*outputs), classes=3)
    with pytest.raises(EngineError, match=r"x\.onnx of juror-robust gave shape"):
        asked(Asked(*outputs)).score(evidence(0, 1, 2))


def test_parameters_and_names_that_do_not_fit() -> None:
    """Anything missing, unknown or out of range is refused, and so is a name that isn't one."""
    for wrong in ({"surprise": 1}, {"width": 0}, {"height": 4096}, {"width": None}):
        with pytest.raises(BundleError, match="juror-robust"):
            asked(Asked(0, 0), **wrong)
    with pytest.raises(BundleError, match="needs a network"):
        build(DetectorSpec(name="juror-a", parameters={"width": 9, "height": 9}, threshold=0.0), lambda file: Asked(0))
    for name in ("juror", "juror-", "juror-A", "juror-a/b", "Juror-a", "juror-a-", "juror-\n"):
        assert not is_juror(name)
        with pytest.raises(BundleError, match=r"unknown detector .*juror-NAME"):
            asked(Asked(0, 0), name=name)
    assert is_juror("juror-edges") and is_juror("juror-no-2")


def sure_of(label: int, classes: int = 43) -> list[float]:
    return [20.0 if index == label else 0.0 for index in range(classes)]


def test_a_jury_in_a_bundle_decides(tmp_path: Path, guard: Firewall, benign_sign: Pixels) -> None:
    """Two jurors that agree with the classifier release; one that doesn't withholds, whatever the other says."""
    label = guard.screen(benign_sign).label
    assert label is not None
    agrees, differs = constant_network(sure_of(label, 44)), constant_network(sure_of((label + 1) % 43))
    files = {"juror-a.onnx": agrees, "juror-b.onnx": agrees}
    both = bundle_with(tmp_path / "both", [juror("juror-a"), juror("juror-b")], files)
    one = bundle_with(tmp_path / "one", [juror("juror-a"), juror("juror-b")], {**files, "juror-b.onnx": differs})

    released = Firewall(both, OnnxRuntimeEngine(both, threads=1)).screen(benign_sign)
    withheld = Firewall(one, OnnxRuntimeEngine(one, threads=1)).screen(benign_sign)

    assert released.released and released.label == label and set(released.scores) == {"juror-a", "juror-b"}
    assert not withheld.released and withheld.reason is Reason.SUSPICIOUS and withheld.scores["juror-b"] > 15


def test_a_member_that_is_missing_stops_the_bundle(tmp_path: Path) -> None:
    """Its file isn't there, isn't listed, or is another one: the bundle doesn't load, in one line."""
    network = constant_network(sure_of(1))
    with pytest.raises(BundleError, match=r"uses 'gone.onnx' but doesn't list it"):
        bundle_with(tmp_path / "unlisted", [juror("juror-a", file="gone.onnx")], {})
    whole = bundle_with(tmp_path / "whole", [juror("juror-a")], {"juror-a.onnx": network})
    (whole.path / "juror-a.onnx").unlink()
    with pytest.raises(BundleError, match=r"can't read .*juror-a.onnx"):
        Firewall.load(whole.path)
    (whole.path / "juror-a.onnx").write_bytes(constant_network(sure_of(2)))
    with pytest.raises(BundleError, match="is not the file that its bundle was made with"):
        Firewall.load(whole.path)


def test_a_member_that_does_not_fit_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    """For another number of classes, for another size of image, or one that gives no numbers."""
    for place, (content, side, message) in enumerate(
        [
            (constant_network(sure_of(1, 10)), 16, r"juror-a.onnx of juror-a gave shape \(1, 10\), expected \(1, 43\)"),
            (constant_network(sure_of(1)), 32, "juror-a.onnx of bundle .* failed"),
            (constant_network([np.nan] * 43), 16, "gave no finite number"),
        ]
    ):
        path = tmp_path / str(place)
        bundle_with(path, [juror("juror-a", side=side)], {"juror-a.onnx": content})
        with pytest.raises((BundleError, EngineError), match=message):
            Firewall.load(path)


def test_the_same_member_twice_is_refused(tmp_path: Path) -> None:
    """Scores are kept by name, so one of the two would not count."""
    with pytest.raises(BundleError, match="juror-a is there more than once"):
        bundle_with(tmp_path, [juror("juror-a"), juror("juror-a")], {"juror-a.onnx": constant_network(sure_of(1))})


def test_a_member_that_gives_nan_on_an_image_withholds(tmp_path: Path, guard: Firewall, benign_sign: Pixels) -> None:
    """Blank images go well when it is loaded, a bright one doesn't: no label goes out, and the verdict says why."""
    label = guard.screen(benign_sign).label
    assert label is not None
    bundle_with(tmp_path, [juror("juror-a")], {"juror-a.onnx": constant_network(sure_of(label), weights=3e38)})
    verdict = Firewall.load(tmp_path, threads=1).screen(np.full_like(benign_sign, 255))

    assert not verdict.released and verdict.reason is Reason.ENGINE_ERROR
    assert "juror-a.onnx" in verdict.detail and "no finite number" in verdict.detail
