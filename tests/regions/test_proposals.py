from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from firewall.errors import UsageError
from firewall.frame import MAX_SIDE, Pixels, Region
from firewall.regions.boxes import SMALLEST_SIDE
from firewall.regions.proposals import SignProposals
from firewall.regions.sign_evidence import MEASUREMENTS, default_weights, measure
from firewall.regions.sign_shapes import FAMILIES, MOST_OUTLINES, find_outlines, split_layers
from tests.regions.drawing import draw, overlap, scene, with_margin

KINDS = ["red ring", "triangle", "octagon", "blue disc", "yellow diamond"]


def best(regions: list[Region], box: Region) -> float:
    """How well the best region fits the sign and its margin."""
    return max((overlap(region, with_margin(box)) for region in regions), default=0.0)


def within(regions: list[Region], pixels: Pixels) -> bool:
    height, width = pixels.shape[:2]
    return all(
        x >= 0 and y >= 0 and w >= SMALLEST_SIDE and h >= SMALLEST_SIDE and x + w <= width and y + h <= height
        for x, y, w, h in regions
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [32, 48, 80, 160, 270])
def test_a_drawn_sign_is_found(kind: str, size: int) -> None:
    """Each kind of sign is found with its margin in a street, from 32 px to half the frame."""
    frame = scene()
    box = draw(frame, kind, 560, 130, size)
    regions = SignProposals().find(frame)
    assert best(regions, box) >= 0.5
    assert within(regions, frame)


@pytest.mark.parametrize("kind", ["red ring", "blue disc", "octagon"])
def test_a_small_sign_is_found(kind: str) -> None:
    """16 px in a frame of 960x540 is enough for a coloured disc or octagon."""
    frame = scene()
    box = draw(frame, kind, 300, 100, 16)
    assert best(SignProposals().find(frame), box) >= 0.5


@pytest.mark.parametrize("light", [0.25, 0.5])
@pytest.mark.parametrize("kind", KINDS)
def test_dusk_does_not_hide_a_sign(kind: str, light: float) -> None:
    """The same signs are found at half and at a quarter of the light."""
    frame = scene(light=light)
    box = draw(frame, kind, 500, 120, 64, light)
    assert best(SignProposals().find(frame), box) >= 0.5


def test_several_signs_in_one_frame() -> None:
    """One of each kind side by side: all are found, none twice."""
    frame = scene()
    boxes = [draw(frame, kind, 60 + 180 * place, 100, 60) for place, kind in enumerate(KINDS)]
    regions = SignProposals().find(frame)
    assert all(best(regions, box) >= 0.5 for box in boxes)
    pairs = [overlap(one, other) for place, one in enumerate(regions) for other in regions[:place]]
    assert max(pairs) < 0.6


def test_a_box_is_square_with_a_margin() -> None:
    """The region holds the whole sign and is at most half as large again."""
    frame = scene()
    x, y, size, _ = draw(frame, "blue disc", 400, 100, 100)
    left, top, width, height = SignProposals().find(frame)[0]
    assert abs(width - height) <= 1
    assert left <= x and top <= y and left + width >= x + size and top + height >= y + size
    assert 1.05 * size <= width <= 1.5 * size


def test_a_sign_at_the_edge_is_cut_off_with_the_frame() -> None:
    """Where the margin would leave the frame the region ends with it."""
    frame = scene()
    box = draw(frame, "blue disc", 0, 0, 80)
    regions = SignProposals().find(frame)
    assert best(regions, box) >= 0.5
    assert within(regions, frame)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_inside_a_sign_hardly_moves_its_box(kind: str) -> None:
    """Ten draws of +-8 grey levels for each pixel of the sign leave its box where it was (overlap at least 0.8)."""
    frame = scene()
    x, y, size, _ = box = draw(frame, kind, 430, 120, 64)
    finder = SignProposals()
    before = max(finder.find(frame), key=lambda region: overlap(region, with_margin(box)))
    for seed in range(10):
        noise = np.random.default_rng(seed).choice((-8, 8), (size, size, 3))
        noisy = frame.copy()
        noisy[y : y + size, x : x + size] = np.clip(frame[y : y + size, x : x + size] + noise, 0, 255)
        assert max(overlap(region, before) for region in finder.find(noisy)) >= 0.8


def test_the_same_pixels_give_the_same_boxes() -> None:
    """Twice by one finder, by another one, and from another layout of the same pixels in memory."""
    frame = scene()
    for place, kind in enumerate(KINDS):
        draw(frame, kind, 60 + 180 * place, 100, 60)
    finder = SignProposals()
    regions = finder.find(frame)
    assert regions
    assert finder.find(frame) == regions
    assert SignProposals().find(np.asfortranarray(frame)) == regions
    assert SignProposals().find(frame[:, ::-1].copy()[:, ::-1]) == regions


