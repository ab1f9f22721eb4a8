"""The dial of the masks: what is released, called certified and promised, against a sticker that can do anything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firewall.bundle import PatchSpec
from firewall.decision.dial import SLACK, Dial, against, check_logits, named, stricter
from firewall.decision.masking import Kept, Masks, largest_sticker, masks_for
from firewall.errors import EngineError
from firewall.frame import Pixels
from firewall.transforms import resize

CLASSES = 3
TAUS = (0.2, 0.5, 0.7, 0.9)
Logits = npt.NDArray[np.float32]


def softmax(logits: Logits) -> npt.NDArray[np.float64]:
    """Confidences, as everybody writes them."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def border_rows(tau: float) -> Logits:
    """Rows of logits on and beside every bound: confidences of tau exactly and a little more or less, and ties."""
    bound = math.log(tau) - math.log1p(-tau)
    steps = (-1.0, -SLACK, -SLACK / 4, 0.0, SLACK / 4, SLACK, 1.5 * SLACK, 1.0)
    rows = [[bound + step + math.log(2), 0.0, 0.0] for step in steps]  # two others at 0: the odds are bound + step
    rows += [[0.0, 0.0, 0.0], [5.0, 5.0, 0.0], [5.0, 5.0 + SLACK / 4, -9.0], [9.0, -9.0, -9.0], [0.4, 0.3, 0.2]]
    return np.array([list(each) for row in rows for each in sorted(set(itertools.permutations(row)))], np.float32)


@dataclass
class Almighty:
    """A classifier whose answer under a mask that hides the sticker is the clean sign's, and else what a sticker wants.

    Args:
        masks: The masks.
        clean: The sign without a sticker.
        logits: (masks, classes), the answers for the clean sign under each mask.
        target: What the sticker makes of every image that shows a bit of it.
        jitter: By how much logits differ from one time to another.
    """

    masks: Masks
    clean: Pixels
    logits: Logits
    target: int
    jitter: float = 0.0

    def __post_init__(self) -> None:
        hidden = [self.masks.covered(self.clean, mask, mask).tobytes() for mask in range(len(self.masks))]
        self._known = dict(zip(hidden, self.logits, strict=True))
        self._wanted = np.where(np.arange(CLASSES) == self.target, 30.0, -30.0).astype(np.float32)
        self._noise = np.random.default_rng(0)

    def __call__(self, images: Pixels) -> Logits:
        rows = np.stack([self._known.get(image.tobytes(), self._wanted) for image in images])
        noise = self._noise.choice([-1.0, 1.0], rows.shape) * self.jitter
        return np.asarray(rows + noise, np.float32)


def stickers(clean: Pixels, side: int) -> Iterator[Pixels]:
    """The sign with a sticker at every place; what it shows differs from the sign in every pixel."""
    height, width = clean.shape[:2]
    for top, left in itertools.product(range(height - side + 1), range(width - side + 1)):
        patched: Pixels = clean.copy()
        patched[top : top + side, left : left + side] += 7
        yield patched


def beaten(
    size: int,
    masks: Masks,
    dial: Dial,
    logits: Logits,
    label: int,
    judge: Callable[[Masks, Pixels, int, Almighty, Dial], Kept] | None = None,
    jitter: float = 0.0,
) -> tuple[int, int]:
    """Places and targets at which a sticker gets another label released, and of them those called certified."""
    clean = np.random.default_rng(1).integers(130, 240, (size, size, 3)).astype(np.uint8)
    released = certified = 0
    for target in range(CLASSES):
        if target == label:
            continue
        network = Almighty(masks, clean, logits, target, jitter)
        for patched in stickers(clean, masks.side):
            ask = judge or (lambda m, image, wanted, classify, d: m.kept(image, wanted, classify, 1, dial=d))
            kept = ask(masks, patched, target, network, dial)
            released += kept.holds is True
            certified += kept.holds is True and kept.certified
    return released, certified


def drawn(generator: np.random.Generator, masks: int, tau: float, *, border: bool) -> Logits:
    """Answers under each mask: mostly class 0, surely or less so."""
    if border:
        rows = border_rows(tau)
        good = rows[rows.argmax(axis=1) == 0]
        pools = [good if generator.random() < 0.8 else rows for _ in range(masks)]
        return np.stack([pool[generator.integers(len(pool))] for pool in pools])
    rows = generator.normal(0, 1.5, (masks, CLASSES))
    rows[:, 0] += generator.choice([0.0, 4.0])
    return rows.astype(np.float32)


def clear(dial: Dial, logits: Logits) -> bool:
    """No level lies within a slack of the bound, and no two labels are level: there, who is careful promises less."""
    tau = 0.5 if dial.tau is None else dial.tau
    levels = np.concatenate([each(logits, label) for each in (named, against) for label in range(CLASSES)])
    first = np.sort(logits.astype(np.float64), axis=1)
    apart = (first[:, -1] - first[:, -2]).min() > 2 * SLACK
    return bool(apart and (np.abs(levels - math.log(tau / (1 - tau))) > 2 * SLACK).all())


