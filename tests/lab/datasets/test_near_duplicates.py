"""Frames of one scene are found by their pixels, where no track tells."""

from __future__ import annotations

import numpy as np
import pytest

from firewall.lab.datasets import open_dataset, split
from firewall.lab.datasets.near_duplicates import near_duplicates
from tests.conftest import SHARED_DATA


def test_frames_of_one_scene_are_a_group() -> None:
    """The same picture with noise, in another size, a little darker: one group; other pictures and classes: others."""
    generator = np.random.default_rng(0)
    scenes = [np.kron(generator.integers(30, 226, (4, 4, 3)), np.ones((8, 8, 1))) for _ in range(6)]
    images, truth = [], []
    for scene, picture in enumerate(scenes):
        for size in (32, 24, 16):
            frame = picture[:size, :size] if size == 32 else picture[:: 32 // size][:, :: 32 // size]
            noisy = frame * generator.uniform(0.95, 1.05) + generator.normal(0, 2, frame.shape)
            images.append(np.clip(noisy, 0, 255).astype(np.uint8))
            truth.append(scene)
    labels = np.array(truth) % 2

    groups = near_duplicates(images, labels)

    assert len(set(groups.tolist())) == 6
    assert all(len(set(groups[np.array(truth) == scene].tolist())) == 1 for scene in range(6))
    alone = near_duplicates(images[:1] * 2, np.array([0, 1]))
    assert alone[0] != alone[1], "images of two classes are never one group"


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the GTSRB packs are not here")
def test_the_gtsrb_test_images_are_grouped() -> None:
    """About as many groups as the benchmark has tracks, none parted by a split, each part near its share."""
    data = open_dataset("gtsrb", SHARED_DATA)

    parts = split(data)

    assert 300 < len(set(data.groups.tolist())) < 800
    pairs = np.unique(np.stack([data.groups, parts]), axis=1)
    assert len(np.unique(data.groups)) == pairs.shape[1]
    np.testing.assert_allclose(np.bincount(parts) / len(parts), [0.7, 0.15, 0.15], atol=0.06)
    labels = {int(group): set(data.labels[data.groups == group].tolist()) for group in np.unique(data.groups)[:50]}
    assert all(len(found) == 1 for found in labels.values())
