"""What is no sign: drawn, inverted, a part of one, and crops of scenes beside the signs."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from firewall.errors import DataError
from firewall.frame import Pixels
from firewall.lab.training.classifiers.outliers import half, partial
from firewall.lab.training.jury.non_signs import drawn, inverted
from firewall.lab.training.jury.scenes import crops_without_sign
from firewall.lab.training.jury.sign_juror import HELD_SCENES, without_sign
from firewall.regions import overlaps


def test_drawn_things_are_images_that_differ() -> None:
    """Of any size, uint8, the same for the same generator; lamps, shapes, panels: many different ones."""
    for size in (8, 17, 64, 120):
        for seed in range(25):
            first, second = (drawn(size, np.random.default_rng(seed)) for _ in range(2))
            assert first.dtype == np.uint8 and first.shape == (size, size, 3)
            np.testing.assert_array_equal(first, second)
    assert len({drawn(64, np.random.default_rng(seed)).tobytes() for seed in range(40)}) == 40


def test_an_inverted_image_is_its_negative() -> None:
    """Twice is the image itself."""
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(inverted(pixels).astype(int) + pixels, 255)
    np.testing.assert_array_equal(inverted(inverted(pixels)), pixels)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 3), (8, 8), (90, 61)])
def test_a_part_is_smaller_than_the_sign_down_to_a_pixel(shape: tuple[int, int]) -> None:
    """Less than two thirds of a side, but 4 pixels where there are so many; an image of one pixel is no error."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for seed in range(20):
        found = partial(pixels, np.random.default_rng(seed))
        for side, whole in zip(found.shape[:2], shape, strict=True):
            assert min(4, whole) <= side <= max(4, 0.6 * whole)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 3), (90, 61)])
def test_a_half_is_cut_along_one_side(shape: tuple[int, int]) -> None:
    """The other side stays whole; all four halves are drawn; an image of one pixel is no error."""
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    kept = set()
    for seed in range(40):
        found = half(pixels, np.random.default_rng(seed))
        cut = [side < whole for side, whole in zip(found.shape[:2], shape, strict=True)]
        assert sum(cut) == 1 or min(shape) == 1
        assert all(side >= max(1, int(0.39 * whole)) for side, whole in zip(found.shape[:2], shape, strict=True))
        kept.add((*cut, bool((found[0, 0] == pixels[0, 0]).all())))
    assert min(shape) == 1 or len(kept) == 4


def scene(seed: int, width: int = 320, height: int = 200) -> Pixels:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), np.uint8)


def test_crops_lie_beside_the_signs() -> None:
    """A frame whose left half is one sign gives crops of the right half: they hold none of its colour; the same seed
    gives the same crops."""
    frame = np.ascontiguousarray(np.full((200, 320, 3), 200, np.uint8))
    frame[:, :160] = (255, 0, 0)
    crops = crops_without_sign([frame] * 6, [[(0, 0, 160, 200)]] * 6, seed=4)
    assert crops
    for crop in crops:
        assert crop.dtype == np.uint8 and min(crop.shape[:2]) >= 1
    inside = [float((crop[..., 1] == 0).mean()) for crop in crops]
    assert max(inside) <= 0.15 * 160 * 200 / 16**2, inside
    again = crops_without_sign([frame] * 6, [[(0, 0, 160, 200)]] * 6, seed=4)
    assert [crop.tobytes() for crop in again] == [crop.tobytes() for crop in crops]
    assert float(overlaps(np.array([[0, 0, 10, 10]], float), np.zeros((0, 4))).max(initial=0)) == 0.0


@pytest.mark.parametrize("size", [(5, 5), (16, 16), (9, 300)])
def test_frames_smaller_than_a_crop_give_smaller_crops(size: tuple[int, int]) -> None:
    """An image of five pixels among the scenes is no reason to stop."""
    assert crops_without_sign([scene(1, *size)], [[]])


def pack(path: Path, frames: list[Pixels], boxes: list[str] | None) -> Path:
    parts = [cv2.imencode(".png", frame[..., ::-1])[1].ravel() for frame in frames]
    offsets = np.cumsum([0, *(len(part) for part in parts)])
    columns = {} if boxes is None else {"boxes": np.array(boxes)}
    np.savez(path, blob=np.concatenate(parts), off=offsets, **columns)
    return path


def test_held_scenes_are_not_learnt_from(tmp_path: Path) -> None:
    """Every fifth frame of a pack with boxes is for judging: here it alone is green, and no crop is."""
    frames = [np.full((120, 160, 3), (0, 250, 0) if not n % HELD_SCENES else (90, 90, 90), np.uint8) for n in range(11)]
    crops = without_sign(pack(tmp_path / "a.npz", frames, ["[]"] * 11))
    assert crops and all(crop[..., 1].max() < 200 for crop in crops)
    unboxed = without_sign(pack(tmp_path / "b.npz", frames, None))
    assert any(crop[..., 1].max() > 200 for crop in unboxed), "without boxes nothing is kept for judging"


def test_a_folder_of_scenes_and_what_is_no_scene(tmp_path: Path) -> None:
    """Images of a folder are scenes without signs; a missing folder and boxes of another form are named."""
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "0.png"), scene(3))
    assert without_sign(tmp_path / "images")
    with pytest.raises(DataError, match="nowhere"):
        without_sign(tmp_path / "nowhere")
    for text in ("[[1, 2]]", "{", json.dumps([["a", 1, 2, 3, "x"]]), "3"):
        with pytest.raises(DataError, match=r"c\.npz: a frame's boxes"):
            without_sign(pack(tmp_path / "c.npz", [scene(0)] * 2, [text] * 2))
    whole = pack(tmp_path / "d.npz", [np.full((20, 20, 3), 9, np.uint8)] * 2, ["[[1, 0, 0, 20, 20]]"] * 2)
    with pytest.raises(DataError, match="no crop without a sign"):
        without_sign(whole)