DIALS = st.builds(Dial, st.sampled_from(("agree", "object")), st.sampled_from(TAUS)) | st.just(Dial())
LAYOUTS = st.sampled_from([(4, 1, 2), (5, 1, 3), (6, 2, 2), (7, 2, 3), (8, 3, 2)])


@settings(deadline=None, max_examples=60)
@given(LAYOUTS, DIALS, st.integers(0, 10**6), st.booleans(), st.sampled_from((0.0, SLACK / 2.1)))
def test_no_sticker_gets_another_label_released_where_that_is_promised(
    layout: tuple[int, int, int], dial: Dial, seed: int, border: bool, jitter: float
) -> None:
    """Every place on a small image, every target, a sticker that commands all masks that don't hide it wholly, logits
    on the very bounds, and last bits that differ each time: what `shields` promises holds. What is called certified is
    what rule agree would release, so it is promised wherever no mask objects, also by rule object."""
    size, side, count = layout
    masks = masks_for(size, size, side * side / size**2, count)
    logits = drawn(np.random.default_rng(seed), len(masks), dial.tau or 0.5, border=border)

    released, certified = beaten(size, masks, dial, logits, 0, jitter=jitter)

    assert not (dial.shields(logits, 0) and released)
    assert not (replace(dial, rule="agree").shields(logits, 0) and certified)
    if dial.rule == "agree":
        assert released == certified, "all that this rule releases is certified"
    if not border and not jitter and clear(dial, logits):
        assert dial.shields(logits, 0) == (released == 0), "what isn't promised can be done: the certificate is tight"


def smaller(masks: Masks) -> Masks:
    """Masks that leave a line of pixels of some stickers uncovered."""
    return replace(masks, boxes=tuple((top, left, tall - 1, wide) for top, left, tall, wide in masks.boxes))


def without_the_corner(masks: Masks) -> Masks:
    """The border case of Minority Reports: a sticker in the corner lies within one mask, and that one has no say."""
    return replace(masks, boxes=masks.boxes[1:])


def leading(_: Dial, logits: Logits, label: int) -> bool:
    """A certificate that forgets tau."""
    return bool((logits.argmax(axis=1) == label).all())


def unopposed(dial: Dial, logits: Logits, label: int) -> bool:
    """A certificate of the other rule."""
    return not dial.objects(against(logits, label)).any()


def eager(masks: Masks, image: Pixels, label: int, classify: Almighty, dial: Dial) -> Kept:
    """Objects only above tau, not at it."""
    logits = masks.logits(image, classify)
    above = replace(dial, tau=None if dial.tau is None else dial.tau + 1e-3)
    return Kept(not above.objects(against(logits, label)).any(), False, len(logits))


def loose(masks: Masks, image: Pixels, label: int, classify: Almighty, dial: Dial) -> Kept:
    """Lets one mask be wrong."""
    logits = masks.logits(image, classify)
    return Kept(int((~dial.permits(logits, label)).sum()) <= 1, False, len(logits))


@pytest.mark.parametrize(
    ("masks", "promise", "judge"),
    [
        (smaller, None, None),
        (without_the_corner, None, None),
        (None, leading, None),
        (None, unopposed, None),
        (None, None, eager),
        (None, None, loose),
    ],
    ids=["small", "corner", "leading", "unopposed", "eager", "loose"],
)
def test_a_broken_rule_is_caught_by_the_same_test(
    masks: Callable[[Masks], Masks] | None,
    promise: Callable[[Dial, Logits, int], bool] | None,
    judge: Callable[[Masks, Pixels, int, Almighty, Dial], Kept] | None,
) -> None:
    """Masks that are too small or fewer, a certificate of another rule or without tau, objections only above tau, and
    one mask that may be wrong: each is beaten on some image that it promises."""
    dial, found = Dial("object", 0.7), 0
    for seed, border in itertools.product(range(40), (False, True)):
        whole = masks_for(6, 6, 4 / 36, 2)
        broken = whole if masks is None else masks(whole)
        # On the bound the answers are exactly of confidence tau and a slack more.
        logits = drawn(np.random.default_rng(seed), len(broken), 0.7, border=border)
        if judge is eager:
            logits[0] = np.array([math.log(0.7 / 0.3) + math.log(2) + 1.5 * SLACK, 0, 0], np.float32)
            logits[1:] = [9, -9, -9]
        if (promise or Dial.shields)(dial, logits, 0):
            found += beaten(6, broken, dial, logits, 0, judge)[0]
    assert found > 0


