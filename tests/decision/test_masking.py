"""Double masking: the masks cover, what is certified can't be changed by a patch, and the edge asks for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall import Firewall, Frame, cli
from firewall.bundle import Bundle, PatchSpec, load_bundle, write_bundle
from firewall.bundle.certificate import judges
from firewall.config import load_settings
from firewall.decision.dial import stricter
from firewall.decision.masking import BATCH, Masks, masks_for, starts
from firewall.decision.policy import Policy
from firewall.errors import BundleError, ConfigError, EngineError, UsageError
from firewall.frame import Pixels
from firewall.verdict import Reason
from tests.clock import Clock


class Linear:
    """A linear classifier of 12x12 pixels, so that many images are on the edge of another label."""

    def __init__(self, seed: int) -> None:
        self.weights = np.random.default_rng(seed).normal(size=(432, 4)).astype(np.float32)

    def __call__(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        logits: npt.NDArray[np.float32] = (images.reshape(len(images), -1).astype(np.float32) - 128) @ self.weights
        return logits


def _worst(classify: Linear, image: Pixels, target: int, label: int, top: int, left: int, side: int) -> Pixels:
    """The patch at a place that speaks most for `target` against `label`; for a linear classifier it is known."""
    slope = (classify.weights[:, target] - classify.weights[:, label]).reshape(image.shape)
    patched: Pixels = image.copy()
    place = np.s_[top : top + side, left : left + side]
    patched[place] = np.where(slope[place] > 0, 255, 0)
    return patched


@given(st.integers(8, 64), st.integers(1, 20), st.integers(2, 12))
def test_every_patch_lies_within_one_mask(length: int, side: int, count: int) -> None:
    """On an axis, for every place of the patch; no mask sticks out, and there are no more than asked for."""
    side = min(side, length // 2)
    mask, places = starts(length, side, count)

    assert len(places) <= count and all(0 <= start <= length - mask for start in places)
    for patch in range(length - side + 1):
        assert any(start <= patch and patch + side <= start + mask for start in places)


def test_the_area_is_of_the_largest_square() -> None:
    """2 % of 48x48 is a square of 6.8 pixels, so 7; 36 masks of 13 pixels, the side that the paper's formula gives."""
    masks = masks_for(48, 48, 0.02)

    assert masks.side == 7 and len(masks) == 36
    assert {box[2:] for box in masks.boxes} == {(13, 13)}
    assert masks_for(48, 48, 49 / 48**2).side == 7


@pytest.mark.parametrize(("area", "count"), [(0.0, 6), (1.0, 6), (-1.0, 6), (0.5, 6), (0.02, 1), (0.02, 17)])
def test_impossible_masks_are_refused(area: float, count: int) -> None:
    """An area of nothing or of half the image, or a single mask, is an error that says what is allowed."""
    with pytest.raises(UsageError, match=r"patch|masks along"):
        masks_for(48, 48, area, count)


@pytest.mark.parametrize(
    ("area", "count", "said"),
    [
        (0.0, 6, "must lie between 0 and 1 of the image's, got 0"),
        (1.0, 6, "must lie between 0 and 1 of the image's, got 1"),
        (0.02, 1, "must be 2 to 16, got 1"),
        (0.02, 17, "must be 2 to 16, got 17"),
        (0.26, 6, "of 0.26 of the area is 25 pixels wide; at most half of the image's 48 can be [a-z ]+ the rest$"),
    ],
)
def test_impossible_masks_are_told_with_what_is_possible(area: float, count: int, said: str) -> None:
    """The number that was given, and the bounds; each bound itself but 0 and 1 is possible."""
    with pytest.raises(UsageError, match=said):
        masks_for(48, 48, area, count)
    assert len(masks_for(48, 48, 0.02, 2)) == 4 and len(masks_for(48, 48, 0.02, 16)) == 14 * 14
    assert masks_for(48, 48, 0.25).side == 24
    assert masks_for(48, 60, 0.02).side == 8 and masks_for(60, 48, 0.02).side == 8
    wide = masks_for(12, 24, 4 / 288, 3)
    assert {box[2:] for box in wide.boxes} == {(5, 9)} and {box[:2] for box in wide.boxes} == {
        (top, left) for top in (0, 4, 7) for left in (0, 8, 15)
    }


