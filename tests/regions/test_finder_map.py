"""From a finder's map to boxes: exact geometry, one box for each sign, bounded work."""

from __future__ import annotations

import numpy as np
import pytest

from firewall.errors import EngineError
from firewall.regions.finder_map import boxes_of
from firewall.regions.suppression import MOST_COMPARED

STRIDE = 8


def drawn(signs: list[tuple[float, float, float, float, float]], height: int = 20, width: int = 30) -> np.ndarray:
    """A map that says for each sign, x0, y0, x1, y1 and score, at the place of its centre where its sides are."""
    answer = np.zeros((5, height, width), np.float32)
    answer[0] = -12
    for x0, y0, x1, y1, score in signs:
        column, row = int((x0 + x1) / 2 // STRIDE), int((y0 + y1) / 2 // STRIDE)
        x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
        answer[0, row, column] = np.log(score / (1 - score))
        answer[1:, row, column] = np.log(np.array([x - x0, y - y0, x1 - x, y1 - y]) / STRIDE)
    return answer


def test_a_drawn_map_gives_the_exact_boxes() -> None:
    """Each sign where it was drawn, to a thousandth of a pixel, best first, with its score; the threshold counts."""
    signs = [(20.0, 30.5, 36.0, 50.0, 0.6), (101.25, 40.0, 161.0, 99.5, 0.9), (200.0, 8.0, 217.0, 25.0, 0.3)]
    corners, scores = boxes_of(drawn(signs), STRIDE, 0.5, 8)
    assert np.allclose(corners, [signs[1][:4], signs[0][:4]], atol=1e-3)
    assert np.allclose(scores, [0.9, 0.6], atol=1e-5)
    assert len(boxes_of(drawn(signs), STRIDE, 0.2, 8)[0]) == 3
    assert len(boxes_of(drawn(signs), STRIDE, 0.95, 8)[0]) == 0


def test_neighbours_that_say_the_same_sign_give_one_box() -> None:
    """Nine places around a centre with boxes a pixel apart: one box, in their midst."""
    answer = drawn([])
    for row in range(5, 8):
        for column in range(9, 12):
            x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
            box = np.array([60.0, 30, 110, 80]) + (row - 6)
            answer[0, row, column] = 2.0
            answer[1:, row, column] = np.log(np.abs(box - (x, y, x, y)) / STRIDE)
    corners, _ = boxes_of(answer, STRIDE, 0.5, 8)
    assert corners.shape == (1, 4) and np.allclose(corners, [[60, 30, 110, 80]], atol=1e-3)


def test_a_box_inside_another_is_no_second_sign() -> None:
    """A sign and its inner field, whatever scores higher: one box. Two signs one above the other: two boxes."""
    whole, field = (40.0, 40.0, 100.0, 100.0), (50.0, 58.0, 82.0, 90.0)
    for scores in ((0.9, 0.8), (0.8, 0.9)):
        corners, _ = boxes_of(drawn([(*whole, scores[0]), (*field, scores[1])]), STRIDE, 0.5, 8)
        assert len(corners) == 1
    above, below = (40.0, 20.0, 70.0, 50.0, 0.9), (40.0, 49.0, 70.0, 79.0, 0.8)
    assert len(boxes_of(drawn([above, below]), STRIDE, 0.5, 8)[0]) == 2


def test_a_map_full_of_signs_is_bounded() -> None:
    """Every place of a large map says a sign: at most the limit comes back, from the best places, at once."""
    answer = np.zeros((5, 300, 400), np.float32)
    answer[0] = 1.0
    answer[0, 100, 100] = 2.0
    corners, scores = boxes_of(answer, STRIDE, 0.5, 8)
    assert len(corners) == 8 and scores[0] > 0.88
    assert len(boxes_of(answer, STRIDE, 0.5, 10_000)[0]) <= MOST_COMPARED


@pytest.mark.parametrize("place", [(0, 3, 3), (1, 3, 3), (4, 19, 29)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_an_error(place: tuple[int, int, int], value: float) -> None:
    """Anywhere in the map, above the threshold or not: nobody knows what the rest is worth."""
    answer = drawn([(20, 30, 36, 50, 0.6)])
    answer[place] = value
    with pytest.raises(EngineError, match="not finite"):
        boxes_of(answer, STRIDE, 0.5, 8)


@pytest.mark.parametrize("shape", [(4, 5, 5), (6, 5, 5), (5, 5), (1, 5, 5, 5)])
def test_another_shape_is_an_error(shape: tuple[int, ...]) -> None:
    """It is named, with the one that is needed."""
    with pytest.raises(EngineError, match="is needed"):
        boxes_of(np.zeros(shape, np.float32), STRIDE, 0.5, 8)


def test_huge_and_tiny_distances_stay_numbers() -> None:
    """Logarithms of any size: boxes with finite, positive sides."""
    answer = drawn([(20, 30, 36, 50, 0.6), (100, 60, 140, 90, 0.7)])
    answer[1:, 5, 3], answer[1:, 9, 15] = 1e30, -1e30
    corners, _ = boxes_of(answer, STRIDE, 0.5, 8)
    assert np.isfinite(corners).all() and (corners[:, 2:] > corners[:, :2]).all()
