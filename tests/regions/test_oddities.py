from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto

from firewall.config import RegionDetectorSettings
from firewall.errors import EngineError, ImageError
from firewall.regions.oddities import SILENT_FRAMES
from firewall.regions.onnx_boxes import OnnxBoxes
from firewall.regions.suppression import suppress
from tests.regions.detector_graphs import Drawing, Outputs, Red, dense, save, scene, split, ultralytics

EMPTY = np.full((300, 500, 3), 90, np.uint8)


def given(boxes: Any, scores: Any) -> Any:
    """A head that gives these boxes and scores as soon as the picture has red in it, and zeros before: so the file is
    opened without complaint."""
    boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)

    def head(d: Drawing, red: Red) -> Outputs:
        seen = d.op("Reshape", d.op("Cast", red.any, to=TensorProto.BOOL), d.const([1], np.int64))
        for name, values in (("boxes", boxes), ("scores", scores)):
            d.op("Where", seen, d.const(values), d.const(np.zeros_like(values)), out=name)
        return [("boxes", TensorProto.FLOAT, list(boxes.shape)), ("scores", TensorProto.FLOAT, list(scores.shape))]

    return head


def opened(file: Path, **settings: Any) -> tuple[OnnxBoxes, list[str]]:
    """A detector, and the lines that it tells."""
    told: list[str] = []
    return OnnxBoxes(RegionDetectorSettings(file=file, **settings), threads=1, tell=told.append), told


MANY = np.tile([[10.0, 10, 60, 60]], (5000, 1)) + np.arange(5000)[:, None] % 200

WORTHLESS: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "scores that are no numbers": ([[8, 8, 90, 90]], [np.nan], {}, "not finite"),
    "an infinite score among others": ([[8, 8, 90, 90]] * 3, [0.9, np.inf, 0.1], {}, "not finite"),
    "boxes that are no numbers": ([[8, np.nan, 90, 90]], [0.9], {}, "boxes above the threshold are not finite"),
    "logits": ([[8, 8, 90, 90]] * 2, [4.5, -7.0], {}, r"scores from -7 to 4\.5.*activation"),
    "scores in per cent": ([[8, 8, 90, 90]], [90.0], {}, "allowed is 0 to 1"),
    "all outside the frame": ([[4000, 4000, 4100, 4100]], [0.9], {"format": "corners"}, "outside the frame.*format"),
    "all inside out": ([[90, 90, 8, 8]] * 2, [0.9, 0.8], {"format": "corners"}, "inside out"),
    "0..1 named pixels wrongly": ([[200, 100, 260, 140]], [0.9], {"coordinates": "unit"}, "outside the frame"),
}


@pytest.mark.parametrize("name", WORTHLESS)
def test_an_answer_that_can_be_no_boxes_withholds_and_is_told_once(tmp_path: Path, name: str) -> None:
    """Each such frame is an EngineError of one line, the operator reads it once; a frame without is judged as ever."""
    boxes, scores, settings, says = WORTHLESS[name]
    finder, told = opened(save(tmp_path / "net.onnx", given(boxes, scores)), **settings)
    for _ in range(3):
        with pytest.raises(EngineError, match=says) as caught:
            finder.find(scene())
        assert "\n" not in str(caught.value) and "net.onnx" in str(caught.value)
    assert finder.find(EMPTY) == []
    lines = [line for line in told if "withheld" in line]
    assert len(lines) == 1 and "net.onnx" in lines[0]


def test_boxes_that_change_their_form_withhold(tmp_path: Path) -> None:
    """After frames with corners in pixels, one in 0..1 or with centre and size is refused: one of them is misread."""
    for other, says in (([[0.5, 0.5, 0.6, 0.6]], "coordinates"), ([[200, 200, 30, 30]], "format")):
        finder, told = opened(save(tmp_path / "net.onnx", given(other, [0.9])))
        corners = np.array([[30.0, 40, 90, 100]])
        for _ in range(3):
            finder._form.corners(corners, 320, 320)
        with pytest.raises(EngineError, match=says):
            finder.find(scene())
        assert any(says in line for line in told)


def test_a_few_odd_boxes_are_left_out_and_told_once(tmp_path: Path) -> None:
    """The good one is found beside one outside the frame and one inside out."""
    boxes = [[32, 64, 96, 128], [4000, 10, 4050, 60], [90, 90, 80, 80]]
    finder, told = opened(save(tmp_path / "net.onnx", given(boxes, [0.7, 0.9, 0.8])), format="corners")
    for _ in range(3):
        assert finder.find(scene()) == [(50, 60, 100, 60)]
    assert sum("outside the frame" in line for line in told) == 1
    assert sum("inside out" in line for line in told) == 1


@pytest.mark.filterwarnings("error")
def test_giants_are_cut_off_and_hide_nothing(tmp_path: Path) -> None:
    """Boxes of 1e30 pixels: no overflow on the way, and the sign beside them is still looked at."""
    boxes = [[-1e30, -1e30, 1e30, 1e30], [32, 64, 96, 128], [0, 0, 3e38, 3e38]]
    finder, _ = opened(save(tmp_path / "net.onnx", given(boxes, [0.9, 0.8, 0.7])), format="corners")
    assert finder.find(scene()) == [(0, 0, 500, 300), (50, 60, 100, 60)]


@pytest.mark.filterwarnings("error")
def test_infinite_objectness_is_no_warning_but_a_reason(tmp_path: Path) -> None:
    """Half precision overflows: 0 times infinity is told in words."""

    def head(d: Drawing, red: Red) -> Outputs:
        red.score = lambda value: d.op("Mul", red.any, d.const(np.inf if value == 1.0 else 0.0))  # type: ignore[method-assign]
        return dense(rows=6300, classes=3, objectness=True)(d, red)

    with pytest.raises(EngineError, match="not finite"):
        opened(save(tmp_path / "net.onnx", head))[0].find(scene())