def _example(seed: int, strength: int) -> tuple[Linear, Pixels, int, bool]:
    """A classifier, an image that was pulled away from the edge by `strength`, its label, and if that is certified."""
    classify = Linear(seed)
    image = np.clip(np.random.default_rng(seed).normal(128, 6, (12, 12, 3)), 0, 255).astype(np.uint8)
    label = int(classify(image[None]).argmax())
    slope = classify.weights[:, label].reshape(image.shape)
    image = np.clip(image + strength * np.sign(slope), 0, 255).astype(np.uint8)
    certified = masks_for(12, 12, 4 / 144, 3).kept(image, label, classify, 2).holds
    return classify, image, label, certified is True


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from((0, 2, 8)))
def test_no_patch_changes_a_certified_label(seed: int, strength: int) -> None:
    """Of an image that keeps its label under every two masks, `recovered` gives it with the worst patch at every place;
    and with one round no patch makes a label pass that isn't the clean image's under the mask over the patch."""
    classify, image, label, certified = _example(seed, strength)
    masks = masks_for(12, 12, 4 / 144, 3)
    pairs = masks.pairs(image, classify)
    assert certified == bool((pairs == label).all())

    for target, top, left in itertools.product(range(4), range(0, 11, 2), range(0, 11, 3)):
        patched = _worst(classify, image, target, label, top, left, masks.side)
        found = masks.recovered(patched, classify)
        if certified:
            assert found == label
        released = masks.kept(patched, target, classify, 1).holds
        if released and (np.diag(pairs) == label).all():
            assert target == label


def test_the_test_above_has_both_kinds_to_look_at() -> None:
    """Of its images some are certified and some are not."""
    found = [_example(seed, strength)[3] for seed in range(12) for strength in (0, 2, 8)]
    assert 6 <= sum(found) <= 30


def test_recovered_is_the_same_with_pairs_known() -> None:
    """The lab reads the labels from a table, the algorithm classifies as it goes."""
    masks = masks_for(12, 12, 4 / 144, 3)
    for seed in range(40):
        image = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
        classify = Linear(seed % 3)
        assert masks.recovered(image, classify) == masks.recovered(image, classify, masks.pairs(image, classify))


def _losing(lost: bytes, seen: list[bytes]) -> Callable[[Pixels], npt.NDArray[np.float32]]:
    """A classifier that gives label 0 to all but one image; it writes down which it has seen."""

    def classify(images: Pixels) -> npt.NDArray[np.float32]:
        seen.extend(one.tobytes() for one in images)
        other = [2.0 * (one.tobytes() == lost) for one in images]
        return np.stack([np.ones(len(images)), other], axis=1).astype(np.float32)

    return classify


def test_every_two_masks_are_looked_at() -> None:
    """A label that is lost under one certain pair of masks is not certified, neighbours too; one that all keep is
    certified after each pair once, in the same order on every machine where all are as hard."""
    masks, image = masks_for(12, 12, 4 / 144, 2), np.zeros((12, 12, 3), np.uint8)
    pairs = list(itertools.combinations(range(4), 2))
    for first, second in pairs:
        lost = masks.covered(image, first, second).tobytes()
        assert masks.kept(image, 0, _losing(lost, []), 1) == (True, True, 4)
        assert masks.kept(image, 0, _losing(lost, []), 2) == (False, False, 10)

    many, seen = masks_for(12, 12, 4 / 144, 5), list[bytes]()
    assert many.kept(image, 0, _losing(b"", seen), 2) == (True, True, 16 + 120)
    assert seen[16:] == [many.covered(image, *pair).tobytes() for pair in itertools.combinations(range(16), 2)]


def test_a_classifier_of_one_class_keeps_it() -> None:
    """There is no other label that could come closer."""
    masks = masks_for(12, 12, 4 / 144, 2)
    image = np.zeros((12, 12, 3), np.uint8)
    assert masks.kept(image, 0, lambda images: np.ones((len(images), 1), np.float32), 2) == (True, True, 10)


def test_labels_under_masks_are_whole_numbers_and_classified_once() -> None:
    """Tables of labels hold integers, and what is known from a table is not asked for again."""
    masks, classify = masks_for(12, 12, 4 / 144, 3), Linear(1)
    image = np.random.default_rng(1).integers(0, 256, (12, 12, 3), np.uint8)
    pairs = masks.pairs(image, classify)

    def never(images: Pixels) -> npt.NDArray[np.float32]:
        raise AssertionError("asked")

    assert pairs.dtype == masks.singles(image, classify).dtype == np.int64
    assert pairs.shape == (9, 9) and (np.diag(pairs) == masks.singles(image, classify)).all()
    assert masks.recovered(image, never, np.full((9, 9), 2)) == 2
    table = np.full((9, 9), 2)
    table[4] = table[:, 4] = 3
    assert masks.recovered(image, never, table) == 3, "one mask, and all second ones with it, disagree"
    table[4, 8] = table[8, 4] = 2
    assert masks.recovered(image, never, table) == 2, "a second mask brings the majority's label back"
    ring = np.full((9, 9), 2)
    for place in range(9):
        ring[place, place - 1] = ring[place - 1, place] = 3
    assert masks.recovered(image, never, ring) == 2, "no mask disagrees by itself, though each does with a second one"


