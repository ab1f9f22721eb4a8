"""`--within`: a finder that is given a part of each frame says where in the frame the signs are, and never others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

pytest.importorskip("onnx")

from firewall.bundle import load_bundle
from firewall.cli import app, run
from firewall.config import Part, RegionDetectorSettings
from firewall.demo.source import truth
from firewall.errors import ImageError, UsageError
from firewall.frame import Pixels, Region
from firewall.regions import build, looking_within
from firewall.regions.boxes import overlaps
from firewall.regions.sign_finder import SignFinder
from firewall.regions.within import WithinPart
from tests.finders import SPEC, red_finder, street
from tests.regions.detector_graphs import dense, save, scene, ultralytics

RED = SignFinder(SPEC, red_finder(), "finder.onnx", 8, threads=1)


def within(text: str, finder: Any = RED) -> WithinPart:
    """The finder with that part."""
    made = looking_within(finder, Part.parse(text), "signs")
    assert isinstance(made, WithinPart)
    return made


@st.composite
def looks(draw: st.DrawFn) -> tuple[str, int, int, list[tuple[int, int]]]:
    """A part, in pixels or shares, a frame that it lies in, and signs whose corners are multiples of 8 pixels."""
    width, height = draw(st.integers(40, 420)), draw(st.integers(40, 420))
    wide, high = draw(st.integers(32, width)), draw(st.integers(32, height))
    x, y = draw(st.integers(0, width - wide)), draw(st.integers(0, height - high))
    text = f"{x},{y},{wide},{high}"
    if draw(st.booleans()):
        text = f"{x / width:.7f},{y / height:.7f},{wide / width - 2e-7:.7f},{high / height - 2e-7:.7f}"
    places = st.tuples(st.integers(0, width // 8 - 1), st.integers(0, height // 8 - 1))
    return text, width, height, [(8 * across, 8 * down) for across, down in draw(st.lists(places, max_size=6))]


@settings(deadline=None)
@given(looks())
def test_regions_are_where_they_are_in_the_whole_frame(look: tuple[str, int, int, list[tuple[int, int]]]) -> None:
    """Whatever frame, part and signs: the signs in the part give the very regions that a whole frame with these signs
    alone gives, and the others nothing. What is looked at is the part, grown to whole places of the network's map and
    no further."""
    text, width, height, places = look
    asked = within(text)
    left, top, wide, high = asked.looked_at(width, height)
    x, y, part_wide, part_high = asked.part.region(width, height)
    assert left % 32 == 0 and top % 32 == 0 and x - 32 < left <= x and y - 32 < top <= y
    assert left + wide == width or ((left + wide) % 32 == 0 and left + wide < x + part_wide + 32)
    assert top + high == height or ((top + high) % 32 == 0 and top + high < y + part_high + 32)
    assert left + wide >= x + part_wide and top + high >= y + part_high
    inside = [(x, y) for x, y in places if left <= x < left + wide and top <= y < top + high]
    assert asked.find(street(height, width, places)) == RED.find(street(height, width, inside))


def test_the_network_reads_no_more_than_the_part() -> None:
    """Its input is of the part's size: that is where the time is saved. The whole frame can still be asked for."""
    asked = within("0,100,200,100")
    frame = street(400, 640, [(16, 8), (40, 160), (600, 160)])
    assert RED.find(frame) and RED._input.shape == (1, 3, 416, 640)
    assert asked.find(frame) == [(44 - 12, 164 - 20, 24, 40)]
    assert RED._input.shape == (1, 3, 128, 224) and asked.looked_at(640, 400) == (0, 96, 224, 128)
    assert len(RED.find(frame)) == 3


def test_what_leaves_the_part_is_the_sign_and_its_margin_never_the_frame() -> None:
    """A sign whose centre lies at the part's edge is boxed whole; beyond the edge of the frame nothing is."""
    wide = SignFinder(SPEC.model_copy(update={"margin": 0.25}), red_finder(), "finder.onnx", 8, threads=1)
    frame = street(256, 256, [(64, 64), (0, 120), (248, 184)])
    asked = within("0,64,256,128", wide)
    assert asked.looked_at(256, 256) == (0, 64, 256, 128)
    assert sorted(asked.find(frame)) == sorted(wide.find(frame))
    assert min(y for _, y, _, _ in asked.find(frame)) == 64 + 4 - 20 - 10
    assert all(x >= 0 and x + w <= 256 for x, _, w, _ in asked.find(frame))


