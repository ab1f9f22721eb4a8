"""The rendered road scenes."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from firewall.demo import scene
from firewall.demo.scene import BAND, HEIGHT, WIDTH, Encounter, render
from firewall.demo.signs import DRAWN
from firewall.errors import UsageError

LIGHTS = ("day", "overcast", "dusk")
STOP = Encounter(14, seed=7)


def fingerprint(encounter: Encounter, step: int) -> str:
    """SHA-256 of a frame and its box."""
    pixels, box = render(encounter, step)
    return hashlib.sha256(pixels.tobytes() + repr(box).encode()).hexdigest()


def test_the_same_step_gives_the_same_pixels_in_another_process() -> None:
    """A frame depends on encounter and step alone: not on what was rendered before it, nor on the process."""
    later, first = fingerprint(STOP, 8), fingerprint(STOP, 2)
    code = (
        "import hashlib; from firewall.demo.scene import *; p, b = render(Encounter(14, seed=7), 2); "
        "print(hashlib.sha256(p.tobytes() + repr(b).encode()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert other.stdout.strip() == first != later


def test_steps_and_seeds_differ() -> None:
    """Neighbouring steps, and encounters of other seeds, are different pictures."""
    assert len({fingerprint(STOP, step) for step in range(STOP.steps)}) == STOP.steps
    assert len({fingerprint(Encounter(14, seed=seed), 0) for seed in range(5)}) == 5


@pytest.mark.parametrize("label", DRAWN)
def test_the_box_grows_and_stays_in_the_scene(label: int) -> None:
    """From about 36 to about 110 pixels, growing at each step, never over the border of the scene or into the band."""
    for side, light in (("left", "dusk"), ("right", "day")):
        encounter = Encounter(label, seed=label, side=side, light=light, steps=6)  # type: ignore[arg-type]
        widths = []
        for step in range(encounter.steps):
            pixels, (x, y, width, height) = render(encounter, step)
            assert pixels.shape == (HEIGHT, WIDTH, 3)
            assert pixels.dtype == np.uint8
            assert min(x, y) >= 0
            assert x + width <= WIDTH
            assert y + height <= HEIGHT - BAND
            assert (x + width / 2 < WIDTH / 2) == (side == "left")
            widths.append(width)
        assert widths == sorted(set(widths))
        assert 30 <= widths[0] <= 40
        assert 95 <= widths[-1] <= 118


@pytest.mark.parametrize("step", [0, 5, 9])
def test_the_box_holds_the_sign_and_nothing_else_depends_on_it(step: int) -> None:
    """With another round sign in the same place only pixels in the box change, blur apart, and many of these do."""
    one, (x, y, width, height) = render(Encounter(2, seed=3), step)
    two, _ = render(Encounter(38, seed=3), step)
    changed = (one != two).any(axis=2)
    assert changed[y : y + height, x : x + width].mean() > 0.6
    changed[y - 4 : y + height + 4, x - 4 : x + width + 4] = False
    assert not changed.any()


def test_an_attack_is_not_rendered() -> None:
    """The name of an attack changes no pixel: what is attacked is pasted by the reader."""
    assert fingerprint(replace(STOP, attack="PGD"), 4) == fingerprint(STOP, 4)


def test_lights() -> None:
    """Day is brighter than overcast, overcast brighter than dusk."""
    means = [render(replace(STOP, light=light), 3)[0].mean() for light in LIGHTS]  # type: ignore[arg-type]
    assert means[0] > means[1] + 15 > means[2] + 30


@pytest.mark.parametrize("light", LIGHTS)
def test_nothing_else_is_coloured_like_a_sign(light: str) -> None:
    """Beside the sign hardly a pixel is strongly red, blue or yellow; the sign itself is, by the same measure."""
    for label, seed in ((14, 0), (38, 1), (12, 2), (14, 3)):
        pixels, (x, y, width, height) = render(Encounter(label, seed, light=light), 6)  # type: ignore[arg-type]
        hue, saturation, value = cv2.split(cv2.cvtColor(cv2.GaussianBlur(pixels, (0, 0), 1.5), cv2.COLOR_RGB2HSV))
        signal = (hue < 8) | (hue > 170) | ((hue > 95) & (hue < 125)) | ((hue > 15) & (hue < 28))
        signal &= (saturation > 130) & (value > 40)
        assert signal[y : y + height, x : x + width].mean() > 0.15
        signal[y - 4 : y + height + 4, x - 4 : x + width + 4] = False
        assert signal.sum() < 10


def test_the_band_is_left_free() -> None:
    """The lowest rows are one dark neutral colour, ready for a caption; the row above them is scene."""
    pixels, _ = render(STOP, 0)
    band = pixels[-BAND:].reshape(-1, 3)
    assert (band == band[0]).all()
    assert band[0].max() < 60
    assert int(band[0].max()) - int(band[0].min()) < 10
    assert pixels[-BAND - 1].std() > 2


@pytest.mark.parametrize("step", [-1, 10])
def test_a_step_that_isnt_there_is_refused(step: int) -> None:
    """A step outside the encounter is a UsageError that says which there are."""
    with pytest.raises(UsageError, match=rf"step {step} .* 0 to 9"):
        render(STOP, step)


def test_one_step_is_allowed() -> None:
    """An encounter of a single step renders, and does not divide by zero."""
    assert render(replace(STOP, steps=1), 0)[1][2] < 40


def test_scenery_is_kept_between_steps() -> None:
    """What doesn't change in an encounter is made once."""
    scene._stage.cache_clear()
    for step in range(3):
        render(STOP, step)
    assert scene._stage.cache_info().misses == 1
