"""The versions of signs that a juror learns from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from firewall.frame import Pixels
from firewall.lab.training.classifiers import variety
from firewall.lab.training.classifiers.augmentation import STEPS
from firewall.lab.training.classifiers.variety import Variety, version
from firewall.lab.training.jury.opinions import PLAIN_LIGHT, Opinions

REJECT = 3
#: Label and channel means of the first versions, as they were drawn when the first jurors were trained.
DRAWN = (
    (0, (161.3, 172.0, 170.1)),
    (1, (87.0, 80.7, 88.6)),
    (1, (186.8, 194.0, 194.9)),
    (0, (127.5, 128.4, 125.8)),
    (1, (155.7, 150.0, 151.4)),
    (2, (98.5, 92.9, 99.3)),
    (3, (171.6, 148.4, 153.4)),
    (3, (218.2, 229.5, 216.3)),
    (3, (99.1, 76.7, 95.4)),
)


def images() -> list[Pixels]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*generator.integers(20, 130, 2), 3), np.uint8) for _ in range(6)]


def opinions(**changes: object) -> Opinions:
    given = {"reject": REJECT, "size": 32, "variety": Variety(mirror={0: 0, 1: 2, 2: 1}), "seed": 7, **changes}
    return Opinions(images(), [0, 1, 2, 0, 1, 2], [images()[0]], **given)  # type: ignore[arg-type]


def test_a_version_depends_on_seed_epoch_and_index_alone() -> None:
    """Asked again, asked in another order, asked by worker processes: the same image and label."""
    keys = [(epoch, index) for epoch in range(2) for index in range(10)]
    first = {key: opinions()[key] for key in keys}
    again = opinions()
    for key in reversed(keys):
        assert torch.equal(again[key][0], first[key][0]) and again[key][1] == first[key][1]
    loader = DataLoader(opinions(), 5, sampler=keys, num_workers=2)  # type: ignore[arg-type]
    loaded = torch.cat([batch for batch, _ in loader])
    assert torch.equal(loaded, torch.stack([first[key][0] for key in keys]))
    assert not torch.equal(opinions(seed=8)[0, 0][0], first[0, 0][0])
    assert not torch.equal(first[1, 0][0], first[0, 0][0])


def test_versions_stay_what_they_were_when_checkpoints_were_made() -> None:
    """A run that was stopped goes on with the same images. The mean of each channel of a few is held here, in grey
    levels, to within one, since processors round in their own ways: any other order of draws moves them by far more."""
    for index, (label, means) in enumerate(DRAWN):
        image, found = opinions()[0, index]
        assert image.shape == (3, 32, 32) and image.dtype == torch.float32 and 0 <= image.min() <= image.max() <= 1
        assert found == label
        np.testing.assert_allclose((image * 255).mean((1, 2)).numpy(), means, atol=1)


def test_labels_follow_the_mirror_and_what_is_past_the_images_is_no_sign() -> None:
    """1 becomes 2 and back in half of the versions; a class that has no mirror image stays; the rest is rejected."""
    found = {index: {opinions()[epoch, index][1] for epoch in range(30)} for index in range(8)}
    assert found[0] == {0} and found[1] == {1, 2} and found[2] == {1, 2}
    assert found[6] == found[7] == {REJECT}
    plain = opinions(variety=Variety())
    assert {plain[epoch, 1][1] for epoch in range(20)} == {1}


def test_only_the_obstructions_that_are_named_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out of training stays unseen, so that it can be measured as such."""
    generator = np.random.default_rng(0)
    some, none = Variety(obstructed=1.0, kinds=("dirt", "beam")), Variety(obstructed=0.0)
    drawn: list[tuple[str, ...]] = []

    def obstruct(pixels: Pixels, generator: np.random.Generator, kinds: tuple[str, ...]) -> tuple[Pixels, str]:
        drawn.append(kinds)
        return pixels, kinds[0]

    monkeypatch.setattr(variety, "obstruct", obstruct)
    for _ in range(3):
        assert version(images()[0], 32, some, generator)[1] == "dirt"
    assert drawn == [("dirt", "beam")] * 3
    pixels, kind = version(images()[0], 32, none, generator)
    assert pixels.shape == (32, 32, 3) and kind == "" and len(drawn) == 3


def test_who_answers_for_clear_signs_alone_rejects_what_lies_on_them() -> None:
    """Every obstructed version of a sign; light that is as on any day and weather are no obstruction. A sign classifier
    or another juror goes on naming them."""

    def labels(kinds: tuple[str, ...], share: float, *, clear: bool) -> set[int]:
        seen = Variety(obstructed=share, kinds=kinds, weather=0.5)
        data = Opinions(images(), [0, 1], [], reject=REJECT, size=32, variety=seen, seed=0, clear=clear)
        return {data[epoch, 0][1] for epoch in range(12)}

    assert labels(("dirt", "shadow"), 1.0, clear=True) == {REJECT}
    assert labels(("dirt", "shadow"), 0.5, clear=True) == {0, REJECT}
    assert labels(PLAIN_LIGHT, 1.0, clear=True) == labels(("dirt",), 0.0, clear=True) == {0}
    assert labels(("dirt", "shadow"), 1.0, clear=False) == {0}


def test_halves_and_turned_signs_are_learned_as_no_sign_where_that_is_asked() -> None:
    """Otherwise there are none; of classes that look alike when turned none is turned."""
    sign = np.zeros((40, 40, 3), np.uint8)
    sign[:20, :20] = 255  # one bright corner: where it is tells how the sign was turned

    def corners(label: int, spoilt: float) -> set[tuple[bool, bool]]:
        plain = Variety(0, (), 0, without=STEPS)
        data = Opinions([sign], [label], [sign], reject=43, size=40, variety=plain, seed=0, spoilt=spoilt)
        found = set()
        for epoch in range(80):
            image, rejected = data[epoch, 1]
            assert rejected == 43
            quarters = [float(part.mean()) for part in (image[:, :20, 20:], image[:, 20:, :20], image[:, 20:, 20:])]
            found |= {tuple(quarter > 0.9 for quarter in quarters)}
        return found

    on_its_head, upper_half = (False, False, True), (True, False, True)  # the half mirrored: its right side is bright
    assert {on_its_head, upper_half} <= corners(1, 0.6)
    assert upper_half in corners(12, 0.6) and on_its_head not in corners(12, 0.6)
    assert not {on_its_head, upper_half} & corners(1, 0)


@pytest.mark.parametrize("shape", [(1, 1), (7, 200), (1, 400), (400, 1), (2, 3)])
def test_signs_of_any_shape_and_no_scenes(shape: tuple[int, int]) -> None:
    """A strip of one pixel is no sign, but it doesn't stop a training; neither does having no scenes."""
    odd = [np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)]
    data = Opinions(odd, [0], [], reject=1, size=32, variety=Variety(), seed=0)
    for epoch in range(6):
        for index in range(3):
            assert data[epoch, index][0].shape == (3, 32, 32)