def test_a_part_of_a_huge_frame_is_looked_at_in_its_own_resolution() -> None:
    """A sign of 8 pixels in 8000x6000 is lost where the frame is made smaller first, and found in a part of it."""
    frame = street(6000, 8000, [(4000, 3000)])
    assert RED.find(frame) == []
    assert within("3840,2880,512,512").find(frame) == [(4004 - 12, 3004 - 20, 24, 40)]


def test_a_frame_that_the_part_does_not_lie_in_is_an_error() -> None:
    """Every time, and the next one that is large enough is looked at."""
    asked = within("0,64,160,96")
    frame = street(160, 160, [(40, 80)])
    for _ in range(2):
        with pytest.raises(ImageError, match="159x160"):
            asked.find(np.ascontiguousarray(frame[:, :159]))
        assert len(asked.find(frame)) == 1
    with pytest.raises(ImageError, match="got list"):
        asked.find(frame.tolist())


@pytest.mark.parametrize("letterbox", [True, False])
@pytest.mark.parametrize("part", ["200,40,240,160", "0.4,0.1,0.5,0.6", "280,90,101,61"])
def test_any_detector_s_boxes_come_back_in_the_frame(tmp_path: Path, part: str, letterbox: bool) -> None:
    """YOLO's signature, letterboxed or stretched: the sign inside is boxed to two pixels, one outside is not seen."""
    file = save(tmp_path / "net.onnx", dense(rows=2100, classes=3, transposed=True), metadata=ultralytics())
    finder = build("detector", RegionDetectorSettings(file=file, letterbox=letterbox), threads=1)
    asked = within(part, finder)
    (found,) = asked.find(scene())
    assert found == pytest.approx((300, 100, 60, 40), abs=2)
    assert asked.looked_at(500, 300) == asked.part.region(500, 300)
    assert asked.find(scene(sign=(20, 240, 60, 40))) == []
    assert len(finder.find(scene(sign=(20, 240, 60, 40)))) == 1


@pytest.mark.parametrize("regions", ["whole", "10,20,30,40"])
def test_only_what_looks_can_look_within(regions: str) -> None:
    """A part beside something that names its region itself is wrong use."""
    with pytest.raises(UsageError, match="'signs' or 'detector'") as caught:
        looking_within(build(regions), Part.parse("0,0,1,0.5"), regions)
    assert "\n" not in str(caught.value) and regions in str(caught.value)


