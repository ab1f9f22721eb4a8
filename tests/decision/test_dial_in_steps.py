"""Masks in two steps: what is released, called certified and promised, against a sticker that can do anything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall import Firewall
from firewall.bundle import Bundle, PatchSpec
from firewall.config import load_settings
from firewall.decision.dial import SLACK, Dial, against, named, stricter
from firewall.decision.masking import Kept, Masks, masks_for
from firewall.decision.steps import Levels, assured, finer_masks, kept_in_steps, unopposed
from firewall.errors import ConfigError, UsageError
from firewall.frame import Pixels
from firewall.verdict import Reason

CLASSES, FINER = 3, 2
TAUS = (0.2, 0.5, 0.7, 0.9)
Logits = npt.NDArray[np.float32]
Known = dict[bytes, Logits]
Judge = Callable[[Masks, int, Pixels, int, Callable[[Pixels], Logits], Dial], Kept]


def rows(tau: float, generator: np.random.Generator, count: int, mood: int) -> Logits:
    """Answers about class 0: sure, unsure, or on and beside the bounds, with ties; now and then of another class."""
    bound = math.log(tau) - math.log1p(-tau)
    steps = (-SLACK, -SLACK / 4, 0.0, SLACK / 4, SLACK, 1.5 * SLACK)
    pool = [[bound + step + math.log(2), 0.0, 0.0] for step in steps]  # two others at 0: the odds are bound + step
    pool += [[0.0, 0.0, 0.0], [5.0, 5.0, 0.0], [5.0, 5.0 + SLACK / 4, -9.0], [0.4, 0.3, 0.2], [0.2, 0.3, 0.1]]
    pool += [[9.0, -9.0, -9.0]] * (4, 12, 40)[mood]
    found = np.array([pool[at] for at in generator.integers(len(pool), size=count)], np.float32)
    swapped = generator.random(count) < (0.3, 0.05, 0.0)[mood]
    found[swapped] = found[swapped][:, [1, 0, 2]]
    return found


@dataclass
class Sign:
    """A clean sign, and what a classifier says of it under every mask, large and fine; a sticker that a mask doesn't
    hide wholly makes it say what the sticker wants, as loud as that wants."""

    masks: Masks
    clean: Pixels
    known: Known
    jitter: float = 0.0
    target: int = 1
    loud: float = 30.0

    def __post_init__(self) -> None:
        self._noise = np.random.default_rng(0)

    def __call__(self, images: Pixels) -> Logits:
        wanted = np.where(np.arange(CLASSES) == self.target, self.loud, 0.0).astype(np.float32)
        found = np.stack([self.known.get(image.tobytes(), wanted) for image in images])
        return np.asarray(found + self._noise.choice([-1.0, 1.0], found.shape) * self.jitter, np.float32)

    def levels(self, label: int, finer: int = FINER, inside: Callable[..., Masks] = finer_masks) -> Levels:
        """Of the clean sign, without the jitter."""
        exact = replace(self, jitter=0.0)
        large = self.masks.logits(self.clean, exact)
        within = [inside(self.masks, [at], finer).logits(self.clean, exact) for at in range(len(self.masks))]
        least = np.array([named(each, label).min() for each in within])
        most = np.array([against(each, label).max() for each in within])
        return Levels(named(large, label), against(large, label), least, most)

    def beaten(self, dial: Dial, label: int, judge: Judge = kept_in_steps) -> tuple[int, int]:
        """Tries in which a sticker gets another label released; of them, those called certified."""
        released = certified = 0
        height, width = self.clean.shape[:2]
        side = self.masks.side
        places = itertools.product(range(height - side + 1), range(width - side + 1))
        others = [each for each in range(CLASSES) if each != label]
        for (top, left), target, loud in itertools.product(places, others, (30.0, 0.1)):
            patched = self.clean.copy()
            patched[top : top + side, left : left + side] += 7
            kept = judge(self.masks, FINER, patched, target, replace(self, target=target, loud=loud), dial)
            released, certified = released + (kept.holds is True), certified + (kept.holds is True and kept.certified)
        return released, certified


def sign(layout: tuple[int, int, int], tau: float, seed: int, inside: Callable[..., Masks] = finer_masks) -> Sign:
    size, side, count = layout
    generator = np.random.default_rng(seed)
    masks = masks_for(size, size, side * side / size**2, count)
    clean = generator.integers(130, 240, (size, size, 3)).astype(np.uint8)
    every = (*masks.boxes, *inside(masks, range(len(masks)), FINER).boxes)
    hidden = replace(masks, boxes=tuple(dict.fromkeys(every)))
    images = [hidden.covered(clean, at, at).tobytes() for at in range(len(hidden))]
    # The fine ones are surer, as in life; else hardly a sign is certified by them.
    large, fine = len(masks), len(hidden) - len(masks)
    answers = [*rows(tau, generator, large, seed % 2), *rows(tau, generator, fine, 2 - seed % 3 % 2)]
    return Sign(masks, clean, dict(zip(images, answers, strict=True)))


DIALS = st.builds(Dial, st.sampled_from(("agree", "object")), st.sampled_from(TAUS))
LAYOUTS = st.sampled_from([(6, 2, 2), (7, 2, 2), (8, 2, 3), (8, 3, 2)])


def shields(dial: Dial, levels: Levels) -> bool:
    """What is promised of a clean sign."""
    return bool((assured if dial.rule == "object" else unopposed)(dial, levels))


@settings(deadline=None, max_examples=50)
@given(LAYOUTS, DIALS, st.integers(0, 10**6), st.sampled_from((0.0, SLACK / 2.1)))
def test_no_sticker_gets_another_label_released_where_that_is_promised(
    layout: tuple[int, int, int], dial: Dial, seed: int, jitter: float
) -> None:
    """Every place, every target, a sticker that commands all masks that don't hide it wholly and makes them sure or
    unsure, logits on the bounds and ties, last bits that differ: where all is assured (object) or unopposed (agree)
    nothing else is released, and where nothing is opposed nothing else is called certified."""
    shown = replace(sign(layout, dial.tau or 0.5, seed), jitter=jitter)
    levels = shown.levels(0)
    released, certified = shown.beaten(dial, 0)
    assert not (shields(dial, levels) and released)
    assert not (unopposed(dial, levels) and certified)
    if dial.rule == "agree":
        assert released == certified, "all that this rule releases is certified"


def test_signs_are_promised_that_one_step_does_not() -> None:
    """The test above isn't about nothing: fine masks certify signs that large ones alone don't; others are beaten."""
    dial, counts = Dial("object", 0.7), {"more": 0, "both": 0, "beaten": 0}
    for seed in range(60):
        shown = sign((6, 2, 2), 0.7, seed)
        levels, one = shown.levels(0), dial.shields(shown.masks.logits(shown.clean, shown), 0)
        counts["more"] += shields(dial, levels) and not one
        counts["both"] += one
        counts["beaten"] += shown.beaten(dial, 0)[0] > 0
        assert shields(dial, levels) or not one
    assert min(counts.values()) > 0, counts


def too_small(masks: Masks, within: Sequence[int], along: int) -> Masks:
    """Fine masks that leave a line of pixels of some stickers uncovered."""
    whole = finer_masks(masks, within, along)
    return replace(whole, boxes=tuple((top, left, tall - 1, wide) for top, left, tall, wide in whole.boxes))


def one_missing(masks: Masks, within: Sequence[int], along: int) -> Masks:
    """The first fine mask within each large one is left out."""
    return replace(masks, boxes=tuple(box for at in within for box in finer_masks(masks, [at], along).boxes[1:]))


def with_masks(inside: Callable[..., Masks]) -> Judge:
    """The edge with other fine masks."""

    def judge(masks: Masks, along: int, image: Pixels, label: int, classify: Any, dial: Dial) -> Kept:
        large = masks.logits(image, classify)
        if dial.objects(against(large, label)).any():
            return Kept(False, False, len(large))
        unsure = np.flatnonzero(~dial.sure(named(large, label))).tolist()
        fine = inside(masks, unsure, along)
        objected = len(fine) > 0 and bool(dial.objects(against(fine.logits(image, classify), label)).any())
        return Kept(not objected, False, len(large) + len(fine))

    return judge


def none_asked(masks: Masks, within: Sequence[int], along: int) -> Masks:
    """Fine masks are not asked where a large one is unsure."""
    return replace(masks, boxes=())


def only_the_first(masks: Masks, within: Sequence[int], along: int) -> Masks:
    """Fine masks are asked only within the first large mask that is unsure."""
    return finer_masks(masks, within[:1], along)


@pytest.mark.parametrize("broken", [too_small, one_missing, none_asked, only_the_first])
def test_a_broken_variant_is_caught(broken: Callable[..., Masks]) -> None:
    """Fine masks that don't cover, that are missing, or are not asked: each is beaten on a sign that it promises."""
    asked = broken in (none_asked, only_the_first)
    promised = finer_masks if asked else broken
    dial, found, whole = Dial("object", 0.7), 0, 0
    for seed in range(60):
        shown = sign((6, 2, 2), 0.7, seed, promised)
        if shields(dial, shown.levels(0, inside=promised)):
            found += shown.beaten(dial, 0, with_masks(broken))[0]
            whole += shown.beaten(dial, 0)[0] if asked else 0
    assert found > 0 == whole


