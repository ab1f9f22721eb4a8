"""Parts for training, thresholds and measuring."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall.errors import UsageError
from firewall.lab.datasets import Dataset, split


def dataset(groups: np.ndarray, labels: np.ndarray, first: int = 0) -> Dataset:
    sources = tuple(f"image {number}" for number in range(first, first + len(labels)))
    classes = tuple(str(number) for number in range(int(labels.max()) + 1))
    return Dataset("test", [np.zeros((1, 1, 3), np.uint8)] * len(labels), labels, groups, sources, classes, "", "")


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 8))
def test_no_group_is_on_two_sides(seed: int, tracks: int, frames: int) -> None:
    """All images of a track get the same part, and a class of three tracks or more is in every part."""
    groups = np.repeat(np.arange(4 * tracks), frames)
    labels = np.repeat(np.arange(4), tracks * frames)

    parts = split(dataset(groups, labels), seed=seed)

    assert all(len(set(parts[groups == group].tolist())) == 1 for group in set(groups.tolist()))
    if tracks >= 3:
        assert all(set(parts[labels == label].tolist()) == {0, 1, 2} for label in range(4))


def test_the_shares_are_kept_on_average() -> None:
    """70 / 15 / 15 of many images, and of each class within what chance allows."""
    labels = np.arange(20_000) % 10
    parts = split(dataset(np.arange(20_000), labels))

    np.testing.assert_allclose(np.bincount(parts) / 20_000, [0.7, 0.15, 0.15], atol=0.01)
    for label in range(10):
        np.testing.assert_allclose(np.bincount(parts[labels == label]) / 2000, [0.7, 0.15, 0.15], atol=0.03)


def test_images_added_later_move_no_other() -> None:
    """The part of an image is its own: a data set that grows, or comes in another order, keeps its parts."""
    labels, groups = np.zeros(500, np.int64), np.arange(500)
    whole = split(dataset(groups, labels), seed=3)

    np.testing.assert_array_equal(split(dataset(groups[:300] + 7, labels[:300]), seed=3), whole[:300])
    assert (split(dataset(groups, labels), seed=4) != whole).any()


def test_shares_may_be_zero_but_must_add_up() -> None:
    """A part that is not asked for stays empty; shares that make no sense are wrong use."""
    data = dataset(np.arange(200), np.arange(200) % 2)

    assert set(split(data, (0.5, 0.5, 0.0)).tolist()) == {0, 1} and set(split(data, (0.0, 0.0, 1.0)).tolist()) == {2}
    for shares in ((0.5, 0.5, 0.5), (1.5, -0.5, 0.0)):
        with pytest.raises(UsageError, match="shares"):
            split(data, shares)
