"""Regions of a frame at another size, by the native runtime: Pillow's bytes, read where the frame lies."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from firewall import native
from firewall.frame import Pixels, Region
from firewall.transforms import crops, resize, runtime


def by_pillow(frame: Pixels, region: Region, width: int, height: int) -> Pixels:
    """Width first, then height, each rounded."""
    x, y, wide, high = region
    image = Image.fromarray(np.ascontiguousarray(frame[y : y + high, x : x + wide]))
    narrow = image.resize((width, high), Image.Resampling.BILINEAR)
    return np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR))


def frame_of(height: int = 210, width: int = 320) -> Pixels:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def test_regions_of_all_shapes_are_pillows_bytes() -> None:
    """300 regions, seven at a time, from 1x1 to nearly the whole frame; sizes that stay in one direction among them."""
    random, frame = np.random.default_rng(4), frame_of()
    for _ in range(45):
        regions: list[Region] = []
        for _ in range(7):
            wide, high = int(random.integers(1, 300)), int(random.integers(1, 200))
            regions.append((int(random.integers(0, 321 - wide)), int(random.integers(0, 211 - high)), wide, high))
        width, height = (int(side) for side in random.integers(1, 70, 2))
        if random.random() < 0.3:
            width = regions[0][2]
        if random.random() < 0.3:
            height = regions[0][3]
        found = crops(frame, regions, width, height)
        for region, crop in zip(regions, found, strict=True):
            assert np.array_equal(crop, by_pillow(frame, region, width, height)), (region, width, height)
            assert np.array_equal(
                crop, resize(frame[region[1] :, region[0] :][: region[3], : region[2]], width, height)
            )


@pytest.mark.parametrize("view", ["rows apart", "mirrored", "thinned out"])
def test_a_frame_is_read_as_it_lies(view: str) -> None:
    """Rows with gaps, as of a crop of a larger frame, are read in place; other layouts go by Pillow: the same bytes."""
    memory = frame_of(420, 640)
    frame = {"rows apart": memory[5:215, 7:327], "mirrored": memory[:210, 319::-1], "thinned out": memory[::2, ::2]}[
        view
    ]
    assert frame.shape == (210, 320, 3)
    regions: list[Region] = [(0, 0, 320, 210), (30, 20, 100, 60), (319, 209, 1, 1)]
    found = crops(frame, regions, 48, 48)
    for region, crop in zip(regions, found, strict=True):
        assert np.array_equal(crop, by_pillow(frame, region, 48, 48))


def test_without_the_runtime_pillow_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, regions = frame_of(), [(3, 4, 50, 61), (0, 0, 48, 48)]
    expected = crops(frame, regions, 48, 48)
    monkeypatch.setattr(runtime, "_loaded", lambda: None)
    assert np.array_equal(crops(frame, regions, 48, 48), expected)
    assert crops(frame, [], 48, 48).shape == (0, 48, 48, 3)


def test_the_extension_refuses_what_it_cant_hold() -> None:
    """A region beyond the frame, a list of another length, a result that is too large or shares memory."""
    module, frame = native.load(), frame_of()
    out = np.zeros((1, 4, 4, 3), np.uint8)
    for region in [(-1, 0, 5, 5), (0, 0, 321, 5), (0, 206, 5, 5), (0, 0, 0, 5), (2**31 - 1, 0, 5, 5)]:
        with pytest.raises(ValueError, match="outside"):
            module.crops(frame[None], np.array([region], np.int32), out)
    with pytest.raises(ValueError, match="shape"):
        module.crops(frame[None], np.zeros((2, 4), np.int32), out)
    with pytest.raises(ValueError, match=r"size|height"):
        module.crops(frame[None], np.zeros((0, 4), np.int32), np.zeros((0, 20000, 1, 3), np.uint8))
    with pytest.raises(ValueError, match="share"):
        module.crops(frame[None], np.array([[0, 0, 5, 5]], np.int32), frame[:1, :16].reshape(1, 4, 4, 3))
