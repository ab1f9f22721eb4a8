"""The part of a frame that is looked at: what may be said, and where it lies in frames of any size."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firewall.config import Part, load_settings
from firewall.errors import ConfigError, ImageError, UsageError
from firewall.service.guarded import Guarded

#: What is no part of any frame, and what is said of it.
REFUSED = {
    "0,0,nan,1": "four numbers",
    "0,0,inf,1": "four numbers",
    "0,0,1": "four numbers",
    "0,0,1,1,1": "four numbers",
    "a,b,c,d": "four numbers",
    "": "four numbers",
    "0,0,1_0,1": "four numbers",
    "0,0,\u0661,1": "four numbers",
    "0,0,1e99,40": "every frame",
    "-0.1,0,1,1": "begins outside",
    "0,-5,64,64": "begins outside",
    "0,0,0,1": "empty",
    "0,0,640,0": "empty",
    "0,0,0.5,-0.5": "empty",
    "0.5,0,0.6,1": "ends outside",
    "0,0.2,1,0.9": "ends outside",
    "0,0.15,1360,520": "whole numbers",
    "0,0,640.5,320": "whole numbers",
    "0,0,1.5,1": "whole numbers",
    "0,0,31,400": "smallest frame",
    "0,0,400,31": "smallest frame",
    "0,0,0.003,1": "less than 32 pixels",
    "8000,0,400,400": "every frame",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_part_is_one_line(text: str) -> None:
    """By the class and as a setting: what is wrong, what is allowed."""
    with pytest.raises(UsageError, match=REFUSED[text]) as caught:
        Part.parse(text)
    assert "\n" not in str(caught.value) and "0,0.12,1,0.72" in str(caught.value)
    with pytest.raises(ConfigError, match="within") as refused:
        load_settings(within=text)
    assert "\n" not in str(refused.value) and REFUSED[text] in str(refused.value)


@pytest.mark.parametrize(
    ("text", "size", "region"),
    [
        ("0,0.12,1,0.72", (1360, 800), (0, 96, 1360, 576)),
        ("0,0.04,0.988235,0.8", (1360, 800), (0, 32, 1344, 640)),
        ("0,0,1,1", (641, 33), (0, 0, 641, 33)),
        ("0.1,0.1,0.5,0.5", (333, 333), (33, 33, 167, 167)),
        (" 10, 20 ,32, 40", (42, 60), (10, 20, 32, 40)),
        ("0,0,1e2,6e1", (100, 60), (0, 0, 100, 60)),
    ],
)
def test_where_it_lies(text: str, size: tuple[int, int], region: tuple[int, int, int, int]) -> None:
    """Pixels as they are; shares of the sides, and nothing of them is lost by rounding."""
    assert Part.parse(text).region(*size) == region


@pytest.mark.parametrize(
    ("text", "size", "words"),
    [
        ("10,20,32,40", (41, 60), "does not lie within a frame of 41x60"),
        ("10,20,32,40", (42, 59), "does not lie within a frame of 42x59"),
        ("0,0.5,1,0.1", (640, 300), "has 640x30 pixels"),
        ("0,0,1,1", (31, 640), "has 31x640 pixels"),
    ],
)
def test_a_frame_that_is_too_small_is_an_error(text: str, size: tuple[int, int], words: str) -> None:
    """It is never cut off or moved: that would be looked at which nobody meant."""
    with pytest.raises(ImageError, match=words) as caught:
        Part.parse(text).region(*size)
    assert "\n" not in str(caught.value)


edge = st.floats(0, 1, allow_nan=False)


@given(edge, edge, edge, edge, st.integers(1, 4000), st.integers(1, 4000))
def test_shares_lie_in_every_frame(one: float, two: float, three: float, four: float, width: int, height: int) -> None:
    """Whatever part and frame: either one line, or a rectangle in the frame that holds the shares, to a pixel."""
    (x, right), (y, bottom) = sorted((one, two)), sorted((three, four))
    try:
        part = Part.parse(f"{x:.6f},{y:.6f},{max(0.0, right - x - 2e-6):.6f},{max(0.0, bottom - y - 2e-6):.6f}")
        left, top, wide, high = part.region(width, height)
    except (UsageError, ImageError):
        return
    assert min(left, top) >= 0 and min(wide, high) >= 32 and left + wide <= width and top + high <= height
    assert left - 0.02 <= part.x * width < left + 1.02 and top - 0.02 <= part.y * height < top + 1.02
    assert left + wide >= (part.x + part.width) * width - 0.02 > left + wide - 1.04
    assert top + high >= (part.y + part.height) * height - 0.02 > top + high - 1.04
    assert Part.parse(str(part)).region(width, height) == (left, top, wide, high)


def test_each_camera_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own over that of all; off is all of the frame; a YAML list is a part too; the environment over the file."""
    file = tmp_path / "cameras.yaml"
    file.write_text(
        "cameras:\n- {name: front, source: demo}\n- {name: left, source: demo, within: [0, 64, 320, 128]}\n"
        "- {name: rear, source: demo, within: off}\nwithin: [0, 0.25, 1, 0.5]\n"
    )

    def parts() -> list[str]:
        return [str(each.within or "off") for each in Guarded.of(load_settings(file))]

    assert parts() == ["0,0.25,1,0.5", "0,64,320,128", "off"]
    monkeypatch.setenv("FIREWALL_WITHIN", "0,0,1,0.5")
    assert parts() == ["0,0,1,0.5", "0,64,320,128", "off"]
    assert Guarded.of(load_settings())[0].within == Part.parse("0,0,1,0.5")
    monkeypatch.delenv("FIREWALL_WITHIN")
    assert Guarded.of(load_settings())[0].within is None
