"""The random draws that physical attacks choose from: what they may change, and by how much."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from firewall.frame import Pixels
from firewall.lab.datasets.obstructions import DRAWS, LARGEST_AREA, OBSTRUCTIONS

#: Those that lie on a part of the image and leave the rest as it was.
LOCAL = ("shadow", "triangle", "railing", "bars", "two-bars", "stickers", "leaves", "scribble", "dirt", "drops")
#: Those that cover a share of at most LARGEST_AREA.
SMALL = ("bars", "two-bars", "stickers", "leaves", "scribble")
#: Those that only take light away, and those that only add some.
DARKER, BRIGHTER = ("shadow", "triangle", "railing", "flicker"), ("beam", "projector")


def scene(height: int, width: int) -> Pixels:
    """Something of every colour with edges, and noise."""
    generator = np.random.default_rng([height, width])
    coarse = generator.integers(0, 256, (6, 6, 3), np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    noisy: Pixels = (smooth + generator.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
    return noisy


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (25, 25), (61, 47)])
def test_draws_are_images_of_the_same_size(name: str, shape: tuple[int, int]) -> None:
    """Any size gives uint8 of that size, the same for the same seed, and the given pixels are left alone."""
    pixels = scene(*shape)
    before = pixels.copy()
    first, again = (DRAWS[name](pixels, np.random.default_rng(5)) for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == pixels.shape
    assert np.array_equal(first, again) and np.array_equal(pixels, before)


@pytest.mark.parametrize("name", DRAWS)
def test_another_seed_draws_another_image(name: str) -> None:
    """Ten seeds give at least nine images, and nearly all of them are changed ones."""
    pixels = scene(48, 48)
    drawn = [DRAWS[name](pixels, np.random.default_rng(seed)) for seed in range(10)]
    assert len({image.tobytes() for image in drawn}) >= 9
    assert sum(not np.array_equal(image, pixels) for image in drawn) >= 9


@pytest.mark.parametrize("name", LOCAL)
def test_the_original_is_kept_where_nothing_is_drawn(name: str) -> None:
    """Bytes outside what is drawn are those of the image: no colour space rounds them on the way."""
    pixels = scene(80, 90)
    kept = [(DRAWS[name](pixels, np.random.default_rng(seed)) == pixels).all(2).mean() for seed in range(20)]
    assert np.median(kept) > 0.3


def coverage(name: str, side: int, seed: int) -> float:
    """The share of the image that is covered, soft edges counted by how far they cover: black and white images differ
    only where something of them is seen."""
    black, white = (
        DRAWS[name](np.full((side, side + 9, 3), level, np.uint8), np.random.default_rng(seed)).astype(float)
        for level in (0, 255)
    )
    return 1 - float((white - black).mean()) / 255


@pytest.mark.parametrize("side", [32, 48, 120])
@pytest.mark.parametrize("name", SMALL)
def test_what_covers_the_sign_is_small(name: str, side: int) -> None:
    """At most 4 % of the area, and a ninth of that for soft edges, in every one of 40 draws, on small crops as
    on large ones."""
    shares = [coverage(name, side, seed) for seed in range(40)]
    assert max(shares) <= 1.12 * LARGEST_AREA
    assert max(shares) > LARGEST_AREA / 2


def test_two_bars_are_black_or_white_and_two_percent_each() -> None:
    """Those of the issue: what is painted is 0 or 255, and both together come to 4 % where nothing overlaps."""
    pixels, whole = np.full((80, 80, 3), 90, np.uint8), []
    for seed in range(20):
        image = DRAWS["two-bars"](pixels, np.random.default_rng(seed))
        assert (image.max(2) == image.min(2)).all()
        painted = image[image != 90]
        whole.append(float(((painted == 0) | (painted == 255)).mean()))
    assert np.median(whole) > 0.3, "the rest are edges"
    shares = [coverage("two-bars", 64, seed) for seed in range(20)]
    assert np.median(shares) == pytest.approx(LARGEST_AREA, rel=0.05)


def test_the_triangle_has_the_papers_darkness() -> None:
    """Inside, CIELAB lightness is .43 of what it was; the colour's a and b stay, as far as bytes can say."""
    pixels = np.full((64, 64, 3), (150, 140, 160), np.uint8)
    image = DRAWS["triangle"](pixels, np.random.default_rng(1))
    before, after = (
        cv2.cvtColor(each.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3) for each in (pixels, image)
    )
    darkest = after[after[:, 0].argmin()]
    assert darkest[0] == pytest.approx(0.43 * before[0, 0], abs=0.6)
    assert darkest[1:] == pytest.approx(before[0, 1:], abs=1.5)


@pytest.mark.parametrize("name", ["shadow", "railing"])
def test_shadows_leave_something_to_be_seen(name: str) -> None:
    """Lightness never falls below .3 of what it was."""
    pixels = np.full((48, 48, 3), 180, np.uint8)
    lightness = [
        cv2.cvtColor(DRAWS[name](pixels, np.random.default_rng(seed)).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        for seed in range(40)
    ]
    whole = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0, 0]
    least = min(float(each[..., 0].min()) for each in lightness)
    assert 0.29 * whole <= least <= 0.5 * whole


@pytest.mark.parametrize("name", [*DARKER, *BRIGHTER])
def test_light_goes_one_way(name: str) -> None:
    """A shadow adds no light and a lamp takes none away, but for the rounding of a byte."""
    pixels = scene(40, 40)
    for seed in range(15):
        change = DRAWS[name](pixels, np.random.default_rng(seed)).astype(np.int16) - pixels
        grey = change.mean(2)
        assert (grey <= 1).all() if name in DARKER else (grey >= -1).all()


def test_a_pose_keeps_the_middle_in_view() -> None:
    """A mark in the middle stays within a quarter of the side, and no colour comes in that was not there."""
    pixels = np.full((60, 80, 3), 40, np.uint8)
    pixels[26:34, 36:44] = 220
    for seed in range(40):
        image = DRAWS["pose"](pixels, np.random.default_rng(seed))
        rows, columns = np.nonzero(image[..., 0] > 130)
        assert len(rows) > 10
        assert abs(rows.mean() - 30) < 15 and abs(columns.mean() - 40) < 20
        assert image.min() >= 40 and image.max() <= 220


def test_training_draws_what_it_did() -> None:
    """Families that only attacks have are beside what training chooses from, not in it."""
    assert set(OBSTRUCTIONS) < set(DRAWS)
    assert not {"pose", "pose-wide", "triangle", "two-bars", "railing", "scribble", "flicker"} & set(OBSTRUCTIONS)
    pixels = scene(48, 48)
    for name in ("bars", "stickers", "leaves"):
        plain, exact = (draws[name](pixels, np.random.default_rng(3)) for draws in (OBSTRUCTIONS, DRAWS))
        assert 0 < np.abs(plain.astype(int) - exact).mean() < 12, "the same draw with finer edges"
