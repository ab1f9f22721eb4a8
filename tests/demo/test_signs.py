"""The drawn signs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from firewall.demo.signs import DRAWN, NAMES, draw_sign
from firewall.errors import UsageError
from firewall.lab.datasets.gtsrb import CLASS_NAMES

MIRRORED = [(33, 34), (36, 37), (38, 39)]
SYMMETRIC = [12, 13, 15, 17, 18, 26, 35]


def hue_share(label: int, low: int, high: int) -> float:
    """Share of a sign's opaque pixels that are strongly coloured with a hue from `low` to `high`, of 180."""
    sign = draw_sign(label, 96)
    hue, saturation, _ = cv2.split(cv2.cvtColor(sign[..., :3], cv2.COLOR_RGB2HSV))
    opaque = sign[..., 3] > 200
    inside = (hue >= low) & (hue <= high) if low <= high else (hue >= low) | (hue <= high)
    return float((inside & (saturation > 150) & opaque).sum() / opaque.sum())


def test_drawn_covers_what_the_demo_promises() -> None:
    """All classes that the demo is to show are drawn, each under the name that the benchmark's class has."""
    assert set(DRAWN) >= {1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 14, 15, 17, 18, 32, 33, 34, 35, 38, 39, 40}
    assert list(DRAWN) == sorted(set(DRAWN))
    assert {label: CLASS_NAMES[label] for label in DRAWN} == NAMES


@pytest.mark.parametrize("label", DRAWN)
def test_a_sign_fills_its_square_with_smooth_edges(label: int) -> None:
    """A sign is RGBA, opaque in the middle, clear in a corner, touches both sides and has half-covered edge pixels."""
    sign = draw_sign(label, 64)
    alpha = sign[..., 3]
    assert sign.shape == (64, 64, 4)
    assert sign.dtype == np.uint8
    assert alpha[32, 32] == 255
    assert min(alpha[0, 0], alpha[0, -1], alpha[-1, 0], alpha[-1, -1]) == 0
    assert (alpha[:, :2] > 100).any()
    assert (alpha[:, -2:] > 100).any()
    assert ((alpha > 20) & (alpha < 235)).sum() >= 30
    np.testing.assert_array_equal(sign, draw_sign(label, 64))


@pytest.mark.parametrize("label", DRAWN)
def test_the_edge_is_white(label: int) -> None:
    """The outermost half-covered pixels are light: no colour of the canvas bleeds into the white edge."""
    sign = draw_sign(label, 128)
    rim = (sign[..., 3] > 0) & (sign[..., 3] < 128)
    assert np.median(sign[rim][:, :3].min(axis=1)) > 150


def test_no_two_signs_look_alike() -> None:
    """Every pair of signs differs clearly, so that no class is drawn with another's symbol."""
    signs = np.stack([draw_sign(label, 48).astype(np.int16) for label in DRAWN])
    for index, sign in enumerate(signs):
        others = np.abs(np.delete(signs, index, axis=0) - sign)
        assert ((others.max(axis=3) > 100).mean(axis=(1, 2)) > 0.008).all(), DRAWN[index]


@pytest.mark.parametrize(("left", "right"), MIRRORED + [(label, label) for label in SYMMETRIC])
def test_mirror_images(left: int, right: int) -> None:
    """Signs for left and right are each other's mirror image, symmetric signs their own."""
    difference = np.abs(draw_sign(left, 96)[:, ::-1].astype(np.int16) - draw_sign(right, 96))
    assert difference.mean() < 2.5
    assert (difference > 128).mean() < 0.005


def test_colours() -> None:
    """The signs have the colours that they have on the road."""
    for label in (14, 17):
        assert hue_share(label, 170, 8) > 0.5, label
    for label in (1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 18):
        assert 0.25 < hue_share(label, 170, 8) < 0.6, label
    for label in (33, 34, 35, 38, 39, 40):
        assert hue_share(label, 95, 115) > 0.5, label
    assert 0.2 < hue_share(12, 18, 26) < 0.6
    assert hue_share(32, 0, 180) == 0


@pytest.mark.parametrize(("label", "size"), [(43, 64), (-1, 64), (6, 64), (14, 7), (14, 1025)])
def test_what_cant_be_drawn_is_refused(label: int, size: int) -> None:
    """A class without a drawing or a size out of range is a UsageError that names it."""
    with pytest.raises(UsageError, match=str(label if size == 64 else size)):
        draw_sign(label, size)
