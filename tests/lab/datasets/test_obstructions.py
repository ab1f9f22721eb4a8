"""Shadows, light, stickers, dirt ...: what every draw has to hold, whatever the image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from firewall.frame import Pixels
from firewall.lab.datasets.obstructions import DRAWS, LARGEST_AREA, OBSTRUCTIONS, obstruct

Draw = Callable[[Pixels, np.random.Generator], Pixels]
SIZES = ((1, 1), (1, 9), (9, 1), (7, 200), (200, 7), (3, 3), (48, 48), (61, 37))
#: What covers an area; light and shadow have none.
COVERING = ("bars", "stickers", "leaves", "two-bars", "scribble")


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_is_an_image_of_the_same_size_and_depends_on_its_generator_alone(name: str) -> None:
    """Of any size down to one pixel: uint8, the same shape; the same seed gives the same image, another one another;
    what was given in is left as it was, and may be a view."""
    draw = DRAWS[name]
    for height, width in SIZES:
        for pixels in (noise(height, width), noise(height, width)[::-1, ::-1]):
            before, seeds = pixels.copy(), range(6)
            found = [draw(pixels, np.random.default_rng(seed)) for seed in seeds]
            for seed, image in zip(seeds, found, strict=True):
                assert image.dtype == np.uint8 and image.shape == pixels.shape
                np.testing.assert_array_equal(image, draw(pixels, np.random.default_rng(seed)))
            np.testing.assert_array_equal(pixels, before)
    pixels = noise(48, 48)
    assert len({draw(pixels, np.random.default_rng(seed)).tobytes() for seed in range(12)}) > 8


def covered(draw: Draw, side: int, seed: int) -> float:
    """The share of the image that is painted over, from 0 to 1: a full cover hides whether black or white is below."""
    white, black = (
        draw(np.full((side, side, 3), level, np.uint8), np.random.default_rng(seed)).astype(np.float64)
        for level in (255, 0)
    )
    return float(1 - (white - black).mean() / 255)


@pytest.mark.parametrize("name", COVERING)
@pytest.mark.parametrize(("side", "largest"), [(300, 0.05), (48, 0.1)])
def test_what_lies_on_a_sign_covers_little_of_it(name: str, side: int, largest: float) -> None:
    """The area that is given is at most LARGEST_AREA. Smoothed edges add half a pixel around, which is little on a
    large image and doubles it on a small one; that is what the module says, and it may not become more."""
    shares = [covered(DRAWS[name], side, seed) for seed in range(25)]
    assert 0 < max(shares) <= largest
    assert np.mean(shares) <= (1.15 if side == 300 else 1.8) * LARGEST_AREA


def test_shadows_darken_light_brightens_and_neither_goes_too_far() -> None:
    """A shadow makes nothing brighter and leaves .3 of the lightness at the least; projected light is only added."""
    grey = np.full((40, 40, 3), 130, np.uint8)
    for seed in range(20):
        for name in ("shadow", "triangle", "railing", "flicker"):
            drawn = DRAWS[name](grey, np.random.default_rng(seed)).astype(int)
            assert drawn.max() <= 131 and drawn.min() >= 25, name
        for name in ("projector", "beam"):
            assert OBSTRUCTIONS[name](grey, np.random.default_rng(seed)).min() >= 129, name


def test_one_kind_is_drawn_and_only_of_those_that_are_named() -> None:
    """`obstruct` of one kind's name is that kind, drawn after the choice; of all names every kind comes up."""
    pixels = noise(32, 32)
    for seed in range(5):
        chosen = np.random.default_rng(seed)
        chosen.integers(1)
        found, kind = obstruct(pixels, np.random.default_rng(seed), ("dirt",))
        np.testing.assert_array_equal(found, OBSTRUCTIONS["dirt"](pixels, chosen))
        assert kind == "dirt"
    kinds = tuple(OBSTRUCTIONS)
    assert {int(np.random.default_rng(seed).integers(len(kinds))) for seed in range(200)} == set(range(len(kinds)))
    assert set(OBSTRUCTIONS) < set(DRAWS), "attacks draw some families that training never does"
