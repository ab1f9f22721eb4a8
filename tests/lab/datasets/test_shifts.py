"""What happens to honest images on their way, as detectors are trained and judged with it."""

from __future__ import annotations

import numpy as np
import pytest

from firewall.errors import UsageError
from firewall.frame import Pixels
from firewall.lab.datasets.shifts import KINDS, SHIFTS, _chosen, augmented, shifted
from firewall.transforms import resize


@pytest.fixture
def images(benign_sign: Pixels) -> Pixels:
    """Three sizes of grey levels of one sign."""
    sign = resize(benign_sign, 48, 48)
    return np.stack([sign, sign // 2, 255 - sign])


@pytest.mark.parametrize("name", KINDS)
def test_a_drawn_shift_changes_images_a_little(name: str, images: Pixels) -> None:
    """Same shape, same result for the same seed, another for another; still the same picture."""

    def drawn(seed: int) -> Pixels:
        return np.stack([KINDS[name].drawn(image, np.random.default_rng([seed, i])) for i, image in enumerate(images)])

    seen = drawn(1)
    assert seen.shape == images.shape and seen.dtype == np.uint8
    assert (seen != images).any(axis=(1, 2, 3)).all()
    assert np.array_equal(seen, drawn(1))
    assert not np.array_equal(seen, drawn(2))
    for before, after in zip(images, seen, strict=True):
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.7


def test_a_fixed_strength_lies_in_the_range_that_training_draws_from() -> None:
    """One table, one physics: what bundles are judged under is what detectors are trained with."""
    for kind, strength in SHIFTS.values():
        ranges = KINDS[kind].ranges
        assert set(strength) == set(ranges)
        for parameter, value in strength.items():
            low, high = ranges[parameter]
            assert low <= value <= high or parameter == "grey"


def test_dark_and_bright_go_their_way(images: Pixels) -> None:
    """Gamma above 1 takes light, below 1 gives it."""
    assert shifted(images, "dark").mean() < images.mean() < shifted(images, "bright").mean()


def test_unknown_shifts_are_named(images: Pixels) -> None:
    """With the names there are."""
    with pytest.raises(UsageError, match="unknown shift 'hail'; known: jpeg-95"):
        shifted(images, "hail")


def test_half_of_the_training_images_are_left_alone(images: Pixels) -> None:
    """A detector also has to know images that nothing happened to; without augmentation, all are."""
    generator, image = np.random.default_rng(0), images[0]
    alone = [np.array_equal(augmented(image, "shifts", generator), image) for _ in range(200)]
    assert 70 < sum(alone) < 130
    assert all(augmented(image, "none", generator) is image for _ in range(5))
    assert {augmented(image, "shifts", generator).shape for _ in range(50)} == {image.shape}


def test_small_attacks_are_not_hidden_under_noise(images: Pixels) -> None:
    """An attack of a grey level under noise of ten looks like noise: with `sensor` it is left out, a visible one isn't,
    and normal images have more of it."""
    small, large = (np.full(images[0].shape, size, np.int16) for size in (1, 20))

    def noisy(change: np.ndarray | None) -> int:
        generator = np.random.default_rng(0)
        return sum("noise" in _chosen("sensor", generator, change) for _ in range(400))

    assert noisy(small) == 0 < noisy(large) < noisy(None)