def test_time_that_runs_out_is_not_a_certificate() -> None:
    """Not even if every batch so far agreed."""
    masks = Masks(1, ((0, 0, 1, 1),), 128)

    found = masks.kept(np.zeros((12, 12, 3), np.uint8), 0, lambda images: np.ones((len(images), 1), np.float32), 1)
    late = masks.kept(
        np.zeros((12, 12, 3), np.uint8), 0, lambda images: np.ones((len(images), 1), np.float32), 1, lambda: True
    )

    assert found == (True, True, 1) and late == (None, False, 1)


def test_the_masks_that_cost_most_are_looked_at_first_together() -> None:
    """An image that only two weak masks of 81 take together is refused in the first batch of the second round."""
    masks = masks_for(48, 48, 0.02, 10)
    rows = [(box[0], box[1]) for box in masks.boxes]
    weak = rows.index((10, 10)), rows.index((30, 30))
    image = np.zeros((48, 48, 3), np.uint8)

    def classify(images: Pixels) -> npt.NDArray[np.float32]:
        hidden = np.stack([(images[:, row : row + 11, row : row + 11] == 128).all(axis=(1, 2, 3)) for row in (10, 30)])
        return np.stack([np.ones(len(images)), 0.9 * hidden.sum(axis=0)], axis=1).astype(np.float32)

    assert {box[2] for box in masks.boxes} == {11} and masks.kept(image, 0, classify, 1) == (True, True, 81)
    assert classify(masks.covered(image, *weak)[None]).argmax() == 1
    assert masks.kept(image, 0, classify, 2) == (False, False, 81 + BATCH)