def test_specks_are_left_out_and_told_once(tmp_path: Path) -> None:
    """Boxes of less than four pixels, as those in 0..1 that are named pixels: nothing found, and a line why."""
    finder, told = opened(save(tmp_path / "net.onnx", given([[0.2, 0.2, 0.4, 0.6]], [0.9])), coordinates="pixels")
    assert finder.find(scene()) == finder.find(scene()) == []
    assert sum("smaller than 4 pixels" in line for line in told) == 1


def test_thousands_of_boxes_cost_no_time_and_are_told(tmp_path: Path) -> None:
    """5,000 boxes above the threshold: the best regions within the cap, a line once, and never a hang."""
    finder, told = opened(save(tmp_path / "net.onnx", given(MANY, np.linspace(0.6, 0.9, 5000))))
    started = time.monotonic()
    for _ in range(5):
        assert 1 <= len(finder.find(scene())) <= 8
    assert time.monotonic() - started < 10
    assert sum("5000 boxes above the threshold" in line for line in told) == 1
    assert sum("in a frame; the best 8" in line for line in told) <= 1


def test_nothing_found_for_ever_is_told_once_with_what_may_be_wrong(tmp_path: Path) -> None:
    """After 100 frames without a box: what is set; and which other preparation finds something, if one does."""
    head = dense(rows=2100, classes=3, transposed=True)
    file = save(tmp_path / "net.onnx", head, metadata=ultralytics())
    finder, told = opened(file, classes="car")
    for _ in range(SILENT_FRAMES + 20):
        assert finder.find(scene()) == []
    assert [line for line in told if "no box in the first" in line and "classes car" in line] == told[-1:]
    for made, other in (({"full": 255}, "range: 255"), ({"bgr": True}, "channels: bgr")):
        finder, told = opened(save(tmp_path / "other.onnx", head, metadata=ultralytics(), **made))
        for _ in range(SILENT_FRAMES):
            assert finder.find(scene()) == []
        assert f"region_detector.{other} this frame would give a score of 0.9" in told[-1]


def test_a_detector_that_works_is_quiet(tmp_path: Path) -> None:
    """One line says how its boxes are read; an empty road later on is no news."""
    finder, told = opened(save(tmp_path / "net.onnx", split({"boxes": "boxes", "scores": "scores"})))
    assert len(finder.find(scene())) == 1
    for _ in range(SILENT_FRAMES + 1):
        assert finder.find(EMPTY) == []
    assert len(told) == 1 and "boxes are read as corners x0 y0 x1 y1 in pixels" in told[0]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4000), (4000, 1), (6000, 8000)])
def test_frames_of_any_size_end_quickly(tmp_path: Path, height: int, width: int) -> None:
    """A pixel, a line and 48 megapixels: regions inside the frame, or none."""
    file = save(tmp_path / "net.onnx", dense(rows=2100, classes=3, transposed=True), metadata=ultralytics())
    red = np.zeros((height, width, 3), np.uint8)
    red[..., 0] = 255
    for letterbox in (True, False):
        finder, _ = opened(file, letterbox=letterbox)
        for x, y, wide, high in finder.find(red):
            assert 0 <= x < x + wide <= width and 0 <= y < y + high <= height


def test_what_is_no_frame_of_8_bits_and_three_channels_is_refused(tmp_path: Path) -> None:
    """Grey, 16 bits, floats, transparency, no pixels: one line that says what is needed, and the next is judged."""
    file = save(tmp_path / "net.onnx", dense(rows=2100, classes=3, transposed=True), metadata=ultralytics())
    finder, _ = opened(file)
    right = scene()
    expected = finder.find(right)
    for odd in (right[..., 0], right[..., :1], np.dstack([right, right[..., 0]]), right.astype(np.uint16) * 257,
                right / np.float32(255), right[:0], right[:, :0]):  # fmt: skip
        with pytest.raises(ImageError, match=r"image|pixels") as caught:
            finder.find(odd)
        assert "\n" not in str(caught.value)
    assert len(expected) == 1 and finder.find(right) == expected


def test_what_the_file_calls_itself_can_not_write_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of classes come from a stranger's file: a line stays one line, without escapes."""
    names = str({0: "a\x1b[2Jb\nfirewall: released", 1: "c"})
    head = dense(rows=2100, classes=2, transposed=True)
    file = save(tmp_path / "net.onnx", head, metadata=ultralytics(2, names=names))
    OnnxBoxes(RegionDetectorSettings(file=file), threads=1).find(scene())
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("firewall: region detector") for line in lines)
    assert "\x1b" not in "".join(lines)


def test_suppression_keeps_the_best_of_what_overlaps() -> None:
    """Against the definition, on random boxes: nothing kept overlaps a better kept one, everything left out does."""
    random = np.random.default_rng(3)
    start = random.uniform(0, 80, (200, 2))
    boxes = np.concatenate([start, start + random.uniform(5, 40, (200, 2))], 1)
    scores = random.uniform(0, 1, 200)

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
        return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))

    kept = suppress(boxes, scores, 0.5, 200)
    assert kept == sorted(kept, key=lambda row: -scores[row])
    for row in range(200):
        better = [other for other in kept if scores[other] > scores[row] and overlap(boxes[row], boxes[other]) > 0.5]
        assert (row in kept) is not bool(better)
    assert suppress(boxes, scores, 0.5, 3) == kept[:3]
    assert suppress(np.zeros((0, 4)), np.zeros(0), 0.5, 3) == []
