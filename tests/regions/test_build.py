from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firewall.bundle import load_bundle
from firewall.config import RegionDetectorSettings
from firewall.errors import EngineError, ImageError, UsageError
from firewall.regions import build
from firewall.regions.sign_finder import SignFinder
from firewall.regions.whole import Box, WholeFrame

FRAME = np.zeros((60, 80, 3), np.uint8)


def test_whole_is_the_frame() -> None:
    """`whole` names one region: the frame."""
    finder = build("whole")
    assert isinstance(finder, WholeFrame)
    assert finder.find(FRAME) == [(0, 0, 80, 60)]
    assert finder.find(np.zeros((1, 1, 3), np.uint8)) == [(0, 0, 1, 1)]


def test_signs_are_what_the_bundle_s_finder_finds() -> None:
    """`signs` gives the default bundle's sign finder with the asked limit; without a bundle it is wrong use."""
    finder = build("signs", limit=3, bundle=load_bundle())
    assert isinstance(finder, SignFinder) and finder.limit == 3
    with pytest.raises(UsageError, match="bundle"):
        build("signs")


@pytest.mark.parametrize("text", ["10,20,30,40", " 10, 20 ,30,40 "])
def test_a_box_is_taken_as_it_is(text: str) -> None:
    """X,Y,W,H names exactly that region, also where it ends at the edge of the frame."""
    finder = build(text)
    assert isinstance(finder, Box)
    assert finder.find(FRAME) == [(10, 20, 30, 40)]
    with pytest.raises(ImageError):
        finder.find(FRAME[:59])


@pytest.mark.parametrize("text", ["0,0,81,60", "0,0,80,61", "80,0,1,1", "999999999,0,1,1"])
def test_a_box_outside_the_frame_fails_when_it_is_looked_for(text: str) -> None:
    """A box that doesn't lie within the frame is an ImageError of one line that names box and frame, never cut off."""
    with pytest.raises(ImageError, match="80x60") as caught:
        build(text).find(FRAME)
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["0,0,0,10", "0,0,10,0", "-1,0,10,10", "0,-1,10,10", "0,0,-5,-5"])
def test_an_empty_or_negative_box_is_refused_at_once(text: str) -> None:
    """A box that can be in no frame is wrong use."""
    with pytest.raises(UsageError, match="X,Y,W,H"):
        build(text)


@pytest.mark.parametrize(
    "text", ["", "Whole", "sign", "1,2,3", "1,2,3,4,5", "1.5,2,3,4", "a,b,c,d", "1,2,3,4\n5", "\u0661,2,3,4"]
)
def test_anything_else_names_the_allowed_forms(text: str) -> None:
    """Nonsense is wrong use; the message has one line and says what is allowed."""
    with pytest.raises(UsageError) as caught:
        build(text)
    message = str(caught.value)
    assert "\n" not in message and all(form in message for form in ("whole", "signs", "detector", "X,Y,W,H"))


def test_a_detector_needs_its_settings(tmp_path: Path) -> None:
    """`detector` without settings is wrong use, with a file that isn't there it is an EngineError."""
    with pytest.raises(UsageError, match="region_detector"):
        build("detector")
    with pytest.raises(EngineError, match=r"none\.onnx"):
        build("detector", RegionDetectorSettings(file=tmp_path / "none.onnx"))


@pytest.mark.parametrize("setting", ["whole", "signs", "1,2,3,4"])
def test_a_limit_below_one_is_refused(setting: str) -> None:
    """No finder can be told to find nothing."""
    with pytest.raises(UsageError, match="limit"):
        build(setting, limit=0)