class Masked:
    """The real engine on images as they are; under a mask it gives what a test wants."""

    provider = "test"

    def __init__(self, guard: Firewall, *, keeps: bool, fails: bool = False) -> None:
        self.engine, self.keeps, self.fails, self.under = guard.engine, keeps, fails, 0
        self.image: Pixels = np.zeros((48, 48, 3), np.uint8)

    def classify(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        logits = self.engine.classify(images)
        if len(images) == 36:
            self.under += 36
            if self.fails:
                raise EngineError("broke")
            logits = np.tile(self.engine.classify(self.image[None]), (36, 1))
            if not self.keeps:
                logits[35] = np.roll(logits[35], 1)
        else:
            self.image = images[0]
        return logits


@pytest.fixture
def bare(guard: Firewall) -> Bundle:
    """The default bundle without a classifier of its own for masks: the protected one is asked."""
    return replace(guard.bundle, manifest=guard.bundle.manifest.model_copy(update={"masked_classifier": None}))


def test_the_edge_releases_only_what_is_certified(guard: Firewall, bare: Bundle, benign_sign: Pixels) -> None:
    """With every mask agreeing the label goes out, with one against it doesn't, and the reason is its own; what is
    suspicious costs no masks at all."""
    spec = PatchSpec(area=0.02)
    plain = guard.screen(benign_sign)
    agreeing = Firewall(bare, Masked(guard, keeps=True), patches=spec)
    differing = Firewall(bare, Masked(guard, keeps=False), patches=spec)

    released, withheld = agreeing.screen(benign_sign), differing.screen(benign_sign)

    assert plain.released and released.released and released.label == plain.label
    assert released.classified == plain.classified + 36
    assert not withheld.released and withheld.reason is Reason.UNCERTIFIED and withheld.label is None
    engine = Masked(guard, keeps=True)
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    verdict = Firewall(bare, engine, patches=spec).screen(noise)
    assert verdict.reason is Reason.SUSPICIOUS and engine.under == 0


def test_masks_that_fail_or_come_too_late_withhold(
    guard: Firewall, bare: Bundle, benign_sign: Pixels, clock: Clock
) -> None:
    """An engine that breaks under the masks is an engine error; a deadline that has passed by then is lateness."""
    spec = PatchSpec(area=0.02)
    broken = Firewall(bare, Masked(guard, keeps=True, fails=True), patches=spec)
    assert broken.screen(benign_sign).reason is Reason.ENGINE_ERROR

    slow = Firewall(bare, Masked(guard, keeps=True), patches=spec)
    answer = slow.engine.classify

    def slowly(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        if len(images) == 36:
            clock.sleep(0.5)
        return answer(images)

    slow.engine.classify = slowly  # type: ignore[method-assign]
    (verdict,) = slow.screen_frame(Frame(benign_sign, "test", 0, clock.now), deadline=clock.now + 0.45)
    assert not verdict.released and verdict.reason is Reason.LATE


def test_a_bundle_can_demand_it_and_settings_only_sharpen_it(
    guard: Firewall, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A bundle's own demand holds without any setting; of two the larger sticker and the more rounds count."""
    plain = guard.bundle
    fields = {field: getattr(plain.manifest, field) for field in type(plain.manifest).model_fields}
    del fields["files"]
    folder = tmp_path_factory.mktemp("demanding") / "b"
    write_bundle(folder, plain.files, **{**fields, "patches": PatchSpec(area=0.02, rounds=2)})
    written = load_bundle(folder)

    assert written.manifest.patches == PatchSpec(area=0.02, rounds=2)
    demanding = Firewall(written, guard.engine, patches=PatchSpec(area=0.01))
    assert demanding.patches == PatchSpec(area=0.02, rounds=2) and demanding.masks is not None
    assert stricter(None, None) is None and guard.masks is None
    with pytest.raises(UsageError, match="at most half"):
        Firewall(plain, guard.engine, patches=PatchSpec(area=0.9))


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (None, None, None),
        (PatchSpec(area=0.02, rounds=2), None, PatchSpec(area=0.02, rounds=2)),
        (None, PatchSpec(area=0.02, rounds=2), PatchSpec(area=0.02, rounds=2)),
        (PatchSpec(area=0.02), PatchSpec(area=0.01, rounds=2), PatchSpec(area=0.02, rounds=2)),
        (PatchSpec(area=0.01, rounds=2), PatchSpec(area=0.02), PatchSpec(area=0.02, rounds=2)),
        (PatchSpec(area=0.01, masks=14, fill=1), PatchSpec(area=0.03), PatchSpec(area=0.03, masks=14, fill=1)),
        (PatchSpec(area=0.01), PatchSpec(area=0.03, masks=4), PatchSpec(area=0.03, masks=4)),
        (PatchSpec(area=0.01, masks=4), PatchSpec(area=0.01, masks=4, fill=9), PatchSpec(area=0.01, masks=4, fill=9)),
    ],
)
def test_of_two_demands_the_harder_of_each_kind_counts(
    first: PatchSpec | None, second: PatchSpec | None, both: PatchSpec | None
) -> None:
    """The larger sticker and the more rounds, whoever asks for them; masks are those of whoever names them."""
    assert stricter(first, second) == both == stricter(second, first)


@pytest.mark.parametrize("field", ["masks", "fill"])
def test_other_masks_than_the_bundles_are_refused(field: str, guard: Firewall, tmp_path: Path) -> None:
    """Neither is stricter: under large masks a label may pass that falls under small ones, and the reverse. A bundle's
    manifest names all of its masks, the default ones too."""
    plain = guard.bundle
    fields = {each: getattr(plain.manifest, each) for each in type(plain.manifest).model_fields if each != "files"}
    write_bundle(tmp_path / "b", plain.files, **{**fields, "patches": PatchSpec(area=0.02)})
    demanding = load_bundle(tmp_path / "b")
    with pytest.raises(UsageError, match=f"^stickers are asked about with {field} .* leave out {field}, or give the"):
        Firewall(demanding, guard.engine, patches=PatchSpec.model_validate({"area": 0.02, field: 8}))
    same = PatchSpec.model_validate({"area": 0.03, field: getattr(PatchSpec(area=0.02), field)})
    assert Firewall(demanding, guard.engine, patches=same).patches == PatchSpec(area=0.03)


def _biased(content: bytes, label: int) -> bytes:
    """The default classifier, so fond of one label that it gives it to everything."""
    model = onnx.load_model_from_string(content)
    entry = next(entry for entry in model.graph.initializer if entry.name == "head.2.bias")
    bias = onnx.numpy_helper.to_array(entry).copy()
    bias[label] += 1000
    entry.CopyFrom(onnx.numpy_helper.from_array(bias, entry.name))
    return bytes(model.SerializeToString())


def test_a_classifier_for_masks_decides_about_masks_alone(guard: Firewall, bare: Bundle, benign_sign: Pixels) -> None:
    """What it gives under masks has to be the protected classifier's label; without --patches it isn't asked, nor even
    loaded."""
    spec = bare.manifest.classifier.model_copy(update={"file": "masked.onnx"})
    plain = guard.screen(benign_sign)
    assert plain.label is not None
    for label, released in ((plain.label, True), ((plain.label + 1) % 43, False)):
        content = _biased(bare.files[bare.manifest.classifier.file], label)
        bundle = replace(
            bare,
            manifest=bare.manifest.model_copy(update={"masked_classifier": spec}),
            files={**bare.files, "masked.onnx": content},
        )
        verdict = Firewall(bundle, guard.engine, patches=PatchSpec(area=0.02), threads=1).screen(benign_sign)
        assert verdict.released == released and verdict.reason is (Reason.BENIGN if released else Reason.UNCERTIFIED)
        unasked = Firewall(bundle, guard.engine)
        assert unasked.screen(benign_sign).released and unasked.under_masks is guard.engine


def test_a_classifier_for_masks_has_to_fit_the_bundle(bare: Bundle, tmp_path: Path) -> None:
    """Other labels, the protected file itself, a file that isn't listed and another precision than is written in it are
    refused; the right one is kept through writing and loading."""
    fields = {field: getattr(bare.manifest, field) for field in type(bare.manifest).model_fields}
    del fields["files"]
    own = bare.manifest.classifier
    spec = own.model_copy(update={"file": "other.onnx"})
    files = {**bare.files, "other.onnx": bare.files[own.file]}

    for wrong in ({"labels": own.labels[1:]}, {"file": own.file}):
        with pytest.raises(BundleError, match="masked classifier"):
            write_bundle(tmp_path / "wrong", files, **{**fields, "masked_classifier": spec.model_copy(update=wrong)})
    with pytest.raises(BundleError, match="doesn't list it"):
        write_bundle(tmp_path / "less", bare.files, **{**fields, "masked_classifier": spec})
    half = spec.model_copy(update={"precision": "fp16"})
    with pytest.raises(BundleError, match="computes in fp32"):
        write_bundle(tmp_path / "half", files, **{**fields, "masked_classifier": half})
    written = write_bundle(tmp_path / "b", files, **{**fields, "masked_classifier": spec})
    assert load_bundle(tmp_path / "b").manifest.masked_classifier == spec
    demanding = written.manifest.model_copy(update={"patches": PatchSpec(area=0.02)})
    assert judges(written.manifest) == judges(bare.manifest)
    assert judges(demanding) != judges(demanding.model_copy(update={"masked_classifier": None}))


def test_the_policy_is_closed_without_a_certificate() -> None:
    """Not certified and not known both withhold; suspicion and lateness keep their own names."""
    policy = Policy({"agreement": 0.25})
    fine = {"agreement": 0.1}

    assert policy.judge(fine, certified=True).released
    assert policy.judge(fine, certified=False).reason is Reason.UNCERTIFIED
    assert policy.judge(fine, certified=None).reason is Reason.LATE
    assert policy.judge({"agreement": 0.9}, certified=False).reason is Reason.SUSPICIOUS
    assert policy.judge({}, certified=False).reason is Reason.DETECTOR_ERROR
    assert not any(policy.judge(fine, certified=known).released for known in (False, None))


def test_settings_and_commands_ask_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`patches` in a settings file and `--patches`; an area that is none is refused."""
    file = tmp_path / "settings.yaml"
    file.write_text("patches: {area: 0.02, rounds: 2}\n")
    assert load_settings(file).patches == PatchSpec(area=0.02, rounds=2)
    assert load_settings(None, patches={"area": 0.03}).patches == PatchSpec(area=0.03)
    for wrong in ("patches: {area: 2}\n", "patches: {size: 7}\n"):
        file.write_text(wrong)
        with pytest.raises(ConfigError, match="patches"):
            load_settings(file)

    assert cli.run(cli.app, ["screen", "x.png", "--patches", "2"], "firewall") == 2
    assert "--patches is a share" in capsys.readouterr().err


def test_the_pairs_that_hurt_most_come_first() -> None:
    """By the sum of what each of the two masks leaves of the margin; of pairs that are as hard the first one."""
    masks = Masks(4, ((0, 0, 4, 4), (0, 8, 4, 4), (8, 0, 4, 4), (8, 8, 4, 4)), 128)
    order = masks._hardest_first(np.array([0.0, 3.0, 1.0, 10.0], np.float32))
    assert order == [(0, 2), (0, 1), (1, 2), (0, 3), (2, 3), (1, 3)]
    assert masks._hardest_first(np.ones(4, np.float32)) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