def test_the_frame_is_left_alone() -> None:
    """Looking doesn't write: a read-only frame is fine."""
    frame = scene()
    draw(frame, "octagon", 300, 100, 60)
    frame.setflags(write=False)
    assert SignProposals().find(frame)


@pytest.mark.parametrize("limit", [1, 3])
def test_the_limit_keeps_the_best(limit: int) -> None:
    """A lower limit gives the beginning of the longer list."""
    frame = scene()
    for place in range(5):
        draw(frame, "red ring", 40 + 180 * place, 100, 60)
    every = SignProposals(8).find(frame)
    assert len(every) >= 5
    assert SignProposals(limit).find(frame) == every[:limit]


def test_a_limit_below_one_is_refused() -> None:
    """A finder that may find nothing is a mistake."""
    with pytest.raises(UsageError, match="limit"):
        SignProposals(0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (6, 6), (7, 7), (20, 20), (540, 960)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_frame_of_one_colour_has_no_signs(shape: tuple[int, int], level: int) -> None:
    """Black, grey and white frames of any size give no region and no warning."""
    assert SignProposals().find(np.full((*shape, 3), level, np.uint8)) == []


def test_an_empty_street_has_few_regions() -> None:
    """Sky, trees and road without a sign stay below the three false regions that a frame may have."""
    assert len(SignProposals().find(scene())) < 3


@pytest.mark.parametrize("fill", ["noise", "street"])
def test_the_largest_frame_takes_bounded_time(fill: str) -> None:
    """8192x8192, noise or a street with a sign, is done in seconds: the work doesn't grow with the detail."""
    small = np.random.default_rng(1).integers(0, 256, (512, 512, 3), np.uint8) if fill == "noise" else scene(512, 512)
    box = draw(small, "octagon", 200, 100, 100)
    frame = small.repeat(MAX_SIDE // 512, axis=0).repeat(MAX_SIDE // 512, axis=1)
    start = time.process_time()
    regions = SignProposals().find(frame)
    assert time.process_time() - start < 10
    assert within(regions, frame) and len(regions) <= 8
    large = (16 * box[0], 16 * box[1], 16 * box[2], 16 * box[3])
    assert fill == "noise" or best(regions, large) >= 0.5


def test_outlines_are_bounded_on_noise() -> None:
    """A frame made of blobs, which has more outlines than any street, is cut to the largest ones."""
    random = np.random.default_rng(2)
    frame = random.integers(0, 2, (36, 64, 3), np.uint8).repeat(15, 0).repeat(15, 1) * np.uint8(255)
    frame = np.roll(frame, 3, axis=0)
    layers = split_layers(frame)
    outlines = find_outlines(layers)
    assert 100 < len(outlines.family) <= MOST_OUTLINES
    assert within(SignProposals().find(frame), frame)


def test_measurements_are_finite_and_fit_the_weights() -> None:
    """One row of numbers for each outline, as many as the stored weights expect."""
    frame = scene()
    draw(frame, "triangle", 300, 100, 60)
    layers = split_layers(frame)
    outlines = find_outlines(layers)
    evidence = measure(layers, outlines)
    weights = default_weights()
    assert evidence.values.shape == (len(outlines.family), MEASUREMENTS) and np.isfinite(evidence.values).all()
    assert weights.linear.shape == weights.square.shape == (FAMILIES, MEASUREMENTS)
    assert weights.bias.shape == (FAMILIES,) and (weights.spread > 0).all()


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 48), st.integers(1, 48), st.just(3))), st.integers(1, 12))
def test_any_frame_gives_boxes_inside_it(block: Pixels, zoom: int) -> None:
    """Whatever the pixels, regions lie in the frame, are unique and at most as many as the limit."""
    frame = block.repeat(zoom, 0).repeat(zoom, 1)
    regions = SignProposals().find(frame)
    assert within(regions, frame)
    assert len(regions) <= 8 and len(set(regions)) == len(regions)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_random_frames_give_boxes_inside_them(height: int, width: int, seed: int, grain: int) -> None:
    """The same for frames of random blobs, which do have outlines."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (height // grain + 1, width // grain + 1, 3), np.uint8)
    frame = blocks.repeat(grain, 0).repeat(grain, 1)[:height, :width]
    assert within(SignProposals().find(frame), frame)