@pytest.mark.parametrize("tau", TAUS)
def test_levels_are_confidences(tau: float) -> None:
    """Against the softmax written out: sure is leading with tau and a slack, objecting is not being behind with tau."""
    rows = np.concatenate([border_rows(tau), np.random.default_rng(2).normal(0, 2, (400, CLASSES)).astype(np.float32)])
    confidences, values = softmax(rows), rows.astype(np.float64)
    for label in range(CLASSES):
        others = np.delete(values, label, axis=1).max(axis=1)
        best = np.where(np.arange(CLASSES) == label, -1.0, confidences).max(axis=1)
        near = np.abs(np.log(best / (1 - best)) - np.log(tau / (1 - tau))) < 1e-6  # the last bit decides there
        objects = (others >= values[:, label]) & (best >= tau)
        assert (Dial("object", tau).objects(against(rows, label)) == objects)[~near].all()
        assert (Dial().objects(against(rows, label)) == (others >= values[:, label])).all()
        sure = Dial("agree", tau).sure(named(rows, label))
        assert (confidences[sure, label] >= tau).all() and (values[sure, label] > others[sure]).all()
        clear = (confidences[:, label] >= tau + SLACK) & (values[:, label] >= others + SLACK)
        assert sure[clear].all()


@given(st.integers(0, 10**6), st.sampled_from(TAUS))
def test_the_rules_are_each_others_mirror(seed: int, tau: float) -> None:
    """What one rule releases of a clean sign, the other certifies; without tau they are one."""
    logits = drawn(np.random.default_rng(seed), 9, tau, border=bool(seed % 2))
    for one, other in (("agree", "object"), ("object", "agree")):
        assert Dial(one, tau).permits(logits, 0).all() == Dial(other, tau).shields(logits, 0)


@given(st.data())
def test_of_two_demands_both_are_satisfied(data: st.DataObject) -> None:
    """Whatever the stricter of two demands lets pass, both let pass; whatever one of them certifies, it certifies."""
    kinds = st.builds(
        PatchSpec, area=st.just(0.02), rule=st.sampled_from(("agree", "object")), tau=st.sampled_from((*TAUS, 0.01))
    ) | st.just(PatchSpec(area=0.02))
    first, second = data.draw(kinds), data.draw(kinds)
    both = stricter(first, second)
    assert both is not None and both == stricter(second, first)
    logits = drawn(np.random.default_rng(data.draw(st.integers(0, 10**6))), 6, 0.7, border=data.draw(st.booleans()))
    for each, label in itertools.product((first, second), range(CLASSES)):
        assert not (Dial.of(both).permits(logits, label) & ~Dial.of(each).permits(logits, label)).any()
        assert Dial.of(both).shields(logits, label) or not Dial.of(each).shields(logits, label)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dial", [Dial(), Dial("agree", 0.7), Dial("object", 0.7)])
def test_logits_that_are_not_finite_are_an_error(wrong: float, dial: Dial) -> None:
    """No comparison with NaN objects to anything, so it must never come to one."""
    logits = np.zeros((4, 3), np.float32)
    logits[2, 1] = wrong
    for ask in (dial.permits, dial.shields):
        with pytest.raises(EngineError, match="not finite"):
            ask(logits, 0)


def test_probabilities_are_refused() -> None:
    """A softmax of a softmax hardly reaches any tau, and then no mask would ever object."""

    def logits(images: Pixels) -> Logits:
        return images.reshape(len(images), -1)[:, :4].astype(np.float32) / 9

    check_logits(logits, 8, 8, "a network")
    with pytest.raises(EngineError, match="a network gives probabilities, and tau needs logits: export it without"):
        check_logits(lambda images: softmax(logits(images)).astype(np.float32), 8, 8, "a network")


@settings(deadline=None, max_examples=40)
@given(st.integers(12, 150), st.sampled_from((48, 64)), st.integers(3, 12), st.integers(0, 10**6))
def test_how_large_a_sticker_may_be_in_the_camera_s_own_pixels(region: int, length: int, side: int, seed: int) -> None:
    """A box of that width, anywhere in a region that is shrunk or enlarged, changes no more than `side` pixels of the
    network's input along an axis, whatever it shows."""
    width, generator = largest_sticker(side, length, region), np.random.default_rng(seed)
    clean = generator.integers(0, 256, (region, region, 3)).astype(np.uint8)
    shown = resize(clean, length, length)
    for _ in range(6 if 0 < width <= region else 0):
        top, left = generator.integers(0, region - width + 1, 2)
        patched = clean.copy()
        patched[top : top + width, left : left + width] ^= 255
        rows, columns = np.nonzero((resize(patched, length, length) != shown).any(axis=2))
        if len(rows):
            assert max(np.ptp(rows), np.ptp(columns)) + 1 <= side