def test_a_certificate_that_lets_a_large_mask_object_is_caught() -> None:
    """A large mask that surely names another label lets it pass by itself: it then asks no finer ones."""
    dial, found = Dial("object", 0.7), 0
    for seed in range(60):
        shown = sign((6, 2, 2), 0.7, seed)
        levels = shown.levels(0)
        if (dial.sure(levels.named) | dial.sure(levels.finer_named)).all():
            found += shown.beaten(dial, 0)[0]
    assert found > 0


@given(st.integers(2, 12), st.integers(0, 14), st.integers(2, 6))
def test_fine_masks_cover_what_their_large_mask_must_answer_for(side: int, more: int, along: int) -> None:
    """Every square within the large mask lies within one of its fine ones, and those within it."""
    top, left, tall, wide = 3, 5, side + more, side + more // 2
    large = Masks(side, ((0, 0, 1, 1), (top, left, tall, wide)), 128)
    boxes = finer_masks(large, [1], along).boxes
    assert len(boxes) <= along**2
    for a, b, h, w in boxes:
        assert a >= top and b >= left and a + h <= top + tall and b + w <= left + wide
    for y, x in itertools.product(range(top, top + tall - side + 1), range(left, left + wide - side + 1)):
        assert any(a <= y and y + side <= a + h and b <= x and x + side <= b + w for a, b, h, w in boxes)


