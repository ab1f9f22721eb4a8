"""Floats are turned back into exactly the pixels that they were made of, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from firewall.bundle import InputSpec
from firewall.gate.pictures import FLOATS, Floats, Scale

IMAGENET = InputSpec(width=48, height=48, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
ALL = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 1, 1, 3))


@pytest.mark.parametrize("floats", FLOATS)
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_every_pixel_value_comes_back(floats: Floats, kind: str) -> None:
    """In every channel and precision, and also as another order of the same formula rounds it."""
    scale = Scale(floats, IMAGENET)
    one = np.dtype(kind).type
    made = scale.table[ALL, np.arange(3)].astype(kind)
    assert np.array_equal(scale.pixels_of(made), ALL)
    other = ALL.astype(kind)
    if floats != "255":
        other = other * one(1 / 255)
    if floats == "network":
        other = other * (one(1) / np.array(IMAGENET.std, kind)) - np.array(IMAGENET.mean, kind) / np.array(
            IMAGENET.std, kind
        )
    if kind != "f2":  # of so few digits, another order may end at another float
        assert np.array_equal(scale.pixels_of(other), ALL)


@pytest.mark.parametrize("floats", FLOATS)
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_what_lies_between_two_pixels_is_refused(floats: Floats, kind: str) -> None:
    """A third or half a brightness level off, in one value of many; outside the range; not finite."""
    scale = Scale(floats, IMAGENET)
    made = scale.table[ALL, np.arange(3)]
    step = float(scale.table[1, 0] - scale.table[0, 0])
    for place, off in ((7, step / 3), (100, step / 2), (255, step), (0, -step), (3, float("nan")), (3, float("inf"))):
        wrong: np.ndarray[Any, Any] = made.copy()
        wrong[place, 0, 0, 0] += off
        assert scale.pixels_of(wrong.astype(kind)) is None, (place, off)


@pytest.mark.parametrize("floats", FLOATS)
def test_what_an_upstream_gets_is_what_was_screened(floats: Floats) -> None:
    """Pixels to floats and back."""
    scale = Scale(floats, IMAGENET)
    assert np.array_equal(scale.pixels_of(scale.floats_of(ALL)), ALL)