def firewall(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
    """Exit code, verdict lines and stderr of the command in a process of its own."""
    command = [sys.executable, "-m", "firewall", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.fixture(scope="module")
def drive(demo_frames: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Region]]:
    """A folder of frames of the demo whose sign the default bundle releases, and where these signs are."""
    folder, boxes = tmp_path_factory.mktemp("drive"), []
    finder = build("signs", bundle=load_bundle(), threads=1)
    for place in range(20, len(demo_frames), 7):
        box = truth(place).box
        regions = np.array(finder.find(demo_frames[place]), np.float64).reshape(-1, 4)
        if truth(place).attack or not (overlaps(np.array([box], np.float64), regions) >= 0.5).any() or box[3] < 40:
            continue
        assert cv2.imwrite(str(folder / f"{len(boxes):02d}.png"), demo_frames[place][..., ::-1])
        boxes.append(box)
        if len(boxes) == 6:
            return folder, boxes
    raise AssertionError("hardly any sign of the demo is found")


def test_serve_looks_there_and_nowhere_else(drive: tuple[Path, list[Region]]) -> None:
    """`serve` on the demo: with a part that holds the signs the labels are those of whole frames, their regions the
    same to three pixels, and golden frames, which are judged whole, pass; with a part that holds none of them nothing
    goes out. What is looked at is said at the start."""
    folder, boxes = drive
    # Not to the pixel: a network sees a little less of what is around a sign near the part's edge.
    left, top = min(box[0] for box in boxes) - 32, min(box[1] for box in boxes) - 32
    right, bottom = min(640, max(box[0] + box[2] for box in boxes) + 32), max(box[1] + box[3] for box in boxes) + 32
    common = ("serve", "--source", folder, "--http", "off", "--threads", 1)
    _, whole, _ = firewall(*common)
    code, inside, said = firewall(*common, "--within", f"{left},{top},{right - left},{bottom - top}")
    assert code == 0 and "looked at within" in said and "self-test" not in said
    labels = [[each["label"] for each in lines if each["decision"] == "release"] for lines in (whole, inside)]
    assert labels[0] == labels[1] and len(labels[0]) >= 4
    for one, other in zip(whole, inside, strict=True):
        assert one["region"] == pytest.approx(other["region"], abs=3)
    assert bottom < 360, "the road below the signs is what the next part shows"
    code, outside, _ = firewall(*common, "--within", "0,0.92,1,0.08")
    assert code == 0 and len(outside) == len(boxes)
    assert {(line["decision"], line["reason"]) for line in outside} == {("withhold", "nothing found")}


def test_a_smaller_frame_is_withheld_with_a_reason(drive: tuple[Path, list[Region]], tmp_path: Path) -> None:
    """`screen` and `serve`: a part in pixels that a frame has not is a verdict that says so, never another part."""
    folder, _ = drive
    small = tmp_path / "frames" / "small.png"
    small.parent.mkdir()
    with Image.open(folder / "00.png") as frame:
        frame.crop((0, 0, 600, 400)).save(small)
    options = ("--within", "0,0,640,400", "--threads", 1)
    code, (line,), _ = firewall("screen", small, "--regions", "signs", *options)
    assert code == 1 and line["decision"] == "withhold" and "does not lie within a frame of 600x400" in line["reason"]
    code, (line,), _ = firewall("serve", "--source", small.parent, "--http", "off", *options)
    assert code == 0 and line["decision"] == "withhold" and "does not lie within a frame of 600x400" in line["reason"]
    code, lines, _ = firewall("screen", folder / "00.png", "--regions", "signs", *options)
    assert code == 0 and all("lie within" not in line["reason"] for line in lines)


@pytest.mark.parametrize("command", [("serve", "--source", "demo", "--http", "off"), ("screen", "none.png")])
@pytest.mark.parametrize(
    ("regions", "part", "words"),
    [
        ("signs", "0,0,nan,1", "four numbers"),
        ("signs", "0,0.5,1,0.6", "ends outside"),
        ("signs", "0,0,20,400", "smallest frame"),
        ("whole", "0,0,1,0.5", "'signs' or 'detector'"),
        ("0,0,40,40", "0,0,1,0.5", "'signs' or 'detector'"),
    ],
)
def test_bad_input_ends_at_the_door(
    command: tuple[str, ...], regions: str, part: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line each, before a source or picture is opened."""
    code = run(app, [*command, "--regions", regions, "--within", part, "--threads", "1"], "firewall")
    said = capfd.readouterr()
    assert code and not said.out and len(said.err.splitlines()) == 1 and words in said.err


def test_each_of_several_cameras_looks_at_its_own_part(drive: tuple[Path, list[Region]], tmp_path: Path) -> None:
    """Two cameras that show the same drive: labels go out from the one that looks at the signs, none from the one that
    looks at the bonnet; the start says both."""
    folder, _ = drive
    file = tmp_path / "cameras.yaml"
    cameras = [("road", "off"), ("bonnet", "0,0.92,1,0.08")]
    lines = "".join(f"- {{name: {name}, source: '{folder}', within: '{part}'}}\n" for name, part in cameras)
    file.write_text(f"cameras:\n{lines}http: off\nthreads: 1\n")
    code, verdicts, said = firewall("serve", "--config", file)
    assert code == 0
    released = {line["camera"] for line in verdicts if line["decision"] == "release"}
    assert released == {"road"}
    assert {line["reason"] for line in verdicts if line["camera"] == "bonnet"} == {"nothing found"}
    assert "camera bonnet" in said and said.count("looked at within") == 1