KINDS = st.builds(
    PatchSpec,
    area=st.just(0.0625),
    masks=st.just(2),
    rule=st.sampled_from(("agree", "object")),
    tau=st.sampled_from((0.5, 0.7, 0.9)),
    finer=st.sampled_from((0, 2, 3)),
) | st.just(PatchSpec(area=0.0625, masks=2))


def combined(first: PatchSpec, second: PatchSpec) -> PatchSpec | None:
    """None if it is refused, in one line."""
    try:
        return stricter(first, second)
    except UsageError as error:
        said = str(error)
    assert "neither is the stricter one: give the same tau and finer" in said and "\n" not in said
    return None


@settings(deadline=None, max_examples=120)
@given(KINDS, KINDS, st.integers(0, 10**6))
def test_of_two_demands_the_stricter_satisfies_both_or_is_refused(
    first: PatchSpec, second: PatchSpec, seed: int
) -> None:
    """What it releases both release, and what one certifies it certifies; else one line that says what to give."""
    both = combined(first, second)
    assert both == combined(second, first)
    if both is None:
        assert first.finer or second.finer
        return
    assert (both.rule, both.tau, both.finer) in [(each.rule, each.tau, each.finer) for each in (first, second)]
    shown = sign((8, 2, 2), 0.7, seed)  # area 0.0625 of 8x8 is a square of 2

    def says(spec: PatchSpec, label: int) -> tuple[bool, bool]:
        dial, large = Dial.of(spec), shown.masks.logits(shown.clean, shown)
        if spec.finer == FINER:
            kept = kept_in_steps(shown.masks, FINER, shown.clean, label, shown, dial)
            return kept.holds is True, shields(dial, shown.levels(label))
        return bool(dial.permits(large, label).all()), dial.shields(large, label)

    if 3 not in (first.finer, second.finer):
        for each, label in itertools.product((first, second), range(CLASSES)):
            assert says(each, label)[0] or not says(both, label)[0]
            assert says(both, label)[1] or not says(each, label)[1]


class Scripted:
    """The real engine on images as they are; under large masks one confidence, the last being unsure, and under fine
    ones another."""

    provider = "test"

    def __init__(self, guard: Firewall, unsure: int, last: float, fine: float) -> None:
        self.engine, self.unsure, self.last, self.fine = guard.engine, unsure, last, fine
        self.label, self.batches = 0, list[int]()

    def classify(self, images: npt.NDArray[np.uint8]) -> Logits:
        logits = self.engine.classify(images)
        if len(images) < 4:
            self.label = int(logits[0].argmax())
            return logits
        first = not self.batches
        self.batches.append(len(images))
        sure = np.full(len(images), 0.99 if first else self.fine)
        sure[len(images) - self.unsure if first else len(images) :] = self.last
        found = np.full(logits.shape, -30.0, np.float32)
        found[:, self.label], found[:, (self.label + 1) % 43] = np.log(sure), np.log(1 - sure)
        return found


@pytest.fixture
def bare(guard: Firewall) -> Bundle:
    """The default bundle without a classifier of its own for masks."""
    return replace(guard.bundle, manifest=guard.bundle.manifest.model_copy(update={"masked_classifier": None}))


