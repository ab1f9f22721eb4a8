from __future__ import annotations

import numpy as np
import pytest

from firewall.regions.boxes import as_regions, overlaps
from firewall.regions.suppression import strongest


def test_overlap_is_intersection_over_union() -> None:
    """Same box 1, a half shared box 1/3, a quarter inside 1/4, touching or apart 0."""
    one = np.array([[0.0, 0, 10, 10]])
    other = np.array([[0.0, 0, 10, 10], [5, 0, 10, 10], [2, 2, 5, 5], [10, 0, 10, 10], [50, 50, 1, 1]])
    assert overlaps(one, other)[0] == pytest.approx([1, 1 / 3, 1 / 4, 0, 0])


def test_no_boxes_overlap_nothing() -> None:
    """Empty in, empty out, no warning."""
    assert overlaps(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0, 0)


def test_the_strongest_come_first_and_hide_what_they_overlap() -> None:
    """Suppressed is only what overlaps a better one too much; equal ones keep their order; the limit holds."""
    boxes = np.array([[0.0, 0, 10, 10], [1, 1, 10, 10], [30, 0, 10, 10], [60, 0, 10, 10], [90, 0, 10, 10]])
    belief = np.array([0.6, 0.9, 0.7, 0.7, 0.1])
    overlap = overlaps(boxes, boxes)
    assert strongest(belief, overlap, 0.5, 8, 0.2) == [1, 2, 3]
    assert strongest(belief, overlap, 0.5, 8, 0.0) == [1, 2, 3, 4]
    assert strongest(belief, overlap, 0.9, 8, 0.2) == [1, 2, 3, 0]
    assert strongest(belief, overlap, 0.5, 2, 0.2) == [1, 2]


def test_a_confidence_that_is_no_number_is_not_kept() -> None:
    """NaN is never above the threshold."""
    assert strongest(np.array([np.nan]), np.ones((1, 1)), 0.5, 8, 0.0) == []


def test_regions_are_cut_to_the_frame() -> None:
    """What is outside is cut off, what is left too small or twice there goes, the order stays."""
    boxes = np.array([[-5.0, -5, 20, 20], [70, 50, 30, 30], [200, 0, 10, 10], [0, 0, 3, 9], [-5.2, -5, 20, 20]])
    regions = as_regions(boxes, 80, 60)
    assert regions == [(0, 0, 15, 15), (70, 50, 10, 10)]
    assert all(type(number) is int for region in regions for number in region)