@pytest.mark.parametrize(
    ("rule", "unsure", "last", "fine", "released", "certified", "batches"),
    [
        ("object", 0, 0.5, 0.5, True, True, [36]),
        ("object", 1, 0.5, 0.9, True, True, [36, 16]),
        ("object", 1, 0.5, 0.6, True, False, [36, 16]),
        ("object", 1, 0.5, 0.1, False, None, [36, 16]),
        ("object", 1, 0.1, 0.9, False, None, [36]),
        ("object", 6, 0.5, 0.9, True, True, [36, 64, 24]),
        ("object", 6, 0.5, 0.1, False, None, [36, 64]),
        ("agree", 1, 0.5, 0.9, True, True, [36, 16]),
        ("agree", 1, 0.5, 0.6, False, None, [36, 16]),
    ],
)
def test_what_a_verdict_says_and_how_many_images_it_took(
    guard: Firewall,
    bare: Bundle,
    benign_sign: Pixels,
    rule: str,
    unsure: int,
    last: float,
    fine: float,
    released: bool,
    certified: bool | None,
    batches: list[int],
) -> None:
    """Large masks in one batch; then the fine ones within those that were unsure, each once: the last masks of
    a row overlap (6 x 16 less 8 that two share), and it ends at the first batch with an objection."""
    spec = PatchSpec.model_validate({"area": 0.0108, "tau": 0.7, "rule": rule, "finer": 4})
    engine = Scripted(guard, unsure, last, fine)
    verdict = Firewall(bare, engine, patches=spec).screen(benign_sign)
    assert (verdict.released, verdict.certified, engine.batches) == (released, certified, batches)
    assert verdict.reason is (Reason.BENIGN if released else Reason.UNCERTIFIED)
    plain = Firewall(bare, Scripted(guard, 0, 0.5, 0.5)).screen(benign_sign)
    assert verdict.classified - plain.classified == sum(batches)


def test_late_between_batches_is_no_release() -> None:
    """The time is asked after every batch, of large and of fine masks."""
    shown = sign((8, 2, 3), 0.7, 1)
    unsure = np.array([0.2, 0.0, 0.0], np.float32)
    for late, seen in ((1, len(shown.masks)), (2, None)):
        asked = itertools.count(1)
        kept = kept_in_steps(
            shown.masks,
            FINER,
            shown.clean,
            0,
            lambda images: np.tile(unsure, (len(images), 1)),
            Dial("object", 0.7),
            lambda late=late, asked=asked: next(asked) >= late,  # type: ignore[misc]
        )
        assert kept.holds is None and not kept.certified
        assert seen is None or kept.seen == seen


def test_settings_of_two_steps(tmp_path: Path) -> None:
    """`finer` with a tau, or with rule object, whose tau is the bundle's; what can't be meant is one line."""
    file = tmp_path / "settings.yaml"
    for text, spec in (
        ("{area: 0.02, tau: 0.9, finer: 4}", PatchSpec(area=0.02, tau=0.9, rule="object", finer=4)),
        ("{area: 0.02, rule: object, finer: 2}", PatchSpec(area=0.02, rule="object", finer=2)),
        ("{area: 0.02, tau: 0.9, rule: agree, finer: 6}", PatchSpec(area=0.02, tau=0.9, rule="agree", finer=6)),
        ("{area: 0.02, finer: 0}", PatchSpec(area=0.02)),
    ):
        file.write_text(f"patches: {text}\n")
        assert load_settings(file).patches == spec
    for text, said in (
        ("{area: 0.02, tau: 0.9, finer: 1}", "finer masks are 2 to 6 along a side"),
        ("{area: 0.02, tau: 0.9, finer: 7}", "patches.finer"),
        ("{area: 0.02, tau: 0.9, finer: -1}", "patches.finer"),
        ("{area: 0.02, tau: 0.9, finer: 2.5}", "patches.finer"),
        ("{area: 0.02, finer: 2}", "finer masks are asked where a mask is unsure: give a tau too"),
        ("{area: 0.02, tau: 0.9, rule: agree, rounds: 2, finer: 2}", "finer masks are asked in one round"),
    ):
        file.write_text(f"patches: {text}\n")
        with pytest.raises(ConfigError, match=said) as told:
            load_settings(file)
        assert "\n" not in str(told.value)
    assert "finer" not in PatchSpec(area=0.02, tau=0.9).model_dump(mode="json"), "reads and hashes as before"
    assert PatchSpec(area=0.02, tau=0.9, finer=4).model_dump(mode="json")["finer"] == 4
